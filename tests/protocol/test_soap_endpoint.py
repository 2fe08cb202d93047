"""One SOAP endpoint: what a transaction's answer, its parts and its errors become on the wire."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from crosslight.runtime.clock import SystemIds
from crosslight.runtime.http import ErrorRenderers, Handler, admit, client_session, problems
from crosslight.runtime.soap.client import SoapClient, SoapReply
from crosslight.runtime.soap.endpoint import Call, Multipart, Reply, SoapEndpoint, Transaction, add_faults
from crosslight.runtime.soap.server import Part
from crosslight.standards.access import OPEN
from crosslight.standards.problem import (
    CrosslightError,
    Forbidden,
    Invalid,
    StorageError,
    Unauthenticated,
    Unavailable,
)
from crosslight.standards.xds.model.xml import XOP
from crosslight.standards.xds.rules.errors import RegistryError, RegistryRefusal, refusal
from crosslight.standards.xds.wire.response import FAILURE, parse_registry_response, render_registry_response
from crosslight.standards.xds.wire.soap import SoapFault

IDS = SystemIds()


class Whole(Transaction):
    """Answers, or raises what a test gives it."""

    action, response_action = "urn:whole", "urn:wholeResponse"

    def __init__(self, error: CrosslightError | None = None) -> None:
        self.error = error
        self.calls: list[Call] = []

    async def answer(self, call: Call) -> Reply:
        self.calls.append(call)
        if self.error is not None:
            raise self.error
        return b"<done/>"

    def refuse(self, errors: tuple[RegistryError, ...]) -> bytes:
        return render_registry_response(errors, status=FAILURE)


class Streamed(Transaction):
    """Two parts; ``fate`` breaks before the first, or in the middle of the second."""

    action, response_action = "urn:streamed", "urn:streamedResponse"
    told = RegistryRefusal
    refused_as_mtom = True

    def __init__(self, fate: str = "") -> None:
        self.fate, self.left = fate, list[str]()

    async def answer(self, call: Call) -> Reply:
        return self._parts()

    def refuse(self, errors: tuple[RegistryError, ...]) -> bytes:
        return render_registry_response(errors, status=FAILURE)

    @asynccontextmanager
    async def _parts(self) -> AsyncIterator[Multipart]:
        includes = "".join(f'<one><x:Include xmlns:x="{XOP}" href="cid:{n}@t"/></one>' for n in (1, 2))
        try:
            if self.fate == "refused":
                raise refusal("XDSRepositoryError", "Too many.")
            if self.fate == "fault":
                raise Invalid("Not like that.")
            yield Multipart(f"<got>{includes}</got>".encode(), [self._part(1), self._part(2)])
        except BaseException as error:
            self.left.append(type(error).__name__)
            raise
        self.left.append("sent")

    def _part(self, n: int) -> Part:
        async def chunks() -> AsyncIterator[bytes]:
            yield b"first"
            if n == 2 and self.fate == "cut":
                raise RuntimeError("disk")
            yield b"last"

        return Part(content_id=f"{n}@t", content_type="text/plain", size=9, chunks=chunks())


@asynccontextmanager
async def served(*transactions: Transaction, known: bool = True) -> AsyncIterator[tuple[str, SoapClient]]:
    renderers = ErrorRenderers()
    add_faults(renderers, "/")

    @web.middleware
    async def authenticated(request: web.Request, handler: Handler) -> web.StreamResponse:
        if known:
            admit(request, OPEN)
        return await handler(request)

    app = web.Application(middlewares=[cast(Any, problems(renderers, IDS)), authenticated])
    app.add_routes(SoapEndpoint(transactions, max_bytes=4096).routes("/one", "/two"))
    async with TestServer(app) as server, client_session() as session:
        yield str(server.make_url("")).rstrip("/"), SoapClient(session, IDS)


def code_of(reply: SoapReply) -> list[str]:
    return [error.code for error in parse_registry_response(reply.body).errors]


async def parts_of(soap: SoapClient, url: str) -> list[bytes]:
    async with soap.stream(url, "urn:streamed", b"<ask/>") as stream:
        return [b"".join([piece async for piece in part.chunks()]) async for part in stream.parts()]


async def test_each_path_takes_every_action_and_answers_as_it_was_asked() -> None:
    whole = Whole()
    async with served(whole, Streamed()) as (base, soap):
        for path in ("/one", "/two"):
            for mtom in (False, True):
                reply = await soap.call(base + path, "urn:whole", b"<ask/>", mtom=mtom)
                assert (reply.body.tag, reply.envelope.action, reply.envelope.mtom) == (
                    "done",
                    "urn:wholeResponse",
                    mtom,
                )
    assert [call.caller.principal for call in whole.calls] == [OPEN] * 4


async def test_an_action_that_nobody_takes_is_a_fault_and_so_is_a_caller_that_nobody_knows() -> None:
    async with served(Whole()) as (base, soap):
        with pytest.raises(SoapFault, match="not supported"):
            await soap.call(f"{base}/one", "urn:other", b"<ask/>")
    async with served(Whole(), known=False) as (base, soap):
        with pytest.raises(Unauthenticated):
            await soap.call(f"{base}/one", "urn:whole", b"<ask/>")


async def test_a_request_larger_than_the_endpoints_bound_is_a_fault() -> None:
    async with served(Whole()) as (base, soap):
        with pytest.raises(SoapFault, match="too large"):
            await soap.call(f"{base}/one", "urn:whole", b"<ask>" + b"x" * 5000 + b"</ask>")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (refusal("XDSTooManyResults", "Too many."), "XDSTooManyResults"),
        (Invalid("No."), "XDSRegistryMetadataError"),
        (StorageError("The disk is full."), "XDSRegistryOutOfResources"),
    ],
)
async def test_what_a_transaction_refuses_is_told_in_its_own_form(error: CrosslightError, code: str) -> None:
    async with served(Whole(error)) as (base, soap):
        reply = await soap.call(f"{base}/one", "urn:whole", b"<ask/>")
        assert (code_of(reply), reply.envelope.mtom) == ([code], False)


async def test_who_may_not_is_told_so_in_a_fault_whatever_the_transaction_tells() -> None:
    async with served(Whole(Forbidden("You may not."))) as (base, soap):
        with pytest.raises(Forbidden, match="You may not"):
            await soap.call(f"{base}/one", "urn:whole", b"<ask/>")


async def test_parts_are_streamed_while_their_context_is_open() -> None:
    transaction = Streamed()
    async with served(transaction) as (base, soap):
        assert await parts_of(soap, f"{base}/one") == [b"firstlast"] * 2
    assert transaction.left == ["sent"]


async def test_a_part_that_breaks_cuts_the_answer_and_its_context_learns_of_it() -> None:
    transaction = Streamed("cut")
    async with served(transaction) as (base, soap):
        with pytest.raises(Unavailable):
            await parts_of(soap, f"{base}/one")
    assert transaction.left == ["ConnectionAbortedError"]


async def test_a_stream_that_is_refused_before_it_begins_is_told_as_the_transaction_tells_it() -> None:
    refused, faulty = Streamed("refused"), Streamed("fault")
    async with served(refused) as (base, soap):
        reply = await soap.call(f"{base}/one", "urn:streamed", b"<ask/>")
        assert (code_of(reply), reply.envelope.mtom) == (["XDSRepositoryError"], True)
    async with served(faulty) as (base, soap):
        with pytest.raises(SoapFault, match="Not like that"):
            await soap.call(f"{base}/one", "urn:streamed", b"<ask/>")
    assert (refused.left, faulty.left) == (["RegistryRefusal"], ["Invalid"])
