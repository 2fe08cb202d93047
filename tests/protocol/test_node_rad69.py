"""RAD-69 and ITI-43 at a node, over MTOM on loopback."""

from __future__ import annotations

import hashlib
import tracemalloc
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import node_serving
import pydicom
import pytest
from node_serving import IDS, LOCATION, REPOSITORY, Served, ct, part10, serving
from pydicom.uid import MPEG4HP41

from crosslight.runtime.soap.client import SoapClient
from crosslight.standards.access import Principal
from crosslight.standards.problem import Forbidden, Unauthenticated
from crosslight.standards.xds.wire import rad69
from crosslight.standards.xds.wire.rad69 import (
    ImagingRequest,
    SeriesRequest,
    StudyRequest,
    render_imaging_request,
)
from crosslight.standards.xds.wire.response import FAILURE, PARTIAL, SUCCESS
from crosslight.standards.xds.wire.retrieve import (
    ACTION_REQUEST,
    ACTION_RESPONSE,
    DocumentRequest,
    RetrieveReply,
    parse_retrieve_response,
    render_retrieve_request,
)
from crosslight.standards.xds.wire.soap import SoapFault

ELE, J2K = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.4.90"
STUDY, SERIES, SOP = "1.2.1", "1.2.1.1", "1.2.1.1.1"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path, listener="systems") as served:
        await served.add(part10(ct()), part10(ct(sop="1.2.1.1.2", number=2)))
        yield served


def imaging(
    *documents: tuple[str, str, str],
    repository: str = LOCATION,
    syntaxes: tuple[str, ...] = (ELE,),
    home: str = "",
) -> bytes:
    studies = tuple(
        StudyRequest(study, (SeriesRequest(series, (DocumentRequest(repository, sop, home),)),))
        for study, series, sop in documents
    )
    return render_imaging_request(ImagingRequest(studies, syntaxes))


async def ask(
    node: Served,
    body: bytes,
    *,
    action: str = rad69.ACTION_REQUEST,
    path: str = "/rad69",
    headers: dict[str, str] | None = None,
) -> tuple[RetrieveReply, dict[str, bytes]]:
    """The reply and the bytes of each document by its unique id."""
    client = SoapClient(node.session, IDS)
    async with client.stream(node.url + path, action, body, headers=headers) as stream:
        assert stream.envelope.action == ACTION_RESPONSE
        reply = parse_retrieve_response(stream.body)
        found = {}
        async for part in stream.parts():
            document = reply.by_content_id[part.content_id]
            assert document.mime_type == part.content_type == "application/dicom"
            found[document.request.document_unique_id] = b"".join([piece async for piece in part.chunks()])
    assert set(found) == {d.request.document_unique_id for d in reply.documents}
    return reply, found


async def test_instances_as_stored(node: Served) -> None:
    body = imaging(
        (STUDY, SERIES, SOP), (STUDY, SERIES, "1.2.1.1.2"), syntaxes=(J2K, ELE), home="urn:oid:1.2.3.4"
    )
    reply, found = await ask(node, body)
    assert reply.registry.status == SUCCESS
    assert found == {SOP: part10(ct()), "1.2.1.1.2": part10(ct(sop="1.2.1.1.2", number=2))}
    assert {d.request.home_community_id for d in reply.documents} == {"urn:oid:1.2.3.4"}  # echoed
    assert {d.request.repository_unique_id for d in reply.documents} == {LOCATION}
    (act,) = await node.acts(study=STUDY)
    assert (act.face, act.action, act.text) == ("rad69", "retrieve", "ok 2 instances, 2 in all")


@pytest.mark.parametrize(
    ("body", "code", "location"),
    [
        # NIST ids_2018-4811, cases 01 to 09
        (imaging((STUDY, SERIES, SOP), repository="1.2.3.4.999"), "XDSUnknownRepositoryId", SOP),
        (imaging((STUDY, SERIES, "1.2.1.1.99")), "XDSDocumentUniqueIdError", "1.2.1.1.99"),
        (imaging((STUDY, "1.2.1.9", SOP)), "XDSDocumentUniqueIdError", SOP),
        (imaging(("1.2.9", SERIES, SOP)), "XDSDocumentUniqueIdError", SOP),
        (imaging(("", SERIES, SOP)), "XDSIRequestError", ""),
        (imaging((STUDY, "", SOP)), "XDSIRequestError", ""),
        (imaging(("", "", SOP)), "XDSIRequestError", ""),
        (imaging((STUDY, SERIES, SOP), syntaxes=("",)), "XDSRepositoryError", ""),
        (imaging((STUDY, SERIES, SOP), syntaxes=("1.2.840.10008.1.2.1.999",)), "XDSRepositoryError", SOP),
        # and others
        (imaging((STUDY, SERIES, SOP), syntaxes=(J2K,)), "XDSRepositoryError", SOP),
        (imaging(), "XDSIRequestError", ""),
        (imaging((STUDY, SERIES, SOP), syntaxes=()), "XDSRepositoryError", ""),
    ],
)
async def test_failures(node: Served, body: bytes, code: str, location: str) -> None:
    reply, found = await ask(node, body)
    assert (reply.registry.status, found) == (FAILURE, {})
    assert [(error.code, error.location) for error in reply.registry.errors] == [(code, location)]


async def test_some_and_some_not(node: Served) -> None:
    reply, found = await ask(
        node, imaging((STUDY, SERIES, SOP), (STUDY, SERIES, "1.2.1.1.99"), ("1.2.8", SERIES, SOP))
    )
    assert (reply.registry.status, list(found)) == (PARTIAL, [SOP])
    assert [error.location for error in reply.registry.errors] == ["1.2.1.1.99", SOP]
    assert {error.severity for error in reply.registry.errors} == {"Error"}


async def test_transfer_syntaxes(node: Served) -> None:
    """As stored when that is listed; Explicit VR Little Endian when only that is; else an error for that
    instance.
    """
    files = {path.name: path for path in node_serving.sample_files()}
    jpeg, odd = files["SC_rgb_jpeg_dcmtk.dcm"], pydicom.dcmread(files["SC_rgb_jpeg_gdcm.dcm"])
    odd.file_meta.TransferSyntaxUID = MPEG4HP41  # nothing here decodes video
    odd.save_as(video := BytesIO())
    await node.add(jpeg.read_bytes(), video.getvalue())
    ds = pydicom.dcmread(jpeg)
    uids = (ds.StudyInstanceUID, ds.SeriesInstanceUID, ds.SOPInstanceUID)
    other = (odd.StudyInstanceUID, odd.SeriesInstanceUID, odd.SOPInstanceUID)
    _, found = await ask(node, imaging(uids, syntaxes=(ELE, "1.2.840.10008.1.2.4.50")))
    assert found[uids[2]][128:] == jpeg.read_bytes()[128:]
    reply, found = await ask(node, imaging(uids, other))
    again = pydicom.dcmread(BytesIO(found[uids[2]]))
    assert (again.file_meta.TransferSyntaxUID, again.SOPInstanceUID) == (ELE, uids[2])
    assert again.pixel_array.tolist() == ds.pixel_array.tolist()
    assert reply.registry.status == PARTIAL
    assert [(e.code, e.location) for e in reply.registry.errors] == [("XDSRepositoryError", other[2])]
    assert "requested transfer syntaxes" in reply.registry.errors[0].context
    assert list(node.serve.spool.iterdir()) == []


async def test_deleted_instances_are_not_available(node: Served) -> None:
    await node.archive.delete(STUDY, "test")
    reply, _ = await ask(node, imaging((STUDY, SERIES, SOP)))
    assert reply.registry.errors[0].code == "XDSDocumentUniqueIdError"


async def test_access(tmp_path: Path) -> None:
    async with serving(tmp_path, listener="systems") as node:
        await node.add(part10(ct()))
        body = imaging((STUDY, SERIES, SOP))
        assert (await ask(node, body, headers=node.release(STUDY)))[0].registry.status == SUCCESS
        with pytest.raises(Forbidden):
            await ask(node, body, headers=node.release("1.2.2"))
        with pytest.raises(Forbidden):
            await ask(
                node, imaging((STUDY, SERIES, SOP), ("1.2.2", SERIES, "1.2.2.1")), headers=node.release(STUDY)
            )
        with pytest.raises(Forbidden):
            await ask(node, body, headers=node.access(Principal(subject="p", roles=frozenset({"porter"}))))
        with pytest.raises(Unauthenticated):
            await ask(node, body, headers=node.release(STUDY, holder="RXC"))
        node.state["skew"] = 100.0
        with pytest.raises(Exception, match=r"503|cannot|clock|Unavailable"):
            await ask(node, body, headers=node.release(STUDY))


async def test_what_is_no_request_is_a_fault(node: Served) -> None:
    with pytest.raises(SoapFault):
        await ask(
            node,
            imaging((STUDY, SERIES, SOP)),
            action="urn:ihe:rad:2011:CrossGatewayRetrieveImagingDocumentSet",
        )
    async with node.session.post(
        f"{node.url}/rad69", data=b"<x/>", headers={"Content-Type": "text/plain"}
    ) as response:
        assert response.status == 500
        assert b"Fault" in await response.read()


async def test_constant_memory(node: Served) -> None:
    pixels = b"\1\0" * (2048 * 2048)
    wanted = []
    for i in range(12):
        await node.add(part10(ct(study="1.2.5", sop=f"1.2.5.{i}", Rows=2048, Columns=2048, PixelData=pixels)))
        wanted.append(("1.2.5", SERIES, f"1.2.5.{i}"))
    client, total = SoapClient(node.session, IDS), 0
    tracemalloc.start()
    async with client.stream(f"{node.url}/rad69", rad69.ACTION_REQUEST, imaging(*wanted)) as stream:
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        async for part in stream.parts():
            async for piece in part.chunks():
                total += len(piece)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert total > 100_000_000
    assert peak < 16 << 20, f"{peak >> 20} MiB"


# --- ITI-43 -------------------------------------------------------------------------------------------------


async def documents(
    node: Served, *asked: DocumentRequest, headers: dict[str, str] | None = None
) -> tuple[RetrieveReply, dict[str, bytes]]:
    body = render_retrieve_request(asked)
    return await ask(node, body, action=ACTION_REQUEST, path="/xds/repository", headers=headers)


async def test_manifests(node: Served) -> None:
    manifest = part10(ct(sop="1.2.1.9"))
    node.manifests.known["9.1"] = (STUDY, manifest)
    reply, found = await documents(
        node, DocumentRequest(REPOSITORY, "9.1", "urn:oid:1.2.3.4"), headers=node.release(STUDY)
    )
    assert (reply.registry.status, found) == (SUCCESS, {"9.1": manifest})
    assert hashlib.sha1(found["9.1"]).hexdigest() == hashlib.sha1(manifest).hexdigest()
    assert reply.documents[0].request == DocumentRequest(REPOSITORY, "9.1", "urn:oid:1.2.3.4")
    reply, found = await documents(
        node,
        DocumentRequest(REPOSITORY, "9.2"),
        DocumentRequest("1.2.9", "9.1"),
        DocumentRequest(REPOSITORY, "9.1"),
    )
    assert (reply.registry.status, list(found)) == (PARTIAL, ["9.1"])
    assert sorted((e.code, e.location) for e in reply.registry.errors) == [
        ("XDSDocumentUniqueIdError", "9.2"),
        ("XDSUnknownRepositoryId", "9.1"),
    ]
    act = (await node.acts(study=STUDY))[0]
    assert (act.face, act.text) == ("iti43", "partial 1 documents, 3 in all")


async def test_manifests_pass_the_same_way_out(node: Served) -> None:
    node.manifests.known["9.1"] = (STUDY, b"manifest")
    with pytest.raises(Forbidden):
        await documents(node, DocumentRequest(REPOSITORY, "9.1"), headers=node.release("1.2.2"))
    reply, _ = await documents(node, DocumentRequest(REPOSITORY, "9.7"), headers=node.release("1.2.2"))
    assert reply.registry.errors[0].code == "XDSDocumentUniqueIdError"
    node.state["suspended"] = True
    with pytest.raises(Forbidden):
        await documents(node, DocumentRequest(REPOSITORY, "9.1"), headers=node.release(STUDY))


async def test_many_manifests_are_not_in_memory_at_once(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def made(document_uid: str) -> bytes:
        return bytes([int(document_uid[2:])]) * (4 << 20)

    async def study(document_uid: str) -> str:
        return STUDY

    monkeypatch.setattr(node.manifests, "manifest", made)
    monkeypatch.setattr(node.manifests, "study_of", study)
    body = render_retrieve_request([DocumentRequest(REPOSITORY, f"9.{n}") for n in range(24)])
    client, total = SoapClient(node.session, IDS), 0
    tracemalloc.start()
    try:
        async with client.stream(f"{node.url}/xds/repository", ACTION_REQUEST, body) as stream:
            async for part in stream.parts():
                async for piece in part.chunks():
                    total += len(piece)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total == 24 * (4 << 20)
    assert peak < 56 << 20, f"{peak >> 20} MiB"
