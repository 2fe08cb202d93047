"""Sessions, sign-ins begun, their failures and grants, on both engines."""

from __future__ import annotations

import asyncio

import pytest
from members_region import CLOCK, IDS

from crosslight.runtime.db import Db
from crosslight.standards.access import Principal
from registry.access.config import AccessConfig
from registry.access.sessions import Sessions
from registry.access.store import AccessStore, PendingSignIn

PERSON = Principal(
    subject="person:1",
    name="Ann",
    roles=frozenset({"clinician", "ig"}),
    organisation="RA2",
    evidence="session",
)


async def access_store(db: Db) -> AccessStore:
    store = AccessStore(db, CLOCK, IDS)
    await store.open()
    return store


async def test_sessions_are_shared_and_end(database: Db) -> None:
    store = await access_store(database)
    one, two = (Sessions(store, AccessConfig(), CLOCK, IDS) for _ in range(2))
    session = await one.begin(PERSON)
    found = await two.find(session.id)
    assert found is not None
    assert (found.principal, found.csrf) == (PERSON, session.csrf)
    stored = await database.read("t", lambda tx: tx.rows("SELECT * FROM session"))
    assert session.id not in str(stored)
    await two.end(session.id)
    assert await one.find(session.id) is None
    for unknown in ("", "x", "x" * 1000, "\x00", "é"):
        assert await one.find(unknown) is None


async def test_idle_and_absolute_limits(database: Db) -> None:
    store = await access_store(database)
    idle = Sessions(store, AccessConfig(session_idle_minutes=0.2 / 60), CLOCK, IDS)
    session = await idle.begin(PERSON)
    assert await idle.find(session.id)
    await asyncio.sleep(0.25)
    assert await idle.find(session.id) is None
    short = Sessions(store, AccessConfig(session_hours=0.001), CLOCK, IDS)  # 3.6 s
    session = await short.begin(PERSON)
    await database.write(
        "t", lambda tx: tx.execute("UPDATE session SET ends = ?", (CLOCK.now().isoformat(),))
    )
    assert await short.find(session.id) is None


async def test_a_signin_is_taken_once_by_its_browser(database: Db) -> None:
    store = await access_store(database)
    pending = PendingSignIn(nonce="n", verifier="v", return_to="/")
    await store.begin_signin("state", "browser", pending, 60)
    assert await store.take_signin("state", "another") is None
    assert await store.take_signin("other", "browser") is None
    taken = await asyncio.gather(*(store.take_signin("state", "browser") for _ in range(4)))
    assert sorted(taken, key=bool) == [None, None, None, pending]
    await store.begin_signin("late", "browser", pending, -1)
    assert await store.take_signin("late", "browser") is None


async def test_failures_count_in_their_window(database: Db) -> None:
    store = await access_store(database)
    for _ in range(3):
        await store.add_failures(("user:a", "address:b"), 60)
    await store.add_failures(("user:c", "address:b"), 60)
    assert await store.failures(("user:a", "address:b", "user:c", "user:d"), 60) == [3, 4, 1, 0]
    assert await store.failures(("user:a",), 0) == [0]
    stored = await database.read("t", lambda tx: tx.rows("SELECT * FROM signin_failure"))
    assert "user:a" not in str(stored)


async def test_strangers_cannot_fill_the_tables(database: Db, monkeypatch: pytest.MonkeyPatch) -> None:
    """One address has so many of its own; where all are taken, whoever has most gives way."""
    monkeypatch.setattr("registry.access.store.MAX_PENDING", 4)
    store = AccessStore(database, CLOCK, IDS, per_address=3)
    await store.open()
    pending = PendingSignIn(nonce="n", verifier="v", return_to="/")

    async def left(*names: str) -> list[str]:
        return [name for name in names if await store.grant(name, take=False) is not None]

    for n in range(5):
        await store.begin_signin(f"s{n}", "b", pending, 60, address="10.0.0.1")
        await store.add_grant(f"g{n}", {}, 60, address="10.0.0.1")
    assert await left("g0", "g1", "g2", "g3", "g4") == ["g2", "g3", "g4"]
    for n in (2, 3):
        await store.begin_signin(f"t{n}", "b", pending, 60, address=f"10.0.0.{n}")
        await store.add_grant(f"h{n}", {}, 60, address=f"10.0.0.{n}")
    assert await left("g2", "g3", "g4", "h2", "h3") == ["g3", "g4", "h2", "h3"]
    taken = [await store.take_signin(state, "b") for state in ("s0", "s1", "s2", "s3", "s4", "t2", "t3")]
    assert [found is not None for found in taken] == [False, False, False, True, True, True, True]
    for name in ("g3", "g4", "h2", "h3"):
        await store.grant(name, take=True)
    rows = await database.read("t", lambda tx: tx.rows("SELECT * FROM begun"))
    assert rows == []  # nothing is left of what was ended
    await store.add_grant("late", {}, -1, address="10.0.0.1")
    await store.add_grant("now", {}, 60, address="10.0.0.1")
    assert len(await database.read("t", lambda tx: tx.rows("SELECT * FROM begun"))) == 1


async def test_grants_end(database: Db) -> None:
    store = await access_store(database)
    await store.add_grant("g", {"kind": "code"}, 60)
    assert await store.grant("g", take=False) == {"kind": "code"}
    assert await store.grant("g", take=True) == {"kind": "code"}
    assert await store.grant("g", take=True) is None
    await store.add_grant("h", {}, -1)
    assert await store.grant("h", take=False) is None
