"""The seam for work off the event loop (D24, D27).

Threads for our own blocking calls, bounded children for hostile bytes.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import resource
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from crosslight.runtime.process import die_with_owner, die_with_parent
from crosslight.standards.problem import Malformed, StorageError, TooLarge, kind_as_sentence

START_S = 60.0  # for a child to come up, on a machine that is busy
P = ParamSpec("P")
T = TypeVar("T")


def _limit_child(memory_bytes: int) -> None:
    die_with_parent()
    die_with_owner()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the service, which then ends its children
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _nothing() -> None:
    """The task that shows that a child is there."""


def _end(pool: ProcessPoolExecutor) -> None:
    for process in list((pool._processes or {}).values()):
        process.kill()
    pool.shutdown(wait=False, cancel_futures=True)


class Workers:
    """Threads, and children that may die.

    Args:
        threads: Size of the thread pool for blocking file work.
        children: Number of child processes for parsing and decoding untrusted DICOM.
        child_memory_bytes: Address space of a child (RLIMIT_AS).
        child_timeout_s: Wall time of one task in a child.
        preload: Modules that children find imported; for a process that makes several pools the first one
            decides.
    """

    def __init__(
        self,
        *,
        threads: int = 8,
        children: int = 1,
        child_memory_bytes: int = 2 << 30,
        child_timeout_s: float = 20.0,
        preload: tuple[str, ...] = (),
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="worker")
        self._children_n = children
        self._memory = child_memory_bytes
        self._timeout = child_timeout_s
        self._preload = preload
        self._children: ProcessPoolExecutor | None = None
        self._starting = threading.Lock()
        self._turn = threading.Semaphore(children)
        self._going: set[asyncio.Task[Any]] = set()

    async def run(self, fn: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a blocking function of ours in a thread."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, lambda: fn(*args, **kwargs))

    def _pool(self) -> ProcessPoolExecutor:
        """The children, started and ready: starting them must not count as work of the first task."""
        with self._starting:
            if self._children is None:
                context = multiprocessing.get_context("forkserver")
                context.set_forkserver_preload(list(self._preload))
                pool = ProcessPoolExecutor(
                    self._children_n,
                    mp_context=context,
                    initializer=_limit_child,
                    initargs=(self._memory,),
                    max_tasks_per_child=2000,
                )
                try:
                    pool.submit(_nothing).result(timeout=START_S)
                except (TimeoutError, BrokenProcessPool):
                    _end(pool)
                    raise StorageError(
                        "No child process can be started.", todo="See free memory and process limits."
                    ) from None
                self._children = pool
            return self._children

    async def warm(self) -> None:
        """Start the children now rather than at the first task."""
        await self.run(self._pool)

    def _drop_pool(self) -> None:
        pool, self._children = self._children, None
        if pool is not None:
            _end(pool)

    def run_bounded_sync(self, fn: Callable[..., T], *args: Any) -> T:
        """Run ``fn`` on untrusted bytes in a bounded child.

        For callers in threads. Waiting for a free child is not counted.

        Raises:
            TooLarge: if it took too long, or died (out of memory).
            Malformed: if it raised what a parser raises on bad bytes.
            StorageError: if no child can be started.
        """
        with self._turn:
            pool = self._pool()
            with self._judged():
                return pool.submit(fn, *args).result(timeout=self._timeout)

    @contextmanager
    def _judged(self) -> Iterator[None]:
        """What a child's end, its time, or its error says of the bytes it was given."""
        try:
            yield
        except TimeoutError:
            self._drop_pool()
            raise TooLarge(
                "The object took too long to read.", why=f"Limit {self._timeout:.0f} s of work."
            ) from None
        except (BrokenProcessPool, MemoryError):
            self._drop_pool()
            raise TooLarge("The object needs too much memory to read.") from None
        except (
            ValueError,
            OSError,
            RecursionError,
            ArithmeticError,
            LookupError,
            AttributeError,
            TypeError,
        ) as error:
            raise Malformed("The object cannot be read.", why=kind_as_sentence(error)) from None

    async def run_bounded(self, fn: Callable[..., T], *args: Any) -> T:
        """As :meth:`run_bounded_sync`, from the event loop; without a thread where a child is free."""
        pool = self._children
        if pool is None or not self._turn.acquire(blocking=False):
            return await self.run(self.run_bounded_sync, fn, *args)
        task = asyncio.create_task(self._in_free_child(pool, fn, *args))
        self._going.add(task)  # it goes on, within its time, when whoever asked has gone
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    async def _in_free_child(self, pool: ProcessPoolExecutor, fn: Callable[..., T], *args: Any) -> T:
        try:
            with self._judged():
                async with asyncio.timeout(self._timeout):
                    return await asyncio.wrap_future(pool.submit(fn, *args))
        finally:
            self._turn.release()

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._going.discard(task)
        if not task.cancelled():
            task.exception()  # told to whoever asked, if they are still there

    async def close(self) -> None:
        """Stop threads and children."""
        self._drop_pool()
        await asyncio.to_thread(self._threads.shutdown)


async def off_loop(workers: Workers | None, fn: Callable[[], T], *, large: bool) -> T:
    """``fn()``, in a thread where it is ``large`` and there are ``workers``.

    Other requests are answered meanwhile.
    """
    return await workers.run(fn) if large and workers is not None else fn()
