"""Short writes without changing threads: committed where they are asked for, synced in a thread.

A commit in another thread takes the interpreter's lock at each of its statements, and gives it back: beside a
busy event loop that costs more than the commit. Here the statements run on the caller's own thread, without
the sync (``synchronous=NORMAL``); a thread has the write-ahead log on the disk before anybody is told. What
is told is as durable as what the writer commits, and in the same file (ADR 0043).
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

from crosslight.runtime.db.seam import T
from crosslight.runtime.machine_errors import file_trouble
from crosslight.standards.problem import StorageError

CHECKPOINT = 500  # commits between two checkpoints; a log that is written over costs less than one that grows


class NearWriter:
    """One connection, used by the thread of the event loop alone.

    Args:
        path: The database.
        connect: Opens a connection to it.
    """

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path, self._connect = path, connect
        self.connection = connect()
        for pragma in ("synchronous=NORMAL", "busy_timeout=0", "wal_autocheckpoint=0"):
            self.connection.execute(f"PRAGMA {pragma}")
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="sqlite-sync")
        self._log: int | None = None  # the write-ahead log; it stays while a connection is open
        self._behind: sqlite3.Connection | None = None  # of the thread, for checkpoints
        self._commits = 0
        self._broken = False

    def submit(self, fn: Callable[[], T]) -> Future[T] | None:
        """Run ``fn`` and commit; told when that is on the disk. None: another connection writes now.

        Raises what ``fn`` raises, and StorageError as :meth:`check`: nothing is kept then.
        """
        self.check()
        try:
            self.connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise
            return None
        try:
            result = fn()
            self.connection.execute("COMMIT")
        except BaseException:
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        self._commits += 1
        return self._thread.submit(self._synced, result, self._commits % CHECKPOINT == 0)

    def check(self) -> None:
        """Whether all that was added to the log is where it cannot be lost.

        After a sync that failed nobody knows what of it is on the disk, and whatever is added behind it may
        be lost with it. So nothing is added until all of it is in the database.

        Raises:
            StorageError: it is not, and is tried again.
        """
        if self._broken:
            self._thread.submit(self._mend)
            raise StorageError(
                f"What was written to {self._path.name} could not be brought to the disk.",
                todo="See whether the disk is full or broken; it is tried again at each write.",
            )

    def _mend(self) -> None:
        if self._bring_in("TRUNCATE"):
            self._broken = False

    def _synced(self, result: T, checkpoint: bool) -> T:
        try:
            if self._log is None:
                self._log = os.open(self._path.with_name(f"{self._path.name}-wal"), os.O_RDONLY)
            os.fdatasync(self._log)
        except OSError as error:
            self._broken = True
            raise StorageError(file_trouble(error)) from error
        if checkpoint:
            self._bring_in("PASSIVE")
        return result

    def _bring_in(self, how: str) -> bool:
        """A checkpoint, which syncs; whether all of the log is in the database."""
        try:
            if self._behind is None:
                self._behind = self._connect()
            busy, _, _ = self._behind.execute(f"PRAGMA wal_checkpoint({how})").fetchone()
        except sqlite3.Error:
            return False
        return not busy

    def close(self) -> None:
        """Finish what is being synced; blocks."""
        self._thread.shutdown()
        if self._log is not None:
            with suppress(OSError):
                os.close(self._log)
