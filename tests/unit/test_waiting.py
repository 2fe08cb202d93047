"""How loops wait, and longer after each failure."""

from __future__ import annotations

import asyncio

from publish_fakes import VirtualClock, quiet

from crosslight.runtime.waiting import Backoff, Wake


def test_waits_double_up_to_their_bound() -> None:
    most = Backoff(0.5, 5.0, lambda: 1.0)
    assert [most.delay_s(n) for n in range(8)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0, 5.0]
    assert Backoff(0.5, 5.0, lambda: 0.0).delay_s(3) == 0.0
    assert Backoff(0.5, 5.0, lambda: 0.5).delay_s(10**6) == 2.5


def test_a_part_of_the_wait_may_be_sure() -> None:
    assert Backoff(2.0, 5.0, lambda: 0.0, least=0.5).delay_s(0) == 1.0
    assert Backoff(2.0, 5.0, lambda: 1.0, least=0.5).delay_s(0) == 3.0


async def test_what_is_set_while_the_loop_is_busy_is_not_lost() -> None:
    wake = Wake(VirtualClock())
    wake.set()
    wake.set()
    assert await wake.wait(None)
    assert not await wake.wait(0.0)  # seen to, and once only


async def test_what_is_set_ends_a_wait_before_its_time() -> None:
    clock = VirtualClock()
    wake = Wake(clock)
    waiting = asyncio.create_task(wake.wait(60.0))
    await quiet()
    assert not waiting.done()
    wake.set()
    assert await waiting
    assert clock.monotonic_s() == 0.0


async def test_a_wait_ends_with_its_time_on_the_clock() -> None:
    clock = VirtualClock()
    waiting = asyncio.create_task(Wake(clock).wait(60.0))
    await clock.advance(59.9)
    assert not waiting.done()
    await clock.advance(0.2)
    assert not await waiting


async def test_a_wait_beside_a_task_ends_with_it_and_keeps_what_was_set() -> None:
    wake, task = Wake(VirtualClock()), asyncio.get_running_loop().create_future()
    waiting = asyncio.create_task(wake.wait(unless=task))
    await quiet()
    task.set_result(None)
    wake.set()
    assert not await waiting
    assert await wake.wait()


async def test_a_cancelled_wait_leaves_no_task_behind() -> None:
    before = asyncio.all_tasks()
    waiting = asyncio.create_task(Wake(VirtualClock()).wait(60.0))
    await quiet()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert asyncio.all_tasks() == before
