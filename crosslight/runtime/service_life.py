"""The life of a service: what began ends in the opposite order, also when only half of it began."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack, suppress
from typing import Any, Protocol

from crosslight.standards.problem import CrosslightError


class Closable(Protocol):
    """Whatever holds files, sockets or threads until it is closed."""

    async def close(self) -> None:
        """Finish, and let go."""
        ...


class Stoppable(Protocol):
    """Something that runs."""

    async def stop(self) -> None:
        """End its work and wait until it has ended."""
        ...


class Life(AsyncExitStack):
    """A stack of ends. Whoever opens a part pushes its end at once, before it does anything that can fail."""

    def closes(self, part: Closable) -> None:
        """Close ``part`` at the end."""
        self.push_async_callback(part.close)

    def stops(self, part: Stoppable) -> None:
        """Stop ``part`` at the end."""
        self.push_async_callback(part.stop)

    def runs(self, work: Coroutine[Any, Any, None]) -> None:
        """Run ``work`` beside everything else, and cancel it at the end."""
        self.push_async_callback(_ended, asyncio.create_task(work))


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    with suppress(asyncio.CancelledError, CrosslightError):
        await task
