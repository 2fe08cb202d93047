"""ITI-43 and RAD-69 through the region (D11), over real nodes: routed, split, merged, streamed, honest about
what is missing.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web
from gateway_region import IDS, GatewayRegion, endless_member, gateway_region
from loopback import served
from node_serving import ct, part10
from registry_samples import REGION

from crosslight.runtime.soap.client import SoapClient
from crosslight.runtime.soap.server import Part, read_soap, stream_mtom
from crosslight.standards.problem import Unavailable
from crosslight.standards.xds.model.metadata import DocumentEntry, to_plain
from crosslight.standards.xds.wire import rad69, retrieve
from crosslight.standards.xds.wire.response import FAILURE, PARTIAL, SUCCESS
from crosslight.standards.xds.wire.retrieve import DocumentRequest, RetrieveReply
from crosslight.standards.xds.wire.soap import SoapFault
from registry.index.model import XdsObject
from registry.intake.submission import StoreObjects
from registry.members.model import Member

ELE = "1.2.840.10008.1.2.1"
LETTER = "urn:uuid:00000000-0000-4000-8000-000000000001"
HOME = f"urn:oid:{REGION.home_community_id}"


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[GatewayRegion]:
    async with gateway_region(tmp_path) as found:
        for code, study in (("RA2", "1.2.1"), ("RTK", "1.2.2")):
            await found.add(code, *(ct(study, f"{study}.1", f"{study}.1.{n}", number=n) for n in (1, 2, 3)))
            held = await found.held(code, study)
            found.nodes[code].manifests.known[held.publication.manifest.document_uid] = (
                study,
                f"manifest of {code}".encode(),
            )
        yield found


async def manifest_of(region: GatewayRegion, code: str) -> DocumentRequest:
    member = region.member(code)
    (holding,) = await region.room.holdings(code)
    return DocumentRequest(member.repository_unique_id, holding.publication.manifest.document_uid)


async def exchange(
    region: GatewayRegion, path: str, action: str, body: bytes
) -> tuple[RetrieveReply, dict[str, bytes]]:
    """One exchange as a foreign consumer has it: the reply, and the bytes of each document."""
    client = SoapClient(region.http, IDS)
    async with client.stream(region.base + path, action, body) as stream:
        reply = retrieve.parse_retrieve_response(stream.body)
        assert stream.envelope.action == "urn:ihe:iti:2007:RetrieveDocumentSetResponse"
        by_id, found = reply.by_content_id, {}
        async for part in stream.parts():
            found[by_id[part.content_id].request.document_unique_id] = b"".join(
                [piece async for piece in part.chunks()]
            )
    return reply, found


async def iti43(region: GatewayRegion, *documents: DocumentRequest) -> tuple[RetrieveReply, dict[str, bytes]]:
    return await exchange(
        region, "/xds/repository", retrieve.ACTION_REQUEST, retrieve.render_retrieve_request(documents)
    )


def imaging(member: Member, study: str, *numbers: int, syntax: str = ELE) -> rad69.ImagingRequest:
    documents = tuple(DocumentRequest(member.retrieve_location_uid, f"{study}.1.{n}") for n in numbers)
    return rad69.ImagingRequest(
        (rad69.StudyRequest(study, (rad69.SeriesRequest(f"{study}.1", documents),)),), (syntax,)
    )


def both(*requests: rad69.ImagingRequest) -> bytes:
    return rad69.render_imaging_request(
        rad69.ImagingRequest(tuple(s for r in requests for s in r.studies), (ELE,))
    )


async def rad(
    region: GatewayRegion, *requests: rad69.ImagingRequest
) -> tuple[RetrieveReply, dict[str, bytes]]:
    return await exchange(region, "/rad69", rad69.ACTION_REQUEST, both(*requests))


# --- ITI-43 -------------------------------------------------------------------------------------------------


async def test_manifests_of_two_members_in_one_answer(region: GatewayRegion) -> None:
    first, second = (
        await manifest_of(region, "RA2"),
        replace(await manifest_of(region, "RTK"), home_community_id=HOME),
    )
    reply, found = await iti43(region, first, second)
    assert reply.registry.status == SUCCESS
    assert found == {
        first.document_unique_id: b"manifest of RA2",
        second.document_unique_id: b"manifest of RTK",
    }
    # the home community comes back to who said it
    assert {d.request for d in reply.documents} == {first, second}
    assert {d.mime_type for d in reply.documents} == {"application/dicom"}
    (act,) = await region.acts()
    assert (act.face, act.action, act.text) == ("iti43", "retrieve", "ok 2 given")
    for code in ("RA2", "RTK"):
        (entry,) = await region.nodes[code].audit.search()
        assert (entry.who.subject, entry.face) == ("dr.who", "iti43")


async def test_each_document_that_is_missing_has_its_error(region: GatewayRegion) -> None:
    good = await manifest_of(region, "RA2")
    unknown_repository = DocumentRequest("1.2.3.4.5", "9.1")
    unknown_document = DocumentRequest(good.repository_unique_id, "9.2")
    elsewhere = replace(await manifest_of(region, "RTK"), home_community_id="urn:oid:9.9")
    crossed = DocumentRequest(
        good.repository_unique_id, (await manifest_of(region, "RTK")).document_unique_id
    )
    reply, found = await iti43(region, good, unknown_repository, unknown_document, elsewhere, crossed)
    assert reply.registry.status == PARTIAL
    assert list(found) == [good.document_unique_id]
    assert {(e.code, e.location) for e in reply.registry.errors} == {
        ("XDSUnknownRepositoryId", "9.1"),
        ("XDSDocumentUniqueIdError", "9.2"),
        ("XDSUnknownCommunity", elsewhere.document_unique_id),
        ("XDSDocumentUniqueIdError", crossed.document_unique_id),
    }
    reply, found = await iti43(region, unknown_repository)
    assert (reply.registry.status, found) == (FAILURE, {})


async def test_an_unreachable_member_is_named_and_the_other_still_answers(region: GatewayRegion) -> None:
    documents = await manifest_of(region, "RA2"), await manifest_of(region, "RTK")
    await region.nodes["RTK"].stop()  # presence has not noticed
    reply, found = await iti43(region, *documents)
    assert reply.registry.status == PARTIAL
    assert list(found) == [documents[0].document_unique_id]
    (error,) = reply.registry.errors
    assert (error.code, error.location) == ("XDSRepositoryError", documents[1].document_unique_id)
    assert "(RTK)" in error.context
    region.down("RTK")  # now it has
    reply, _ = await iti43(region, *documents)
    assert region.since in reply.registry.errors[0].context
    region.suspend("RA2")
    reply, _ = await iti43(region, *documents)
    assert reply.registry.status == FAILURE
    assert any("RA2" in e.context and "is suspended" in e.context for e in reply.registry.errors)


async def test_a_member_that_lost_its_manifest_says_so_itself(region: GatewayRegion) -> None:
    document = await manifest_of(region, "RTK")
    region.nodes["RTK"].manifests.known.clear()
    reply, _ = await iti43(region, document)
    assert [(e.code, e.location) for e in reply.registry.errors] == [
        ("XDSDocumentUniqueIdError", document.document_unique_id)
    ]


async def test_documents_that_are_no_studies_are_relayed_too(region: GatewayRegion) -> None:
    member = region.member("RTK")
    letter = XdsObject(
        kind="document",
        entry_uuid=LETTER,
        unique_id="7.7",
        record_key=None,
        status="Approved",
        body=to_plain(DocumentEntry(entry_uuid=LETTER, unique_id="7.7")),
        member=member.id,
    )
    holding, *_ = await region.room.holdings("RTK")
    store = StoreObjects(objects=(letter,), patient_cx=holding.record.patient.local.cx())
    await region.room.acceptor.accept(region.room.soap("RTK", store))

    async def repository(request: web.Request) -> web.StreamResponse:
        envelope = await read_soap(request)
        (asked,) = retrieve.parse_retrieve_request(envelope.body)
        inline = retrieve.render_retrieve_response(
            [retrieve.DocumentResponse(asked, "text/plain", "x@y")], [], 1
        )

        async def chunks() -> AsyncIterator[bytes]:
            yield b"letter"

        part = Part(content_id="x@y", content_type="text/plain", size=6, chunks=chunks())
        return await stream_mtom(request, envelope, inline, retrieve.ACTION_RESPONSE, [part])

    app = web.Application()
    app.router.add_post("/xds/repository", repository)
    async with served(app) as url:
        with endless_member(region, "RTK", url):
            reply, found = await iti43(region, DocumentRequest(member.repository_unique_id, "7.7"))
    assert (reply.registry.status, found) == (SUCCESS, {"7.7": b"letter"})


async def test_what_was_not_asked_for_is_not_passed_on(region: GatewayRegion) -> None:
    async def repository(request: web.Request) -> web.StreamResponse:
        envelope = await read_soap(request)
        other = retrieve.DocumentResponse(DocumentRequest("1.2", "6.6.6"), "text/plain", "x@y")

        async def chunks() -> AsyncIterator[bytes]:
            yield b"someone else's"

        part = Part(content_id="x@y", content_type="text/plain", size=14, chunks=chunks())
        body = retrieve.render_retrieve_response([other], [], 1)
        return await stream_mtom(request, envelope, body, retrieve.ACTION_RESPONSE, [part])

    app = web.Application()
    app.router.add_post("/xds/repository", repository)
    document = await manifest_of(region, "RTK")
    async with served(app) as url:
        with endless_member(region, "RTK", url):
            reply, found = await iti43(region, document)
    assert (reply.registry.status, found) == (FAILURE, {})
    assert "was not asked for" in reply.registry.errors[0].context


async def test_other_actions_are_faults(region: GatewayRegion) -> None:
    body = b"<x/>"
    with pytest.raises(SoapFault):
        await exchange(region, "/xds/repository", "urn:ihe:iti:2007:RegistryStoredQuery", body)


# --- RAD-69 -------------------------------------------------------------------------------------------------


async def test_images_of_two_members_in_one_answer(region: GatewayRegion) -> None:
    ra2, rtk = region.member("RA2"), region.member("RTK")
    reply, found = await rad(region, imaging(ra2, "1.2.1", 1, 3), imaging(rtk, "1.2.2", 2))
    assert reply.registry.status == SUCCESS
    assert set(found) == {"1.2.1.1.1", "1.2.1.1.3", "1.2.2.1.2"}
    sent = part10(ct("1.2.2", "1.2.2.1", "1.2.2.1.2", number=2))
    assert found["1.2.2.1.2"][-400:] == sent[-400:]
    act = (await region.acts())[-1]
    assert (act.face, act.action) == ("rad69", "retrieve")


async def test_errors_of_rad69(region: GatewayRegion) -> None:
    ra2, rtk = region.member("RA2"), region.member("RTK")
    reply, found = await rad(
        region, imaging(ra2, "1.2.1", 1, 9), imaging(rtk, "1.2.1", 2), imaging(rtk, "8.8", 1)
    )
    assert reply.registry.status == PARTIAL
    assert list(found) == ["1.2.1.1.1"]
    assert {(e.code, e.location) for e in reply.registry.faults} == {
        ("XDSDocumentUniqueIdError", "1.2.1.1.9"),
        ("XDSDocumentUniqueIdError", "1.2.1.1.2"),
        ("XDSDocumentUniqueIdError", "8.8.1.1"),
    }
    documents = (DocumentRequest("5.5.5", "1.2.1.1.1"),)
    stranger = rad69.ImagingRequest(
        (rad69.StudyRequest("1.2.1", (rad69.SeriesRequest("1.2.1.1", documents),)),), (ELE,)
    )
    reply, _ = await rad(region, stranger)
    assert [e.code for e in reply.registry.errors] == ["XDSUnknownRepositoryId"]
    body = both(imaging(ra2, "1.2.1", 1)).replace(b'studyInstanceUID="1.2.1"', b'studyInstanceUID=""')
    reply, _ = await exchange(region, "/rad69", rad69.ACTION_REQUEST, body)
    assert (reply.registry.status, [e.code for e in reply.registry.errors]) == (FAILURE, ["XDSIRequestError"])


# --- streams ------------------------------------------------------------------------------------------------


def flood(total: int | None, sent: list[int], *, broken: bool = False) -> web.Application:
    """An imaging source whose every instance is ``total`` bytes (None: without end)."""

    async def source(request: web.Request) -> web.StreamResponse:
        envelope = await read_soap(request)
        asked = [document for _, _, document in rad69.parse_imaging_request(envelope.body).instances()]

        async def chunks() -> AsyncIterator[bytes]:
            piece, done = bytes(1 << 16), 0
            while total is None or done < total:
                if broken and done > 1 << 20:
                    raise RuntimeError("disk")
                yield piece
                done += len(piece)
                sent[0] += len(piece)

        documents = [retrieve.DocumentResponse(d, "application/dicom", f"{n}@n") for n, d in enumerate(asked)]
        parts = [
            Part(content_id=f"{n}@n", content_type="application/dicom", size=total, chunks=chunks())
            for n in range(len(asked))
        ]
        body = retrieve.render_retrieve_response(documents, [], len(asked))
        return await stream_mtom(request, envelope, body, retrieve.ACTION_RESPONSE, parts)

    app = web.Application()
    app.router.add_post("/rad69", source)
    return app


async def test_large_answers_of_several_members_pass_in_constant_memory(region: GatewayRegion) -> None:
    size, counts = 48 << 20, ([0], [0])
    async with served(flood(size, counts[0])) as one, served(flood(size, counts[1])) as two:
        with endless_member(region, "RA2", one) as ra2, endless_member(region, "RTK", two) as rtk:
            client, lengths = SoapClient(region.http, IDS), []
            body = both(imaging(ra2, "1.2.1", 1, 2), imaging(rtk, "1.2.2", 1, 2))
            tracemalloc.start()
            try:
                async with client.stream(f"{region.base}/rad69", rad69.ACTION_REQUEST, body) as stream:
                    async for part in stream.parts():
                        lengths.append(0)
                        async for piece in part.chunks():
                            lengths[-1] += len(piece)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert lengths == [size] * 4
    assert peak < 24 << 20, f"{peak} bytes held at once"


async def test_a_source_that_breaks_off_never_gives_a_whole_answer(region: GatewayRegion) -> None:
    async with served(flood(8 << 20, [0], broken=True)) as url:
        with endless_member(region, "RTK", url) as rtk:
            with pytest.raises(Unavailable):
                await rad(region, imaging(rtk, "1.2.2", 1))


async def test_suspension_cuts_a_running_relay(region: GatewayRegion) -> None:
    sent = [0]
    async with served(flood(None, sent)) as url:
        with endless_member(region, "RTK", url) as rtk:
            client = SoapClient(region.http, IDS)
            body = both(imaging(rtk, "1.2.2", 1))

            async def read() -> None:
                async with client.stream(f"{region.base}/rad69", rad69.ACTION_REQUEST, body) as stream:
                    async for part in stream.parts():
                        async for _ in part.chunks():
                            if region.member("RTK").status == "active":
                                region.suspend("RTK")

            with pytest.raises(Unavailable):
                await asyncio.wait_for(read(), 5)
            assert not (await region.acts())[-1].text.startswith("ok")
