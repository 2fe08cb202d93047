"""A node beside archives that speak only DIMSE: DCMTK's dcmqrscp, and Orthanc by its other road."""

from __future__ import annotations

import asyncio
from io import BytesIO
from pathlib import Path

import dicom_objects as make
import orjson
import pydicom
from aiohttp import ClientSession
from beside_dimse import OTHER, behind, beside, dcmqrscp, given, put, silent, uids, until
from notices import notice, notify
from ports import free_ports

from benchmarks.peers import orthanc
from node.dimse.config import DimseConfig, KnownCaller


async def test_dcmqrscp_is_listed_and_its_objects_pass(tmp_path: Path) -> None:
    port, now = free_ports(1)[0], make.image(1, StudyDate="20261130")
    async with dcmqrscp(tmp_path / "qr", port):
        await asyncio.to_thread(put, port, "QRSCP", now, make.image(1, study=OTHER, PatientID="L002"))
        async with beside(tmp_path / "node", port, "QRSCP") as node:
            first, other = f"{make.STUDY}.1.1", f"{OTHER}.1.1"
            await until(lambda: uids(node.archive), sorted([first, other]))
            await asyncio.to_thread(put, port, "QRSCP", make.image(2, StudyDate="20261130"))
            await until(lambda: uids(node.archive), sorted([first, f"{make.STUDY}.1.2", other]))
            one, two = await given(node.archive, make.STUDY)
            assert pydicom.dcmread(BytesIO(one)).PixelData == now.PixelData
            assert await given(node.archive, make.STUDY) == [one, two], "the same bytes again"


async def test_an_upstream_that_goes_in_mid_backfill_is_gone_on_with(tmp_path: Path) -> None:
    port = free_ports(1)[0]
    made = [make.image(1, study=f"{OTHER}.{n}", StudyDate=f"2025{n % 12 + 1:02}10") for n in range(24)]
    wanted = sorted(str(one.SOPInstanceUID) for one in made)
    async with dcmqrscp(tmp_path / "qr", port):
        await asyncio.to_thread(put, port, "QRSCP", *made)
        async with beside(tmp_path / "node", port, "QRSCP", studies_per_minute=600) as node:
            async with asyncio.timeout(60):
                while not await uids(node.archive):  # noqa: ASYNC110 - another program's doing
                    await asyncio.sleep(0.02)
    async with beside(tmp_path / "node", port, "QRSCP") as node:
        await until(lambda: silent(node.sources), True)
        before = await uids(node.archive)
        assert before, "what was found is kept, over the node's own end too"
        assert node.sources.behind
        async with dcmqrscp(tmp_path / "qr", port):
            await until(lambda: uids(node.archive), wanted)
            await until(lambda: behind(node.sources), False)


async def test_orthanc_by_dimse_stays_right_while_studies_are_deleted_and_sent_again(tmp_path: Path) -> None:
    port = free_ports(2)[0]
    rest = f"http://127.0.0.1:{port}"
    async with orthanc(tmp_path / "orthanc", port), ClientSession() as session:
        name = "Ü<&>^é"  # Orthanc answers in its DefaultEncoding, Latin 1, and leaves out what that has not
        umlaut = make.image(
            1, study=OTHER, PatientID="L002", PatientName=name, SpecificCharacterSet="ISO_IR 192"
        )
        await asyncio.to_thread(put, port + 1, "ORTHANC", make.image(1), make.image(2), umlaut)
        async with beside(tmp_path / "node", port + 1, "ORTHANC") as node:
            wanted = sorted([f"{make.STUDY}.1.1", f"{make.STUDY}.1.2", f"{OTHER}.1.1"])
            await until(lambda: uids(node.archive), wanted)
            record = await node.archive.record(OTHER)
            assert record is not None
            assert record.patient.name.pn == name
            (data,) = await given(node.archive, OTHER)
            assert make.data_set_of(data) == make.data_set_of(make.part10(umlaut))
            async with session.get(f"{rest}/studies") as answer:
                numbers = orjson.loads(await answer.read())
            for number in numbers:
                async with session.delete(f"{rest}/studies/{number}") as answer:
                    assert answer.status == 200
            await until(lambda: uids(node.archive), [])
            await asyncio.to_thread(put, port + 1, "ORTHANC", make.image(2), make.image(3))
            await until(lambda: uids(node.archive), sorted([f"{make.STUDY}.1.2", f"{make.STUDY}.1.3"]))
            await until(lambda: behind(node.sources), False)


async def test_a_study_that_orthanc_has_is_found_when_it_is_told_of(tmp_path: Path) -> None:
    """Orthanc sends no notifications itself: a program beside it does, as its Lua scripts would."""
    port = free_ports(2)[0]
    tells = KnownCaller(ae_title="PACS", addresses=("127.0.0.1",), may=(), notifies=("PACS",))
    listener = DimseConfig(host="127.0.0.1", port=0, ae_title="RTK", callers=(tells,))
    async with orthanc(tmp_path / "orthanc", port):
        await asyncio.to_thread(put, port + 1, "ORTHANC", make.image(1, study=OTHER))
        async with beside(
            tmp_path / "node", port + 1, "ORTHANC", dimse=listener, look_every_s=3600.0, compare_every_h=24.0
        ) as node:
            await until(lambda: behind(node.sources), False)
            await asyncio.to_thread(put, port + 1, "ORTHANC", make.image(1), make.image(2))
            told = notice(make.STUDY, f"{make.STUDY}.1.1", f"{make.STUDY}.1.2")
            assert await asyncio.to_thread(lambda: notify(node.port, told)) == [0]
            wanted = sorted([f"{OTHER}.1.1", f"{make.STUDY}.1.1", f"{make.STUDY}.1.2"])
            await until(lambda: uids(node.archive), wanted)
