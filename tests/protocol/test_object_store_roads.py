"""What lies in the object store alone goes out by every road as what lies on the disk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dicom_objects as make
import orjson
import pytest
from bucket_fixture import Switched
from dicomweb_answers import DICOM_PARTS, ONE, get, parts
from dimse_node import gotten, node
from node_serving import IDS, LOCATION, Served, ct, part10, serving

from crosslight.runtime.soap.client import SoapClient
from crosslight.standards.xds.wire import rad69
from crosslight.standards.xds.wire.rad69 import (
    ImagingRequest,
    SeriesRequest,
    StudyRequest,
    render_imaging_request,
)
from crosslight.standards.xds.wire.retrieve import DocumentRequest, parse_retrieve_response
from node.archive.archive import Archive
from node.archive.carrier import ObjectCarrier
from node.archive.config import ArchiveConfig, ObjectStoreConfig
from node.care import ArchiveCare
from node.dimse.config import KnownCaller
from node.dimse.services.retrieving import SOME_FAILED

STORE = ObjectStoreConfig(url="s3://images", keep_local_gb=0.0, mb_per_s=10_000)
CONFIG = ArchiveConfig(min_free_bytes=0, object_store=STORE)
SECOND = "1.2.1.1.2"
OTHER = ONE.replace("1.2.1.1.1", SECOND)


async def _carry(archive: Archive) -> None:
    """All lies in the object store alone."""
    carrier: ObjectCarrier = archive.carrier
    assert carrier.bucket is not None
    await archive.study_uids(limit=1)
    carrier._opened.clear()  # two hours have passed
    while await carrier.step(carrier.bucket):
        pass
    await carrier.step(carrier.bucket)
    assert list((archive.layout.root / "objects").rglob("*.dcm")) == []


@asynccontextmanager
async def _served(folder: Path, bucket: Switched, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Served]:
    monkeypatch.setattr("node.parts.make_bucket", lambda config, folder: bucket)
    async with serving(folder, archive_config=CONFIG) as here:
        await here.add(part10(ct()), part10(ct(sop=SECOND, number=2)))
        yield here


_ASKED: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("/studies/1.2.1", DICOM_PARTS, {}),
    (ONE, "application/dicom", {}),
    (ONE, "application/dicom", {"Range": "bytes=200-299"}),
    (ONE, "application/dicom", {"Range": "bytes=400-"}),
    (f"{ONE}/frames/1", "application/octet-stream", {}),
    (f"{ONE}/rendered", "image/png", {}),
    (f"{ONE}/metadata", "application/dicom+json", {}),
)


async def _answers(here: Served) -> list[tuple[int, Any]]:
    answers = []
    for path, accept, headers in _ASKED:
        status, said, body = await get(here, path, accept, **headers)
        answers.append((status, parts(said, body) if path == "/studies/1.2.1" else body))
    answers.append((200, await _by_rad69(here)))
    return answers


async def _by_rad69(here: Served) -> list[bytes]:
    documents = tuple(DocumentRequest(LOCATION, sop) for sop in ("1.2.1.1.1", SECOND))
    request = ImagingRequest(
        (StudyRequest("1.2.1", (SeriesRequest("1.2.1.1", documents),)),), ("1.2.840.10008.1.2.1",)
    )
    async with SoapClient(here.session, IDS).stream(
        here.url + "/rad69", rad69.ACTION_REQUEST, render_imaging_request(request)
    ) as stream:
        parse_retrieve_response(stream.body)
        return [b"".join([piece async for piece in part.chunks()]) async for part in stream.parts()]


async def test_dicomweb_and_rad69_give_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Switched()
    async with _served(tmp_path, bucket, monkeypatch) as here:
        before = await _answers(here)
        assert [status for status, _ in before] == [200, 200, 206, 206, 200, 200, 200, 200]
        await _carry(here.archive)
        streams = bucket.streams
        assert await _answers(here) == before
        assert bucket.streams >= streams + 8, "nothing lay on the disk"


async def test_an_object_store_that_is_away_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Switched()
    async with _served(tmp_path, bucket, monkeypatch) as here:
        await _carry(here.archive)
        bucket.away = True
        for path, accept, headers in _ASKED[:-1]:
            status, _, body = await get(here, path, accept, **headers)
            assert status == 503, path
            said = orjson.loads(body)
            assert "object store, which does not give it now" in said["title"]
            assert "nothing of it is lost" in said["detail"]
        assert (await get(here, *_ASKED[-1][:2]))[0] == 200, "what the database knows is there"
        await here.add(part10(ct(sop="1.2.1.1.3", number=3)))
        assert (await get(here, ONE.replace("1.2.1.1.1", "1.2.1.1.3"), "application/dicom"))[0] == 200
        bucket.away = False
        here.archive.fetcher._silent_s = 0.0  # a few seconds have passed
        assert (await get(here, ONE, "application/dicom"))[0] == 200


async def test_what_is_damaged_there_is_given_by_no_face(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Switched()
    async with _served(tmp_path, bucket, monkeypatch) as here:
        await _carry(here.archive)
        (stored,) = await here.archive.objects("1.2.1", sop_uid=SECOND)
        bucket.damage(bytes.fromhex(stored.ref.sha256))
        for _ in range(2):
            status, _, body = await get(here, OTHER, "application/dicom")
            assert (status, b"damaged in its archive" in body) == (503, True)
        status, headers, body = await get(here, "/studies/1.2.1", DICOM_PARTS)
        assert (status, len(parts(headers, body))) == (206, 1)


async def test_health_and_metrics_say_how_it_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = Switched()
    async with _served(tmp_path, bucket, monkeypatch) as here:
        care = ArchiveCare(here.archive, here.audit, _seams(), CONFIG)
        await _carry(here.archive)
        bucket.away = True
        await here.add(part10(ct(sop="1.2.1.1.3", number=3)))
        await here.archive.study_uids(limit=1)
        running = asyncio.create_task(here.archive.carrier.run())
        async with asyncio.timeout(30):
            while (await care.health())["archive_care"] == "ok":  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        running.cancel()
        assert "It cannot be reached." in (await care.health())["archive_care"]
        figures = {gauge.name: gauge.values[()] for gauge in await care.gauges()}
        assert figures["crosslight_node_carry_waiting"] == 1
        assert figures["crosslight_node_carried_objects"] == 2
        assert figures["crosslight_node_carry_waiting_bytes"] > 0


def _seams() -> Any:
    from crosslight.runtime.seams import system_seams

    return system_seams()


async def test_c_get_gives_it_and_says_what_it_could_not(tmp_path: Path) -> None:
    bucket = Switched()
    callers = (KnownCaller(ae_title="CT1"), KnownCaller(ae_title="WS1", may=("find", "open")))
    archive = {"bucket": bucket, "object_store": STORE, "min_free_bytes": 0}
    async with node(tmp_path, callers=callers, archive=archive) as made:
        for number in (1, 2):
            assert (await made.held.put(make.image(number))).status == 0
        await _carry(made.held.archive)
        both = [f"{make.STUDY}.1.1", f"{make.STUDY}.1.2"]
        assert await asyncio.to_thread(gotten, made.service.port) == (0, both)
        await _carry(made.held.archive)
        bucket.away = True
        assert (await made.held.put(make.image(3))).status == 0
        assert await asyncio.to_thread(gotten, made.service.port) == (SOME_FAILED, [f"{make.STUDY}.1.3"])
        assert (await made.held.archive.care.state()).standing == 0
