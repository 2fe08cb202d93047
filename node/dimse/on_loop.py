"""The event loop, for services that answer in an association's thread."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from contextlib import AbstractAsyncContextManager, contextmanager
from typing import Any, TypeVar

from crosslight.standards.problem import Unavailable

T = TypeVar("T")


class OnLoop:
    """Runs on the loop that it was made on what a thread asks for."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Its result, waited for in this thread.

        Raises:
            Unavailable: the node is ending.
        """
        if self._loop.is_closed():
            work.close()
            raise Unavailable("This node is ending.")
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop).result()
        except CancelledError:
            raise Unavailable("This node is ending.") from None

    @contextmanager
    def inside(self, context: AbstractAsyncContextManager[T]) -> Iterator[T]:
        """Inside a context of the loop's: what the block raises, the context sees.

        It is entered and left in one task.
        """
        entered: Future[tuple[T, asyncio.Future[None]]] = Future()
        left: Future[None] = Future()

        async def stay() -> None:
            try:
                async with context as value:
                    over = asyncio.get_running_loop().create_future()
                    entered.set_result((value, over))
                    await over
            except BaseException as error:
                if not entered.done():
                    entered.set_exception(error)
                left.set_exception(error)
                raise
            left.set_result(None)

        async def begin() -> asyncio.Task[None]:
            return asyncio.create_task(stay())

        task = self.run(begin())
        task.add_done_callback(_seen)
        value, over = entered.result()
        loop = task.get_loop()
        try:
            yield value
        except BaseException as error:
            loop.call_soon_threadsafe(_settle, over, error)
            left.exception()
            raise
        loop.call_soon_threadsafe(_settle, over, None)
        left.result()


def _settle(over: asyncio.Future[None], error: BaseException | None) -> None:
    if over.done():
        return
    if error is None:
        over.set_result(None)
    else:
        over.set_exception(error)


def _seen(task: asyncio.Task[None]) -> None:
    """Whoever waits in the thread was told."""
    if not task.cancelled():
        task.exception()
