"""What begins ends in the opposite order."""

from __future__ import annotations

import asyncio

import pytest

from crosslight.runtime.service_life import Life
from crosslight.runtime.waiting import Subscribers
from crosslight.standards.problem import StorageError


class Part:
    def __init__(self, name: str, ends: list[str], error: Exception | None = None) -> None:
        self.name, self.ends, self.error = name, ends, error

    async def close(self) -> None:
        self.ends.append(self.name)
        if self.error is not None:
            raise self.error

    stop = close


async def test_a_start_that_fails_half_way_ends_what_had_begun() -> None:
    ends: list[str] = []

    async def start() -> None:
        async with Life() as life:
            life.closes(Part("database", ends))
            life.stops(Part("listener", ends))
            raise StorageError("no disk")

    with pytest.raises(StorageError):
        await start()
    assert ends == ["listener", "database"]


async def test_a_part_that_cannot_end_does_not_keep_the_others_open() -> None:
    ends: list[str] = []
    life = Life()
    life.closes(Part("database", ends))
    life.stops(Part("listener", ends, StorageError("stuck")))
    with pytest.raises(StorageError):
        await life.aclose()
    assert ends == ["listener", "database"]
    await life.aclose()
    assert ends == ["listener", "database"]


async def test_what_runs_beside_is_cancelled_before_what_it_uses_is_closed() -> None:
    ends: list[str] = []

    async def work() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ends.append("work")

    life = Life()
    life.closes(Part("database", ends))
    life.runs(work())
    await asyncio.sleep(0)
    await life.aclose()
    assert ends == ["work", "database"]


def test_all_who_subscribed_are_told_in_their_order() -> None:
    told: list[tuple[str, int]] = []
    subscribers: Subscribers[int] = Subscribers()
    subscribers(1)
    subscribers.add(lambda n: told.append(("first", n)))
    subscribers.add(lambda n: told.append(("second", n)))
    subscribers(2)
    assert told == [("first", 2), ("second", 2)]
