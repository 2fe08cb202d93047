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

        Raises:
            Unavailable: the node is ending.
        """
        if self._loop.is_closed():
            raise Unavailable("This node is ending.")
        entered: Future[tuple[T, asyncio.Future[None]]] = Future()
        left: Future[None] = Future()

        async def stay() -> None:
            try:
                async with context as value:
                    over = asyncio.get_running_loop().create_future()
                    entered.set_result((value, over))
                    await over
            except asyncio.CancelledError:
                raise  # told below
            except BaseException as error:
                for told in (entered, left):
                    if not told.done():
                        told.set_exception(error)
                raise
            left.set_result(None)

        def ended(task: Future[None]) -> None:
            """Nobody in the thread waits for ever, whenever the task was cancelled."""
            for told in (entered, left):
                if not told.done():
                    told.set_exception(Unavailable("This node is ending."))

        asyncio.run_coroutine_threadsafe(stay(), self._loop).add_done_callback(ended)
        value, over = entered.result()
        try:
            yield value
        except BaseException as error:
            self._loop.call_soon_threadsafe(_settle, over, error)
            left.exception()
            raise
        self._loop.call_soon_threadsafe(_settle, over, None)
        left.result()


def _settle(over: asyncio.Future[None], error: BaseException | None) -> None:
    if over.done():
        return
    if error is None:
        over.set_result(None)
    else:
        over.set_exception(error)
