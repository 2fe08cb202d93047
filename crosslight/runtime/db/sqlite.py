"""SQLite in one file: one writer, a few readers, and short reads without a thread."""

from __future__ import annotations

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from crosslight.runtime.db.seam import (
    NEAR_ROWS,
    NEAR_STEPS,
    READ_ROWS,
    WIDE_STEPS,
    Foretold,
    T,
    TooMuch,
    Tx,
    timed,
    translated,
)
from crosslight.runtime.db.sqlite_near import NearWriter
from crosslight.runtime.db.sqlite_tx import DIALECT, SqliteTx
from crosslight.runtime.files import private_file, private_folder
from crosslight.runtime.machine_errors import database_trouble
from crosslight.standards.problem import StorageError

LAZY_S = 0.05  # longest wait of a lazy write for one that is not
WAL_PAGES = 8000  # of 4 kB: beyond, what was committed is copied into the database itself


class _Write:
    __slots__ = ("fn", "future", "lazy", "name")

    def __init__(self, name: str, fn: Callable[[Tx], Any], lazy: bool) -> None:
        self.name = name
        self.fn = fn
        self.lazy = lazy
        self.future: Future[Any] = Future()


class SqliteDb:
    """SQLite in WAL mode: one writer thread with group commit, a few readers.

    Group commit: every function waiting when the writer wakes runs in its own savepoint of one transaction,
    and all are answered after the one fsync of the commit (``synchronous=FULL``).
    """

    dialect = DIALECT

    def __init__(self, path: Path, *, readers: int = 2, group: int = 64) -> None:
        private_folder(path.parent)
        self._path = path
        self._group = group
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._local = threading.local()
        self._opened: list[sqlite3.Connection] = []
        self._opened_lock = threading.Lock()
        self._closed = False
        self._near_writer: NearWriter | None = None
        self._keep_private()
        writer = self._connect()
        self._writer_thread = threading.Thread(
            target=self._write_loop, args=(writer,), name="sqlite-writer", daemon=True
        )
        self._writer_thread.start()
        self._here, self._here_lock = SqliteTx(self._connect()), threading.Lock()
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="sqlite-reader")
        self._wide = ThreadPoolExecutor(1, thread_name_prefix="sqlite-wide")

    def _keep_private(self) -> None:
        """Before SQLite makes it, as what lies beside a database takes its mode; older files too."""
        private_file(self._path)
        for beside in (self._path.with_name(self._path.name + end) for end in ("-wal", "-shm")):
            if beside.exists():
                private_file(beside)

    def _connect(self) -> sqlite3.Connection:
        try:
            connection = sqlite3.connect(
                self._path, isolation_level=None, check_same_thread=False, timeout=30
            )
            for pragma in (
                "journal_mode=WAL",
                "synchronous=FULL",
                "foreign_keys=ON",
                "busy_timeout=30000",
                "cache_size=-65536",
                f"wal_autocheckpoint={WAL_PAGES}",
            ):
                connection.execute(f"PRAGMA {pragma}")
        except sqlite3.Error as error:
            raise database_trouble(error, self._path) from error
        with self._opened_lock:
            self._opened.append(connection)
        return connection

    def _write_loop(self, connection: sqlite3.Connection) -> None:
        tx = SqliteTx(connection)
        while True:
            first = self._queue.get()
            if first is None:
                return
            batch, stop, idle, until = [first], False, first.lazy, time.monotonic() + LAZY_S
            while len(batch) < self._group:
                wait_s = until - time.monotonic() if idle else 0.0
                try:
                    more = self._queue.get(timeout=wait_s) if wait_s > 0 else self._queue.get_nowait()
                except queue.Empty:
                    break
                if more is None:
                    stop = True
                    break
                batch.append(more)
                idle = idle and more.lazy
            self._commit(connection, tx, batch)
            if stop:
                return

    def _commit(self, connection: sqlite3.Connection, tx: SqliteTx, batch: list[_Write]) -> None:
        done: list[tuple[_Write, Any]] = []
        try:
            connection.execute("BEGIN IMMEDIATE")
            for job in batch:
                if not job.future.set_running_or_notify_cancel():
                    continue
                connection.execute("SAVEPOINT job")
                try:
                    result = job.fn(tx)
                except BaseException as error:  # noqa: BLE001 - handed to the caller as it is
                    connection.execute("ROLLBACK TO job")
                    connection.execute("RELEASE job")
                    job.future.set_exception(translated(error))
                else:
                    connection.execute("RELEASE job")
                    done.append((job, result))
            connection.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - the disk refused the whole group
            with suppress(sqlite3.Error):  # else the next group tries again
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            for job in batch:
                # told already, or nobody waits any more, even since a moment ago
                with suppress(InvalidStateError):
                    job.future.set_exception(translated(error))
            return
        for job, result in done:
            job.future.set_result(result)

    def _own(self) -> sqlite3.Connection:
        """This thread's connection."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
        return connection

    def _read(self, fn: Callable[[Tx], T], rows: int | None = None) -> T:
        connection = self._own()
        connection.execute("BEGIN")
        try:
            return fn(SqliteTx(connection, rows, rests=True))
        except sqlite3.Error as error:
            raise translated(error) from error
        finally:
            connection.execute("ROLLBACK")

    def _read_wide(self, fn: Callable[[Tx], T]) -> T:
        limit = _Steps(self._own())
        limit.left = WIDE_STEPS
        try:
            return self._read(fn)
        finally:
            limit.left = WIDE_STEPS

    def submit_write(self, name: str, fn: Callable[[Tx], T], *, lazy: bool = False) -> Future[T]:
        if self._closed:
            raise StorageError("The database is closed.")
        if self._near_writer is not None:
            self._near_writer.check()
        job = _Write(name, fn, lazy)
        self._queue.put(job)
        return job.future

    def submit_near(self, name: str, fn: Callable[[Tx], T]) -> Future[T]:
        if self._closed:
            raise StorageError("The database is closed.")
        near = self._near_writer = self._near_writer or NearWriter(self._path, self._connect)
        try:
            done = near.submit(lambda: fn(SqliteTx(near.connection)))
        except BaseException as error:  # noqa: BLE001 - handed to the caller as it is
            done = Future()
            done.set_exception(translated(error))
        return self.submit_write(name, fn) if done is None else done

    def submit_read(self, name: str, fn: Callable[[Tx], T]) -> Future[T]:
        return self._readers.submit(timed(name, self._read), fn)

    def read_here(self, fn: Callable[[Tx], T]) -> T:
        try:
            with self._here_lock:
                return fn(self._here)
        except sqlite3.Error as error:
            raise translated(error) from error

    async def write(self, name: str, fn: Callable[[Tx], T], *, lazy: bool = False) -> T:
        return await asyncio.wrap_future(self.submit_write(name, fn, lazy=lazy))

    async def read(self, name: str, fn: Callable[[Tx], T]) -> T:
        return await asyncio.wrap_future(self.submit_read(name, fn))

    async def read_wide(self, name: str, fn: Callable[[Tx], T]) -> T:
        return await asyncio.wrap_future(self._wide.submit(timed(name, self._read_wide), fn))

    async def read_near(
        self,
        name: str,
        fn: Callable[[Tx], T],
        *,
        steps: int = NEAR_STEPS,
        foretold: Foretold | None = None,
    ) -> T:
        if self._closed:
            raise StorageError("The database is closed.")
        near: _Near | None = getattr(self._local, "near", None)
        if near is None:
            near = self._local.near = _Near(self._connect())
        try:
            return near.run(fn, steps)
        except (sqlite3.OperationalError, TooMuch):
            pass
        try:
            return await asyncio.wrap_future(self._readers.submit(timed(name, self._read), fn, READ_ROWS))
        except TooMuch:
            return await self.read_wide(name, fn)

    async def backup_to(self, target: Path) -> None:
        """An online copy (SQLite's backup API): consistent while writes go on."""

        def copy() -> None:
            private_file(target)
            try:
                with (
                    closing(sqlite3.connect(self._path)) as source,
                    closing(sqlite3.connect(target)) as destination,
                ):
                    source.backup(destination)
            except sqlite3.Error as error:
                raise database_trouble(error, target) from error

        await asyncio.to_thread(copy)

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._queue.put(None)
        await asyncio.to_thread(self._writer_thread.join)
        if self._near_writer is not None:
            await asyncio.to_thread(self._near_writer.close)
        await asyncio.to_thread(self._readers.shutdown)
        await asyncio.to_thread(self._wide.shutdown)
        for connection in self._opened:
            connection.close()


class _Steps:
    """Ends what a connection does after so many steps (sqlite3.OperationalError)."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.left = 0
        connection.set_progress_handler(self._used, 500)

    def _used(self) -> bool:
        self.left -= 500
        return self.left < 0


class _Near:
    """A connection that gives up rather than wait or work long."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._c, self._limit = connection, _Steps(connection)
        connection.execute("PRAGMA busy_timeout=0")
        connection.execute("PRAGMA cache_size=-16384")

    def run(self, fn: Callable[[Tx], T], steps: int) -> T:
        """Raises sqlite3.OperationalError beyond ``steps``, or when it would have to wait.

        TooMuch beyond NEAR_ROWS.
        """
        self._limit.left = steps
        self._c.execute("BEGIN")
        try:
            return fn(SqliteTx(self._c, NEAR_ROWS))
        finally:
            self._limit.left = steps
            self._c.execute("ROLLBACK")
