"""A version accepted while the one before it is being completed is completed at once, not at the next scan."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import TooLarge
from registry.enrich.agenda import KEPT, Agenda
from registry.enrich.config import EnrichConfig
from registry.enrich.enrich import Enricher
from registry.identity.model import RecordKey
from registry.index.model import HoldingKey
from registry.members.model import Member

KEY = HoldingKey(RecordKey(1), "1.2.3", MemberId(7))


class Slow(Enricher):
    """Counts runs; the first one lasts until it is let go."""

    def __init__(self) -> None:
        anything: Any = SimpleNamespace()
        index = SimpleNamespace(unenriched=self._nothing_waits, unread_documents=self._nothing_waits)
        directory = SimpleNamespace(by_id=lambda member: SimpleNamespace(id=member, status="active"), all=tuple, foreign=tuple)
        reach = SimpleNamespace(reachable=lambda member: True)
        super().__init__(
            cast(Any, index), anything, cast(Any, directory), cast(Any, reach), anything, anything, SystemClock(), SystemIds(),
            anything, EnrichConfig(scan_s=3600),
        )  # fmt: skip
        self.runs = 0
        self.started, self.go_on, self.twice = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def _nothing_waits(self, members: object, limit: int) -> list[HoldingKey]:
        return []

    async def enrich(self, key: HoldingKey, member: Member) -> bool:
        self.runs += 1
        self.started.set()
        if self.runs == 1:
            await self.go_on.wait()
        else:
            self.twice.set()
        return True


async def test_a_wake_during_a_run_is_not_lost() -> None:
    enricher = Slow()
    enricher.start()
    enricher.wake(KEY)
    await asyncio.wait_for(enricher.started.wait(), 5)
    enricher.wake(KEY)
    enricher.go_on.set()
    await asyncio.wait_for(enricher.twice.wait(), 5)
    await enricher.stop()
    assert enricher.runs == 2


def _keys(count: int) -> list[HoldingKey]:
    return [HoldingKey(RecordKey(n), f"1.2.{n}", MemberId(7)) for n in range(count)]


def test_an_agenda_gives_each_key_when_it_is_due() -> None:
    agenda = Agenda()
    one, two, three = _keys(3)
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
    for key in _keys(KEPT + 10):
        agenda.add(key)
    assert len(agenda.tries) == KEPT


class Endless(Slow):
    """Asks a member that never comes to an end."""

    async def _get(self, *asked: Any) -> list[dict[str, Any]]:
        return [{"00201206": {"vr": "IS", "Value": [1 << 30]}}] * 5000


async def test_a_member_that_describes_series_without_end_is_not_listened_to() -> None:
    with pytest.raises(TooLarge):
        await Endless()._fetch_series("1.2.3", cast(Any, None), "", "")


async def test_what_nobody_foresaw_in_a_scan_does_not_end_enrichment() -> None:
    enricher = Slow()

    async def broken(members: object, limit: int) -> list[HoldingKey]:
        raise RuntimeError

    enricher._index.unenriched = broken  # type: ignore[method-assign]
    enricher.start()
    await asyncio.sleep(0.05)
    enricher.wake(KEY)
    await asyncio.wait_for(enricher.started.wait(), 5)
    await enricher.stop()
