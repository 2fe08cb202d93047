"""Starts the region's processes, watches them, starts again what was killed from outside, and ends them all.

Each child leads a process group of its own and is killed by the kernel when the demo dies, also by SIGKILL.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from crosslight.runtime.files import private, private_folder
from crosslight.runtime.log import get_logger
from crosslight.runtime.process import die_with_parent
from crosslight.standards.problem import OurError
from simulations.orders import Orders

log = get_logger("demo")

STOP_GRACE_S = 8.0
LISTEN_S = 90.0
#: DCMTK leaves Nagle's algorithm on: 40 ms a message on loopback.
ENVIRONMENT = {"PYTHONUNBUFFERED": "1", "TCP_NODELAY": "1"}
LAST_GRACE_S = 2.0  # for what a child that has ended had started itself


@dataclass
class Child:
    """One process.

    Attributes:
        module: Of ours, '' for a program of others: then ``arguments`` are its whole command.
    """

    name: str
    module: str
    arguments: Sequence[str]
    log_path: Path
    process: subprocess.Popen[bytes] | None = None
    held_down: bool = False  # the story killed it: do not start it again by itself
    restarts: int = 0
    _watch: asyncio.Task[None] | None = field(default=None, repr=False)

    @property
    def pid(self) -> int:
        """Process id, 0 while it is down."""
        return self.process.pid if self.process is not None and self.process.poll() is None else 0

    @property
    def running(self) -> bool:
        """Whether it is alive."""
        return self.pid != 0


class Supervisor:
    """The demo's children.

    Args:
        restart_after_s: Wait before a child that was killed from outside is started again; 0 = never.
        on_change: Called after a child was started again (its pid changed).
        orders: What drills want of the children.
    """

    def __init__(
        self, *, restart_after_s: float, on_change: Callable[[], Awaitable[None]], orders: Orders
    ) -> None:
        self._restart_after_s = restart_after_s
        self._orders = orders
        self._on_change = on_change
        self._children: dict[str, Child] = {}
        self._stopping = False

    def child(self, name: str) -> Child:
        """The child called ``name``."""
        return self._children[name]

    def add(self, name: str, module: str, arguments: Sequence[str], log_path: Path) -> Child:
        """Name a child: ``python -m module arguments``."""
        private_folder(log_path.parent)
        child = Child(name, module, arguments, log_path)
        self._children[name] = child
        return child

    def add_program(self, name: str, command: Sequence[str], log_path: Path) -> Child:
        """Name a child that is a program of others."""
        return self.add(name, "", command, log_path)

    @property
    def running(self) -> int:
        """How many children are alive."""
        return sum(child.running for child in self._children.values())

    def has(self, name: str) -> bool:
        """Whether there is a child of that name."""
        return name in self._children

    def start(self, name: str) -> None:
        """Start a child that is not running."""
        child = self._children[name]
        if child.running:
            return
        child.held_down = False
        with open(child.log_path, "ab", opener=private) as output:
            child.process = subprocess.Popen(
                self._command(child),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,
                env={**os.environ, **ENVIRONMENT},
            )
        child._watch = asyncio.get_running_loop().create_task(self._watch(child))

    def _command(self, child: Child) -> Sequence[str]:
        if not child.module:
            return child.arguments
        ahead_s = self._orders.of(child.name).clock_ahead_s
        module = ("simulations.drills.clocked", str(ahead_s)) if ahead_s else (child.module,)
        return (sys.executable, "-m", *module, *child.arguments)

    async def _watch(self, child: Child) -> None:
        process = child.process
        if process is None:
            return
        while process.poll() is None:
            await asyncio.sleep(0.2)
        ordered = await self._ordered_down(child)
        if not self._may_restart(child, ordered=ordered):
            return
        log.warning("a child ended", name=child.name, status=process.returncode)
        if not ordered:
            await asyncio.sleep(self._restart_after_s)
        if self._may_restart(child, ordered=ordered):
            child.restarts += 1
            self.start(child.name)
            await self._on_change()

    async def _ordered_down(self, child: Child) -> bool:
        """Wait for as long as a drill wants it down; whether one did."""
        ordered = False
        while not self._stopping and self._orders.of(child.name).down:
            ordered = True
            await asyncio.sleep(0.1)
        return ordered

    def _may_restart(self, child: Child, *, ordered: bool) -> bool:
        wanted = ordered or self._restart_after_s > 0
        return wanted and not (self._stopping or child.held_down or child.running)

    def kill(self, name: str, *, hold: bool = True) -> None:
        """SIGKILL, as a power cut would; with ``hold`` it stays down until :meth:`start`."""
        child = self._children[name]
        child.held_down = hold
        if child.process is not None and child.process.poll() is None:
            child.process.kill()  # what it started ends by itself, as it must when anybody else kills it
            child.process.wait()

    def check_alive(self, name: str) -> None:
        """Raise if a child that should run has ended.

        Raises:
            OurError: with the last lines of its log.
        """
        child = self._children[name]
        if child.process is not None and child.process.poll() is not None and not child.held_down:
            tail = child.log_path.read_text("utf-8", "replace").splitlines()[-12:]
            raise OurError(f"{name} ended with status {child.process.returncode}.", why="\n".join(tail))

    async def listening(self, name: str, port: int) -> None:
        """Wait until a child listens on ``port`` of this machine.

        Raises:
            OurError: when it has ended, or does not.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + LISTEN_S
        while True:
            self.check_alive(name)
            with suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            if loop.time() > deadline:
                raise OurError(f"{name} did not listen on port {port} within {LISTEN_S:.0f} s.")
            await asyncio.sleep(0.1)

    async def end(self, name: str) -> None:
        """End a child and all that it started; it stays down until :meth:`start`."""
        child = self._children[name]
        child.held_down = True
        if child.process is not None and child.process.poll() is None:
            await _end_all([child.process])

    async def stop(self) -> None:
        """End every child: SIGTERM, and SIGKILL for those that do not go."""
        self._stopping = True
        alive = [
            c.process for c in self._children.values() if c.process is not None and c.process.poll() is None
        ]
        await _end_all(alive)
        for child in self._children.values():
            if child._watch is not None:
                child._watch.cancel()


async def _end_all(alive: Sequence[subprocess.Popen[bytes]]) -> None:
    """SIGTERM to each and all that it started, and SIGKILL to those that do not go."""
    for process in alive:
        _signal_group(process, signal.SIGTERM)
        _signal_group(process, signal.SIGCONT)
    await _wait_while(lambda: any(p.poll() is None for p in alive), STOP_GRACE_S)
    for process in alive:
        if process.poll() is None:
            process.kill()
            process.wait()
    await _wait_while(lambda: any(_signal_group(p, 0) for p in alive), LAST_GRACE_S)
    for process in alive:
        _signal_group(process, signal.SIGKILL)


async def _wait_while(condition: Callable[[], bool], at_most_s: float) -> None:
    loop = asyncio.get_running_loop()
    deadline = loop.time() + at_most_s
    while condition() and loop.time() < deadline:
        await asyncio.sleep(0.05)


def _signal_group(process: subprocess.Popen[bytes], number: int) -> bool:
    """Signal a child and all that it started; whether there was anybody (number 0 only asks)."""
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        return False
    return True
