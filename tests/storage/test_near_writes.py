"""Writes that are committed on the event loop: on the disk before anybody is told, whatever happens then."""

from __future__ import annotations

import asyncio
import os
import shutil
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from callers import caller

from crosslight.runtime.audit import About, AuditLog
from crosslight.runtime.clock import SystemClock
from crosslight.runtime.db import Db, SqliteDb, Tx, sqlite_near
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import StorageError

PATIENT = Identifier("9990000018", "2.16.840.1.113883.2.1.4.1")


@pytest.fixture
async def db(tmp_path: Path) -> AsyncIterator[SqliteDb]:
    made = SqliteDb(tmp_path / "t.db")
    await made.write("make", lambda tx: tx.execute("CREATE TABLE t (a INTEGER)"))
    yield made
    await made.close()


def one(a: int = 1) -> Callable[[Tx], int]:
    return lambda tx: tx.execute("INSERT INTO t VALUES (?)", (a,))


async def near(db: Db, a: int = 1) -> int:
    return await asyncio.wrap_future(db.submit_near("t", one(a)))


async def kept(db: Db) -> list[int]:
    return [row[0] for row in await db.read("t", lambda tx: tx.rows("SELECT a FROM t ORDER BY a"))]


async def test_it_runs_where_it_is_asked_for_and_is_kept(database: Db) -> None:
    await database.write("make", lambda tx: tx.execute("CREATE TABLE t (a INTEGER)"))
    here = threading.current_thread()
    there = await asyncio.wrap_future(database.submit_near("t", lambda tx: threading.current_thread()))
    assert (there is here) == (database.dialect.name == "sqlite")
    for a in range(3):
        await near(database, a)
    assert await kept(database) == [0, 1, 2]


async def test_what_it_raises_leaves_nothing(db: SqliteDb) -> None:
    def failing(tx: Tx) -> None:
        one()(tx)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await asyncio.wrap_future(db.submit_near("t", failing))
    with pytest.raises(Exception, match="could not do this now"):
        await asyncio.wrap_future(db.submit_near("t", lambda tx: tx.execute("INSERT INTO u VALUES (1)")))
    assert await kept(db) == []
    await near(db)
    assert await kept(db) == [1]


async def test_while_another_writes_the_loop_waits_for_nobody(db: SqliteDb, tmp_path: Path) -> None:
    await near(db, 1)
    other = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    waits = db.submit_near("t", one(2))
    assert not waits.done()
    other.execute("COMMIT")
    other.close()
    async with asyncio.timeout(30):
        await asyncio.wrap_future(waits)
    assert await kept(db) == [1, 2]


async def test_nobody_is_told_before_it_is_on_the_disk(db: SqliteDb, monkeypatch: pytest.MonkeyPatch) -> None:
    asked, go, sync = threading.Event(), threading.Event(), os.fdatasync

    def held(fd: int) -> None:
        asked.set()
        assert go.wait(30)
        sync(fd)

    monkeypatch.setattr(sqlite_near.os, "fdatasync", held)
    waits = db.submit_near("t", one())
    assert await asyncio.to_thread(asked.wait, 30)
    assert await kept(db) == [1], "others see it"
    assert not waits.done()
    go.set()
    async with asyncio.timeout(30):
        await asyncio.wrap_future(waits)


async def test_behind_what_could_not_be_synced_nothing_is_added_until_all_is_safe(
    db: SqliteDb, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await near(db, 1)
    reader = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT * FROM t").fetchall()  # it keeps the log from being brought in whole

    def broken(fd: int) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as disk:
        disk.setattr(sqlite_near.os, "fdatasync", broken)
        with pytest.raises(StorageError):
            await near(db, 2)
    for connection in db._opened:
        connection.execute("PRAGMA busy_timeout=10")
    with pytest.raises(StorageError, match="could not be brought to the disk"):
        await near(db, 3)
    with pytest.raises(StorageError, match="could not be brought to the disk"):
        await db.write("t", one(4))
    reader.execute("COMMIT")
    reader.close()
    async with asyncio.timeout(30):
        while True:
            try:
                await near(db, 5)
                break
            except StorageError:
                await asyncio.sleep(0.01)
    assert await kept(db) == [1, 2, 5]
    assert (tmp_path / "t.db").stat().st_size > 0


async def test_a_crash_at_any_moment_loses_no_act_that_somebody_was_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the disk is sure to have is what was there at the last sync; checkpoints come between."""
    live, disk, sync = tmp_path / "live", tmp_path / "disk", os.fdatasync

    def snapshot(fd: int) -> None:
        sync(fd)
        shutil.rmtree(disk, ignore_errors=True)
        disk.mkdir()
        for path in (live / "audit.db", live / "audit.db-wal"):
            shutil.copy(path, disk)

    monkeypatch.setattr(sqlite_near.os, "fdatasync", snapshot)
    monkeypatch.setattr(sqlite_near, "CHECKPOINT", 3)
    db = SqliteDb(live / "audit.db")
    audit = AuditLog(db, SystemClock())
    await audit.open()
    for number in range(10):
        about = About(patients=(PATIENT,), studies=(f"1.2.{number}",))
        async with audit.act(caller(correlation=f"c{number}"), "fhir", "search", about, lazy=True):
            crashed = shutil.copytree(disk, tmp_path / f"crashed-{number}")
            again = SqliteDb(crashed / "audit.db")
            found = await AuditLog(again, SystemClock()).search(patient=PATIENT)
            await again.close()
            assert [act.correlation for act in found] == [f"c{n}" for n in range(number, -1, -1)]
            assert found[0].studies == (f"1.2.{number}",)
            assert (found[0].outcome.kind, {act.text for act in found[2:]}) == (
                "cut",
                {"ok"} if number > 1 else set(),
            )
    await audit.settle()
    await db.close()
