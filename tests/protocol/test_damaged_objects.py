"""A damaged object is given out by no face, is said to whoever looks, and heals by a C-STORE."""

from __future__ import annotations

import asyncio
from io import StringIO
from pathlib import Path
from typing import Any

import dicom_objects as make
import orjson
from archive_fixture import file_of
from dicomweb_answers import DICOM_PARTS, ONE, get, parts
from dimse_node import associate, gotten, node
from independent_node import Outside, numbered, outside_at, serving
from node_serving import ct, part10
from node_serving import serving as served
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian
from pynetdicom.sop_class import CTImageStorage
from rich.console import Console
from whole_region import until

from crosslight.runtime.http import client_session
from crosslight.runtime.tls import client_context
from node import doctor
from node.app import NodeApp
from node.archive.archive import Archive
from node.archive.care import Care
from node.dimse.config import KnownCaller
from node.dimse.services.retrieving import SOME_FAILED

SECOND = "1.2.1.1.2"


async def damaged(archive: Archive, study: str, sop: str) -> None:
    """One object loses its last byte; the reading of all objects comes by."""
    (found,) = await archive.objects(study, sop_uid=sop)
    path = await file_of(archive, found)
    path.write_bytes(path.read_bytes()[:-1])
    await read_all(archive.care)
    (found,) = await archive.objects(study, sop_uid=sop)
    assert found.damaged


async def read_all(care: Care) -> None:
    while await care.step():
        pass


async def test_dicomweb_gives_the_rest_and_says_so(tmp_path: Path) -> None:
    async with served(tmp_path) as here:
        await here.add(part10(ct()), part10(ct(sop=SECOND, number=2)))
        _, headers, _ = await get(here, "/studies/1.2.1", DICOM_PARTS)
        whole_tag = headers["ETag"]
        await damaged(here.archive, "1.2.1", SECOND)
        status, headers, body = await get(here, "/studies/1.2.1", DICOM_PARTS)
        assert (status, len(parts(headers, body))) == (206, 1)
        assert "1 instances are damaged in the archive" in headers["Warning"]
        assert "ETag" not in headers, "a part is never taken for the whole later"
        status, _, _ = await get(here, "/studies/1.2.1", DICOM_PARTS, **{"If-None-Match": whole_tag})
        assert status == 206
        one = f"/studies/1.2.1/series/1.2.1.1/instances/{SECOND}"
        for path, accept in (
            (one, "application/dicom"),
            (f"{one}/frames/1", "application/octet-stream"),
            (f"{one}/rendered", "image/jpeg"),
        ):
            status, _, body = await get(here, path, accept)
            assert (status, b"damaged in its archive" in body) == (503, True), path
        assert (await get(here, ONE, "application/dicom"))[0] == 200
        status, _, body = await get(here, f"{one}/metadata", "application/dicom+json")
        assert status == 200, "what the database knows of it is whole"


async def test_dicom_gets_the_rest_and_heals_it(tmp_path: Path) -> None:
    callers = (KnownCaller(ae_title="CT1"), KnownCaller(ae_title="WS1", may=("find", "open")))
    async with node(tmp_path, callers=callers) as made:
        for number in (1, 2):
            assert (await made.held.put(make.image(number))).status == 0
        archive, sop = made.held.archive, f"{make.STUDY}.1.2"
        await damaged(archive, make.STUDY, sop)
        assert await asyncio.to_thread(gotten, made.service.port) == (SOME_FAILED, [f"{make.STUDY}.1.1"])
        assert await asyncio.to_thread(_sent, made.service.port, make.image(2)) == 0
        (found,) = await archive.objects(make.STUDY, sop_uid=sop)
        assert not found.damaged
        assert await asyncio.to_thread(gotten, made.service.port) == (0, [f"{make.STUDY}.1.1", sop])


def _sent(port: int, dataset: Dataset) -> int:
    assoc = associate(port, [(str(CTImageStorage), [str(ExplicitVRLittleEndian)])])
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    status = assoc.send_c_store(dataset)
    assoc.release()
    return int(status.Status)


async def _said(outside: Outside, path: str) -> bytes:
    tls = client_context(outside.pacs.ca)
    async with (
        client_session(tls) as session,
        session.get(outside.at(path, people=True)) as response,
    ):
        assert response.status == 200
        return await response.read()


async def test_status_doctor_health_metrics_and_audit_say_it(tmp_path: Path) -> None:
    async with outside_at(tmp_path) as outside, serving(outside.folder) as app:
        await outside.send(numbered(ct()))
        assert orjson.loads(await _said(outside, "/health/ready"))["archive_care"] == "ok"
        assert "objects" in await _doctor(outside)
        await damaged(app.archive, "1.2.1", "1.2.1.1.1")
        ready = orjson.loads(await _said(outside, "/health/ready"))
        assert ready["archive_care"] == "1 object is damaged or missing"
        metrics = await _said(outside, "/metrics")
        assert b"crosslight_node_damaged 1.0" in metrics
        assert b"crosslight_node_verified_objects_total 1.0" in metrics
        assert b"crosslight_node_verified_share 1.0" in metrics
        assert "1 object is damaged or missing" in await _doctor(outside)
        shown = await outside.status()
        assert "NOT GIVEN OUT" in shown
        assert "instance 1.2.1.1.1 of study 1.2.1" in shown
        await outside.send(numbered(ct()))
        await until(lambda: _is_well(outside))
        await _is_audited(app)


async def _doctor(outside: Outside) -> str:
    out = StringIO()
    await doctor.doctor(outside.folder, Console(file=out, width=200))
    return out.getvalue()


async def _is_well(outside: Outside) -> bool:
    said: dict[str, Any] = orjson.loads(await _said(outside, "/health/ready"))
    return bool(said["archive_care"] == "ok")


async def _is_audited(app: NodeApp) -> None:
    await app.parts.ground.audit.settle()
    (act,) = [a for a in await app.parts.ground.audit.search(study="1.2.1") if a.action == "verify"]
    assert (act.who.subject, act.query) == ("node", {"instance": "1.2.1.1.1", "object": "damaged"})
    assert act.patients
