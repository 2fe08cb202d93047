"""A patient of very many studies, on every face: others have their turn meanwhile, and the answer is the same
(ADR 0026).
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from four_faces import Faces, four_faces
from registry_room import Room, make_room
from registry_samples import NHS, nhs, patient, study
from turns_probe import pieces

from crosslight.runtime import large_answers as turns
from crosslight.runtime.db import Db, SqliteDb
from crosslight.standards.ids import Identifier
from crosslight.standards.records import changed
from crosslight.standards.study import Patient
from registry.ask import answer
from registry.ask.kept_readings import KeptReadings
from registry.index.decoded_rows import DecodedRows
from registry.index.rows import HoldingRow, Loaded

MANY, FEW = nhs(1), nhs(2)
SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
CODES = ("RA2", "RPC", "RTK")


async def fill(room: Room, number: str, first: int, count: int) -> None:
    """``count`` studies of one person at three members."""
    submissions = []
    for n in range(first, first + count):
        code = CODES[n % 3]
        who = patient(room.member(code), f"H{number}", number=number, family=f"Person{number}")
        submissions.append(room.grpc(code, room.published(code, study(who, n), n)))
    for at in range(0, count, 100):
        await room.acceptor.accept_many(submissions[at : at + 100])


@dataclass
class Region:
    """A room with a person of very many studies and one of few, and its faces."""

    faces: Faces
    pages: dict[str, str]  # number -> the address of their page

    async def get(self, path: str, **params: str) -> bytes:
        async with self.faces.http.get(f"{self.faces.base}/{path}", params=params) as response:
            body = await response.read()
            assert response.status == 200, body
            return body


Asking = Callable[[Region, str], Awaitable[object]]


async def _iti18(region: Region, number: str) -> bytes:
    return await region.faces.found(Identifier(number, NHS).cx())


FACES: dict[str, Asking] = {
    "FHIR, filtered": lambda r, n: r.get("fhir/ImagingStudy", **_who(n), modality="CT,DX,US,MR,MG,XA,NM"),
    "FHIR, another order": lambda r, n: r.get("fhir/ImagingStudy", **_who(n), _sort="started", _count="500"),
    "QIDO-RS": lambda r, n: r.get("dicomweb/studies", PatientID=n),
    "QIDO-RS, filtered": lambda r, n: r.get("dicomweb/studies", PatientID=n, StudyDescription="*e*"),
    "QIDO-RS, series": lambda r, n: r.get("dicomweb/series", PatientID=n),
    "ITI-18": _iti18,
    "the page": lambda r, n: r.get(r.pages[n].lstrip("/")),
}


def _who(number: str) -> dict[str, str]:
    return {"patient.identifier": f"{SYSTEM}|{number}"}


@asynccontextmanager
async def _region(room: Room) -> AsyncIterator[Region]:
    room.live(*CODES)
    async with four_faces(room) as faces:
        pages = {}
        for number in (MANY, FEW):
            form = {"number": number}
            async with faces.http.post(f"{faces.base}/search", data=form, allow_redirects=False) as response:
                pages[number] = response.headers["Location"]
        yield Region(faces, pages)


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database with 400 studies of one person and 20 of another."""
    path = tmp_path_factory.mktemp("many") / "filled.sqlite"

    async def make() -> None:
        db = SqliteDb(path)
        room = await make_room(db)
        await fill(room, MANY, 1, 400)
        await fill(room, FEW, 10_001, 20)
        await room.ask.close()
        await db.close()

    asyncio.run(make())
    return path


@pytest.fixture
async def region(filled: Path) -> AsyncIterator[Region]:
    db = SqliteDb(filled)
    room = await make_room(db)
    room.ask.readings = KeptReadings(0)  # a small answer is made whole each time, as a large one is
    async with _region(room) as made:
        yield made
    await room.ask.close()
    await db.close()


@pytest.mark.parametrize("face", FACES)
async def test_no_piece_of_a_large_answer_is_longer_than_a_small_answer(region: Region, face: str) -> None:
    """Counted in calls: 400 studies hold the event loop no longer in one piece than 20 studies do
    altogether."""
    ask, longest = FACES[face], dict[str, int]()
    for number in (FEW, MANY):
        await ask(region, number)  # what is read once is read
        with pieces() as piece:
            await ask(region, number)
        longest[number] = piece.longest
    assert longest[MANY] <= longest[FEW]


@pytest.mark.parametrize("face", FACES)
async def test_others_are_answered_while_a_large_answer_is_made(
    region: Region, face: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that makes it waits, where it rests, until a question that came later has its answer."""
    done: list[str] = []
    begun, answered = asyncio.Event(), threading.Event()
    loop = asyncio.get_running_loop()

    def rest() -> None:
        if threading.current_thread().name.startswith("worker"):
            loop.call_soon_threadsafe(begun.set)
            assert answered.wait(30)

    monkeypatch.setattr(turns, "rest", rest)

    async def large() -> None:
        await FACES[face](region, MANY)
        done.append("large")

    asking = asyncio.create_task(large())
    waiting = asyncio.create_task(begun.wait())
    await asyncio.wait((asking, waiting), return_when=asyncio.FIRST_COMPLETED)
    await region.get("fhir/ImagingStudy", **_who(FEW))
    done.append("small")
    answered.set()
    await asking
    waiting.cancel()
    assert done == ["small", "large"]


# --- what the index rules out, and its pages ----------------------------------------------------------------


async def _mixed(room: Room) -> None:
    """One person's studies: some undated, one held twice, one deprecated."""
    for n in range(24):
        code = CODES[n % 3]
        record = study(patient(room.member(code), "H1", number=MANY), n)
        if n % 8 == 5:
            record = changed(record, time=changed(record.time, date="", time=""))
        await room.publish(code, record, n + 1)
    shared = study(patient(room.member("RA2"), "H1", number=MANY), 3)
    await room.publish("RTK", changed(shared, patient=patient(room.member("RTK"), "H1", number=MANY)), 90)
    dead = study(patient(room.member("RA2"), "H1", number=MANY), 0)
    await room.availability("RA2", dead.study_uid, "Deprecated", 91)


@pytest.fixture
async def mixed(database: Db) -> AsyncIterator[Region]:
    room = await make_room(database)
    await _mixed(room)
    await fill(room, FEW, 10_001, 1)
    async with _region(room) as made:
        yield made
    await room.ask.close()


FHIR_SEARCHES = (
    {"modality": "CT"},
    {"modality": "CT,MR"},
    {"modality": "ct"},
    {"modality": "ECG"},
    {"modality": "XYZ"},
    {"modality:not": "DX"},
    {"custodian": "RPC"},
    {"custodian": "RA2,RTK"},
    {"started": "ge2021"},
    {"started": "lt2021-06"},
    {"started": "ge2018", "modality": "DX"},
    {"started": "eq2020"},
    {"started": "ne2020"},
    {"status": "available"},
    {"_lastUpdated": "ge2026-03-01T09:00:12Z"},
    {"_lastUpdated": "lt2026-03-01T09:00:12Z", "custodian": "RTK"},
    {"description": "XR"},
    {"_sort": "started"},
    {"_sort": "-_lastUpdated", "started": "gt2019"},
)
QIDO_SEARCHES = (
    {"ModalitiesInStudy": "CT"},
    {"ModalitiesInStudy": "DX\\US"},
    {"StudyDate": "20190101-20211231"},
    {"StudyDate": "-20181231"},
    {"StudyDate": "20200101-", "ModalitiesInStudy": "DX"},
    {"StudyDescription": "*chest*"},
    {"PatientName": "Baker^Ann"},
)


async def _fhir(region: Region, search: dict[str, str]) -> tuple[int, list[str]]:
    bundle = json.loads(await region.get("fhir/ImagingStudy", **_who(MANY), **search, _count="100"))
    return bundle["total"], [e["resource"]["id"] for e in bundle["entry"] if e["search"]["mode"] == "match"]


async def _qido(region: Region, search: dict[str, str]) -> list[str]:
    rows = json.loads(await region.get("dicomweb/studies", PatientID=MANY, **search))
    return [row["0020000D"]["Value"][0] for row in rows]


async def test_what_the_index_rules_out_is_what_the_filter_would(
    mixed: Region, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A person of few studies is read whole, one of many narrowed: the answers are the same."""
    whole = (
        [await _fhir(mixed, search) for search in FHIR_SEARCHES],
        [await _qido(mixed, search) for search in QIDO_SEARCHES],
    )
    assert [found for found in whole[0] if found[0] not in (0, 24)], "the searches do narrow"
    assert [found for found in whole[1] if 0 < len(found) < 23]
    monkeypatch.setattr(answer, "MANY", 1)
    for search, found in zip(FHIR_SEARCHES, whole[0], strict=True):
        assert await _fhir(mixed, search) == found, search
    for search, rows in zip(QIDO_SEARCHES, whole[1], strict=True):
        assert await _qido(mixed, search) == rows, search


@pytest.mark.parametrize("size", [1, 4, 23, 50])
async def test_pages_of_qido_are_the_whole(mixed: Region, monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Each study once, with all its holders; how many are left is said; past the end there is nothing, and it
    is no proof.
    """
    every = json.loads(await mixed.get("dicomweb/studies", PatientID=MANY))
    monkeypatch.setattr(answer, "MANY", 1)
    found: list[dict[str, Any]] = []
    for offset in range(0, 23, size):
        params = {"PatientID": MANY, "limit": str(size), "offset": str(offset)}
        async with mixed.faces.http.get(f"{mixed.faces.base}/dicomweb/studies", params=params) as response:
            found += await response.json(content_type=None)
            left, warnings = max(0, 23 - offset - size), " ".join(response.headers.getall("Warning", ()))
            assert (f"There are {left} additional results" in warnings) is bool(left)
    assert len(found) == len(every) == 23
    dates = [row["00080020"].get("Value", [""])[0] for row in found]
    assert dates == sorted(dates, reverse=True), "newest first, undated last"
    assert _by_uid(found) == _by_uid(every)
    async with mixed.faces.http.get(
        f"{mixed.faces.base}/dicomweb/studies", params={"PatientID": MANY, "offset": "23"}
    ) as beyond:
        assert await beyond.read() == b"[]"
        assert "Nothing is listed" not in " ".join(beyond.headers.getall("Warning", ()))


def _by_uid(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {row["0020000D"]["Value"][0]: row for row in rows}


async def test_pages_read_no_more_than_they_show(mixed: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows made of something: a page of QIDO its studies', the page of one study that study's."""
    monkeypatch.setattr(answer, "MANY", 1)
    reader, made = mixed.faces.room.index.read, list[str]()
    reader.decoded = DecodedRows(0)
    load = reader.load

    def counted(row: HoldingRow, who: Patient) -> Loaded:
        found = load(row, who)
        made.append(found.holding.study_uid)
        return found

    monkeypatch.setattr(reader, "load", counted)
    rows = json.loads(await mixed.get("dicomweb/studies", PatientID=MANY, limit="3"))
    shown = {row["0020000D"]["Value"][0] for row in rows}
    assert set(made) == shown
    assert len(shown) == 3
    made.clear()
    await mixed.get(f"{mixed.pages[MANY].lstrip('/')}/studies/{rows[0]['0020000D']['Value'][0]}")
    assert set(made) == {rows[0]["0020000D"]["Value"][0]}
    made.clear()
    total, _ = await _fhir(mixed, {"modality": "CT"})
    assert len(made) == total
