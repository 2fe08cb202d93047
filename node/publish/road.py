"""The seam between the outbox and a road to a destination (D18), and the waiting that all loops of this room share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Protocol

from crosslight.runtime.clock import Clock
from crosslight.standards.problem import Unavailable
from node.publish.model import Job, Result


class RoadDown(Unavailable):
    """The destination cannot be reached, or answers for nobody now. What was sent may have arrived."""


class Road(Protocol):
    """Delivers acts to one destination.

    ``together`` is the most jobs of one delivery, ``parallel`` the most deliveries at once. ``incarnation`` is what the
    destination called its database in its last answer, '' where the road does not say.
    """

    together: int
    parallel: int
    incarnation: str

    async def deliver(self, jobs: Sequence[Job]) -> list[Result]:
        """Send acts, or settle those whose fate is unknown; what became of each, in their order.

        Raises:
            RoadDown: nothing is known of what became of them.
        """
        ...


async def wait_for(clock: Clock, event: asyncio.Event, timeout_s: float | None) -> None:
    """Wait until ``event`` is set, or so long on ``clock`` (None: no bound)."""
    if event.is_set() or (timeout_s is not None and timeout_s <= 0):
        await asyncio.sleep(0)
        return
    waiting: set[asyncio.Task[object]] = {asyncio.create_task(event.wait())}
    if timeout_s is not None:
        waiting.add(asyncio.create_task(_sleep(clock, timeout_s)))
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _sleep(clock: Clock, seconds: float) -> None:
    await clock.sleep(seconds)
