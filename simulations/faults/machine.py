"""The machine of one life of a service: it ends at a crash, and what runs on afterwards reaches nothing."""

from __future__ import annotations

import errno
import os
import random
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO

from crosslight.runtime.db.seam import EmbeddedDb
from crosslight.standards.problem import StorageError
from simulations.virtual.database import InlineDatabases, InlineSqlite
from simulations.virtual.seams import QuickFiles
from simulations.virtual.trace import Trace


class Machine:
    """What a service's files and databases ask before they do anything.

    Args:
        dice: Of torn writes.
        died: Called at the moment of a crash.
        met: Told which fault has met something.

    Attributes:
        steps_left: Statements and durable file operations until it crashes; None: it does not by itself.
        full: No space is left on its disk.
    """

    def __init__(self, dice: random.Random, died: Callable[[], None], met: Callable[[str], None]) -> None:
        self.dice = dice
        self._died, self._met = died, met
        self.alive = True
        self.full = False
        self.steps_left: int | None = None
        self._named: dict[Path, int] = {}  # files that got a name in this life, by their inodes
        self._synced: set[int] = set()

    def step(self) -> None:
        """Before a statement or a durable file operation.

        Raises:
            StorageError: after the crash, and at it.
        """
        if self.alive and self.steps_left is not None:
            self.steps_left -= 1
            if self.steps_left <= 0:
                self._met("crash")
                self.crash()
        if not self.alive:
            raise StorageError("The machine is gone.")

    def crash(self) -> None:
        """Now: what was not committed is lost."""
        if self.alive:
            self.alive = False
            for path, inode in self._named.items():
                if inode not in self._synced:
                    self._tear(path, inode)
            self._died()

    def named(self, path: Path, inode: int) -> None:
        """A file gets a name: until it is synced, a crash leaves a part of its bytes under it."""
        self._named[path] = inode

    def begun(self, inode: int) -> None:
        """A new file: its inode may be one that another had, and nothing of it is on the disk."""
        self._synced.discard(inode)

    def synced(self, inode: int) -> None:
        """The bytes of a file are on the disk."""
        self._synced.add(inode)

    def refuses(self) -> bool:
        """Whether there is no space."""
        if self.full:
            self._met("full")
        return self.full

    def _tear(self, path: Path, inode: int) -> None:
        if path.exists() and path.stat().st_ino == inode:
            self._met("torn")
            os.truncate(path, self.dice.randrange(path.stat().st_size + 1))


class CrashingSqlite(InlineSqlite):
    """Ends at any statement, and between a commit and its answer; opened again it is as last committed."""

    def __init__(self, path: Path, who: str, trace: Trace, machine: Machine) -> None:
        self._machine = machine
        super().__init__(path, who, trace)

    def _connection(self) -> sqlite3.Connection:
        machine = self._machine

        class Connection(sqlite3.Connection):
            """Asks the machine before each statement; after a commit it may be too late to say so."""

            def execute(self, sql: str, *params: Any) -> sqlite3.Cursor:
                if not machine.alive and sql != "ROLLBACK":
                    raise sqlite3.OperationalError("the machine is gone")
                if sql == "COMMIT" and self.total_changes > self.committed and machine.refuses():
                    raise sqlite3.OperationalError("database or disk is full")
                if not sql.startswith(("PRAGMA", "ROLLBACK", "COMMIT")):
                    machine.step()
                cursor = super().execute(sql, *params)
                if sql == "COMMIT":
                    self.committed = self.total_changes
                    machine.step()  # durable; whoever waits is not told
                return cursor

            def executemany(self, sql: str, params: Any, /) -> sqlite3.Cursor:
                machine.step()
                return super().executemany(sql, params)

            committed = 0

        connection = sqlite3.connect(self._path, isolation_level=None, factory=Connection)
        for pragma in ("journal_mode=WAL", "synchronous=OFF", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection


class CrashingDatabases(InlineDatabases):
    """Opens them for one life of one service."""

    def __init__(self, who: str, trace: Trace, machine: Machine) -> None:
        super().__init__(who, trace)
        self._machine = machine

    def embedded(self, path: Path) -> EmbeddedDb:
        return CrashingSqlite(path, self._who, self._trace, self._machine)


class CrashingFiles(QuickFiles):
    """Real files of a machine that may stop between any two durable operations, or have no space."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    def _write(self) -> None:
        self._machine.step()
        if self._machine.refuses():
            raise OSError(errno.ENOSPC, "No space left on device")

    def create(self, path: Path) -> BinaryIO:
        handle = super().create(path)
        self._machine.begun(os.fstat(handle.fileno()).st_ino)
        return handle

    def sync(self, handle: BinaryIO) -> None:
        self._write()
        super().sync(handle)
        self._machine.synced(os.fstat(handle.fileno()).st_ino)

    def publish(self, tmp: Path, final: Path) -> None:
        self._write()
        super().publish(tmp, final)

    def place(self, handle: BinaryIO, tmp: Path, final: Path) -> bool:
        """At a crash before its bytes are synced the name is there with a part of them (a torn write)."""
        self._write()
        if not final.exists():
            self._machine.named(final, os.fstat(handle.fileno()).st_ino)
        return super().place(handle, tmp, final)

    def write_atomic(self, path: Path, data: bytes) -> None:
        self._write()
        super().write_atomic(path, data)

    def free_bytes(self, path: Path) -> int:
        return 0 if self._machine.full else super().free_bytes(path)
