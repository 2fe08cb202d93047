"""Follower: reads the change feed in this process and tells whoever has to know (ADR 0031).

What was committed here is read at once, or with what else is committed within :data:`GATHER_S` where
commits follow each other, so that a feed at its height does not pay a reading for each; what other
processes committed, and what changed of persons, at the next look: the heads of all streams in one small
reading. That is rather a look each second than LISTEN and NOTIFY, whose commits PostgreSQL takes one at a
time, which poolers of connections do not pass on, and which is lost with a connection, so that one must
look all the same.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta

from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.runtime.waiting import Wake
from registry.index.changes import Behind, ChangeFeed, Cursor, Persons
from registry.index.config import ChangesConfig
from registry.index.model import Change

TRIM_S = 600.0
GATHER_S = 0.05
log = get_logger("changes")


class Follower:
    """Follows the feed from where it ends at the start.

    Args:
        feed: The feed. clock: Time. config: How often, and how long changes are kept.
        persons: Says whose the records are, for those who are told.
    """

    def __init__(
        self, feed: ChangeFeed, clock: Clock, config: ChangesConfig, persons: Persons | None = None
    ) -> None:
        self._feed = feed
        self._clock = clock
        self._config = config
        self._persons = persons
        self._wake = Wake(clock)
        self._told: list[tuple[Callable[[Sequence[Change]], None], Callable[[], None]]] = []
        self._cursor: Cursor | None = None
        self._tasks: list[asyncio.Task[None]] = []

    def tell(self, changed: Callable[[Sequence[Change]], None], behind: Callable[[], None]) -> None:
        """Call ``changed`` with what changes from now on, and ``behind`` when some may have been missed.

        Some have at the start: then all that matters must be looked at. Both must return at once.
        """
        self._told.append((changed, behind))

    def wake(self) -> None:
        """Something was committed in this process."""
        self._wake.set()

    def start(self) -> None:
        """Begin to follow, and to trim."""
        self._tasks = [asyncio.create_task(self._run()), asyncio.create_task(self._trim())]

    async def stop(self) -> None:
        """Stop. Where it stopped is not kept: the next start looks at everything."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task

    async def look(self) -> bool:
        """Read on once; whether there was anything."""
        if self._cursor is None:
            # before anything is looked at: what comes in between is told too
            self._cursor = await self._feed.head()
            for _, behind in self._told:
                behind()
        try:
            page = await self._feed.after(self._cursor, persons=self._persons)
        except Behind:
            self._cursor = None
            return True
        self._cursor = None  # should one who is told fail, all look at everything
        if page.changes:
            for changed, _ in self._told:
                changed(page.changes)
        self._cursor = page.cursor
        return bool(page.changes)

    async def _run(self) -> None:
        while True:
            busy = False
            try:
                busy = await self.look()
            except Exception:
                log.exception("the change feed could not be read")
            if busy:
                await self._clock.sleep(GATHER_S)
            else:
                await self._wake.wait(self._config.poll_s)

    async def _trim(self) -> None:
        while True:
            try:
                await self._feed.trim(self._clock.now() - timedelta(days=self._config.keep_days))
            except Exception:
                log.exception("the change feed could not be trimmed")
            await self._clock.sleep(TRIM_S)
