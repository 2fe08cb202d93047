"""Reads in the caller's own thread: the same answers, and what is too much for them goes to a reader's."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from crosslight.runtime.db import SqliteDb, Tx
from crosslight.standards.problem import StorageError


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[SqliteDb]:
    made = SqliteDb(tmp_path / "t.db")
    await made.write("make", lambda tx: tx.script("CREATE TABLE t (a INTEGER PRIMARY KEY);\n"))
    await made.write(
        "fill", lambda tx: tx.executemany("INSERT INTO t (a) VALUES (?)", [(n,) for n in range(5000)])
    )
    yield made
    await made.close()


async def _threads(db: SqliteDb, sql: str, times: int = 1, **how: int) -> tuple[list[int], int]:
    """In which threads a reading function ran, and what it read."""
    ran: list[int] = []

    def read(tx: Tx) -> int:
        ran.append(threading.get_ident())
        return sum(int((tx.row(sql) or (0,))[0]) for _ in range(times))

    return ran, await db.read_near("t", read, **how)


async def test_a_look_up_stays_in_its_thread_and_sees_what_was_committed(db: SqliteDb) -> None:
    here = threading.get_ident()
    assert await _threads(db, "SELECT a FROM t WHERE a = 7") == ([here], 7)
    await db.write("more", lambda tx: tx.execute("INSERT INTO t (a) VALUES (9000)"))
    assert await _threads(db, "SELECT a FROM t WHERE a = 9000") == ([here], 9000)


async def test_a_long_one_is_begun_again_in_a_reader(db: SqliteDb) -> None:
    ran, found = await _threads(db, "SELECT sum(a) FROM t", steps=2000)
    assert found == sum(range(5000))
    assert len(ran) == 2
    assert ran[0] == threading.get_ident() != ran[1]
    assert (await _threads(db, "SELECT a FROM t WHERE a = 7"))[0] == [ran[0]], (
        "the connection is as good as before"
    )


async def test_many_short_statements_are_long_too(db: SqliteDb) -> None:
    ran, found = await _threads(db, "SELECT sum(a) FROM (SELECT a FROM t LIMIT 100)", times=100, steps=5000)
    assert (len(ran), found) == (2, 100 * sum(range(100)))


async def test_it_does_not_write_and_ends_with_the_database(db: SqliteDb) -> None:
    await _threads(db, "SELECT 1")
    await db.close()
    with pytest.raises(StorageError):
        await _threads(db, "SELECT 1")
