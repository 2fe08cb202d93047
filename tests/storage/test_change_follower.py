"""Who follows the change feed: told of what was committed, at once and together; all where it was behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta

import pytest
from changes_room import WAIT_S, one_study, two_processes
from registry_room import Room, make_room

from crosslight.runtime.clock import SystemClock
from crosslight.runtime.db import Db
from registry.index.change_follower import GATHER_S, Follower
from registry.index.config import ChangesConfig
from registry.index.model import Change


@pytest.fixture
async def room(database: Db) -> Room:
    return await make_room(database)


@pytest.fixture
async def processes(postgres_dsn: str) -> AsyncIterator[tuple[Room, Room]]:
    async with two_processes(postgres_dsn) as rooms:
        yield rooms


async def test_a_follower_tells_what_was_committed_and_looks_at_everything_where_it_was_behind(
    room: Room,
) -> None:
    told: list[Change] = []
    behind: list[int] = []
    follower = Follower(room.index.changes, room.clock, ChangesConfig())
    follower.tell(told.extend, lambda: behind.append(len(told)))
    assert not await follower.look()
    assert behind == [0]
    await room.publish("RA2", one_study(room, 1), 1)
    await follower.look()
    assert [change.study_uid for change in told] == [one_study(room, 1).study_uid]
    await room.publish("RA2", one_study(room, 2), 2)
    room.clock.moment += timedelta(days=9)
    await room.index.changes.trim(room.clock.now())
    assert await follower.look(), "it begins again"
    assert not await follower.look()
    assert (len(told), behind) == (1, [0, 1])


async def test_a_follower_hears_at_once_of_what_its_own_process_committed(room: Room) -> None:
    told = asyncio.Event()
    follower = Follower(room.index.changes, SystemClock(), ChangesConfig(poll_s=60))
    follower.tell(lambda changes: told.set(), lambda: None)
    await follower.look()
    follower.start()
    try:
        room.acceptor._on_change = lambda changes: follower.wake()
        await room.publish("RA2", one_study(room, 1), 1)
        async with asyncio.timeout(WAIT_S):
            await told.wait()
    finally:
        await follower.stop()


async def test_what_follows_each_other_is_read_together(room: Room) -> None:
    """While a feed is at its height, a reading for every commit would cost more than the commits' own."""

    class Gate(SystemClock):
        async def sleep(self, seconds: float) -> None:
            if seconds == GATHER_S:
                gathering.set()
                await gathered.wait()
            else:
                await super().sleep(seconds)

    gathering, gathered, all_told = asyncio.Event(), asyncio.Event(), asyncio.Event()
    told: list[int] = []

    def hear(changes: Sequence[Change]) -> None:
        told.append(len(changes))
        if sum(told) >= 6:
            all_told.set()

    follower = Follower(room.index.changes, Gate(), ChangesConfig(poll_s=60))
    follower.tell(hear, lambda: None)
    await follower.look()
    follower.start()
    try:
        room.acceptor._on_change = lambda changes: follower.wake()
        await room.publish("RA2", one_study(room, 1), 1)
        async with asyncio.timeout(WAIT_S):
            await gathering.wait()
            for n in range(2, 7):
                await room.publish("RA2", one_study(room, n), n)
            gathered.set()
            await all_told.wait()
    finally:
        await follower.stop()
    assert told == [1, 5]


async def test_where_one_who_is_told_fails_all_look_at_everything(room: Room) -> None:
    behind: list[str] = []
    follower = Follower(room.index.changes, room.clock, ChangesConfig())
    follower.tell(lambda changes: changes[len(changes)], lambda: behind.append("fails"))
    follower.tell(lambda changes: None, lambda: behind.append("hears"))
    await follower.look()
    await room.publish("RA2", one_study(room, 1), 1)
    with pytest.raises(IndexError):
        await follower.look()
    await follower.look()
    assert behind == ["fails", "hears"] * 2


async def test_a_process_hears_of_what_another_committed_at_its_next_look(
    processes: tuple[Room, Room],
) -> None:
    here, there = processes
    told = asyncio.Event()
    follower = Follower(there.index.changes, SystemClock(), ChangesConfig(poll_s=0.05))
    follower.tell(lambda changes: told.set(), lambda: None)
    await follower.look()
    follower.start()
    await here.publish("RA2", one_study(here, 1), 1)
    async with asyncio.timeout(WAIT_S):
        await told.wait()
    await follower.stop()
