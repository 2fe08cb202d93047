"""SOAP over real loopback sockets: plain, MTOM, streams in bounded memory, hostile requests, a peer that
fails midway.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, cast

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer

from crosslight.runtime.clock import SystemIds
from crosslight.runtime.http import ErrorRenderers, client_session, problems
from crosslight.runtime.soap.client import SoapClient
from crosslight.runtime.soap.server import Part, read_soap, render_soap_error, soap_response, stream_mtom
from crosslight.standards.problem import (
    CrosslightError,
    Forbidden,
    Malformed,
    OurError,
    StorageError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from crosslight.standards.xds.model.xml import SOAP
from crosslight.standards.xds.rules.errors import RegistryError
from crosslight.standards.xds.wire.response import parse_registry_response, render_registry_response
from crosslight.standards.xds.wire.retrieve import (
    ACTION_REQUEST,
    ACTION_RESPONSE,
    DocumentRequest,
    DocumentResponse,
    parse_retrieve_request,
    parse_retrieve_response,
    render_retrieve_request,
    render_retrieve_response,
)
from crosslight.standards.xds.wire.soap import (
    SOAP_1_1,
    SoapFault,
    action_not_supported,
    parse_envelope,
    render_envelope,
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
MB = 1 << 20


@asynccontextmanager
async def serving(handler: Handler, *, sender_400: bool = False) -> AsyncIterator[tuple[str, ClientSession]]:
    renderers = ErrorRenderers()
    renderers.add("/", partial(render_soap_error, sender_400=sender_400))
    app = web.Application(middlewares=[cast(Any, problems(renderers, SystemIds()))])
    app.router.add_post("/soap", handler)
    async with TestServer(app) as server, client_session() as session:
        yield str(server.make_url("/soap")), session


async def blocks(size: int, fail_after: int | None = None) -> AsyncIterator[bytes]:
    sent = 0
    while sent < size:
        if fail_after is not None and sent >= fail_after:
            raise OSError("the disk is gone")
        n = min(1 << 18, size - sent)
        yield bytes([sent // (1 << 18) % 251]) * n
        sent += n


def retrieving(size: int, *, fail_after: int | None = None, lie: int = 0, chunked: bool = False) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        envelope = await read_soap(request, MB)
        assert envelope.mtom
        wanted = parse_retrieve_request(envelope.body)
        documents = [DocumentResponse(r, "application/dicom", f"{i}@doc") for i, r in enumerate(wanted)]
        body = render_retrieve_response(documents, [], len(wanted))
        parts = [
            Part(
                content_id=d.content_id,
                content_type=d.mime_type,
                size=size + lie,
                chunks=blocks(size, fail_after),
            )
            for d in documents
        ]

        async def one_by_one() -> AsyncIterator[Part]:
            for part in parts:
                yield part

        return await stream_mtom(request, envelope, body, ACTION_RESPONSE, one_by_one() if chunked else parts)

    return handler


REQUESTS = [DocumentRequest("1.2", f"3.{i}", "urn:oid:1.9") for i in range(3)]


@pytest.mark.parametrize("chunked", [False, True])
async def test_stream_both_ways(chunked: bool) -> None:
    async with serving(retrieving(3 * MB + 7, chunked=chunked)) as (url, session):
        async with SoapClient(session, SystemIds()).stream(
            url, ACTION_REQUEST, render_retrieve_request(REQUESTS)
        ) as reply:
            documents = parse_retrieve_response(reply.body)
            assert documents.registry.success
            assert [d.request for d in documents.documents] == REQUESTS
            sizes = {}
            async for part in reply.parts():
                if part.content_id == "1@doc":
                    continue  # unread parts are skipped
                sizes[part.content_id] = sum([len(c) async for c in part.chunks()])
            assert sizes == {"0@doc": 3 * MB + 7, "2@doc": 3 * MB + 7}


@pytest.mark.parametrize(
    "handler", [retrieving(2 * MB, fail_after=MB), retrieving(MB, lie=5), retrieving(MB, lie=-5)]
)
async def test_a_part_that_fails_is_never_whole(handler: Handler) -> None:
    async def read(url: str, session: ClientSession) -> None:
        async with SoapClient(session, SystemIds()).stream(
            url, ACTION_REQUEST, render_retrieve_request(REQUESTS[:1])
        ) as reply:
            async for part in reply.parts():
                async for _ in part.chunks():
                    pass

    async with serving(handler) as (url, session):
        with pytest.raises((Unavailable, Malformed)):
            await read(url, session)


async def test_call_plain_and_mtom_mirror() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        envelope = await read_soap(request, MB)
        if envelope.action != "urn:ihe:iti:2007:RegisterDocumentSet-b":
            raise action_not_supported(envelope)
        errors = [RegistryError("XDSUnknownPatientId", 'no <such> "id" &', "x")]
        return soap_response(
            request, envelope, render_registry_response(errors), envelope.action + "Response"
        )

    async with serving(handler) as (url, session):
        client = SoapClient(session, SystemIds())
        for mtom in (False, True):
            reply = await client.call(url, "urn:ihe:iti:2007:RegisterDocumentSet-b", b"<x/>", mtom=mtom)
            assert reply.envelope.mtom is mtom
            assert reply.envelope.action.endswith("Response")
            read = parse_registry_response(reply.body)
            assert not read.success
            assert read.errors == (RegistryError("XDSUnknownPatientId", 'no <such> "id" &', "x"),)
        with pytest.raises(SoapFault) as caught:
            await client.call(url, "urn:unknown", b"<x/>")
        assert (caught.value.code, caught.value.subcode) == ("Sender", "ActionNotSupported")


SOAP_TYPE = 'application/soap+xml; charset=UTF-8; action="None"'
GOOD = render_envelope("urn:a", b"<x/>", message_id="urn:uuid:1")
HEAD = 'multipart/related; type="application/xop+xml"; boundary=b; start="<r>"'


def part(*parts: tuple[str, bytes]) -> bytes:
    return b"".join(b"--b\r\nContent-ID: <%s>\r\n\r\n%s\r\n" % (n.encode(), d) for n, d in parts) + b"--b--"


@pytest.mark.parametrize(
    ("content_type", "data", "expect"),
    [
        (SOAP_TYPE, b"<nonsense", "Sender"),
        (SOAP_TYPE, b"<x/>", "Sender"),
        (SOAP_TYPE, b"<!DOCTYPE x><x/>", "Sender"),
        (SOAP_TYPE, b"x" * (MB + 1), "Sender"),
        ("application/json", GOOD, "Sender"),
        ("application/soap+xml; charset=utf-7", GOOD, "Sender"),
        (SOAP_TYPE, GOOD.replace(b"wsa:Action", b"wsa:From"), "Sender"),
        (SOAP_TYPE, GOOD.replace(b"addressing/anonymous", b"addressing/elsewhere"), "Sender"),
        (SOAP_TYPE, GOOD.replace(b"2003/05/soap-envelope", b"x"), "Sender"),
        (SOAP_TYPE, GOOD.replace(SOAP.encode(), SOAP_1_1.encode()), "VersionMismatch"),
        (SOAP_TYPE, GOOD.replace(b"</s:Header>", b'<u s:mustUnderstand="1"/></s:Header>'), "MustUnderstand"),
        (SOAP_TYPE, GOOD.replace(b"<x/>", b"<x/><x/>"), "Sender"),
        (SOAP_TYPE, GOOD.replace(b"</s:Header>", b"<wsa:Action>urn:b</wsa:Action></s:Header>"), "Sender"),
        (HEAD, part(("r", GOOD), ("spare", b"1")), "Sender"),
        (HEAD, part(("other", GOOD)), "Sender"),
        (HEAD, part(("r", GOOD))[:-4], "Sender"),
        (HEAD, part(("r", GOOD)).replace(b"\r\n", b"\n"), "Sender"),
        ("multipart/related", part(("r", GOOD)), "Sender"),
    ],
)  # fmt: skip
async def test_hostile_requests_get_a_fault(content_type: str, data: bytes, expect: str) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        await read_soap(request, MB)
        raise AssertionError("must not get here")

    async with serving(handler) as (url, session):
        async with session.post(url, data=data, headers={"Content-Type": content_type}) as response:
            body = await response.read()
            assert response.status == 500, "many clients read the fault of no other status"
        with pytest.raises(SoapFault) as caught:
            parse_envelope(body)
        assert caught.value.code == expect


@pytest.mark.parametrize(
    ("error", "sender_400", "status", "raised"),
    [
        (Malformed("Wrong."), False, 500, SoapFault),
        (Malformed("Wrong."), True, 400, SoapFault),
        (TooLarge("Large."), False, 500, SoapFault),
        (SoapFault("Not understood.", code="MustUnderstand"), True, 500, SoapFault),
        (OurError("Ours."), True, 500, SoapFault),
        (Forbidden("Not allowed."), False, 500, Forbidden),
        (Forbidden("Not allowed."), True, 400, Forbidden),
        (Unavailable("Later."), False, 500, Unavailable),
        (StorageError("Full."), False, 500, Unavailable),
        (Unauthenticated("Who?"), False, 401, Unauthenticated),
    ],
)
async def test_the_http_status_of_a_fault(
    error: CrosslightError, sender_400: bool, status: int, raised: type[CrosslightError]
) -> None:
    """A fault is a 500 that every client reads, and our own client still tells whose turn it is."""

    async def handler(request: web.Request) -> web.StreamResponse:
        raise error

    async with serving(handler, sender_400=sender_400) as (url, session):
        async with session.post(url, data=GOOD, headers={"Content-Type": SOAP_TYPE}) as response:
            assert response.status == status
            assert response.headers["Cache-Control"] == "private, no-cache"
            assert error.what.encode() in await response.read()
        with pytest.raises(raised):
            await SoapClient(session, SystemIds()).call(url, "urn:a", b"<x/>")


ROLE = "http://www.w3.org/2003/05/soap-envelope/role/"


@pytest.mark.parametrize(
    ("said", "ours"),
    [
        ('s:mustUnderstand="1"', True),
        ('s:mustUnderstand="true"', True),
        ('s:mustUnderstand="0"', False),
        ("", False),
        (f's:mustUnderstand="1" s:role="{ROLE}next"', True),
        (f's:mustUnderstand="true" s:role="{ROLE}ultimateReceiver"', True),
        (f's:mustUnderstand="1" s:role="{ROLE}none"', False),
        ('s:mustUnderstand="1" s:role="urn:somebody:else"', False),
        (f's:role="{ROLE}next"', False),
        (f's:mustUnderstand="1" s:role=" {ROLE}next "', True),
        ('s:mustUnderstand="1" s:role=""', True),
    ],
)
def test_whose_header_must_be_understood(said: str, ours: bool) -> None:
    data = GOOD.replace(
        b"</s:Header>", f'<c:Consent xmlns:c="urn:c" {said}>no</c:Consent></s:Header>'.encode()
    )
    if not ours:
        assert parse_envelope(data).action
        return
    with pytest.raises(SoapFault) as caught:
        parse_envelope(data)
    assert caught.value.code == "MustUnderstand"


async def test_zeep_like_request_is_accepted() -> None:
    """No ReplyTo, no mustUnderstand, action="None" in Content-Type."""

    async def handler(request: web.Request) -> web.StreamResponse:
        envelope = await read_soap(request, MB)
        return soap_response(request, envelope, b"<y/>", envelope.action + "Response")

    request = (
        b'<soap-env:Envelope xmlns:soap-env="http://www.w3.org/2003/05/soap-envelope"><soap-env:Header '
        b'xmlns:wsa="http://www.w3.org/2005/08/addressing"><wsa:Action>urn:a</wsa:Action>'
        b"<wsa:MessageID>urn:uuid:5</wsa:MessageID><wsa:To>http://x</wsa:To></soap-env:Header><soap-env:Body><x/></soap-env:Body>"
        b"</soap-env:Envelope>"
    )
    async with serving(handler) as (url, session):
        async with session.post(url, data=request, headers={"Content-Type": SOAP_TYPE}) as response:
            assert response.status == 200
            answer = parse_envelope(await response.read())
    assert (answer.action, answer.relates_to) == ("urn:aResponse", "urn:uuid:5")
    assert answer.message_id.startswith("urn:uuid:")


async def test_failures_of_the_peer_have_names() -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(slow) as (url, session):
        client = SoapClient(session, SystemIds())
        with pytest.raises(Unavailable) as late:
            await client.call(url, "urn:a", b"<x/>", timeout_s=0.2)
        assert late.value.where == "answer"
        with pytest.raises(Unavailable) as refused:
            await client.call("http://127.0.0.1:9/", "urn:a", b"<x/>")
        assert refused.value.where == "connect"

    async def large(request: web.Request) -> web.StreamResponse:
        return web.Response(body=b"x" * 5000, content_type="application/soap+xml")

    async def broken(request: web.Request) -> web.StreamResponse:
        raise CrosslightError("we fell over")

    async with serving(large) as (url, session):
        with pytest.raises(TooLarge):
            await SoapClient(session, SystemIds()).call(url, "urn:a", b"<x/>", max_bytes=4000)
    async with serving(broken) as (url, session):
        with pytest.raises(SoapFault) as fault:
            await SoapClient(session, SystemIds()).call(url, "urn:a", b"<x/>")
        assert fault.value.code == "Receiver"
