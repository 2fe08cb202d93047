"""What both databases do alike: lazy writes share the next commit; many rows, near reads."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from pathlib import Path
from typing import Any

import pg
import pytest

from crosslight.runtime.db import LAZY_S, Db, SqliteDb, Tx
from crosslight.runtime.db import sqlite as runtime_db
from crosslight.runtime.db.postgres import PostgresDb
from crosslight.runtime.db.schema import migrate
from crosslight.standards.problem import Invalid
from registry.index.store import PACKAGE, SCHEMA


async def _count(db: Db) -> int:
    row = await db.read("count", lambda tx: tx.row("SELECT count(*) FROM t"))
    assert row is not None
    return int(row[0])


def _insert(tx: Tx) -> None:
    tx.execute("INSERT INTO t VALUES (1)")


async def test_a_lazy_write_is_committed_when_nothing_follows(database: Db) -> None:
    await database.write("make", lambda tx: tx.script("CREATE TABLE t (a INTEGER);\n"))
    async with asyncio.timeout(10):
        await database.write("lazy", _insert, lazy=True)
    assert await _count(database) == 1


async def test_lazy_writes_share_a_commit_and_hold_nobody_up(tmp_path: Path) -> None:
    commits = 0

    class Counting(SqliteDb):
        def _commit(self, connection, tx, batch) -> None:  # type: ignore[no-untyped-def]
            nonlocal commits
            commits += 1
            super()._commit(connection, tx, batch)

    db = Counting(tmp_path / "t.db")
    try:
        await db.write("make", lambda tx: tx.script("CREATE TABLE t (a INTEGER);\n"))
        commits, started, rounds = 0, time.monotonic(), 40
        waiting = []
        for _ in range(rounds):
            waiting.append(asyncio.create_task(db.write("lazy", _insert, lazy=True)))
            await asyncio.sleep(0)
            await db.write("eager", _insert)
        await asyncio.gather(*waiting)
        assert commits == rounds  # without laziness some lazy write would have had a commit of its own
        assert time.monotonic() - started < rounds * LAZY_S / 2 + 5
        assert await _count(db) == 2 * rounds
    finally:
        await db.close()


async def test_a_close_does_not_forget_lazy_writes(tmp_path: Path) -> None:
    db = SqliteDb(tmp_path / "t.db")
    await db.write("make", lambda tx: tx.script("CREATE TABLE t (a INTEGER);\n"))
    waiting = asyncio.create_task(db.write("lazy", _insert, lazy=True))
    await asyncio.sleep(0)
    await db.close()
    await waiting
    again = SqliteDb(tmp_path / "t.db")
    assert await _count(again) == 1
    await again.close()


@pytest.mark.parametrize("count", [0, 1, 2, 63, 64, 65, 200])
async def test_many_rows_are_each_inserted_once(database: Db, count: int) -> None:
    rows = [(n, f"row {n}") for n in range(count)]

    def fill(tx: Tx) -> None:
        tx.execute("CREATE TABLE many (n BIGINT PRIMARY KEY, t TEXT NOT NULL)")
        tx.insert_many("many", ("n", "t"), rows)
        tx.insert_many("many", ("n", "t"), rows[:3], "ON CONFLICT (n) DO UPDATE SET t = excluded.t || '!'")

    await database.write("fill", fill)
    found = await database.read("rows", lambda tx: tx.rows("SELECT n, t FROM many ORDER BY n"))
    assert found == [(n, f"row {n}!" if n < 3 else f"row {n}") for n in range(count)]


@pytest.mark.parametrize(("count", "wanted"), [(0, 5), (3, 5), (2000, 5), (2000, 5000)])
async def test_rows_are_read_as_far_as_they_are_wanted(database: Db, count: int, wanted: int) -> None:
    await database.write("make", lambda tx: tx.execute("CREATE TABLE t (a BIGINT)"))
    await database.write("fill", lambda tx: tx.insert_many("t", ("a",), [(n,) for n in range(count)]))

    def read(tx: Tx) -> tuple[list[int], list[Any]]:
        rows = tx.each("SELECT a FROM t WHERE a >= ? ORDER BY a", (0,))
        found = [row[0] for _, row in zip(range(wanted), rows, strict=False)]
        return found, tx.rows("SELECT count(*) FROM t")  # the transaction is as good as before

    for _ in range(2):
        assert await database.read("rows", read) == (list(range(min(count, wanted))), [(count,)])


async def test_a_near_read_sees_what_was_committed(database: Db) -> None:
    await database.write("make", lambda tx: tx.execute("CREATE TABLE one (n BIGINT)"))
    await database.write("fill", lambda tx: tx.execute("INSERT INTO one VALUES (1)"))
    assert await database.read_near("rows", lambda tx: tx.rows("SELECT n FROM one")) == [(1,)]
    here = threading.current_thread()
    there = await database.read_near("thread", lambda tx: threading.current_thread())
    assert (there is here) == (database.dialect.name == "sqlite")
    with pytest.raises(Exception, match=r"nowhere|database"):
        await database.read_near("bad", lambda tx: tx.rows("SELECT n FROM nowhere"))
    assert await database.read_near("rows", lambda tx: tx.rows("SELECT n FROM one")) == [(1,)]


async def test_a_caller_who_leaves_while_the_disk_refuses_does_not_end_the_writer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    db = SqliteDb(tmp_path / "t.db")
    await db.write("make", lambda tx: tx.script("CREATE TABLE t (a INTEGER);\n"))
    blocker = sqlite3.connect(tmp_path / "t.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    told = runtime_db.translated

    def leaving(error: BaseException) -> BaseException:
        write.cancel()  # between the look whether somebody still waits, and the telling
        return told(error)

    monkeypatch.setattr(runtime_db, "translated", leaving)
    for connection in db._opened:
        connection.execute("PRAGMA busy_timeout=10")
    write = db.submit_write("t", _insert)
    try:
        async with asyncio.timeout(10):
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wrap_future(write)
            blocker.execute("ROLLBACK")
            await db.write("t", _insert)
        assert await _count(db) == 1
    finally:
        blocker.close()
        await db.close()


@pytest.mark.parametrize("rows", [["a\0b"], ["a", "a\0b"]])
async def test_a_text_that_postgres_cannot_hold_is_its_senders_fault(
    postgres_dsn: str, rows: list[str]
) -> None:
    db = PostgresDb(postgres_dsn, connections=1)
    try:
        await db.write(
            "make", lambda tx: tx.script("DROP TABLE IF EXISTS held;\nCREATE TABLE held (t TEXT);\n")
        )
        with pytest.raises(Invalid):
            await db.write("fill", lambda tx: tx.insert_many("held", ("t",), [(row,) for row in rows]))
        with pytest.raises(Invalid):
            await db.read("ask", lambda tx: tx.rows("SELECT t FROM held WHERE t = ?", rows[-1:]))
        assert await db.read("ask", lambda tx: tx.rows("SELECT t FROM held")) == []
    finally:
        await db.close()


async def test_postgres_keeps_what_it_has_prepared(postgres_dsn: str) -> None:
    db = PostgresDb(postgres_dsn, connections=1)
    try:
        for n in range(6):
            assert await db.read("one", lambda tx, n=n: tx.row("SELECT CAST(? AS BIGINT) + 41", (n,))) == (
                n + 41,
            )
        kept = await db.read("kept", lambda tx: tx.rows("SELECT statement FROM pg_prepared_statements"))
        assert any("+ 41" in statement for (statement,) in kept)
    finally:
        await db.close()


async def test_two_processes_that_upgrade_at_once_do_it_once(postgres_dsn: str, tmp_path: Path) -> None:
    """Two registry processes start together after a new release (D25)."""
    pg.create_schema(postgres_dsn, "upgraded_twice")
    pairs: list[list[Db]] = [
        [PostgresDb(postgres_dsn, connections=2, schema="upgraded_twice") for _ in range(2)],
        [SqliteDb(tmp_path / "t.db") for _ in range(2)],
    ]
    for pair in pairs:
        reads = asyncio.Barrier(2)

        def slowly(db: Db, reads: asyncio.Barrier) -> Db:
            write = db.write

            async def waiting(name: str, fn: Any, **how: Any) -> Any:
                if name.startswith("schema_index_0001"):
                    await reads.wait()  # both have seen that there is nothing
                return await write(name, fn, **how)

            db.write = waiting  # type: ignore[method-assign]
            return db

        done = await asyncio.gather(*(migrate(slowly(db, reads), PACKAGE, SCHEMA) for db in pair))
        numbers = await migrate(pair[0], PACKAGE, SCHEMA)
        assert numbers == []
        applied = sorted(number for numbers in done for number in numbers)
        assert applied == sorted(set(applied)), "each once"
        assert applied[0] == 1
        for db in pair:
            await db.close()


async def test_who_met_a_deadlock_is_run_again_alone(database: Db) -> None:
    """Beside the others it would meet the same ones in the same order, until its tries are used up."""
    if database.dialect.name == "sqlite":
        return  # it has one writer
    await database.write(
        "make", lambda tx: tx.script("CREATE TABLE t (a INTEGER);\nINSERT INTO t VALUES (1), (2);\n")
    )
    both, ran, alone = threading.Barrier(2, timeout=20), [0, 0], []

    def crossing(who: int) -> Any:
        def write(tx: Tx) -> None:
            tx.advisory_lock(7, exclusive=False)
            ran[who] += 1
            mine = "SELECT mode FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"
            alone.append((ran[who], [mode for (mode,) in tx.rows(mine)]))
            for row in (1, 2) if who else (2, 1):
                tx.execute("UPDATE t SET a = a WHERE a = ?", (row,))
                if ran[who] == 1 and row == (1 if who else 2):
                    both.wait()

        return database.write("crossing", write)

    async with asyncio.timeout(30):
        await asyncio.gather(crossing(0), crossing(1))
    assert sorted(ran) == [1, 2]
    assert sorted(alone) == [(1, ["ShareLock"]), (1, ["ShareLock"]), (2, ["ExclusiveLock"])]
