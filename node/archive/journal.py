"""Objects that are durable as files and whose rows follow, in groups.

The file is the journal: an object's own name, its bytes and where it came from (an extended attribute) are
flushed to the disk before success is answered, so a crash loses nothing; its row is committed within
:data:`~crosslight.runtime.db.sqlite.LAZY_S` together with the others of that time. Whoever reads rows asks
:meth:`Journal.settle` before. Until the row is committed the object keeps its name in the stage too: a start
after a crash finds there what has no row (:mod:`node.archive.adoption`).

Each object has its digest and its SOP Instance UID for itself from before it gets its name until its row is
committed: whatever else comes with one of these waits, so the rows alone decide what is a duplicate or a
conflict.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path

from crosslight.runtime.db import Tx
from crosslight.runtime.log import get_logger
from crosslight.standards.dicom.file.header import Attributes
from crosslight.standards.problem import StorageError
from node.archive.store import Arrived, Ingested, Storage

log = get_logger("archive")

GROUP = 64  # objects that wait for their rows before these are committed at once
MOST = 8 * GROUP


class Pending:
    """Digests and SOP Instance UIDs between naming and commit in this process: one at a time each.

    Care must not touch their files.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._freed = threading.Condition(self.lock)
        self._taken: set[bytes | str] = set()

    def add(self, *keys: bytes | str, hurry: Callable[[], object]) -> None:
        """Take these; waits for those that are taken, and lets them ``hurry``."""
        with self._freed:
            if not self._taken.isdisjoint(keys):
                self._freed.release()
                try:
                    hurry()
                finally:
                    self._freed.acquire()
            while not self._taken.isdisjoint(keys):
                self._freed.wait()
            self._taken.update(keys)

    def remove(self, *keys: bytes | str) -> None:
        """After the commit, or when it came to nothing."""
        with self._freed:
            self._taken.difference_update(keys)
            self._freed.notify_all()

    def holds(self, sha256: bytes) -> bool:
        """Whether it is on its way; call with ``lock`` held."""
        return sha256 in self._taken


@dataclass(frozen=True, slots=True, eq=False)
class Journalled:
    """An object that has its file and not its row; ``staged`` is its name in the stage."""

    arrived: Arrived
    staged: Path

    @property
    def keys(self) -> tuple[bytes, str]:
        """What it has for itself meanwhile."""
        return self.arrived[1].sha256, self.arrived[0].sop_uid


class Journal:
    """What waits for its rows.

    Args:
        storage: Where they will rest.
        pending: What nobody else may touch meanwhile.
        committed: Told of a group whose rows are there, with what became of each; in the writer's thread.
    """

    def __init__(
        self,
        storage: Storage,
        pending: Pending,
        committed: Callable[[Sequence[Journalled], Sequence[Ingested]], None],
    ) -> None:
        self._db, self._store, self._files = storage.db, storage.store, storage.files
        self._pending, self._committed = pending, committed
        self._lock = threading.Lock()
        self._waiting: list[Journalled] = []
        self._going: list[Journalled] = []  # whose commit has begun
        self._open = 0  # objects whose rows are not committed
        self._refused: BaseException | None = None  # why the last group could not be

    def add(self, entry: Journalled) -> None:
        """Its file is durable: let its row follow."""
        with self._lock:
            self._waiting.append(entry)
            self._open += 1
            waiting = len(self._waiting)
        if waiting == 1 or waiting == GROUP:
            self._submit(lazy=waiting == 1)

    def check(self) -> None:
        """Let nothing more in while rows cannot be committed, or too many wait.

        Raises:
            StorageError: they cannot, still.
        """
        if self._refused is not None or self._open >= MOST:
            self._submit(lazy=False).result()

    @property
    def idle(self) -> bool:
        """Whether every object has its row."""
        return not self._open

    def settle(self) -> None:
        """Wait until the rows of all that was answered are there. Blocking.

        Rows that cannot be committed now are left out of what is read: that is logged, and tried again.
        """
        if self._open:
            try:
                self._submit(lazy=False).result()
            except StorageError as error:
                log.warning("objects wait for their rows", count=self._open, reason=error.what)

    def study(self, study_uid: str) -> Attributes:
        """The study's attributes in the first object of it that waits; {} where none does."""
        with self._lock:
            headers = (entry.arrived[0] for entry in (*self._going, *self._waiting))
            return next((header.study for header in headers if header.study_uid == study_uid), {})

    async def settled(self) -> None:
        """As :meth:`settle`, from the event loop."""
        if self._open:
            try:
                await asyncio.wrap_future(self._submit(lazy=False))
            except StorageError as error:
                log.warning("objects wait for their rows", count=self._open, reason=error.what)

    def hurry(self) -> None:
        """Let a group that waits be committed now."""
        if self._open:
            self._submit(lazy=False)

    def _submit(self, *, lazy: bool) -> Future[None]:
        """Have the rows of all that waits committed; done when that is, and told."""
        group: list[Journalled] = []

        def commit(tx: Tx) -> list[Ingested]:
            with self._lock:
                group[:], self._waiting = self._waiting, []
                self._going += group
            return self._store.ingest_many_tx(tx, [entry.arrived for entry in group]) if group else []

        told: Future[None] = Future()
        future = self._db.submit_write("ingest", commit, lazy=lazy)
        future.add_done_callback(lambda done: self._done(group, done, told))
        return told

    def _done(self, group: list[Journalled], done: Future[list[Ingested]], told: Future[None]) -> None:
        """In the writer's thread, after the commit or what went wrong with it."""
        error = done.exception()
        if error is None:
            self._refused = None
            self._finish(group, done.result())
        elif isinstance(error, StorageError) or not group:
            self._keep(group, error)
        elif len(group) == 1:
            self._give_up(group[0], error)
        else:  # one of them is at fault: each by itself
            for entry in group:
                self._alone(entry)
            error = None
        if error is None:
            told.set_result(None)
        else:
            told.set_exception(error)

    def _finish(self, group: Sequence[Journalled], outcomes: Sequence[Ingested]) -> None:
        if not group:
            return
        try:
            self._committed(group, outcomes)
        except Exception:
            log.exception("committed")
        for entry in group:
            self._files.remove(entry.staged)
        self._pending.remove(*(key for entry in group for key in entry.keys))
        with self._lock:
            self._open -= len(group)
            self._going = [entry for entry in self._going if entry not in group]

    def _keep(self, group: Sequence[Journalled], error: BaseException) -> None:
        """They wait on: the next reading, the next object or the end tries again."""
        log.error("rows could not be committed", count=len(group), kind=type(error).__name__)
        with self._lock:
            self._waiting[:0] = group
            self._going = [entry for entry in self._going if entry not in group]
            self._refused = error

    def _alone(self, entry: Journalled) -> None:
        def commit(tx: Tx) -> list[Ingested]:
            return self._store.ingest_many_tx(tx, [entry.arrived])

        future = self._db.submit_write("ingest", commit)
        future.add_done_callback(lambda done: self._done([entry], done, Future()))

    def _give_up(self, entry: Journalled, error: BaseException) -> None:
        """Its file stays, in the stage too, so that the next start tries again."""
        log.error("an object has no row", sop=entry.arrived[0].sop_uid, kind=type(error).__name__)
        self._pending.remove(*entry.keys)
        with self._lock:
            self._open -= 1
            self._going.remove(entry)
