"""The file is the journal: success is answered when the object's file is durable, and its row follows."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import dicom_objects as make
import orjson
import pytest
from archive_fixture import Held, held

from crosslight.standards.dicom.web.qido import QidoQuery
from crosslight.standards.problem import StorageError
from node.archive.store import ArchiveStore
from node.holdings import Received


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Held]:
    async with held(tmp_path / "node") as made:
        yield made


@contextmanager
def busy(here: Held) -> Iterator[None]:
    """The database's writer has something else to do meanwhile."""
    begun, done = threading.Event(), threading.Event()

    def work(_: object) -> None:
        begun.set()
        done.wait(30)

    future = here.db.submit_write("busy", work)
    assert begun.wait(30)
    try:
        yield
    finally:
        done.set()
        future.result(30)


def _committed(here: Held) -> int:
    """Rows that another process sees."""
    with sqlite3.connect(here.folder / "node.sqlite") as other:
        (count,) = other.execute("SELECT COUNT(*) FROM instance").fetchone()
    other.close()
    return int(count)


async def test_the_answer_waits_for_the_file_and_a_reader_for_the_row(here: Held) -> None:
    told: list[str] = []
    here.archive.on_change(told.append)
    with busy(here):
        results = [await here.put(make.image(n)) for n in range(1, 6)]
        assert {result.state for result in results} == {"stored"}
        assert len(here.object_files()) == 5, "durable, each under its digest"
        assert _committed(here) == 0
        assert told == []
    assert len(await here.archive.search("instance", QidoQuery.parse("instance", []))) == 5
    assert _committed(here) == 5
    assert told == [make.STUDY], "one word of all changes"
    mark = await here.archive.mark(make.STUDY)
    assert mark is not None
    assert mark.change == 5, "each receipt is a change (D14)"
    assert here.left_in_tmp() == []


async def test_whose_a_study_is_is_known_before_its_first_row(here: Held) -> None:
    """So the audit's act, which an answer waits for, waits for no other commit."""
    with busy(here):
        await here.put(make.image(1))
        patients = await asyncio.to_thread(here.archive.patients, make.STUDY, {})
        assert _committed(here) == 0
    assert [p.value for p in patients] == ["L001"]
    assert tuple(await here.archive.patients_of(make.STUDY)) == patients
    assert here.archive.patients("1.2.3", {}) == ()


async def test_duplicates_and_conflicts_are_decided_before_the_answer(here: Held) -> None:
    states = [
        (await here.put(dataset)).state
        for dataset in (make.image(1), make.image(1), make.image(1, StudyID="other"), make.image(2))
    ]
    assert states == ["stored", "duplicate", "conflict", "stored"]
    assert len(here.object_files()) == 2


def _as_at_a_crash(here: Held, target: Path) -> None:
    """What the disk holds at this moment, names of one file included."""
    subprocess.run(["cp", "-a", f"{here.folder}/.", str(target)], check=True)


async def test_after_a_crash_the_start_takes_in_what_was_acknowledged(here: Held, tmp_path: Path) -> None:
    with busy(here):
        await here.put(make.image(1), road="dimse", peer="CT1@10.0.0.7")
        await here.put(make.image(2), peer="pacs of — süd")
        unfinished = here.archive.stage()
        unfinished.write(make.part10(make.image(3))[:-9])
        _as_at_a_crash(here, tmp_path / "crashed")
    unfinished.discard()
    await here.settle()
    sql = "SELECT sop_uid, road, peer, round(received_unix, 3) FROM instance ORDER BY sop_uid"
    rows = await here.db.read("rows", lambda tx: tx.rows(sql))
    crashed = Held(tmp_path / "crashed")
    try:
        await crashed.archive.open()
        assert await crashed.db.read("rows", lambda tx: tx.rows(sql)) == rows, (
            "before anybody is answered: with whose they were, by which road, and when they came"
        )
        assert [row[1:3] for row in rows] == [("dimse", "CT1@10.0.0.7"), ("stow", "pacs of — süd")]
        assert len(crashed.object_files()) == 2
        assert crashed.left_in_tmp() == []
        assert (await crashed.archive.status()).quarantined == 0
        await crashed.archive.close()
    finally:
        await crashed.db.close()
        await crashed.workers.close()


async def test_a_whole_search_finds_what_the_stage_no_longer_names(here: Held, tmp_path: Path) -> None:
    with busy(here):
        await here.put(make.image(1), road="dimse", peer="CT1@10.0.0.7")
        _as_at_a_crash(here, tmp_path / "crashed")
    for left in (tmp_path / "crashed" / "archive" / "tmp").iterdir():
        shutil.rmtree(left)
    async with held(tmp_path / "crashed") as crashed:
        (row,) = await crashed.db.read("rows", lambda tx: tx.rows("SELECT road, peer FROM instance"))
        assert row == ("dimse", "CT1@10.0.0.7")


async def test_where_files_keep_no_notes_the_row_is_committed_before_the_answer(
    here: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(here.files, "note", lambda handle, note: False)
    await here.put(make.image(1))
    assert _committed(here) == 1


async def test_what_changes_more_than_its_own_row_is_committed_before_the_answer(here: Held) -> None:
    await here.put(make.image(1))
    await here.archive.delete(make.STUDY, "a mistake")
    await here.put(make.image(1))
    with sqlite3.connect(here.folder / "node.sqlite") as other:
        assert other.execute("SELECT binned FROM instance").fetchall() == [(0,)]
    other.close()


async def test_rows_that_cannot_be_committed_wait_and_let_nothing_more_in(
    here: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = True
    ingest = ArchiveStore.ingest_many_tx

    def refused(self: ArchiveStore, tx: Any, arrived: Any) -> Any:
        if full:
            raise sqlite3.OperationalError("database or disk is full")
        return ingest(self, tx, arrived)

    monkeypatch.setattr(ArchiveStore, "ingest_many_tx", refused)
    assert (await here.put(make.image(1))).state == "stored"
    assert await here.archive.objects(make.STUDY) == [], "others' rows are read meanwhile"
    staged = here.archive.stage()
    staged.write(make.part10(make.image(2)))
    with pytest.raises(StorageError):
        await here.archive.ingest_async(staged, Received(road="stow", peer="t"))
    assert len(here.object_files()) == 1
    full = False
    assert (await here.put(make.image(3))).state == "stored"
    assert [o.ref.number for o in await here.archive.objects(make.STUDY)] == ["1", "3"]


async def test_one_row_that_cannot_be_written_holds_up_no_other(
    here: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    ingest = ArchiveStore.ingest_many_tx

    def faulty(self: ArchiveStore, tx: Any, arrived: Any) -> Any:
        if any(header.number == "2" for header, _ in arrived):
            raise ValueError("a fault of ours")
        return ingest(self, tx, arrived)

    with busy(here):
        for n in (1, 2, 3):
            await here.put(make.image(n))
        monkeypatch.setattr(ArchiveStore, "ingest_many_tx", faulty)
    await here.settle()
    await here.settle()  # each by itself
    assert [o.ref.number for o in await here.archive.objects(make.STUDY)] == ["1", "3"]
    monkeypatch.undo()
    assert len(here.left_in_tmp()) == 1, "it keeps its name there"
    assert (await here.archive.reconcile()).adopted == 1
    assert len(await here.archive.objects(make.STUDY)) == 3


async def test_metadata_of_a_series_rests_by_that_of_its_first(here: Held) -> None:
    datasets = [make.image(n) for n in range(1, 31)] + [make.image(n, series="2") for n in range(31, 34)]
    for dataset in datasets:
        await here.put(dataset)
    objects = await here.archive.objects(make.STUDY)
    numbers = [orjson.loads(row)["00200013"]["Value"] for row in await here.archive.metadata(objects)]
    assert numbers == [[n] for n in range(1, 34)]
    sizes = await here.db.read("sizes", lambda tx: tx.rows("SELECT length(zstd) FROM metadata"))
    assert sum(row[0] for row in sizes) < 50 * len(datasets)


async def test_the_first_of_a_series_may_go_and_the_last_takes_all_with_it(tmp_path: Path) -> None:
    async with held(tmp_path, bin_days=0) as here:
        for n in range(1, 5):
            await here.put(make.image(n))
        await here.settle()
        first = f"{make.STUDY}.1.1"

        def bin_first(tx: Any) -> None:
            tx.execute(
                "INSERT INTO bin (id, study_uid, reason, deleted_unix) VALUES (7, ?, 't', 0)", (make.STUDY,)
            )
            tx.execute("UPDATE instance SET binned = 7, visible = 0 WHERE sop_uid = ?", (first,))

        await here.db.write("bin", bin_first)
        assert await here.archive.purge() == 1
        rows = [
            orjson.loads(row) for row in await here.archive.metadata(await here.archive.objects(make.STUDY))
        ]
        assert [row["00200013"]["Value"] for row in rows] == [[2], [3], [4]]
        await here.archive.delete(make.STUDY, "all of it")
        assert await here.archive.purge() == 3
        for table in ("instance", "metadata", "dictionary"):
            left = await here.db.read("left", lambda tx, t=table: tx.rows(f"SELECT * FROM {t}"))
            assert left == [], table


async def test_a_group_of_a_series_takes_a_few_statements(
    here: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not some for each object: what a receipt costs beside its file."""
    counts: list[tuple[int, int]] = []
    ingest = ArchiveStore.ingest_many_tx

    def counted(self: ArchiveStore, tx: Any, arrived: Any) -> Any:
        statements: list[str] = []
        tx._c.set_trace_callback(statements.append)
        try:
            return ingest(self, tx, arrived)
        finally:
            tx._c.set_trace_callback(None)
            counts.append((len(arrived), len(statements)))

    monkeypatch.setattr(ArchiveStore, "ingest_many_tx", counted)
    with busy(here):
        for n in range(40):
            await here.put(make.image(n))
    await here.settle()
    ((objects, statements),) = counts
    assert objects == 40
    assert statements < objects, "a few for the study, and one for many rows"
