"""Objects on their way back from the object store, until the archive needs none (``archive move --to-disk``).

Each is read, compared with its digest, flushed, and then named; nothing is removed from the store. Once
the disk has all that is whole, no row says any more that an object lies there: the store may then be emptied
and taken out of the configuration. A process that is killed goes on where it was.
"""

from __future__ import annotations

import hashlib
from contextlib import aclosing
from pathlib import Path
from typing import Final

from crosslight.runtime.db import Tx
from crosslight.runtime.files import private_folder
from crosslight.runtime.log import get_logger
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import NotFound, OutOfSpace
from node.archive import carried_rows as rows
from node.archive.bucket import Bucket
from node.archive.care import Care
from node.archive.digest import write_all
from node.archive.model import Fault
from node.archive.pace import GentlePace
from node.archive.staging import refused_by_disk
from node.archive.store import Storage

log = get_logger("archive")

PAGE: Final = 40
FORGOTTEN_AT_ONCE: Final = 1000


class Homing:
    """Brings one archive's objects back.

    Args:
        storage: Where it rests; with a bucket.
        care: Sets apart what is not whole.
        workers: Threads.
        pace: How fast.
        min_free_bytes: Left free on the disk.
    """

    def __init__(
        self, storage: Storage, care: Care, workers: Workers, pace: GentlePace, min_free_bytes: int
    ) -> None:
        self._db, self._files, self._clock = storage.db, storage.files, storage.clock
        self._layout, self._care, self._workers = storage.layout, care, workers
        self._pace, self._min_free_bytes = pace, min_free_bytes
        self._begun = False

    async def step(self, bucket: Bucket) -> bool:
        """Bring the next objects; whether there is more to do at once.

        Raises:
            CrosslightError: the store, or the disk, does not take part.
        """
        if not self._begun:
            await self._workers.run(self._clear)
            self._begun = True
        page = await self._db.read("carried_absent", lambda tx: rows.absent_tx(tx, PAGE))
        if not page:
            return await self._forget()
        await bucket.ready()
        for fault in page:
            if bucket.try_claim(fault.sha256):
                try:
                    await self._bring(bucket, fault)
                finally:
                    bucket.let_go(fault.sha256)
        return True

    async def _forget(self) -> bool:
        """Rely on the store no more for what is seen on the disk; whether there was anything to look at."""
        page = await self._db.read("carried_here", lambda tx: rows.here_page_tx(tx, FORGOTTEN_AT_ONCE))
        there = await self._workers.run(self._seen, page)
        now = self._clock.now().timestamp()
        gone = [(sha256, False) for sha256 in page if sha256 not in there]

        def note(tx: Tx) -> None:
            rows.forget_all_tx(tx, list(there))
            rows.here_tx(tx, gone, now)

        if page:
            await self._db.write("carried_home", note)
        return bool(page)

    def _seen(self, page: list[bytes]) -> set[bytes]:
        return {sha256 for sha256 in page if self._layout.held(sha256).exists()}

    @property
    def _folder(self) -> Path:
        return self._layout.root / "homing"

    def _clear(self) -> None:
        """Drop what a killed process had half written."""
        self._files.remove_folder(self._folder)
        private_folder(self._folder)

    async def _bring(self, bucket: Bucket, fault: Fault) -> None:
        if self._files.free_bytes(self._layout.root) < self._min_free_bytes + fault.offset + fault.size:
            raise OutOfSpace(
                "The archive's disk is nearly full: no more comes back from the object store.",
                todo="Make room: it goes on by itself.",
            )
        tmp, final = self._folder / f"{fault.sha256.hex()}.dcm", self._layout.object(fault.sha256)
        seen, at, end = hashlib.sha256(), 0, fault.offset + fault.size
        self._files.remove(tmp)
        try:
            with self._files.create(tmp) as target:
                async with aclosing(bucket.stream(fault.sha256)) as chunks:
                    async for data in chunks:
                        seen.update(data[max(fault.offset - at, 0) : max(end - at, 0)])
                        await self._workers.run(write_all, target, data)
                        at += len(data)
                        await self._pace.spend(len(data))
                await self._workers.run(self._files.sync, target)
            if seen.digest() != fault.sha256:
                await self._care.set_apart(fault)
                return
            await self._workers.run(self._files.publish, tmp, final)
        except NotFound:
            await self._care.set_apart(fault)
            return
        except OSError as error:
            raise refused_by_disk(error) from error
        finally:
            self._files.remove(tmp)
        now = self._clock.now().timestamp()
        if not await self._db.write(
            "carried_here", lambda tx: rows.add_tx(tx, fault.sha256, at, here=True, now_unix=now)
        ):
            self._files.remove(final)  # purged meanwhile, by a command
