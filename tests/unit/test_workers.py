"""Bounded children: their answers, their time, and that one that is given up holds up nobody."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator

import pytest

from crosslight.runtime.workers import SystemWorkers, Workers
from crosslight.standards.problem import Malformed, TooLarge


@pytest.fixture
async def workers() -> AsyncIterator[Workers]:
    made = SystemWorkers(threads=2, children=1, child_timeout_s=1.0)
    yield made
    await made.close()


async def test_answers_and_errors_with_the_child_free_or_not(workers: Workers) -> None:
    assert await workers.run_bounded(len, b"abc") == 3  # starts it, in a thread
    assert await asyncio.gather(*(workers.run_bounded(len, b"abc" * n) for n in range(9))) == [
        3 * n for n in range(9)
    ]
    for _ in range(2):
        with pytest.raises(Malformed):
            await workers.run_bounded(int, "x")


async def test_what_takes_too_long_or_dies_is_told_so_and_the_next_is_served(workers: Workers) -> None:
    for start in (False, True):
        if start:
            await workers.warm()
        with pytest.raises(TooLarge):
            await workers.run_bounded(time.sleep, 60)
        assert await workers.run_bounded(len, b"abc") == 3
        with pytest.raises(TooLarge):
            await workers.run_bounded(os._exit, 1)
        assert await workers.run_bounded(len, b"abc") == 3


async def test_whoever_goes_away_leaves_a_child_that_is_still_bounded(workers: Workers) -> None:
    await workers.warm()
    gone = asyncio.create_task(workers.run_bounded(time.sleep, 60))
    await asyncio.sleep(0.1)
    gone.cancel()
    async with asyncio.timeout(30):
        assert await workers.run_bounded(len, b"abc") == 3
