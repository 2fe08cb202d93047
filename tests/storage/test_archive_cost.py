"""What searches and receipts cost in an archive, in rows and in steps of SQLite: never more for what else is
there.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Any

import dicom_objects as make
import pytest
from archive_fixture import Held, held

from crosslight.runtime.db import Row, Tx
from crosslight.runtime.db.schema import migrate
from crosslight.standards.dicom.web.qido import QidoQuery
from crosslight.standards.problem import TooLarge
from node.archive import search
from node.archive.store import SCHEMA, ArchiveStore


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Held]:
    async with held(tmp_path) as made:
        yield made


class Counted:
    """A transaction that counts the rows it gives and the statements it runs."""

    def __init__(self, tx: Tx) -> None:
        self._tx, self.dialect = tx, tx.dialect
        self.read, self.plans = 0, list[str]()

    def _planned(self, sql: str, params: Sequence[Any]) -> None:
        self.plans += [str(row[3]) for row in self._tx.rows(f"EXPLAIN QUERY PLAN {sql}", params)]

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        self._planned(sql, params)
        found = self._tx.rows(sql, params)
        self.read += len(found)
        return found

    def each(self, sql: str, params: Sequence[Any] = ()) -> Iterator[Row]:
        self._planned(sql, params)
        for row in self._tx.each(sql, params):
            self.read += 1
            yield row


async def _many(here: Held, count: int) -> None:
    """Studies with all that a search looks at; the first ones as old as the rest."""

    def fill(tx: Tx) -> None:
        for n in range(count):
            uid = f"1.2.3.{n:06d}"
            row = {
                "0020000D": {"vr": "UI", "Value": [uid]},
                "00100020": {"vr": "LO", "Value": [f"P{n:05d}"]},
                "00080050": {"vr": "SH", "Value": [f"A{n:05d}"]},
                "00100030": {"vr": "DA", "Value": [f"{1950 + n % 50}0101"]},
                "00081030": {"vr": "LO", "Value": ["CT"]},
            }
            tx.execute(
                "INSERT INTO study (study_uid, variant, attributes, patient_id, accession, study_date,"
                " study_id, modalities, n_series, n_instances, size_bytes, birth_date) VALUES"
                " (?,1,?,?,?,?,'','',1,1,1,?)",
                (
                    uid,
                    search.orjson.dumps(row),
                    f"P{n:05d}",
                    f"A{n:05d}",
                    f"2026{n % 12 + 1:02d}01",
                    f"{1950 + n % 50}0101",
                ),
            )

    await here.db.write("fill", fill)


async def _search(here: Held, **params: str) -> tuple[int, Counted]:
    await here.settle()
    query = QidoQuery.parse("study", params.items())

    def read(tx: Tx) -> tuple[int, Counted]:
        counted = Counted(tx)
        return len(search.search_tx(counted, "study", query)), counted  # type: ignore[arg-type]

    return await here.db.read("search", read)


@pytest.mark.parametrize(
    ("params", "found", "read"),
    [
        ({"StudyDescription": "none"}, 0, 3000),  # each row once, whatever the order
        ({"PatientBirthDate": "19490101"}, 0, 0),
        ({"PatientBirthDate": "19500101"}, 60, 60),
        ({"PatientBirthDate": "19490101-19501231"}, 60, 60),
        ({"PatientID": "P0000*"}, 10, 10),
        ({"PatientID": "P?0001"}, 1, 3000),
        ({"AccessionNumber": "A0299?"}, 10, 10),
        ({"StudyDescription": "C?", "limit": "5"}, 5, 6),
    ],
)
async def test_a_search_reads_a_row_once_and_only_what_its_key_leads_to(
    here: Held, params: dict[str, str], found: int, read: int
) -> None:
    await _many(here, 3000)
    count, counted = await _search(here, **params)
    assert (count, counted.read) == (found, read)
    whole = [p for p in counted.plans if p.startswith("SCAN s ")]
    assert all("USING INDEX study_day" in plan for plan in whole), (
        "in the order of the answer, so that nothing is sorted whole"
    )
    assert bool(whole) == ("StudyDescription" in params), counted.plans


async def test_a_search_that_no_index_narrows_is_refused_before_it_holds_a_reader(
    here: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_LOOKED_AT", 1000)
    await _many(here, 1001)
    with pytest.raises(TooLarge) as told:
        await _search(here, StudyDescription="none")
    assert "StudyDate" in told.value.todo
    assert (await _search(here, StudyDescription="CT*", limit="1000"))[0] == 1000, (
        "a full page is no reason to refuse"
    )
    assert (await _search(here, StudyDescription="none", StudyDate="20260101"))[0] == 0


async def test_odd_identifiers_are_found_by_how_they_begin(here: Held) -> None:
    for n, attributes in enumerate(
        ({"PatientID": ["A1", "B1"]}, {"PatientBirthDate": "1970.01.02"}, {"PatientBirthDate": None})
    ):
        await here.put(
            make.image(
                1, study=f"1.2.{n}", **{"PatientID": f"C{n}", "PatientBirthDate": "19991231", **attributes}
            )
        )
    for params, expected in [
        ({"PatientID": "B*"}, 1),
        ({"PatientID": "A*"}, 1),
        ({"PatientID": "C*"}, 2),
        ({"PatientBirthDate": "19700102"}, 1),
        ({"PatientBirthDate": "-19801231"}, 1),
        ({"PatientBirthDate": "19700102-"}, 2),
    ]:
        assert (await _search(here, **params))[0] == expected, params


# --- receipts -----------------------------------------------------------------------------------------------


async def _steps(here: Held, monkeypatch: pytest.MonkeyPatch, datasets: Sequence[Any]) -> list[int]:
    """Steps of SQLite that each receipt took, in tens."""
    counts: list[int] = []

    def counted(ingest: Any) -> Any:
        def run(self: ArchiveStore, tx: Any, *args: Any) -> Any:
            counts.append(0)

            def step() -> int:
                counts[-1] += 1
                return 0

            tx._c.set_progress_handler(step, 10)
            try:
                return ingest(self, tx, *args)
            finally:
                tx._c.set_progress_handler(None, 0)

        return run

    for name in ("ingest_tx", "ingest_many_tx"):
        monkeypatch.setattr(ArchiveStore, name, counted(getattr(ArchiveStore, name)))
    for dataset in datasets:
        await here.put(dataset)
        await here.settle()
    assert len(counts) == len(datasets)
    return counts


@pytest.mark.parametrize(
    "what",
    [
        lambda n: {},
        lambda n: {"StudyDescription": ("CT Thorax", "Thorax CT")[n % 2]},
        lambda n: {"StudyDescription": f"step {n}"},
        lambda n: {"SeriesDescription": f"step {n}"},
        lambda n: {"StudyDescription": f"step {n}", "series": str(n)},
        lambda n: {"series": str(n)},
    ],
    ids=[
        "alike",
        "two descriptions",
        "each its own",
        "each its own of the series",
        "each its own series and own",
        "own series",
    ],
)
async def test_a_receipt_costs_the_same_however_many_were_before_it(
    here: Held, monkeypatch: pytest.MonkeyPatch, what: Any
) -> None:
    steps = await _steps(here, monkeypatch, [make.image(n, **what(n)) for n in range(1, 121)])
    early, late = sum(steps[10:30]), sum(steps[100:120])
    assert late < 1.5 * early, steps


async def test_a_study_that_comes_back_costs_each_receipt_the_same(
    here: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    slices = [make.image(n) for n in range(1, 121)]
    for one in slices:
        await here.put(one)
    await here.archive.delete(make.STUDY, "a mistake")
    steps = await _steps(here, monkeypatch, slices)
    assert sum(steps[100:120]) < 1.5 * sum(steps[10:30]), steps


def _tables(tx: Tx) -> dict[str, list[Row]]:
    return {
        t: sorted(tx.rows(f"SELECT * FROM {t}")) for t in ("study", "series", "study_name", "variant_use")
    }


@pytest.mark.parametrize("seed", range(6))
async def test_rows_are_what_the_instances_make_of_them(here: Held, seed: int) -> None:
    """Whatever comes, in whatever order and groups, counting gives what making the rows anew gives."""
    random_ = random.Random(seed)
    numbers = list(range(1, 41))
    random_.shuffle(numbers)
    for n in numbers:
        attributes = {
            "series": random_.choice("12"),
            "StudyDescription": random_.choice(["", None, "One", "Two"]),
            "PatientSex": random_.choice(["", "F"]),
            "SeriesDescription": random_.choice(["", None, "A", f"B{n}"]),
            "Modality": random_.choice(["CT", "CT", "PT"]),
            "SOPClassUID": random_.choice([make.CT, make.CT, "1.2.840.10008.5.1.4.1.1.128"]),
        }
        missing = [key for key, value in attributes.items() if value is None]
        dataset = make.image(n, **{key: value for key, value in attributes.items() if value is not None})
        for key in missing:
            if key in dataset:
                delattr(dataset, key)
        await here.put(dataset)
        if random_.random() < 0.6:  # the next comes in the same group, if it comes in time
            continue
        await here.settle()
        counted = await here.db.read("rows", _tables)
        await here.db.write("refresh", lambda tx: ArchiveStore().refresh_tx(tx, make.STUDY))
        assert counted == await here.db.read("rows", _tables), n


async def test_an_archive_of_before_is_counted_at_its_upgrade(here: Held) -> None:
    for n in range(6):
        await here.put(
            make.image(n, StudyDescription=f"of {n % 2}", series=str(n % 2), PatientBirthDate="1970.01.02")
        )
    await here.archive.delete(make.STUDY, "a mistake")
    await here.put(make.image(1))
    await here.put(make.image(1, study="1.2.4", PatientBirthDate=""))
    await here.settle()
    now = await here.db.read("rows", _tables)

    def back(tx: Tx) -> None:
        tx.script("DROP TABLE variant_use;\nDROP INDEX study_birth;\nDROP INDEX study_patients;\n")
        tx.execute("ALTER TABLE study DROP COLUMN birth_date")
        for column in ("frame_bits", "word_bytes"):
            tx.execute(f"ALTER TABLE instance DROP COLUMN {column}")
        for table in ("fault", "care", "hold", "study_opened", "move", "carried", "carriage"):
            tx.execute(f"DROP TABLE {table}")
        tx.execute("ALTER TABLE bin DROP COLUMN purging")
        tx.script("DROP TABLE dictionary;\nALTER TABLE metadata DROP COLUMN dictionary;\n")
        tx.execute("UPDATE schema_version SET schema = 5, compat = 1 WHERE component = 'archive'")

    await here.db.write("back", back)
    assert await migrate(here.db, "node.archive", SCHEMA) == [6, 7, 8, 9, 10, 11, 12]
    assert await here.db.read("rows", _tables) == now
