"""Work beside the event loop: where it is made, and that it rests."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path

import pytest

from crosslight.runtime import large_answers as turns
from crosslight.runtime.db import SqliteDb, Tx
from crosslight.runtime.db import sqlite_tx as db_module
from crosslight.runtime.large_answers import STEP, LargeAnswers, in_steps
from crosslight.runtime.workers import SystemWorkers


@pytest.fixture
def rests(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The name of the thread of each rest."""
    found: list[str] = []

    def rest() -> None:
        found.append(threading.current_thread().name)

    monkeypatch.setattr(turns, "rest", rest)
    monkeypatch.setattr(db_module, "rest", rest)
    return found


@pytest.mark.parametrize(
    ("records", "times"), [(0, 0), (1, 0), (STEP, 0), (STEP + 1, 1), (2 * STEP, 1), (2 * STEP + 1, 2)]
)
async def test_a_thread_rests_between_steps_and_not_after_the_last(
    records: int, times: int, rests: list[str]
) -> None:
    assert await asyncio.to_thread(lambda: list(in_steps(range(records)))) == list(range(records))
    assert len(rests) == times


async def test_the_event_loop_itself_never_rests(rests: list[str]) -> None:
    assert list(in_steps(range(10 * STEP))) == list(range(10 * STEP))
    assert rests == []


async def test_few_records_are_made_of_at_hand_and_many_apart() -> None:
    here, workers = threading.get_ident(), SystemWorkers(threads=2)
    apart, at_once, most = LargeAnswers(workers), 0, 0

    def large() -> int:
        nonlocal at_once, most
        at_once += 1
        most = max(most, at_once)
        turns.rest()
        at_once -= 1
        return threading.get_ident()

    try:
        assert await apart.make(threading.get_ident, STEP) == here
        assert here not in await asyncio.gather(*(apart.make(large, STEP + 1) for _ in range(20)))
        assert most == 1, "large ones wait for each other"
    finally:
        await workers.close()
    assert await LargeAnswers(None).make(threading.get_ident, STEP + 1) == here


async def test_what_is_made_apart_fails_as_it_would_at_hand() -> None:
    def fail() -> None:
        raise LookupError("there is none")

    workers = SystemWorkers(threads=1)
    try:
        with pytest.raises(LookupError, match="there is none"):
            await LargeAnswers(workers).make(fail, STEP + 1)
    finally:
        await workers.close()


async def test_readers_rest_and_near_reads_and_the_writer_do_not(tmp_path: Path, rests: list[str]) -> None:
    db = SqliteDb(tmp_path / "t.db")
    try:

        def steps(tx: Tx) -> int:
            return sum(tx.steps(range(3 * STEP)))

        await db.write("t", steps)
        await db.read_near("t", steps)
        assert rests == []
        await db.read("t", steps)
        await db.read_wide("t", steps)
        assert len(rests) == 4
    finally:
        await db.close()


def _insert(rows: list[tuple[int]], tx: Tx) -> None:
    tx.executemany("INSERT INTO t (a) VALUES (?)", rows)


async def test_a_reader_rests_while_it_fetches_much(tmp_path: Path, rests: list[str]) -> None:
    db = SqliteDb(tmp_path / "t.db")
    try:
        await db.write("make", lambda tx: tx.script("CREATE TABLE t (a INTEGER PRIMARY KEY);\n"))
        for count, times in ((db_module.FETCH - 1, 0), (db_module.FETCH, 1), (4 * db_module.FETCH + 1, 4)):
            await db.write("empty", lambda tx: tx.execute("DELETE FROM t"))
            rows = [(n,) for n in range(count)]
            await db.write("fill", partial(_insert, rows))
            rests.clear()
            assert await db.read("t", lambda tx: tx.rows("SELECT a FROM t ORDER BY a")) == rows
            assert len(rests) == times
    finally:
        await db.close()
