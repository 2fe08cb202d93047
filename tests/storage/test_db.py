"""What both databases do alike: lazy writes share the next commit; many rows, near reads."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path

import pytest

from crosslight.runtime.db import LAZY_S, Db, PostgresDb, SqliteDb, Tx


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


async def test_a_near_read_sees_what_was_committed(database: Db) -> None:
    await database.write("make", lambda tx: tx.execute("CREATE TABLE one (n BIGINT)"))
    await database.write("fill", lambda tx: tx.execute("INSERT INTO one VALUES (1)"))
    assert await database.read_near("rows", lambda tx: tx.rows("SELECT n FROM one")) == [(1,)]
    here = threading.current_thread()
    there = await database.read_near("thread", lambda tx: threading.current_thread())
    assert (there is here) == (database.engine == "sqlite")
    with pytest.raises(Exception, match=r"nowhere|database"):
        await database.read_near("bad", lambda tx: tx.rows("SELECT n FROM nowhere"))
    assert await database.read_near("rows", lambda tx: tx.rows("SELECT n FROM one")) == [(1,)]


async def test_postgres_keeps_what_it_has_prepared(postgres_dsn: str) -> None:
    db = PostgresDb(postgres_dsn, connections=1)
    try:
        for n in range(6):
            assert await db.read("one", lambda tx, n=n: tx.row("SELECT CAST(? AS BIGINT) + 41", (n,))) == (n + 41,)
        kept = await db.read("kept", lambda tx: tx.rows("SELECT statement FROM pg_prepared_statements"))
        assert any("+ 41" in statement for (statement,) in kept)
    finally:
        await db.close()
