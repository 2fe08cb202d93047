"""Work that is done where it is asked for, bounded work too: for input that is known to be good."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from crosslight.standards.problem import CrosslightError, Malformed, kind_as_sentence

P = ParamSpec("P")
T = TypeVar("T")


class InlineWorkers:
    """No threads and no children."""

    confinement = None

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        await asyncio.sleep(0)  # as where a thread answers
        return fn(*args, **kwargs)

    async def warm(self) -> None:
        """Nothing to start."""

    def run_bounded_sync(self, fn: Callable[..., T], *args: Any) -> T:
        try:
            return fn(*args)
        except CrosslightError:
            raise
        except Exception as error:  # noqa: BLE001 - as in a child: readers have no common base
            raise Malformed("The object cannot be read.", why=kind_as_sentence(error)) from None

    async def run_bounded(self, fn: Callable[..., T], *args: Any) -> T:
        await asyncio.sleep(0)
        return self.run_bounded_sync(fn, *args)

    async def close(self) -> None:
        """Nothing to stop."""
