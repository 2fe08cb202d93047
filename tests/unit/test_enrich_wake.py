"""A version accepted while the one before it is being completed is completed at once, not at the next
scan."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from registry_room import Room, make_room
from registry_samples import REGION

from crosslight.runtime.clock import SystemIds
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.seams import system_seams
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import TooLarge
from registry.enrich.completion import Completion
from registry.enrich.config import EnrichConfig
from registry.enrich.enricher import Enricher
from registry.enrich.schedule import KEPT, Agenda
from registry.enrich.series import SeriesLists
from registry.identity.model import RecordKey
from registry.index.model import HoldingKey
from registry.members.model import Member


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    db = SqliteDb(tmp_path / "registry.sqlite")
    yield await make_room(db)
    await db.close()


def _keys(member: MemberId, count: int) -> list[HoldingKey]:
    return [HoldingKey(RecordKey(n), f"1.2.{n}", member) for n in range(count)]


class Slow(Completion):
    """Counts runs; the first one lasts until it is let go."""

    def __init__(self, room: Room) -> None:
        nothing: Any = SimpleNamespace(reachable=lambda member: True)
        super().__init__(
            room.index, room.acceptor, nothing, room.audit, nothing, SystemIds(), REGION, EnrichConfig()
        )
        self.runs = 0
        self.started, self.go_on, self.twice = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def complete(self, key: HoldingKey, member: Member) -> bool:
        self.runs += 1
        self.started.set()
        if self.runs == 1:
            await self.go_on.wait()
        else:
            self.twice.set()
        return True


def _enricher(room: Room, completion: Completion) -> Enricher:
    return Enricher(room.index, room.directory, completion, system_seams(), EnrichConfig(scan_s=3600))


async def test_a_wake_during_a_run_is_not_lost(room: Room) -> None:
    (key,), slow = _keys(room.member("RA2").id, 1), Slow(room)
    enricher = _enricher(room, slow)
    enricher.start()
    enricher.wake(key)
    await asyncio.wait_for(slow.started.wait(), 5)
    enricher.wake(key)
    slow.go_on.set()
    await asyncio.wait_for(slow.twice.wait(), 5)
    await enricher.stop()
    assert slow.runs == 2


def test_an_agenda_gives_each_key_when_it_is_due() -> None:
    agenda = Agenda()
    one, two, three = _keys(MemberId(7), 3)
    for key in (one, two, one):
        agenda.add(key)
    assert [agenda.take(5.0), agenda.take(5.0), agenda.take(5.0)] == [one, two, None]
    agenda.put(one, agenda.add(one), 9.0)
    agenda.put(two, agenda.add(two), 7.0)
    agenda.put(two, agenda.add(two), 8.0)
    assert agenda.next_s() == 8.0
    assert agenda.take(7.5) is None
    assert agenda.take(9.0) == two
    agenda.tries.pop(one)
    assert agenda.next_s() is None
    agenda.add(three)
    agenda.put(three, agenda.add(three), 50.0)
    agenda.at_once([two])
    assert agenda.take(1.0) == three
    assert agenda.take(1.0) is None


def test_an_agenda_is_bounded() -> None:
    agenda = Agenda()
    for key in _keys(MemberId(7), KEPT + 10):
        agenda.add(key)
    assert len(agenda.tries) == KEPT


class Endless(SeriesLists):
    """Asks a member that never comes to an end."""

    async def _get(self, *asked: Any) -> list[dict[str, Any]]:
        return [{"00201206": {"vr": "IS", "Value": [1 << 30]}}] * 5000


async def test_a_member_that_describes_series_without_end_is_not_listened_to() -> None:
    nobody: Any = None
    with pytest.raises(TooLarge):
        await Endless(nobody, EnrichConfig()).read(nobody, "1.2.3", "", "")


async def test_what_nobody_foresaw_in_a_scan_does_not_end_enrichment(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    (key,), slow, broken = _keys(room.member("RA2").id, 1), Slow(room), asyncio.Event()
    enricher = _enricher(room, slow)

    async def fails(members: object, limit: int) -> list[HoldingKey]:
        broken.set()
        raise RuntimeError

    monkeypatch.setattr(room.index, "unenriched", fails)
    enricher.start()
    await asyncio.wait_for(broken.wait(), 5)
    enricher.wake(key)
    await asyncio.wait_for(slow.started.wait(), 5)
    await enricher.stop()


async def test_who_stops_gives_back_what_it_was_at(room: Room) -> None:
    (key,), slow = _keys(room.member("RA2").id, 1), Slow(room)
    one, other = _enricher(room, slow), _enricher(room, slow)
    one.start()
    one.wake(key)
    await asyncio.wait_for(slow.started.wait(), 5)
    assert not await room.index.leases.take(key, "another", 60)
    await one.stop()
    other.start()
    other.wake(key)
    await asyncio.wait_for(slow.twice.wait(), 5)
    await other.stop()
