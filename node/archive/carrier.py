"""The objects on their way to the object store, in the background (``[archive.object_store]``).

An object is received, made durable on the disk and acknowledged as without one. Then it is written to the
store, read back and compared; then its row says so; and only what has that row is removed from the disk, the
longest unused first, once more lies there than ``keep_local_gb``. So a process that is killed at any moment
goes on where it was, and a store that is away costs nothing but room on the disk.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
from collections.abc import AsyncGenerator
from contextlib import aclosing
from functools import partial
from pathlib import Path
from typing import Final

from crosslight.runtime.clock import Ids
from crosslight.runtime.db import Tx
from crosslight.runtime.files import Files
from crosslight.runtime.log import get_logger
from crosslight.runtime.terminal import counted
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import ConfigError, CrosslightError, NotFound, StorageError, Unavailable
from node.archive import carried_rows as rows
from node.archive.bucket import Bucket
from node.archive.care import Care
from node.archive.carried_rows import CarriageState
from node.archive.config import ArchiveConfig
from node.archive.digest import CHUNK
from node.archive.faults import Faults
from node.archive.homing import Homing
from node.archive.journal import Pending
from node.archive.model import Fault
from node.archive.pace import GentlePace
from node.archive.store import Storage

log = get_logger("archive")

PAUSE_S: Final = 15.0  # between looks whether there is something to carry, and after trouble
GRACE_S: Final = 2 * 3600.0  # what was opened stays on the disk so long: whoever opened it is done by then
AGAIN_S: Final = 86_400.0  # all rows are looked at again so often
WINDOW: Final = 20_000  # rows that one query goes through
AT_ONCE: Final = 4
PAGE: Final = 40
MB: Final = 1_000_000


class ObjectCarrier:
    """Carries one archive's objects, and makes room on its disk.

    Args:
        storage: Where it rests; with a bucket.
        pending: What comes in at this moment.
        faults: What is due to be purged.
        care: Told of what is not whole.
        workers: Threads.
        config: How fast, and how much stays on the disk; the reserve of the disk.
    """

    def __init__(
        self,
        storage: Storage,
        pending: Pending,
        faults: Faults,
        care: Care,
        workers: Workers,
        config: ArchiveConfig,
    ) -> None:
        self._db, self._files, self._clock = storage.db, storage.files, storage.clock
        self._layout, self.bucket, self._pending = storage.layout, storage.bucket, pending
        self._faults, self._care, self._workers = faults, care, workers
        self._keep = int(config.object_store.keep_local_gb * 1000 * MB)
        self._low = 2 * config.min_free_bytes  # with less than that free, all that can goes from the disk
        self._pace = GentlePace(storage.clock, config.object_store.mb_per_s, self._busy)
        self._homing = Homing(storage, care, workers, self._pace, config.min_free_bytes)
        self._opened: dict[str, float] = {}  # studies, and when
        self._lock = threading.Lock()  # between a look whether a study is open, and the removal of a file
        self._through, self._counted = 0, False
        self._looked_s = self._noted_s = float("-inf")
        self.trouble = ""  # why nothing is carried just now
        self.objects, self.bytes, self.removed = 0, 0, 0  # since the start

    async def state(self) -> CarriageState:
        """How much lies where."""
        wanted = self.bucket is not None
        return await self._db.read("carriage", lambda tx: rows.state_tx(tx, wanted=wanted))

    async def turn(self, *, home: bool) -> None:
        """Let all come back to the disk, or go to the object store again, from the next start on."""
        await self._db.write("carriage_turned", lambda tx: rows.turn_tx(tx, home=home))

    async def away(self) -> str:
        """Why the object store does not answer now; '' where it does, or there is none."""
        try:
            if self.bucket is not None:
                await self.bucket.look()
        except CrosslightError as error:
            return f"{error.what} {error.why}".strip()
        return ""

    def opened(self, study_uid: str) -> None:
        """An object of a study is being opened: what the disk has of it stays for a while."""
        with self._lock:
            self._opened[study_uid] = self._clock.monotonic_s()

    async def run(self) -> None:
        """Carry, for ever; nothing where there is no object store."""
        while self.bucket is not None:
            try:
                more = await self.step(self.bucket)
                self.trouble = ""
            except CrosslightError as error:
                more, self.trouble = False, f"{error.what} {error.why}".strip()
                log.warning("objects wait to be carried to the object store", reason=self.trouble)
            except Exception as error:
                more, self.trouble = False, type(error).__name__
                log.exception("carrying objects to the object store failed")
            if not more:
                await self._clock.sleep(PAUSE_S)

    async def step(self, bucket: Bucket) -> bool:
        """Carry the next objects, and make room; whether there is more to do at once.

        Raises:
            CrosslightError: the store, or the disk, does not take part.
        """
        await self._count_files()
        if (await self._db.read("carriage_sums", rows.here_bytes_tx))[1]:
            return await self._homing.step(bucket)
        await self.make_room(0)
        await bucket.ready()
        last, noted = await self._db.read("carry_last", rows.last_id_tx)
        if self._clock.monotonic_s() - self._looked_s > AGAIN_S:
            self._through, self._looked_s = 0, self._clock.monotonic_s()
        self._through = min(self._through, noted)  # below it, something is to be carried again
        through = min(last, self._through + WINDOW)
        page = await self._db.read(
            "carry_page",
            lambda tx: rows.waiting_tx(tx, self._through, through, self._faults.due_unix, PAGE),
        )
        await self._carry_page(bucket, [fault for _, fault in page])
        self._through = page[-1][0] if len(page) == PAGE else through
        if self._through > noted:
            await self._db.write("carried_through", lambda tx: rows.through_tx(tx, noted, self._through))
        return self._through < last

    # --- to the store ---------------------------------------------------------------------------------------

    async def _carry_page(self, bucket: Bucket, page: list[Fault]) -> None:
        free = asyncio.Semaphore(AT_ONCE)

        async def one(fault: Fault) -> None:
            async with free:
                await self._carry(bucket, fault)

        done = await asyncio.gather(*(one(fault) for fault in page), return_exceptions=True)
        for error in done:
            if isinstance(error, BaseException):
                raise error

    async def _carry(self, bucket: Bucket, fault: Fault) -> None:
        if not bucket.try_claim(fault.sha256):
            raise StorageError("An object is being purged, or fetched, at this moment.")
        try:
            path = self._layout.held(fault.sha256)
            try:
                size, whole, dataset = await self._workers.run(_digests, self._files, path, fault)
            except FileNotFoundError:
                await self._care.set_apart(fault)  # it may lie in the store already
                return
            except OSError as error:
                raise StorageError("An object cannot be read.", why=error.strerror or "") from error
            if dataset != fault.sha256:
                await self._care.set_apart(fault)
                return
            await bucket.put(fault.sha256, self._chunks(path), size)
            await self._compare(bucket, fault, whole)
            now = self._clock.now().timestamp()
            if not await self._db.write(
                "carried", lambda tx: rows.add_tx(tx, fault.sha256, size, here=True, now_unix=now)
            ):
                await self._workers.run(bucket.remove, fault.sha256)  # purged meanwhile, by a command
                return
            self.objects, self.bytes = self.objects + 1, self.bytes + size
        finally:
            bucket.let_go(fault.sha256)

    async def _chunks(self, path: Path) -> AsyncGenerator[bytes]:
        with self._files.open(path) as handle:
            while chunk := await self._workers.run(handle.read, CHUNK):
                await self._pace.spend(len(chunk))
                yield chunk

    async def _compare(self, bucket: Bucket, fault: Fault, whole: bytes) -> None:
        seen = hashlib.sha256()
        try:
            async with aclosing(bucket.stream(fault.sha256)) as chunks:
                async for data in chunks:
                    seen.update(data)
        except NotFound:
            pass
        if seen.digest() != whole:
            raise Unavailable(
                "The object store does not keep what is written to it.", why=f"In {bucket.name}."
            )

    # --- room on the disk -----------------------------------------------------------------------------------

    async def make_room(self, wanted: int) -> bool:
        """Remove from the disk what the store has, the longest unused first; whether ``wanted`` bytes fit.

        That is by ``keep_local_gb``, and as long as the disk is not nearly full.
        """
        here, home = await self._db.read("carriage_sums", rows.here_bytes_tx)
        if home:
            return True
        keep = min(self._keep, max(0, here - self._short()))
        while True:
            if here + wanted <= keep:
                return True
            await self._note_opened()
            page = await self._db.read("carried_eldest", lambda tx: rows.eldest_tx(tx, 200))
            gone: list[tuple[bytes, bool]] = []
            for sha256, size, study_uid in page:
                if here + wanted <= keep:
                    break
                if await self._workers.run(self._remove, sha256, study_uid):
                    gone.append((sha256, False))
                    here -= size
            if not gone:
                return False
            await self._here(gone)
            self.removed += len(gone)

    def _short(self) -> int:
        """Bytes that the disk should have free and has not."""
        return max(0, self._low - self._files.free_bytes(self._layout.root))

    def _busy(self) -> bool:
        """Whether to give way to the department: not where it will need the room."""
        return self._care.busy() and not self._short()

    async def _here(self, changed: list[tuple[bytes, bool]]) -> None:
        now = self._clock.now().timestamp()
        await self._db.write("carried_here", lambda tx: rows.here_tx(tx, changed, now))

    async def _note_opened(self) -> None:
        if self._clock.monotonic_s() - self._noted_s < PAUSE_S:
            return
        with self._lock:
            before = self._clock.monotonic_s() - GRACE_S
            self._opened = {uid: at for uid, at in self._opened.items() if at > before}
            fresh = [uid for uid, at in self._opened.items() if at > self._noted_s]
            self._noted_s = self._clock.monotonic_s()
        if fresh:
            now = self._clock.now().timestamp()
            await self._db.write("carried_used", lambda tx: rows.used_tx(tx, fresh, now))

    def _remove(self, sha256: bytes, study_uid: str) -> bool:
        """Remove a file that the store has too; whether the disk has none now. Blocking."""
        old = self._layout.old
        with self._pending.lock:
            whole = self._db.submit_read("carried_whole", lambda tx: rows.is_whole_tx(tx, sha256)).result()
            if not whole or self._pending.holds(sha256):
                return False
            with self._lock:
                if study_uid in self._opened:
                    return False
                for path in (self._layout.object(sha256), *([old.object(sha256)] if old is not None else [])):
                    self._files.remove(path)
        return True

    async def _count_files(self) -> None:
        """Once, at the start: what the rows say of the disk is made true, whatever a crash left."""
        if self._counted:
            return
        for prefix in self._layout.prefixes():
            known = await self._db.read("carried_below", partial(_below, prefix))
            if wrong := await self._workers.run(self._wrong, prefix, known):
                await self._here(wrong)
        self._counted = True

    def _wrong(self, prefix: str, known: list[tuple[bytes, bool]]) -> list[tuple[bytes, bool]]:
        places = (self._layout, *([self._layout.old] if self._layout.old is not None else []))
        there = {sha256 for place in places for sha256, _ in place.below(prefix)}
        return [(sha256, not here) for sha256, here in known if (sha256 in there) is not here]


def _below(prefix: str, tx: Tx) -> list[tuple[bytes, bool]]:
    return rows.below_tx(tx, prefix)


def _digests(files: Files, path: Path, fault: Fault) -> tuple[int, bytes, bytes]:
    """Size, and digests of the file and of the data set in it."""
    whole, dataset, at = hashlib.sha256(), hashlib.sha256(), 0
    first, last = fault.offset, fault.offset + fault.size
    with files.open(path) as handle:
        while chunk := handle.read(CHUNK):
            whole.update(chunk)
            dataset.update(chunk[max(first - at, 0) : max(last - at, 0)])
            at += len(chunk)
    return at, whole.digest(), dataset.digest()


async def whose(storage: Storage, ids: Ids) -> None:
    """Tell the bucket whose it must be.

    Raises:
        ConfigError: objects lie in an object store, and the configuration names none.
    """
    archive_id, objects = await storage.db.write("archive_id", lambda tx: rows.archive_id_tx(tx, ids))
    if storage.bucket is not None:
        storage.bucket.belongs(archive_id, used=bool(objects))
    elif objects:
        raise ConfigError(
            f"{counted(objects, 'object')} of this archive lie in an object store, and none is configured.",
            todo="Name it in [archive.object_store]. To be without: crosslight-node archive move --to-disk.",
            where="archive.object_store.url",
        )
