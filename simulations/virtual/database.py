"""Real SQLite without threads: each function runs when it is given, on the loop."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import closing
from pathlib import Path

from crosslight.runtime.db import LAZY_S, SqliteDb
from crosslight.runtime.db.seam import NEAR_STEPS, Db, EmbeddedDb, Foretold, T, Tx
from crosslight.runtime.db.sqlite import _Write
from crosslight.runtime.db.sqlite_tx import SqliteTx
from crosslight.standards.problem import ConfigError, StorageError
from simulations.virtual.trace import Trace


class InlineSqlite(SqliteDb):
    """One connection that writes, one that reads; a commit waits for no disk."""

    def __init__(self, path: Path, who: str, trace: Trace) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._who = who
        self._trace = trace
        self._closed = False
        self._near_writer = None
        self._waiting: list[_Write] = []  # lazy ones; a crash forgets them
        self._timer: asyncio.TimerHandle | None = None
        self._writer, self._reader = self._connection(), self._connection()

    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None)
        for pragma in ("journal_mode=WAL", "synchronous=OFF", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")
        return connection

    def _own(self) -> sqlite3.Connection:
        if self._closed:
            raise StorageError("The database is closed.")
        return self._reader

    def submit_write(self, name: str, fn: Callable[[Tx], T], *, lazy: bool = False) -> Future[T]:
        if self._closed:
            raise StorageError("The database is closed.")
        self._trace.note(self._who, f"write {name}")
        job = _Write(name, fn, lazy)
        self._waiting.append(job)
        if not lazy:
            self._write_all()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(LAZY_S, self._write_all)
        return job.future

    def _write_all(self) -> None:
        """One commit of all that waits."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        jobs, self._waiting = self._waiting, []
        if jobs and not self._closed:
            self._commit(self._writer, SqliteTx(self._writer), jobs)

    def submit_near(self, name: str, fn: Callable[[Tx], T]) -> Future[T]:
        return self.submit_write(name, fn)

    def submit_read(self, name: str, fn: Callable[[Tx], T]) -> Future[T]:
        future: Future[T] = Future()
        try:
            future.set_result(self._read(fn))
        except Exception as error:  # noqa: BLE001 - handed to the one who waits
            future.set_exception(error)
        return future

    def read_here(self, fn: Callable[[Tx], T]) -> T:
        return self._read(fn)

    async def write(self, name: str, fn: Callable[[Tx], T], *, lazy: bool = False) -> T:
        await asyncio.sleep(0)  # as where a thread answers, others go on before the answer is here
        future = self.submit_write(name, fn, lazy=lazy)
        return await asyncio.wrap_future(future) if lazy else future.result()

    async def read(self, name: str, fn: Callable[[Tx], T]) -> T:
        await asyncio.sleep(0)
        return self._read(fn)

    async def read_wide(self, name: str, fn: Callable[[Tx], T]) -> T:
        return await self.read(name, fn)

    async def read_near(
        self,
        name: str,
        fn: Callable[[Tx], T],
        *,
        steps: int = NEAR_STEPS,
        foretold: Foretold | None = None,
    ) -> T:
        return self._read(fn)

    async def backup_to(self, target: Path) -> None:
        with closing(sqlite3.connect(target)) as destination:
            self._reader.backup(destination)

    async def close(self) -> None:
        if not self._closed:
            self._write_all()
            self._closed = True
            self._reader.close()
            self._writer.close()


class InlineDatabases:
    """Opens them for one service."""

    def __init__(self, who: str, trace: Trace) -> None:
        self._who, self._trace = who, trace

    def open(self, url: str, *, base: Path) -> Db:
        """``sqlite:PATH`` only."""
        if not url.startswith("sqlite:"):
            raise ConfigError("Only SQLite runs without threads.")
        return self.embedded(base / url.removeprefix("sqlite:"))

    def embedded(self, path: Path) -> EmbeddedDb:
        """The file ``path``."""
        return InlineSqlite(path, self._who, self._trace)
