"""A node whose images lie elsewhere gives what a node of its own gives: only the holdings differ
(``node/holdings.py``).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Literal

import pydicom
import pytest
from aiohttp import ClientError, ClientSession
from far_holdings import FarHoldings
from node_serving import IDS, LOCATION, REPOSITORY, Served, ct, part10, sample_files, serving
from publish_fakes import IDENTITY, MARK_TABLE

from crosslight.runtime.db import SqliteDb
from crosslight.runtime.http import client_session
from crosslight.runtime.seams import system_seams
from crosslight.runtime.soap.client import SoapClient
from crosslight.runtime.workers import SystemWorkers
from crosslight.standards.dicom.web.multipart import PartBegin, PartData, RelatedReader, boundary_of
from crosslight.standards.xds.wire import rad69
from crosslight.standards.xds.wire.rad69 import (
    ImagingRequest,
    SeriesRequest,
    StudyRequest,
    render_imaging_request,
)
from crosslight.standards.xds.wire.response import PARTIAL, SUCCESS
from crosslight.standards.xds.wire.retrieve import (
    ACTION_REQUEST,
    DocumentRequest,
    RetrieveReply,
    parse_retrieve_response,
    render_retrieve_request,
)
from node.marks import Marks
from node.publish.revise import Origin, Retrieval, Reviser
from node.publish.schedule import Pace, Schedule
from node.publish.store import PublishStore
from node.serve.config import ServeConfig

ELE = "1.2.840.10008.1.2.1"
STUDY, SERIES = "1.2.1", "1.2.1.1"
ONE = f"/studies/{STUDY}/series/{SERIES}/instances/1.2.1.1.1"
DICOM_PARTS = 'multipart/related; type="application/dicom"'
LARGE = ct(sop="1.2.1.1.3", number=3, Rows=1200, Columns=1200, PixelData=b"\1\2" * 1200 * 1200)


@dataclass
class Beside:
    """A PACS with a DICOMweb server, and a node whose holdings are what lies there."""

    pacs: Served
    node: Served
    far: FarHoldings

    def nothing_is_left(self) -> None:
        """Everything that was opened has been let go of."""
        assert self.far.open == 0
        assert list(self.node.serve.spool.iterdir()) == []


@pytest.fixture(params=["fetched", "passed"])
async def beside(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[Beside]:
    how: Literal["fetched", "passed"] = request.param
    async with AsyncExitStack() as stack:
        pacs = await stack.enter_async_context(serving(tmp_path / "pacs"))
        session: ClientSession = await stack.enter_async_context(client_session())
        far = FarHoldings(session, pacs.url + "/dicomweb", tmp_path / "far", how)
        node = await stack.enter_async_context(serving(tmp_path / "node", listener="systems", holdings=far))
        await pacs.add(part10(ct()), part10(ct(sop="1.2.1.1.2", number=2)), part10(LARGE))
        yield Beside(pacs, node, far)


async def _get(node: Served, path: str, accept: str = "*/*") -> tuple[int, Mapping[str, str], bytes]:
    sent = {"Accept-Encoding": "identity", "Accept": accept}
    async with node.session.get(f"{node.url}/dicomweb{path}", headers=sent) as response:
        return response.status, response.headers, await response.read()


def _parts(headers: Mapping[str, str], body: bytes) -> list[tuple[str, bytes]]:
    if not headers["Content-Type"].startswith("multipart/"):
        return [(headers["Content-Type"], body)]
    found: list[tuple[str, bytes]] = []
    reader = RelatedReader(boundary_of(headers["Content-Type"]))
    for event in reader.feed(body):
        if isinstance(event, PartBegin):
            found.append((event.headers["content-type"], b""))
        elif isinstance(event, PartData):
            found[-1] = (found[-1][0], found[-1][1] + event.data)
    reader.close()
    return found


@pytest.mark.parametrize(
    ("path", "accept"),
    [
        (f"/studies/{STUDY}", DICOM_PARTS),
        (f"/studies/{STUDY}/series/{SERIES}", DICOM_PARTS + "; transfer-syntax=*"),
        (ONE, "application/dicom"),
        (ONE, DICOM_PARTS),
        (f"/studies/{STUDY}/series/{SERIES}/instances/1.2.1.1.3", DICOM_PARTS),
        (ONE + "/frames/1", "*/*"),
        (ONE + "/frames/1", "application/octet-stream"),
        (ONE + "/rendered", "image/png"),
        (f"/studies/{STUDY}/thumbnail", "image/jpeg"),
    ],
)
async def test_what_lies_elsewhere_is_given_out_as_what_lies_here(
    beside: Beside, path: str, accept: str
) -> None:
    there = await _get(beside.pacs, path, accept)
    here = await _get(beside.node, path, accept)
    assert (here[0], _parts(*here[1:])) == (200, _parts(*there[1:]))
    assert "ETag" not in here[1], "nobody has read the digests: such an answer is asked for again"
    assert beside.far.opened
    beside.nothing_is_left()


async def test_the_length_of_one_object_is_known_once_it_is_opened(beside: Beside) -> None:
    _, headers, body = await _get(beside.node, ONE, "application/dicom")
    assert int(headers["Content-Length"]) == len(body)
    _, headers, _ = await _get(beside.node, f"/studies/{STUDY}", DICOM_PARTS)
    assert "Content-Length" not in headers, "of several it would take opening all of them first"


async def test_compressed_objects_from_elsewhere_are_cut_decoded_and_re_encoded(beside: Beside) -> None:
    file = next(path for path in sample_files() if path.name == "SC_rgb_jpeg_dcmtk.dcm")
    await beside.pacs.add(file.read_bytes())
    ds = pydicom.dcmread(file)
    path = f"/studies/{ds.StudyInstanceUID}/series/{ds.SeriesInstanceUID}/instances/{ds.SOPInstanceUID}"
    for resource, accept in (
        ("/frames/1", 'multipart/related; type="image/jpeg"; transfer-syntax=*'),
        ("/frames/1", f'multipart/related; type="application/octet-stream"; transfer-syntax={ELE}'),
        ("", f"{DICOM_PARTS}; transfer-syntax={ELE}"),
        ("/rendered", "image/png"),
    ):
        there = await _get(beside.pacs, path + resource, accept)
        here = await _get(beside.node, path + resource, accept)
        assert (here[0], _parts(*here[1:])) == (200, _parts(*there[1:])), (resource, accept)
    beside.nothing_is_left()


async def _images(
    node: Served, *sops: str, syntaxes: tuple[str, ...] = (ELE,)
) -> tuple[RetrieveReply, dict[str, bytes]]:
    documents = tuple(DocumentRequest(LOCATION, sop) for sop in sops)
    body = render_imaging_request(
        ImagingRequest((StudyRequest(STUDY, (SeriesRequest(SERIES, documents),)),), syntaxes)
    )
    async with SoapClient(node.session, IDS).stream(
        node.url + "/rad69", rad69.ACTION_REQUEST, body
    ) as stream:
        reply, found = parse_retrieve_response(stream.body), {}
        async for part in stream.parts():
            uid = reply.by_content_id[part.content_id].request.document_unique_id
            found[uid] = b"".join([piece async for piece in part.chunks()])
    return reply, found


async def test_rad69_passes_on_what_lies_elsewhere(beside: Beside) -> None:
    reply, found = await _images(beside.node, "1.2.1.1.1", "1.2.1.1.3", "1.2.1.1.9")
    assert reply.registry.status == PARTIAL
    assert found == {"1.2.1.1.1": part10(ct()), "1.2.1.1.3": part10(LARGE)}
    assert [error.location for error in reply.registry.errors] == ["1.2.1.1.9"]
    reply, found = await _images(beside.node, "1.2.1.1.2")
    assert (reply.registry.status, list(found)) == (SUCCESS, ["1.2.1.1.2"])
    beside.nothing_is_left()


async def test_what_lies_elsewhere_is_published_and_its_manifest_given_by_iti43(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        pacs = await stack.enter_async_context(serving(tmp_path / "pacs"))
        session: ClientSession = await stack.enter_async_context(client_session())
        db, workers = SqliteDb(tmp_path / "publish.sqlite"), SystemWorkers(threads=1)
        stack.push_async_callback(db.close)
        stack.push_async_callback(workers.close)
        marks, store = Marks(), PublishStore(db, IDS, ["region"])

        async def touched(studies: Sequence[str]) -> None:
            for study_uid in studies:
                await db.write("mark", lambda tx, uid=study_uid: marks.touch_tx(tx, uid, 1.0))

        far = FarHoldings(session, pacs.url + "/dicomweb", tmp_path / "far", "passed", touched)
        node = await stack.enter_async_context(
            serving(tmp_path / "node", listener="systems", holdings=far, published=store)
        )
        await db.write("marks", lambda tx: tx.execute(MARK_TABLE))
        await store.open()
        await store.take_epoch(1)
        reviser = Reviser(
            store,
            far,
            system_seams(workers=workers),
            Schedule(Pace(first_s=0.0, quiet_s=0.0, growing_s=60.0)),
            Origin(identity=lambda: IDENTITY, retrieval=Retrieval(ae_title="RTK")),
            on_revision=lambda: None,
        )
        await pacs.add(part10(ct()), part10(ct(sop="1.2.1.1.2", number=2)))
        await far.touch([STUDY])
        await reviser._refill()
        assert await reviser.revise_due() == 1
        row, _ = await store.look(STUDY)
        assert row is not None
        revision = await store.revision(row.version)
        assert revision is not None
        request = render_retrieve_request([DocumentRequest(REPOSITORY, revision.manifest.document_uid)])
        async with SoapClient(node.session, IDS).stream(
            node.url + "/xds/repository", ACTION_REQUEST, request
        ) as stream:
            assert parse_retrieve_response(stream.body).registry.status == SUCCESS
            (manifest,) = [
                b"".join([piece async for piece in part.chunks()]) async for part in stream.parts()
            ]
        listed = pydicom.dcmread(BytesIO(manifest)).CurrentRequestedProcedureEvidenceSequence[0]
        instances = listed.ReferencedSeriesSequence[0].ReferencedSOPSequence
        assert [one.ReferencedSOPInstanceUID for one in instances] == ["1.2.1.1.1", "1.2.1.1.2"]


async def test_a_pacs_that_gives_nothing_is_an_error_before_the_first_byte(beside: Beside) -> None:
    listed = await beside.far.objects(STUDY)

    async def objects(study_uid: str, series_uid: str = "", sop_uid: str = "") -> object:
        return listed

    beside.far.objects = objects  # type: ignore[assignment, method-assign]
    await beside.pacs.archive.delete(STUDY, "gone meanwhile")
    for path in (f"/studies/{STUDY}", ONE, ONE + "/frames/1", ONE + "/rendered"):
        status, _, body = await _get(beside.node, path)
        assert (status, b"The PACS gives nothing" in body) == (503, True), path
    beside.nothing_is_left()


async def test_a_pacs_that_breaks_off_cuts_the_connection(beside: Beside) -> None:
    listed = await beside.far.objects(STUDY)
    opening = beside.far.open_object

    async def open_object(found: object) -> object:
        if found is listed[2]:
            await beside.pacs.archive.delete(STUDY, "gone in the middle")
        return await opening(found)  # type: ignore[arg-type]

    async def objects(study_uid: str, series_uid: str = "", sop_uid: str = "") -> object:
        return listed

    beside.far.objects, beside.far.open_object = objects, open_object  # type: ignore[assignment, method-assign]
    with pytest.raises(ClientError):
        await _get(beside.node, f"/studies/{STUDY}", DICOM_PARTS)
    assert (await beside.node.audit.search(study=STUDY))[0].outcome.kind == "cut"
    beside.nothing_is_left()


async def test_one_from_elsewhere_that_is_too_large_to_be_read_here_is_refused(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        pacs = await stack.enter_async_context(serving(tmp_path / "pacs"))
        session: ClientSession = await stack.enter_async_context(client_session())
        far = FarHoldings(session, pacs.url + "/dicomweb", tmp_path / "far", "passed")
        config = ServeConfig(max_instance_bytes=1 << 20)
        node = await stack.enter_async_context(serving(tmp_path / "node", config=config, holdings=far))
        await pacs.add(part10(LARGE))
        path = f"/studies/{STUDY}/series/{SERIES}/instances/1.2.1.1.3"
        assert (await _get(node, path + "/rendered", "image/png"))[0] == 413
        status, _, body = await _get(node, path, "application/dicom")
        assert (status, pydicom.dcmread(BytesIO(body)).SOPInstanceUID) == (
            200,
            "1.2.1.1.3",
        ), "but it is passed on"
        Beside(pacs, node, far).nothing_is_left()


async def test_a_node_that_takes_nothing_in_says_so(beside: Beside) -> None:
    async with beside.node.session.post(
        f"{beside.node.url}/dicomweb/studies",
        data=part10(ct()),
        headers={"Content-Type": "application/dicom"},
    ) as response:
        assert response.status == 409
        assert "Failure" in await response.text() or b"00081197" in await response.read()
