"""Work on many records beside the event loop, so that everybody else is answered meanwhile (ADR 0026).

One interpreter runs one thread at a time. It takes turns by itself among threads that compute; but a thread
that often calls briefly into C (a decompressor, a hash, a step of SQLite) lets go and takes back so quickly
that the event loop, which waits for it, is hardly ever woken in time. So work in a thread rests for a moment
after every few records.
"""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from crosslight.runtime.workers import Workers

STEP = 25  # records of which something is made in one piece: a few milliseconds
REST_S = 0.0002  # long enough for a thread that waits to be woken
T = TypeVar("T")


def rest() -> None:
    """Let the event loop have its turn; from a thread."""
    time.sleep(REST_S)


def in_steps(records: Iterable[T]) -> Iterator[T]:
    """The same records; in a thread with a rest after every :data:`STEP` of them.

    On an event loop nothing rests.
    """
    left = iter(records)
    yield from islice(left, STEP)
    beside = _beside()
    for n, record in enumerate(left):
        if beside and n % STEP == 0:
            rest()
        yield record


def _beside() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return True
    return False


class LargeAnswers:
    """Makes answers of many records in a worker's thread, one after the other.

    Large ones hold up their like alone.

    Args:
        workers: Whose threads; None: everything is made on the event loop itself.
    """

    def __init__(self, workers: Workers | None) -> None:
        self._workers, self._turn = workers, asyncio.Lock()
        self._going: set[asyncio.Task[Any]] = set()

    async def make(self, fn: Callable[[], T], records: int) -> T:
        """``fn()``, made of so many ``records``: of no more than one step's on the event loop itself.

        Wherever it is made, it must change nothing that others see half changed. It goes on when whoever
        asked has gone.
        """
        if records <= STEP or self._workers is None:
            return fn()
        task = asyncio.create_task(self._in_turn(self._workers, fn))
        self._going.add(task)
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def _in_turn(self, workers: Workers, fn: Callable[[], T]) -> T:
        async with self._turn:
            return await workers.run(contextvars.copy_context().run, fn)

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._going.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever asked, if they are still there
