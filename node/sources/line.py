"""One association with an archive, kept for a little while between questions, used by one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from typing import TypeVar

from crosslight.runtime.workers import Workers
from crosslight.standards.problem import Unavailable
from node.dimse.outgoing import OutgoingAssociation, Proposal

T = TypeVar("T")
#: Opens an association in which these contexts are proposed.
Opening = Callable[[Sequence[Proposal]], AbstractContextManager[OutgoingAssociation]]


class KeptLine:
    """An association that is opened when something is to be asked.

    Args:
        opening: Opens one; blocking.
        workers: Threads for what blocks.
        idle_s: How long it is kept after the last question.
    """

    def __init__(self, opening: Opening, workers: Workers, idle_s: float = 5.0) -> None:
        self._opening, self._workers, self._idle_s = opening, workers, idle_s
        self._lock = asyncio.Lock()
        self._open: tuple[AbstractContextManager[OutgoingAssociation], OutgoingAssociation] | None = None
        self._proposed: tuple[Proposal, ...] = ()
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    async def use(self, proposals: Sequence[Proposal], ask: Callable[[OutgoingAssociation], T]) -> T:
        """Ask, in a thread, on an association in which these contexts were proposed.

        One that was kept, and has gone meanwhile, is opened anew.

        Raises:
            Unavailable: it cannot be opened; and whatever ``ask`` raises, after which it is aborted.
        """
        async with self._lock:
            self._keep()
            if self._open is not None and self._proposed == tuple(proposals):
                try:
                    return await self._asked(ask)
                except Unavailable:  # most often it was closed at the other end while nothing was asked
                    pass
            await self._leave()
            await self._enter(proposals)
            return await self._asked(ask)

    async def close(self) -> None:
        """Release it."""
        async with self._lock:
            self._keep()
            await self._leave()

    async def _enter(self, proposals: Sequence[Proposal]) -> None:
        context = self._opening(proposals)
        entering = asyncio.ensure_future(self._workers.run(context.__enter__))
        try:
            association = await asyncio.shield(entering)
        except asyncio.CancelledError:
            with suppress(Exception):
                await entering
                await self._workers.run(context.__exit__, None, None, None)
            raise
        self._open, self._proposed = (context, association), tuple(proposals)

    async def _asked(self, ask: Callable[[OutgoingAssociation], T]) -> T:
        if self._open is None:
            raise Unavailable("The association is closed.")
        context, association = self._open
        asking = asyncio.ensure_future(self._workers.run(ask, association))
        try:
            answer = await asyncio.shield(asking)
        except BaseException as error:
            self._open = None
            if not asking.done():  # whoever asked has gone: the thread must not stay
                association.cut()
                with suppress(Exception):
                    await asyncio.shield(asking)
            with suppress(Exception):
                await self._workers.run(context.__exit__, type(error), error, error.__traceback__)
            raise
        self._timer = asyncio.get_running_loop().call_later(self._idle_s, self._expire)
        return answer

    async def _leave(self) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            with suppress(Unavailable):
                await self._workers.run(opened[0].__exit__, None, None, None)

    def _keep(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _expire(self) -> None:
        self._closing = asyncio.ensure_future(self.close())
