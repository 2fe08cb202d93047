"""Objects that lie in the object store alone, on their way out.

Each is fetched once, however many ask: into a file of this machine at the store's pace, from which all who
asked read behind it. The digest of its data set is compared before the last bytes go, and of a small object
before the first; what is not whole is set apart. Where the disk has room by ``keep_local_gb``, the file then
is the object's again, and the next who asks finds it there; else it goes when the last reader is done.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import BinaryIO, Final

from crosslight.runtime.files import Files
from crosslight.runtime.log import get_logger
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import CrosslightError, NotFound, OutOfSpace, StorageError, Unavailable
from node.archive import carried_rows as rows
from node.archive.bucket import Bucket
from node.archive.care import Care
from node.archive.carrier import ObjectCarrier
from node.archive.digest import write_all
from node.archive.model import Fault
from node.archive.staging import StageFolder, refused_by_disk
from node.archive.store import Storage
from node.holdings import Local, Passed, StoredObject, set_apart

log = get_logger("archive")

CHUNK: Final = 1 << 20
SMALL: Final = 8 << 20  # compared before its first byte goes
SILENT_S: Final = 5.0  # a store that gave no answer is not asked again for so long
RESERVE: Final = 64 << 20  # of the disk, left free by what is fetched


class Fetch:
    """One object that is being fetched, and who reads it meanwhile.

    Args:
        path: The file that it is written to; it goes with the last reader, unless it has become the object's.
        handle: That file, open.
        size: How much of it is given out.
        workers: Threads, for reading.
        files: Removes it.
    """

    def __init__(self, path: Path, handle: BinaryIO, size: int, workers: Workers, files: Files) -> None:
        self.path, self.handle, self.size, self._workers, self._files = path, handle, size, workers, files
        self.place = path  # where it lies now
        self.written, self.whole, self.kept = 0, False, False
        self.error: CrosslightError | None = None
        self.readers, self.ended = 0, False
        self.task: asyncio.Task[None] | None = None
        self._moved = asyncio.Event()

    def moved(self) -> None:
        """There is more of it, or it has ended."""
        self._moved.set()
        self._moved = asyncio.Event()

    @property
    def over(self) -> bool:
        """Whether it is being given up, as nobody needed it."""
        return self.task is not None and bool(self.task.cancelling())

    async def begun(self) -> None:
        """Wait for its first bytes; of a small one for all of them.

        Raises:
            CrosslightError: it cannot be had.
        """
        while not self.whole and (self.size <= SMALL or not self.written):
            if self.error is not None:
                raise self.error
            await self._moved.wait()

    async def file(self) -> Local:
        """All of it, as a file that stays as long as who asks counts as a reader.

        Raises:
            CrosslightError: it cannot be had.
        """
        while not self.whole:
            if self.error is not None:
                raise self.error
            await self._moved.wait()
        return Local(str(self.place), 0, self.size)

    async def follow(self) -> AsyncGenerator[bytes]:
        """Nothing first, once it counts as read; then its bytes, as they come."""
        self.readers += 1
        try:
            yield b""
            at = 0
            while at < self.size:
                if self.error is not None:
                    raise self.error
                ready = self.size if self.whole else min(self.written, self.size - CHUNK)
                if ready <= at:
                    await self._moved.wait()
                    continue
                data = await self._workers.run(os.pread, self.handle.fileno(), min(CHUNK, ready - at), at)
                at += len(data)
                yield data
        finally:
            self.readers -= 1
            self.let_go()

    def let_go(self) -> None:
        """End what nobody needs any more."""
        if self.readers or self.task is None:
            return
        if self.ended:
            self.handle.close()
            self._files.remove(self.path)
        elif not self.kept:
            self.task.cancel()


class Fetcher:
    """Fetches one archive's objects.

    Args:
        storage: Where it rests; with a bucket.
        stage: Where files lie that are no objects yet.
        carrier: Makes room.
        care: Sets apart what is not whole.
        workers: Threads.
    """

    def __init__(
        self, storage: Storage, stage: StageFolder, carrier: ObjectCarrier, care: Care, workers: Workers
    ) -> None:
        self._db, self._files, self._clock = storage.db, storage.files, storage.clock
        self._layout, self._bucket, self._stage = storage.layout, storage.bucket, stage
        self._carrier, self._care, self._workers = carrier, care, workers
        self._going: dict[bytes, Fetch] = {}
        self._reserved = 0  # bytes on their way that will stay
        self._silent, self._silent_s = "", float("-inf")  # why the store gave no answer, and until when
        self.objects, self.bytes = 0, 0  # since the start

    async def open(self, stored: StoredObject) -> Passed:
        """The bytes of an object that the disk has not.

        Raises:
            StorageError: the object store does not give it now, or it is damaged or missing there too.
            OutOfSpace: the disk has no room for a moment.
        """
        if self._bucket is None or stored.size is None:
            raise StorageError("This object is not on the disk.", todo="Run verify.")
        sha256 = bytes.fromhex(stored.ref.sha256)
        fetch = self._going.get(sha256)
        if fetch is None or fetch.error is not None or fetch.over:
            fetch = self._started(self._bucket, sha256, stored, stored.size)
        chunks = fetch.follow()
        await anext(chunks)
        try:
            await fetch.begun()
        except BaseException:
            await chunks.aclose()
            raise
        return Passed(chunks, stored.size, fetch.file)

    async def close(self) -> None:
        """End what is still being fetched."""
        for fetch in list(self._going.values()):
            if fetch.task is not None:
                fetch.task.cancel()
                with suppress(asyncio.CancelledError):
                    await fetch.task

    def _started(self, bucket: Bucket, sha256: bytes, stored: StoredObject, size: int) -> Fetch:
        if self._clock.monotonic_s() < self._silent_s:
            raise _away(self._silent)
        if self._files.free_bytes(self._layout.root) < size + RESERVE:
            raise OutOfSpace(
                "The archive's disk has no room to fetch an object from the object store.",
                todo="Make room on it, or ask again later.",
            )
        path = self._stage.fresh()
        self._files.create(path).close()
        fetch = Fetch(path, self._files.reopen(path), size, self._workers, self._files)
        ref = stored.ref
        offset = size - ref.size_bytes
        fault = Fault("damaged", ref.study_uid, ref.sop_uid, sha256, offset, ref.size_bytes)
        self._going[sha256] = fetch
        fetch.task = asyncio.create_task(self._run(bucket, fetch, fault))
        fetch.task.add_done_callback(lambda _: self._ended(fetch, sha256))
        return fetch

    async def _run(self, bucket: Bucket, fetch: Fetch, fault: Fault) -> None:
        try:
            if await self._room(fetch.size):
                fetch.kept = True
                self._reserved += fetch.size
            await self._fetch(bucket, fetch, fault)
        except asyncio.CancelledError:
            fetch.error = Unavailable("The node ends.", todo="Ask again.")
            raise
        except CrosslightError as error:
            fetch.error = error
        except OSError as error:
            fetch.error = refused_by_disk(error)
        except Exception:
            log.exception("an object could not be fetched")
            fetch.error = Unavailable("An object could not be fetched.", todo="The node's log says why.")

    def _ended(self, fetch: Fetch, sha256: bytes) -> None:
        self._reserved -= fetch.size if fetch.kept else 0
        if self._going.get(sha256) is fetch:
            del self._going[sha256]
        fetch.ended = True
        fetch.moved()
        fetch.let_go()

    async def _room(self, size: int) -> bool:
        try:
            return await self._carrier.make_room(self._reserved + size)
        except CrosslightError as error:  # it is fetched, and does not stay
            log.warning("no room made for an object", reason=error.what)
            return False

    async def _fetch(self, bucket: Bucket, fetch: Fetch, fault: Fault) -> None:
        seen, end = hashlib.sha256(), fault.offset + fault.size
        try:
            async with aclosing(bucket.stream(fault.sha256)) as chunks:
                async for data in chunks:
                    at = fetch.written
                    seen.update(data[max(fault.offset - at, 0) : max(end - at, 0)])
                    await self._workers.run(write_all, fetch.handle, data)
                    fetch.written += len(data)
                    fetch.moved()
        except NotFound:
            await self._not_whole(fault)
        except OutOfSpace:
            raise
        except CrosslightError as error:
            self._silent = f"{error.what} {error.why}".strip()
            self._silent_s = self._clock.monotonic_s() + SILENT_S
            raise _away(self._silent) from error
        if seen.digest() != fault.sha256:
            await self._not_whole(fault)
        self.objects, self.bytes = self.objects + 1, self.bytes + fetch.written
        if fetch.kept:
            await self._keep(bucket, fetch, fault.sha256)
        fetch.whole = True

    async def _not_whole(self, fault: Fault) -> None:
        """Look once more, and set it apart.

        Raises:
            StorageError: it is not whole.
            Unavailable: it is: something else was wrong.
        """
        if await self._care.set_apart(fault) is not None:
            raise set_apart()
        raise Unavailable("An object came damaged from the object store.", todo="Ask again.")

    async def _keep(self, bucket: Bucket, fetch: Fetch, sha256: bytes) -> None:
        """Let the file be the object's again, unless that is being purged."""
        await self._workers.run(self._files.sync, fetch.handle)
        if not bucket.try_claim(sha256):
            return
        try:
            final, size, now = self._layout.object(sha256), fetch.written, self._clock.now().timestamp()
            if final.exists():
                return
            await self._workers.run(self._files.publish, fetch.path, final)
            if not await self._db.write(
                "carried_here", lambda tx: rows.add_tx(tx, sha256, size, here=True, now_unix=now)
            ):
                self._files.remove(final)
                return
            fetch.place = final
        finally:
            bucket.let_go(sha256)


def _away(why: str) -> StorageError:
    return StorageError(
        "This object lies in the archive's object store, which does not give it now.",
        why=why,
        todo="Ask again later: nothing of it is lost.",
    )
