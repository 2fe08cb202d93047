"""The seam for work off the event loop (D24, D27).

Threads for our own blocking calls, bounded children for hostile bytes.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, ParamSpec, Protocol, TypeVar, cast

from crosslight.runtime.children.child import BoundedChild
from crosslight.runtime.children.confine import Confinement
from crosslight.runtime.children.wire import Broken, Died, Packed
from crosslight.runtime.log import get_logger
from crosslight.standards.problem import CrosslightError, Malformed, StorageError, TooLarge

#: What children load before they are confined, unless told otherwise: all that reads DICOM.
READERS = (
    "crosslight.standards.dicom.file.header",
    "crosslight.standards.dicom.record.kos_read",
    "crosslight.standards.dicom.pixels.loaded",
)
P = ParamSpec("P")
T = TypeVar("T")

log = get_logger("workers")


class Workers(Protocol):
    """Where work goes that must not hold up the event loop."""

    @property
    def confinement(self) -> Confinement | None:
        """How the newest child is confined; None while none was started."""
        ...

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function of ours."""
        ...

    async def warm(self) -> None:
        """Start a child now rather than at the first task."""
        ...

    def run_bounded_sync(self, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn`` on untrusted bytes, where it can do no harm; for callers in threads.

        Raises:
            TooLarge: if it took too long, or died (out of memory).
            Malformed: if it raised what a parser raises on bad bytes.
            StorageError: if it cannot be run, or a file that is lent cannot be opened.
        """
        ...

    async def run_bounded(self, fn: Callable[..., T], *args: Any) -> T:
        """As :meth:`run_bounded_sync`, from the event loop."""
        ...

    async def close(self) -> None:
        """Stop what was started."""
        ...


class SystemWorkers:
    """Threads, and children that may die.

    Args:
        threads: Size of the thread pool for blocking file work.
        children: Number of child processes for parsing and decoding untrusted DICOM.
        child_memory_bytes: Address space of a child (RLIMIT_AS).
        child_timeout_s: Wall time of one task in a child.
        prepare: Modules that a child loads before it is confined: nothing can be imported afterwards. The
            first workers of a process say what those of all need not load each for itself.
    """

    def __init__(
        self,
        *,
        threads: int = 8,
        children: int = 1,
        child_memory_bytes: int = 2 << 30,
        child_timeout_s: float = 20.0,
        prepare: tuple[str, ...] = READERS,
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="worker")
        self._memory = child_memory_bytes
        self._timeout = child_timeout_s
        self._prepare = prepare
        self._all: set[BoundedChild] = set()
        self._idle: list[BoundedChild] = []
        self._lock = threading.Lock()
        self._turn = threading.Semaphore(children)
        self._going: set[asyncio.Task[Any]] = set()
        self._closed = False
        self.confinement: Confinement | None = None  # of the newest child; None: none was started yet

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function of ours in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: fn(*args, **kwargs))

    def _child(self) -> BoundedChild:
        """One that is there and confined: starting it must not count as work of its first task."""
        with self._lock:
            if self._idle:
                return self._idle.pop()
        try:
            child = BoundedChild(self._memory, self._prepare)
        except (TimeoutError, Broken, OSError):
            raise StorageError(
                "No child process can be started.", todo="See free memory and process limits."
            ) from None
        with self._lock:
            self._all.add(child)
            told, self.confinement = self.confinement, child.confinement
        if told != child.confinement:
            tell = log.info if child.confinement.whole else log.warning
            tell("a child that reads hostile bytes", is_=str(child.confinement))
        return child

    def _free_child(self) -> BoundedChild | None:
        """One that is there and has nothing to do, with its turn."""
        if not self._turn.acquire(blocking=False):
            return None
        with self._lock:
            if self._idle:
                return self._idle.pop()
        self._turn.release()
        return None

    def _keep(self, child: BoundedChild) -> None:
        """It has answered, and may be given another task."""
        with self._lock:
            if not child.spent and not self._closed:
                self._idle.append(child)
                return
        self._give_up(child)

    def _give_up(self, child: BoundedChild) -> None:
        with self._lock:
            self._all.discard(child)
        child.end()

    async def warm(self) -> None:
        """Start a child now rather than at the first task."""
        await self.run(self._begin)

    def _begin(self) -> None:
        with self._turn:
            self._keep(self._child())

    def run_bounded_sync(self, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn`` on untrusted bytes in a bounded child.

        For callers in threads. Waiting for a free child is not counted. A child can open no file: those it is
        to read or fill are lent (:class:`~crosslight.runtime.children.wire.Lent`).

        Raises:
            TooLarge: if it took too long, or died (out of memory).
            Malformed: if it raised what a parser raises on bad bytes.
            StorageError: if no child can be started, or a file that is lent cannot be opened.
        """
        with closing(Packed(fn, args)) as task:
            task.open()
            return cast(T, self._in_turn(task))

    def _in_turn(self, task: Packed) -> Any:
        with self._turn:
            child = self._child()
            with self._kept_or_given_up(child):
                return child.do(task, self._timeout)

    @contextmanager
    def _kept_or_given_up(self, child: BoundedChild) -> Iterator[None]:
        """Keep a child that has answered, if only with an error of ours; give up any other."""
        try:
            yield
        except CrosslightError:
            self._keep(child)
            raise
        except TimeoutError:
            self._give_up(child)
            raise TooLarge(
                "The object took too long to read.", why=f"Limit {self._timeout:.0f} s of work."
            ) from None
        except (Died, OSError, MemoryError):
            self._give_up(child)
            raise TooLarge("The object needs too much memory to read.") from None
        except Broken:
            self._give_up(child)
            raise Malformed("The object cannot be read.", why="Its reader's answer is none.") from None
        except BaseException:
            self._give_up(child)
            raise
        self._keep(child)

    async def run_bounded(self, fn: Callable[..., T], *args: Any) -> T:
        """As :meth:`run_bounded_sync`, from the event loop; no thread waits where a child is free."""
        task = asyncio.create_task(self._bounded(Packed(fn, args)))
        self._going.add(task)  # it goes on, within its time, when whoever asked has gone
        task.add_done_callback(self._done)
        return cast(T, await asyncio.shield(task))

    async def _bounded(self, task: Packed) -> Any:
        with closing(task):
            if task.lent:
                await self.run(task.open)
            child = self._free_child()
            if child is None:
                return await self.run(self._in_turn, task)
            try:
                with self._kept_or_given_up(child):
                    return await child.do_async(task, self._timeout)
            finally:
                self._turn.release()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._going.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever asked, if they are still there

    async def close(self) -> None:
        """Stop threads and children."""
        with self._lock:
            self._closed = True
            children = list(self._all)
        for child in children:
            self._give_up(child)
        await asyncio.to_thread(self._threads.shutdown)


async def off_loop(workers: Workers | None, fn: Callable[[], T], *, large: bool) -> T:
    """``fn()``, in a thread where it is ``large`` and there are ``workers``.

    Other requests are answered meanwhile.
    """
    return await workers.run(fn) if large and workers is not None else fn()
