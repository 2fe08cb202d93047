"""Runs a service until it is told to end: one start, one stop, signals in between."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import signal
from pathlib import Path
from typing import IO, Protocol

from crosslight.runtime.files import private
from crosslight.runtime.log import get_logger
from crosslight.runtime.process import keep_freed_memory, may_open_many_files
from crosslight.standards.problem import ConfigError

log = get_logger("serve")
# The collector looks at young objects once so many more were made than freed; CPython's 700 suits short
# scripts.
GC_AFTER = 5_000


class Service(Protocol):
    """A composed service."""

    async def start(self) -> None:
        """Open what it needs and begin to listen."""
        ...

    async def stop(self) -> None:
        """Stop listening, finish, close."""
        ...


async def serve(service: Service, name: str) -> None:
    """Start ``service``, wait for SIGTERM or SIGINT, stop it."""
    keep_freed_memory()
    may_open_many_files()
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    try:
        await service.start()
        _settle()
        log.info("serving", service=name, pid=os.getpid())
        await stop.wait()
        log.info("ending", service=name)
    finally:
        await service.stop()


def _settle() -> None:
    """Keep what was loaded and made until now from the garbage collector, and have it look less often.

    That stays for the life of the process.

    Messages make many values that live for a moment and go by their counts; cycles among them are few.
    """
    gc.collect()
    gc.freeze()
    # the middle round too is short: whoever collects holds up the event loop
    gc.set_threshold(GC_AFTER, 8, 100)


class FolderLock:
    """One serving process per folder: a second one is refused instead of both writing (D25).

    Commands do not take it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "serve.lock"
        self._handle: IO[str] | None = None

    def acquire(self) -> None:
        """Take it for as long as this process lives.

        Raises:
            ConfigError: when another process serves this folder.
        """
        handle = open(self._path, "a+", opener=private)  # noqa: SIM115 - kept for the life of the process
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            raise ConfigError(f"Another process serves {self._path.parent}.", todo="Stop it first.") from None
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        self._handle = handle

    @staticmethod
    def is_held(folder: Path) -> bool:
        """Whether a process serves ``folder`` now."""
        try:
            with (folder / "serve.lock").open("r") as handle:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def release(self) -> None:
        """Give it back."""
        if self._handle is not None:
            self._handle.close()
            self._handle = None
