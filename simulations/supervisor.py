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
from dataclasses import dataclass, field
from pathlib import Path

from crosslight.runtime.files import private, private_folder
from crosslight.runtime.log import get_logger
from crosslight.runtime.process import die_with_parent
from crosslight.standards.problem import OurError

log = get_logger("demo")

STOP_GRACE_S = 8.0
LAST_GRACE_S = 2.0  # for what a child that has ended had started itself


@dataclass
class Child:
    """One service process."""

    name: str
    command: Sequence[str]
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
    """

    def __init__(self, *, restart_after_s: float, on_change: Callable[[], Awaitable[None]]) -> None:
        self._restart_after_s = restart_after_s
        self._on_change = on_change
        self._children: dict[str, Child] = {}
        self._stopping = False

    def child(self, name: str) -> Child:
        """The child called ``name``."""
        return self._children[name]

    def add(self, name: str, module: str, arguments: Sequence[str], log_path: Path) -> Child:
        """Name a child: ``python -m module arguments``."""
        private_folder(log_path.parent)
        child = Child(name, (sys.executable, "-m", module, *arguments), log_path)
        self._children[name] = child
        return child

    def start(self, name: str) -> None:
        """Start a child that is not running."""
        child = self._children[name]
        if child.running:
            return
        child.held_down = False
        with open(child.log_path, "ab", opener=private) as output:
            child.process = subprocess.Popen(
                child.command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=die_with_parent,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        child._watch = asyncio.get_running_loop().create_task(self._watch(child))

    async def _watch(self, child: Child) -> None:
        process = child.process
        if process is None:
            return
        while process.poll() is None:
            await asyncio.sleep(0.2)
        if not self._may_restart(child):
            return
        log.warning("a child ended", name=child.name, status=process.returncode)
        await asyncio.sleep(self._restart_after_s)
        if self._may_restart(child):
            child.restarts += 1
            self.start(child.name)
            await self._on_change()

    def _may_restart(self, child: Child) -> bool:
        return self._restart_after_s > 0 and not (self._stopping or child.held_down or child.running)

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

    async def stop(self) -> None:
        """End every child: SIGTERM, and SIGKILL for those that do not go."""
        self._stopping = True
        alive = [
            c.process for c in self._children.values() if c.process is not None and c.process.poll() is None
        ]
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
        for child in self._children.values():
            if child._watch is not None:
                child._watch.cancel()


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
