"""Caps on what other organisations are given, by the time that they take on a clock that a test moves."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from registry_room import TestClock

from crosslight.standards.problem import ConfigError
from node.hours import hours_of
from node.serve.bandwidth import LEAST_BYTES, MBIT, Bandwidth
from node.serve.config import CapConfig, check_caps


class Moving(TestClock):
    """Others run while one sleeps."""

    __test__ = False

    async def sleep(self, seconds: float) -> None:
        await super().sleep(seconds)
        await asyncio.sleep(0)


def bandwidth(*caps: CapConfig, while_storing: float = 0.0) -> tuple[Bandwidth, TestClock]:
    clock = Moving()
    return Bandwidth(caps, while_storing, clock), clock


async def spent_s(line: Bandwidth, clock: TestClock, partner: str, size: int) -> float:
    began = clock.monotonic_s()
    await line.take_all(partner, size)
    return clock.monotonic_s() - began


async def test_a_partner_is_given_what_its_cap_says_and_others_theirs() -> None:
    line, clock = bandwidth(CapConfig(partner="RXC", mbit_s=8), CapConfig(partner="RTK", mbit_s=80))
    assert await spent_s(line, clock, "RXC", 10_000_000) == pytest.approx(10, abs=0.2)
    assert await spent_s(line, clock, "RTK", 10_000_000) == pytest.approx(1, abs=0.2)
    assert await spent_s(line, clock, "RYR", 10_000_000) == 0
    assert await spent_s(line, clock, "", 10_000_000) == 0, "this trust's own"
    assert line.waited_s["partner"] == pytest.approx(11, abs=0.4)


async def test_everybody_else_has_a_cap_each_and_the_lowest_counts() -> None:
    line, clock = bandwidth(CapConfig(partner="*", mbit_s=8), CapConfig(partner="RTK", mbit_s=80))
    assert await spent_s(line, clock, "RTK", 1_000_000) == pytest.approx(1, abs=0.2)
    began = clock.monotonic_s()
    await asyncio.gather(line.take_all("RXC", 1_000_000), line.take_all("RYR", 1_000_000))
    assert clock.monotonic_s() - began == pytest.approx(1, abs=1.1)
    assert set(line._lines) == {"partner RTK", "partner RXC", "partner RYR"}


async def test_retrieves_of_one_partner_share_its_cap_in_turns() -> None:
    line, clock = bandwidth(CapConfig(partner="RXC", mbit_s=8))
    order: list[str] = []

    async def take(name: str) -> None:
        left = 500_000
        while left:
            left -= await line.take("RXC", left)
            order.append(name)

    began = clock.monotonic_s()
    await asyncio.gather(take("a"), take("b"))
    assert clock.monotonic_s() - began == pytest.approx(1, abs=0.2)
    assert order[1:7] in (["a", "b"] * 3, ["b", "a"] * 3), order


async def test_a_cap_holds_in_its_hours_and_ends_with_them() -> None:
    line, clock = bandwidth(CapConfig(partner="RXC", mbit_s=8, hours="08-18"))
    clock.moment = datetime(2026, 12, 1, 17, 59, 30, tzinfo=UTC).astimezone()
    local = clock.moment.replace(hour=17, minute=59, second=30)
    clock.moment = local
    assert await spent_s(line, clock, "RXC", 100_000_000) == pytest.approx(30, abs=1.5), "then all at once"


async def test_while_objects_are_stored_all_partners_together_give_way() -> None:
    line, clock = bandwidth(while_storing=8)
    assert await spent_s(line, clock, "RXC", 10_000_000) == 0
    line.stored()
    first = await line.take("RXC", 10_000_000)
    assert first == 8 * MBIT // 10
    began = clock.monotonic_s()
    await asyncio.gather(line.take_all("RXC", 100_000), line.take_all("RTK", 100_000))
    assert clock.monotonic_s() - began >= 0.2, "one line for both"
    assert await spent_s(line, clock, "RXC", 100_000_000) < 4, "nothing was stored for a while"
    assert line.waited_s["storing"] > 0


async def test_the_slowest_cap_still_moves() -> None:
    line, clock = bandwidth(CapConfig(partner="RXC", mbit_s=0.1))
    assert await line.take("RXC", 1 << 20) == LEAST_BYTES
    assert await spent_s(line, clock, "RXC", 12_500) == pytest.approx(LEAST_BYTES / 12_500, abs=0.1)


@pytest.mark.parametrize("text", ["8", "24-3", "08-25", "8:00-9:00", "-", "08 - x"])
def test_hours_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="says no hours"):
        check_caps([CapConfig(hours=text)])
    with pytest.raises(ConfigError, match="partner"):
        check_caps([CapConfig(partner=" ")])


def test_hours_go_over_midnight() -> None:
    night = hours_of("22-06", "x")
    assert night is not None
    held = [hour for hour in range(24) if night.hold(datetime(2026, 12, 1, hour).astimezone())]
    assert held == [0, 1, 2, 3, 4, 5, 22, 23]
