"""An event loop on virtual time: when nothing is ready it is the time of the next timer at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from contextlib import AbstractContextManager
from contextvars import Context
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class LoopNetwork(Protocol):
    """What the loop asks of its network (:class:`~simulations.virtual.network.Network`)."""

    def listen(self, factory: Callable[[], Any], host: str, port: int) -> Any:
        """A server whose connections speak what ``factory`` makes."""
        ...

    async def connect(self, factory: Callable[[], Any], who: str, host: str, port: int) -> tuple[Any, Any]:
        """A connection to whoever listens there: its transport and its protocol."""
        ...


class NothingWillHappenError(Exception):
    """Everybody waits, and for no time: the run would stand still for ever."""


class OutsideError(Exception):
    """Something reached for the world by a way that is no seam."""


class _Jump:
    """In place of a selector: there are no files to wait for, so waiting is only the passing of time."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        """Let the time pass."""
        if timeout is None:
            raise NothingWillHappenError
        if timeout > 0:
            self._loop.pass_time(timeout)
        return []

    def close(self) -> None:
        """Nothing to do."""


class VirtualLoop(asyncio.BaseEventLoop):
    """Single-threaded, without sockets.

    Connections are those of its :class:`~simulations.virtual.network.Network`.
    """

    network: LoopNetwork

    def __init__(self) -> None:
        super().__init__()
        self._selector = _Jump(self)
        self._now_s = 0.0
        self._thread = threading.get_ident()

    def time(self) -> float:
        """Seconds since the run began."""
        return self._now_s

    def pass_time(self, seconds: float) -> None:
        """It is later."""
        self._now_s += seconds

    def _process_events(self, event_list: list[Any]) -> None:
        """There are none."""

    def _write_to_self(self) -> None:
        """Nobody sleeps: ``select`` returns at once."""

    def call_soon_threadsafe(  # type: ignore[override]  # as the base, without its type variables
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """As ``call_soon``: there is one thread.

        Raises:
            OutsideError: from another one.
        """
        if threading.get_ident() != self._thread:
            raise OutsideError("a thread calls the loop")
        return self.call_soon(callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> Any:  # type: ignore[override]  # runs at once
        """Threads are a seam (Workers, Databases).

        Raises:
            OutsideError: always.
        """
        raise OutsideError(f"a thread for {getattr(func, '__qualname__', func)}")

    async def create_server(
        self, protocol_factory: Callable[[], Any], host: Any = None, port: Any = None, **how: Any
    ) -> Any:
        """Listen in memory."""
        if how.get("ssl") is not None:
            raise OutsideError("TLS")
        return self.network.listen(protocol_factory, str(host), int(port))

    async def create_connection(
        self, protocol_factory: Callable[[], Any], host: Any = None, port: Any = None, **how: Any
    ) -> tuple[Any, Any]:
        """Connect in memory, from nobody in particular."""
        if how.get("ssl") is not None:
            raise OutsideError("TLS")
        return await self.network.connect(protocol_factory, "", str(host), int(port))


def run_virtually(
    network: Callable[[VirtualLoop], LoopNetwork], main: Callable[[], Coroutine[Any, Any, T]]
) -> T:
    """Run ``main`` on a fresh loop from time 0, and end everything that it left.

    Args:
        network: Makes the loop's network.
        main: What to do.
    """
    loop = VirtualLoop()
    loop.network = network(loop)

    def factory() -> asyncio.AbstractEventLoop:
        return loop

    runner: AbstractContextManager[asyncio.Runner] = asyncio.Runner(loop_factory=factory)
    with runner as running:
        running.get_loop().shutdown_default_executor = _no_executor  # type: ignore[method-assign]  # meant
        return running.run(main())


async def _no_executor(timeout: float | None = None) -> None:
    """There is none."""
