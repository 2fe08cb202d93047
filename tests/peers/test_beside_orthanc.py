"""A node beside an Orthanc that it has never seen: what is there is listed, stays right, and is given out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import dicom_objects as make
import orjson
import pydicom
import pytest
from aiohttp import ClientSession
from joserfc.jwk import ECKey
from node_parts import node_ground
from node_serving import MEMBER, SERVED_REGION
from ports import free_ports

from benchmarks.peers import orthanc
from crosslight.runtime.service_life import Life
from crosslight.standards.dicom.web import json
from crosslight.standards.dicom.web.qido import QidoQuery
from node.archive.archive import Archive
from node.config import NodeConfig
from node.holdings import Passed
from node.parts import make_sources
from node.sources.config import DicomwebSource, SourcesConfig

OTHER = "1.2.826.0.1.3680043.10.1.2"


@dataclass
class Beside:
    """The node's archive, and Orthanc's own REST API."""

    archive: Archive
    session: ClientSession
    rest: str

    async def put(self, data: Any) -> None:
        async with self.session.post(f"{self.rest}/instances", data=make.part10(data)) as answer:
            assert answer.status == 200, await answer.text()

    async def ids(self, level: str) -> list[str]:
        async with self.session.get(f"{self.rest}/{level}") as answer:
            found: list[str] = orjson.loads(await answer.read())
            return found

    async def delete(self, level: str, number: str) -> None:
        async with self.session.delete(f"{self.rest}/{level}/{number}") as answer:
            assert answer.status == 200

    async def uids(self, **keys: str) -> list[str]:
        """SOP Instance UIDs that the node finds."""
        query = QidoQuery.parse("instance", list(keys.items()))
        return sorted(
            json.text_of(row, "SOPInstanceUID") for row in await self.archive.search("instance", query)
        )


@asynccontextmanager
async def beside(folder: Path, rest: str, session: ClientSession) -> AsyncIterator[Beside]:
    source = DicomwebSource(
        name="PACS",
        url=f"{rest}/dicom-web",
        look_every_s=0.2,
        studies_per_minute=6000,
        earliest="20250101",
        compare_every_h=0.0,
    )
    config = NodeConfig(sources=SourcesConfig(dicomweb=(source,)))
    key = ECKey.generate_key("P-256", parameters={"kid": "k"})
    async with (
        node_ground(folder, MEMBER, SERVED_REGION, key, config=config) as (ground, archive),
        Life() as life,
    ):
        sources = make_sources(ground, archive)
        life.closes(sources)
        await sources.open()
        archive.elsewhere.sources = sources.archives
        sources.run(life)
        yield Beside(archive, session, rest)


@pytest.fixture
async def rest(tmp_path: Path) -> AsyncIterator[tuple[str, ClientSession]]:
    port = free_ports(2)[0]
    async with orthanc(tmp_path / "orthanc", port), ClientSession() as session:
        yield f"http://127.0.0.1:{port}", session


async def until(asked: Callable[[], Awaitable[Any]], wanted: Any) -> None:
    found = None
    try:
        async with asyncio.timeout(60):
            while (found := await asked()) != wanted:  # noqa: ASYNC110 - another program's doing
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise AssertionError(f"{found!r} instead of {wanted!r}") from None


async def test_what_is_there_is_listed_and_stays_right(
    tmp_path: Path, rest: tuple[str, ClientSession]
) -> None:
    async with beside(tmp_path / "node", *rest) as region:
        assert (await region.archive.refused(10))[1], "nobody has looked yet: the node does not know all"
        first, second = f"{make.STUDY}.1.1", f"{make.STUDY}.1.2"
        await region.put(make.image(1))
        await until(lambda: region.uids(PatientID="L001"), [first])
        await region.put(make.image(2))
        await until(lambda: region.uids(PatientID="L001"), [first, second])
        await until(lambda: _behind(region), False)
        dated = make.image(
            1,
            study=OTHER,
            StudyDate="20250301",
            PatientID="L002",
            PatientName="Ω<&>^é",
            SpecificCharacterSet="ISO_IR 192",
        )
        await region.put(dated)
        await until(lambda: region.uids(PatientID="L002"), [f"{OTHER}.1.1"])
        record = await region.archive.record(OTHER)
        assert record is not None
        assert record.patient.name.pn == "Ω<&>^é"
        for number in await region.ids("instances"):
            async with region.session.get(f"{region.rest}/instances/{number}/tags?simplify") as answer:
                if orjson.loads(await answer.read())["SOPInstanceUID"] == first:
                    await region.delete("instances", number)
        await until(lambda: region.uids(PatientID="L001"), [second])
        for number in await region.ids("studies"):
            await region.delete("studies", number)
        await until(lambda: region.uids(), [])
        assert await region.archive.record(make.STUDY) is None


async def _behind(region: Beside) -> bool:
    return (await region.archive.refused(10))[1]


async def test_an_object_passes_through_byte_for_byte(
    tmp_path: Path, rest: tuple[str, ClientSession]
) -> None:
    async with beside(tmp_path / "node", *rest) as region:
        made = make.image(1, Rows=512, Columns=512, pixels=bytes(range(256)) * 2048)
        await region.put(made)
        await until(lambda: region.uids(PatientID="L001"), [f"{make.STUDY}.1.1"])
        (stored,) = await region.archive.objects(make.STUDY)
        assert (stored.size, stored.ref.sha256) == (None, "")
        opened = await region.archive.open_object(stored)
        assert isinstance(opened, Passed)
        data = b"".join([chunk async for chunk in opened.chunks])
        await opened.chunks.aclose()
        assert pydicom.dcmread(BytesIO(data)).PixelData == made.PixelData
        assert make.data_set_of(data) == make.data_set_of(make.part10(made))


async def test_an_object_that_comes_in_here_takes_the_place_of_its_description(
    tmp_path: Path, rest: tuple[str, ClientSession]
) -> None:
    async with beside(tmp_path / "node", *rest) as region:
        await region.put(make.image(1))
        await until(lambda: region.uids(PatientID="L001"), [f"{make.STUDY}.1.1"])
        staged = region.archive.stage()
        staged.write(make.part10(make.image(1)))
        from node.holdings import Received

        result = await region.archive.ingest_async(staged, Received(road="import", peer="here"))
        assert (result.state, result.status) == ("stored", 0)
        (stored,) = await region.archive.objects(make.STUDY)
        assert stored.ref.sha256
        for number in await region.ids("studies"):
            await region.delete("studies", number)
        await region.put(make.image(9, study=OTHER, PatientID="L002"))
        await until(lambda: region.uids(PatientID="L002"), [f"{OTHER}.1.9"])
        assert await region.uids(PatientID="L001") == [f"{make.STUDY}.1.1"], "it lies here"
        assert (await region.archive.verify()).ok


async def test_a_source_that_does_not_answer_is_said_and_nothing_is_forgotten(
    tmp_path: Path,
) -> None:
    port = free_ports(2)[0]
    async with ClientSession() as session:
        async with beside(tmp_path / "node", f"http://127.0.0.1:{port}", session) as region:
            async with orthanc(tmp_path / "orthanc", port):
                await region.put(make.image(1))
                await until(lambda: region.uids(PatientID="L001"), [f"{make.STUDY}.1.1"])
                await until(lambda: _behind(region), False)
            await until(lambda: _behind(region), True)
            assert await region.uids(PatientID="L001") == [f"{make.STUDY}.1.1"]
