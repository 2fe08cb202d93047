"""A child, as its owner has it: started, given a task, answered, ended."""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import time
from contextlib import suppress
from dataclasses import fields
from typing import Any

from crosslight.runtime.children.confine import Confinement
from crosslight.runtime.children.inside import serve
from crosslight.runtime.children.wire import HEADER, Broken, Died, Packed, answer_of

START_S = 60.0  # for a child to come up, on a machine that is busy
TASKS = 2000  # of one child; then another takes its place, and what its libraries have leaked is gone


class BoundedChild:
    """One process, for one task at a time. Its methods are for whoever has it alone.

    Raises:
        TimeoutError, Broken, OSError: it does not come up.
    """

    def __init__(self, memory_bytes: int, prepare: tuple[str, ...]) -> None:
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload([__name__, *prepare])
        self._sock, theirs = socket.socketpair()
        self._limit, self._tasks = memory_bytes, 0
        self._process = context.Process(
            target=serve, args=(theirs, memory_bytes, prepare), name="child", daemon=True
        )
        try:
            with theirs:
                self._process.start()
            self.confinement = self._met()
        except BaseException:
            self.end()
            raise

    def _met(self) -> Confinement:
        """What it says first: that it is there, and what it was refused."""
        said = answer_of(*self._received(time.monotonic() + START_S))
        names = [field.name for field in fields(Confinement)]
        if not isinstance(said, tuple) or len(said) != len(names):
            raise Broken("no greeting")
        return Confinement(**dict(zip(names, map(bool, said), strict=True)))

    @property
    def spent(self) -> bool:
        """Whether it has worked long enough."""
        return self._tasks >= TASKS

    def do(self, task: Packed, timeout_s: float) -> Any:
        """Its answer, awaited in this thread.

        Raises:
            CrosslightError: what it says of the bytes.
            TimeoutError, MemoryError, Broken, OSError: it must be ended; none came, or none that is one.
        """
        self._tasks += 1
        until = time.monotonic() + timeout_s
        self._sock.settimeout(timeout_s)
        self._sock.sendmsg([task.head], task.rights)
        self._sock.sendall(task.body)
        return answer_of(*self._received(until))

    def _received(self, until: float) -> tuple[bytes, bytearray]:
        head = self._filled(bytearray(HEADER.size), until)
        kind, length = HEADER.unpack(head)
        return kind, self._filled(bytearray(self._bounded(length)), until)

    def _filled(self, into: bytearray, until: float) -> bytearray:
        view = memoryview(into)
        while view:
            self._sock.settimeout(max(0.001, until - time.monotonic()))
            view = view[self._some(self._sock.recv_into(view)) :]
        return into

    async def do_async(self, task: Packed, timeout_s: float) -> Any:
        """As :meth:`do`, from the event loop."""
        loop = asyncio.get_running_loop()
        self._tasks += 1
        self._sock.setblocking(False)
        async with asyncio.timeout(timeout_s):
            self._sock.sendmsg([task.head], task.rights)  # it waits for a task, so there is room for this
            await loop.sock_sendall(self._sock, task.body)
            head = await self._filled_async(bytearray(HEADER.size))
            kind, length = HEADER.unpack(head)
            body = await self._filled_async(bytearray(self._bounded(length)))
        return answer_of(kind, body)

    async def _filled_async(self, into: bytearray) -> bytearray:
        loop, view = asyncio.get_running_loop(), memoryview(into)
        while view:
            view = view[self._some(await loop.sock_recv_into(self._sock, view)) :]
        return into

    def _bounded(self, length: int) -> int:
        if length > self._limit:
            raise Broken("an answer beyond its memory")
        return length

    @staticmethod
    def _some(received: int) -> int:
        if not received:
            raise Died
        return received

    def end(self) -> None:
        """Have it ended, whatever it does."""
        self._sock.close()
        with suppress(AttributeError, ProcessLookupError):  # it was never started, or has gone
            self._process.kill()
