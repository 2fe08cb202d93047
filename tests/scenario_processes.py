"""Real processes for scenario tests: commands as a person types them, what they print, and proof that none of
them is left.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")
ROOT = Path(__file__).parent.parent
MARK = "CROSSLIGHT_SCENARIO"
COMMAND_S = 120.0  # longest wait for a command of a person's; they take a second or two


@dataclass(frozen=True, slots=True)
class Finished:
    """A command that has ended."""

    status: int
    output: str
    seconds: float


@dataclass
class Family:
    """Processes that share a mark in their environment, so that each one and all its descendants can be
    found.
    """

    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    within: tuple[str, ...] = ()  # what its commands are run by, as "ip netns exec NAME"

    @property
    def environment(self) -> dict[str, str]:
        """What a process is started with."""
        paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        return {
            **os.environ,
            MARK: self.mark,
            "PYTHONPATH": os.pathsep.join(paths),
            "PYTHONUNBUFFERED": "1",
            "COLUMNS": "250",
            "LC_ALL": "C.UTF-8",
        }

    def alive(self) -> dict[int, str]:
        """Every living process of the family, zombies left out, and its command line."""
        found = {}
        wanted = f"{MARK}={self.mark}".encode()
        for folder in Path("/proc").iterdir():
            if not folder.name.isdigit():
                continue
            try:
                if wanted not in (folder / "environ").read_bytes().split(b"\0"):
                    continue
                if (folder / "stat").read_text().rsplit(")", 1)[1].split()[0] in "ZX":
                    continue
                words = (folder / "cmdline").read_bytes().split(b"\0")
                found[int(folder.name)] = b" ".join(words).decode("utf-8", "replace").strip()
            except OSError:
                continue
        return found

    def end(self) -> None:
        """SIGKILL whoever is left."""
        for pid in self.alive():
            signal_to(pid, signal.SIGKILL)

    def run(self, module: str, *arguments: str, within_s: float = COMMAND_S) -> Finished:
        """Run ``python -m module arguments`` to its end."""
        started = time.monotonic()
        done = subprocess.run(
            (*self.within, *command(module, *arguments)),
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=within_s,
            check=False,
        )
        return Finished(done.returncode, done.stdout.decode("utf-8", "replace"), time.monotonic() - started)

    def start(self, log: Path, module: str, *arguments: str) -> Running:
        """Start ``python -m module arguments``, its output in ``log``."""
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            process = subprocess.Popen(
                (*self.within, *command(module, *arguments)),
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        return Running(process, log)


@dataclass
class Running:
    """A command that runs."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.process.poll() is None

    @property
    def output(self) -> str:
        """What it has printed so far."""
        return self.log.read_text("utf-8", "replace")

    def stop(self, number: int = signal.SIGTERM, within_s: float = 30.0) -> int:
        """Signal it, and wait; its exit status."""
        if self.alive:
            self.process.send_signal(number)
        return self.process.wait(within_s)


def command(module: str, *arguments: str) -> Sequence[str]:
    """The command line."""
    return (sys.executable, "-m", module, *arguments)


def signal_to(pid: int, number: int) -> None:
    """Send a signal; a process that is gone already is no error."""
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


async def until(
    what: str, check: Callable[[], Awaitable[T]], within_s: float, *, every_s: float = 0.1
) -> tuple[T, float]:
    """Ask ``check`` until it gives something true: that, and the seconds it took. An error counts as not yet.

    Raises:
        AssertionError: when it did not come true in time, with the last error or answer.
    """
    started = time.monotonic()
    while True:
        last: object
        try:
            last = found = await check()
            if found:
                return found, time.monotonic() - started
        except Exception as error:
            last = f"{type(error).__name__}: {error}"
        assert time.monotonic() - started < within_s, (
            f"not within {within_s:.0f} s: {what} (last: {last!r:.2000})"
        )
        await asyncio.sleep(every_s)


def wait_for(what: str, check: Callable[[], T], within_s: float, *, every_s: float = 0.05) -> tuple[T, float]:
    """As :func:`until`, without an event loop."""
    started = time.monotonic()
    while not (found := check()):
        assert time.monotonic() - started < within_s, (
            f"not within {within_s:.0f} s: {what} (last: {found!r:.2000})"
        )
        time.sleep(every_s)
    return found, time.monotonic() - started
