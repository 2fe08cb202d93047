"""The change feed: nothing that was committed is skipped, however late, and who comes too late is told (ADR
0031).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from changes_room import WAIT_S, all_changes, one_study, two_processes
from registry_room import Room, make_room
from registry_samples import nhs, patient, study

from crosslight.runtime.db import Db, Tx
from crosslight.runtime.db.postgres import _PgTx
from crosslight.runtime.db.sqlite_tx import SqliteTx
from crosslight.standards.ids import Identifier
from crosslight.standards.records import changed
from registry.ask.question import ByPatient
from registry.identity.model import PatientSelector, RecordKey
from registry.index import changes as feed_module
from registry.index.changes import Behind, note_persons
from registry.index.model import Change


@pytest.fixture
async def room(database: Db) -> Room:
    return await make_room(database)


@pytest.fixture
async def processes(postgres_dsn: str) -> AsyncIterator[tuple[Room, Room]]:
    async with two_processes(postgres_dsn) as rooms:
        yield rooms


@pytest.fixture
def shared(processes: tuple[Room, Room]) -> Room:
    """A room on PostgreSQL, whose transactions overlap; SQLite has one writer."""
    return processes[0]


def _kinds(changes: Sequence[Change]) -> list[str]:
    return [change.kind for change in changes]


async def test_what_becomes_of_a_study_is_told_in_its_order(room: Room) -> None:
    start = await room.index.changes.head()
    wrong = one_study(room, 1)
    right = changed(wrong, patient=patient(room.member("RA2"), "H2", number=nhs(4), family="Cole"))
    await room.publish("RA2", wrong, 1)
    await room.availability("RA2", wrong.study_uid, "Deprecated", 2)
    await room.publish("RA2", right, 3)
    await room.withdraw("RA2", wrong.study_uid, 4)
    found, cursor = await all_changes(room, start)
    mine = [change for change in found if change.member is not None]
    assert _kinds(mine) == ["new", "changed", "moved", "withdrawn"]
    assert {change.study_uid for change in mine} == {wrong.study_uid}
    assert mine[2].former_key == mine[0].record_key != mine[2].record_key
    assert (await all_changes(room, cursor))[0] == []


async def test_what_a_transaction_takes_back_is_not_told(room: Room) -> None:
    await room.publish("RA2", one_study(room, 1), 1)
    start = await room.index.changes.head()
    with pytest.raises(ZeroDivisionError):
        await room.db.write("broken", lambda tx: (_flushed(room, tx, 2), 1 / 0))
    assert await room.index.changes.head() == start
    await room.publish("RA2", one_study(room, 3), 3)
    assert [change.study_uid for change in (await all_changes(room, start))[0]] == [
        one_study(room, 3).study_uid
    ]


def _flushed(room: Room, tx: Tx, n: int) -> None:
    """A study written as accept does, in a transaction that a test holds."""
    member, record = room.member("RA2"), one_study(room, n)
    work = room.index.work(tx, room.clock.now())
    work.lock([member.id])
    key = room.identity.feed_tx(tx, record.patient, member.id, room.clock.now(), kind="study")
    act = room.published("RA2", record, n)
    work.publish(
        work.entry(member.id, record.study_uid), key, act.publication, act.digest, act.publication.version
    )
    work.flush()


class _Held:
    """A writing transaction that stops before its commit until it is let go."""

    def __init__(self, db: Db, do: Callable[[Tx], object]) -> None:
        self.done, self.go = threading.Event(), threading.Event()

        def fn(tx: Tx) -> None:
            do(tx)
            self.done.set()
            assert self.go.wait(WAIT_S)

        self.task = asyncio.create_task(db.write("held", fn))

    async def reached(self) -> None:
        assert await asyncio.to_thread(self.done.wait, WAIT_S)

    async def commit(self) -> None:
        self.go.set()
        await self.task


async def test_of_two_transactions_that_overlap_nothing_is_missed(shared: Room) -> None:
    """One takes its number first and commits last; a reader looks in between, twice.

    Of one member and of two.
    """
    room = shared
    await room.publish("RA2", one_study(room, 1), 1)
    start = await room.index.changes.head()
    late = _Held(room.db, lambda tx: _flushed(room, tx, 2))
    await late.reached()
    # another member commits before
    await room.publish("RTK", one_study(room, 50, code="RTK", local="T1", number=nhs(7)), 1)
    # the same member has to wait for its turn
    same = asyncio.create_task(room.publish("RA2", one_study(room, 3), 3))
    between, cursor = await all_changes(room, start)
    assert [change.member for change in between] == [room.member("RTK").id]
    assert not same.done()
    await late.commit()
    assert await same == "accepted"
    after, cursor = await all_changes(room, cursor)
    assert [change.study_uid for change in after] == [
        one_study(room, 2).study_uid,
        one_study(room, 3).study_uid,
    ]
    assert (await all_changes(room, cursor))[0] == []


async def test_changes_of_persons_wait_for_nobody_and_are_not_missed(shared: Room) -> None:
    """Two transactions note persons; the one that came first commits last, and the other does not wait for
    it.
    """
    room = shared
    start = await room.index.changes.head()
    one, two, three = RecordKey(11), RecordKey(22), RecordKey(33)
    late = _Held(room.db, lambda tx: note_persons(tx, [one], "linked", room.clock.now()))
    await late.reached()
    async with asyncio.timeout(WAIT_S):
        await room.db.write("persons", lambda tx: note_persons(tx, [two], "merged", room.clock.now()))
    between, cursor = await all_changes(room, start)
    assert [(c.kind, c.record_key, c.member) for c in between] == [("merged", two, None)]
    await room.db.write("persons", lambda tx: note_persons(tx, [three], "linked", room.clock.now()))
    await late.commit()
    after, _ = await all_changes(room, cursor)
    assert {change.record_key for change in after} == {one, three}


async def test_more_persons_at_once_than_there_are_streams_wait_for_their_turn(shared: Room) -> None:
    room = shared
    await room.db.write("few", lambda tx: tx.execute("DELETE FROM person_stream WHERE stream < -1"))
    start = await room.index.changes.head()
    late = _Held(room.db, lambda tx: note_persons(tx, [RecordKey(1)], "linked", room.clock.now()))
    await late.reached()
    other = asyncio.create_task(
        room.db.write("persons", lambda tx: note_persons(tx, [RecordKey(2)], "linked", room.clock.now()))
    )
    await late.commit()
    await other
    assert {change.record_key for change in (await all_changes(room, start))[0]} == {1, 2}


async def test_links_merges_and_claims_are_told(room: Room) -> None:
    """Another trust's record joins a person, an A40 merges two, and a record claims a number that another
    holds.
    """
    await room.publish("RA2", one_study(room, 1), 1)
    await room.identity.feed(patient(room.member("RTK"), "T1"), room.member("RTK").id, room.clock.now())
    start = await room.index.changes.head()
    room.clock.moment += timedelta(seconds=1)
    await room.identity.feed(
        patient(room.member("RTK"), "T1", number=nhs(1)), room.member("RTK").id, room.clock.now()
    )
    found, start = await all_changes(room, start)
    assert {"linked", "described"} <= set(_kinds(found))
    await room.feed("RTK", patient(room.member("RTK"), "T2"))
    _, start = await all_changes(room, start)
    room.clock.moment += timedelta(seconds=1)
    authority = room.member("RTK").authority
    await room.identity.merge(Identifier("T1", authority), Identifier("T2", authority), room.clock.now())
    found, start = await all_changes(room, start)
    assert "merged" in _kinds(found)
    asked = ByPatient(patient=PatientSelector(identifiers=(Identifier(nhs(1)),)))
    (person,) = (await room.asked(asked)).persons
    room.clock.moment += timedelta(seconds=1)
    claiming = patient(room.member("RXC"), "X1", number=nhs(1), family="Other", given="Body", born="19990909")
    await room.publish("RXC", study(claiming, 900), 1)
    found, _ = await all_changes(room, start)
    assert {c.record_key for c in found if c.kind == "described"} & {record.key for record in person.records}


async def test_pages_have_every_change_of_every_stream_once(room: Room) -> None:
    start = await room.index.changes.head()
    for code, first in (("RA2", 100), ("RTK", 200), ("RXC", 300)):
        acts = [
            room.published(code, study(patient(room.member(code), f"{code}{n}"), first + n), n + 1)
            for n in range(len(code) * 4)
        ]
        await room.acceptor.accept_many([room.grpc(code, act) for act in acts])
    whole, end = await all_changes(room, start)
    assert len(whole) == 36
    for limit in (1, 3, 7, 100):
        found, cursor = await all_changes(room, start, limit)
        key = lambda change: (change.member, change.study_uid)  # noqa: E731
        assert sorted(found, key=key) == sorted(whole, key=key)
        assert cursor == end


async def test_who_comes_after_the_changes_were_removed_is_told_so(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feed_module, "TRIMMED", 2)
    feed = room.index.changes
    start = await feed.head()
    for n in range(1, 6):
        await room.publish("RA2", one_study(room, n), n)
    middle = (await all_changes(room, start))[1]
    old = room.clock.now()
    room.clock.moment += timedelta(days=1)
    await room.publish("RA2", one_study(room, 6), 6)
    await room.publish("RTK", one_study(room, 50, code="RTK", local="T1", number=nhs(7)), 1)
    removed = await feed.trim(old + timedelta(seconds=1))
    assert removed == 5
    assert await feed.trim(old + timedelta(seconds=1)) == 0
    with pytest.raises(Behind):
        await feed.after(start)
    assert len((await all_changes(room, middle))[0]) == 2, "who was not behind reads on"
    await feed.trim(room.clock.now() + timedelta(seconds=1))
    with pytest.raises(Behind):
        await feed.after(middle)
    assert (await feed.after(await feed.head())).changes == ()


async def test_a_restored_registry_knows_no_cursor_of_before(room: Room) -> None:
    start = await room.index.changes.head()
    await room.index.new_incarnation()
    with pytest.raises(Behind):
        await room.index.changes.after(start)


async def test_many_writers_of_many_members_in_two_processes_and_a_reader_that_never_rests(
    processes: tuple[Room, Room],
) -> None:
    """Whatever commits when: of each stream the reader gets every number, in its order."""
    start = await processes[0].index.changes.head()
    found: list[Change] = []
    done = asyncio.Event()

    async def write(room: Room, code: str, first: int) -> None:
        for n in range(1, 13):
            who = patient(room.member(code), f"{code}{n % 4}", number=nhs(n % 5 + 1))
            await room.acceptor.accept(room.grpc(code, room.published(code, study(who, first + n), n)))

    async def read() -> None:
        cursor = start
        while True:
            last = done.is_set()
            some, cursor = await all_changes(processes[1], cursor, 5)
            found.extend(some)
            if last:
                return

    reader = asyncio.create_task(read())
    here, there = processes
    async with asyncio.timeout(4 * WAIT_S):
        await asyncio.gather(
            write(here, "RA2", 100),
            write(there, "RTK", 200),
            write(here, "RXC", 300),
            write(there, "RYR", 400),
        )
        done.set()
        await reader
    whole, _ = await all_changes(here, start)
    assert len([change for change in whole if change.member is not None]) == 48

    def key(change: Change) -> tuple[str, ...]:
        return str(change.member), change.study_uid, change.kind, str(change.record_key)

    assert sorted(found, key=key) == sorted(whole, key=key)


async def test_the_feed_costs_a_batch_one_statement(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever its size, and of a single act too; a row of it is small."""
    kind = SqliteTx if room.db.dialect.name == "sqlite" else _PgTx
    seen: list[str] = []
    insert = kind.insert_many

    def counted(
        tx: Any, table: str, names: Sequence[str], rows: Sequence[Sequence[Any]], tail: str = ""
    ) -> int:
        seen.extend([table] if rows else [])
        return insert(tx, table, names, rows, tail)

    monkeypatch.setattr(kind, "insert_many", counted)
    acts = [
        room.grpc("RA2", room.published("RA2", one_study(room, n, local=f"H{n}", number=nhs(n)), n))
        for n in range(1, 41)
    ]
    await room.acceptor.accept_many(acts)
    assert seen.count("index_change") == 1
    await room.publish("RA2", one_study(room, 50), 50)
    assert seen.count("index_change") == 2
