"""How loops wait: until something happens or a time has passed, and longer after each failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from crosslight.runtime.clock import Clock

Draw = Callable[[], float]
"""A random number in [0, 1), anew at each call."""

T = TypeVar("T")
MOST_DOUBLINGS = 30  # 2.0 ** n stays a number whatever the count of attempts


class Wake:
    """Wakes one loop. What is set while the loop is busy is not lost: its next :meth:`wait` returns at once.

    A loop does its work, then waits; whatever was told before the work began is covered by the work.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = asyncio.Event()

    def set(self) -> None:
        """There may be something to do."""
        self._event.set()

    def clear(self) -> None:
        """Forget what was set: it is being seen to now."""
        self._event.clear()

    async def wait(
        self, timeout_s: float | None = None, *, unless: asyncio.Future[None] | None = None
    ) -> bool:
        """Until :meth:`set`, or ``timeout_s`` on the clock (None: no bound), or ``unless`` is done.

        Returns:
            Whether it was set and ``unless`` is not done; then it is clear again.
        """
        if not self._event.is_set() and (timeout_s is None or timeout_s > 0):
            await self._first_of(timeout_s, unless)
        else:
            await asyncio.sleep(0)  # others run even beside a loop that never has to wait
        if not self._event.is_set() or (unless is not None and unless.done()):
            return False
        self._event.clear()
        return True

    async def _first_of(self, timeout_s: float | None, unless: asyncio.Future[None] | None) -> None:
        own: set[asyncio.Future[object]] = {asyncio.ensure_future(self._event.wait())}
        if timeout_s is not None:
            own.add(asyncio.ensure_future(self._clock.sleep(timeout_s)))
        try:
            await asyncio.wait(own if unless is None else own | {unless}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in own:
                task.cancel()
            await asyncio.gather(*own, return_exceptions=True)


@dataclass(frozen=True, slots=True)
class Backoff:
    """A wait that doubles with each failure, with jitter.

    So many who failed together do not come back together.

    Attributes:
        first_s: Before the first new try. longest_s: It doubles no further.
        draw: The jitter.
        least: The part of the wait that is always waited: 0 for full jitter, 0.5 for half to one and a half.
    """

    first_s: float
    longest_s: float
    draw: Draw
    least: float = 0.0

    def delay_s(self, attempt: int) -> float:
        """How long to wait after ``attempt`` failures before this one."""
        return min(self.longest_s, self.first_s * 2.0 ** min(attempt, MOST_DOUBLINGS)) * (
            self.least + self.draw()
        )


class Subscribers(Generic[T]):
    """Who is told when something has happened: call it with what it was.

    Those told return at once and raise nothing.

    A part that tells need not know who listens, so parts are made in one order, each from those before it.
    """

    def __init__(self) -> None:
        self._told: list[Callable[[T], object]] = []

    def add(self, told: Callable[[T], object]) -> None:
        """Tell ``told`` from now on, after those that were added before."""
        self._told.append(told)

    def __call__(self, what: T) -> None:
        for told in self._told:
            told(what)


def call_given_up() -> bool:
    """Whether the call was given up, and nobody has told this task to end.

    Asked while a CancelledError is handled.

    For gRPC cancels whoever waits for a call whose channel is closed.
    """
    task = asyncio.current_task()
    return task is not None and not task.cancelling()
