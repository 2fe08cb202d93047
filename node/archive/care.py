"""Every object is read again, slowly, and compared with its digest (``[archive.care]``).

Disks lose bytes that nobody reads: what is found while another copy can be had is no loss. One reading goes
through the rows in their order and keeps its place in the database, so that a restart goes on from there. It
reads from the disk itself, leaves the page cache as it was, and takes an eighth of its rate while the
department is at work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import BinaryIO, Final

from crosslight.runtime.log import get_logger
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import CrosslightError, StorageError
from node.archive import fault_rows as rows
from node.archive.bucket import Bucket
from node.archive.config import CareConfig
from node.archive.digest import CHUNK
from node.archive.fault_rows import CareState
from node.archive.faults import Faults
from node.archive.model import Fault
from node.archive.pace import GentlePace
from node.archive.store import Storage

log = get_logger("archive")

DAY_S: Final = 86_400.0
PAGE: Final = 50  # objects between two notes of the place
NOTED_EVERY_S: Final = 30.0
TRAFFIC_S: Final = 2.0  # the department counts as at work for so long after each object
PAUSE_S: Final = 60.0  # between looks whether there is something to do, and after trouble
MOST_UNREAD: Final = 3  # objects in a row that the disk gave no answer for: it is the disk

#: Told of what was set apart, and of what is whole again.
Told = Callable[[list[Fault], list[Fault]], Awaitable[None]]


async def _nobody(apart: list[Fault], healed: list[Fault]) -> None:
    """Nobody is told."""


class Care:
    """Reads what one archive holds.

    Args:
        storage: Where it rests.
        faults: What becomes of objects that are not whole.
        workers: Threads, for the reading.
        config: How often and how fast.
    """

    def __init__(self, storage: Storage, faults: Faults, workers: Workers, config: CareConfig) -> None:
        self._db, self._layout, self._files = storage.db, storage.layout, storage.files
        self._clock, self._faults, self._workers, self._config = storage.clock, faults, workers, config
        self._bucket = storage.bucket
        self.told: Told = _nobody
        self.trouble = ""  # why nothing is read just now
        self.objects, self.bytes = 0, 0  # since the start
        self._used_s = float("-inf")
        self._pace = self.pace(config.mb_per_s)
        self._noted_s = 0.0
        self._looked_s = float("-inf")

    def traffic(self) -> None:
        """An object came in or was opened."""
        self._used_s = self._clock.monotonic_s()

    def pace(self, mb_per_s: float) -> GentlePace:
        """A pace that gives way to the department."""
        return GentlePace(self._clock, mb_per_s, self.busy)

    def busy(self) -> bool:
        """Whether the department is at work."""
        return self._clock.monotonic_s() - self._used_s < TRAFFIC_S

    async def state(self) -> CareState:
        """How far it is."""
        return await self._db.read("care", rows.state_tx)

    async def run(self) -> None:
        """Read, for ever; the start of the node comes first."""
        await self._clock.sleep(PAUSE_S)
        while True:
            try:
                more = await self.step()
                self.trouble = ""
            except CrosslightError as error:
                more, self.trouble = False, f"{error.what} {error.why}".strip()
                log.warning("reading objects again stopped", reason=self.trouble)
            except Exception:
                more, self.trouble = False, "The node's log says what went wrong."
                log.exception("reading objects again failed")
            if not more:
                await self._clock.sleep(PAUSE_S)

    async def step(self) -> bool:
        """Read the next objects, where there is something to read; whether more are to be read at once.

        Raises:
            StorageError: the disk gives no answer.
        """
        await self._look_again(apart=False)
        if not self._config.period_days:
            return False
        state, now = await self.state(), self._clock.now().timestamp()
        if not state.going:
            if now - state.began_unix < self._config.period_days * DAY_S:
                return False
            await self._look_again(apart=True)
            await self._db.write("care_begin", lambda tx: rows.begin_tx(tx, now))
            state = await self.state()
        page = await self._db.read(
            "care_page",
            lambda tx: rows.page_tx(tx, state.last_id, state.through_id, self._faults.due_unix, PAGE),
        )
        if page:
            await self._read_page(page)
        if len(page) < PAGE:
            now = self._clock.now().timestamp()
            await self._db.write("care_end", lambda tx: rows.end_tx(tx, now))
            ended = await self.state()
            log.info("all objects read again", count=ended.objects, bytes=ended.bytes, n=ended.faults)
            return False
        return True

    async def _look_again(self, *, apart: bool) -> None:
        now_s = self._clock.monotonic_s()
        if not apart and now_s - self._looked_s < PAUSE_S:
            return
        self._looked_s = now_s
        if healed := await self._workers.run(self._faults.look_again, apart=apart):
            await self._tell([], healed)

    async def _tell(self, apart: list[Fault], healed: list[Fault]) -> None:
        try:
            await self.told(apart, healed)
        except CrosslightError as error:  # it is in the log and in the rows
            log.error("a damaged object cannot be audited", reason=error.what)

    async def _read_page(self, page: list[tuple[int, Fault]]) -> None:
        objects = size = unread = faults = 0
        last_id = page[0][0] - 1

        async def note() -> None:
            nonlocal objects, size, faults
            done = (last_id, objects, size, faults)
            await self._db.write("care_read", lambda tx: rows.read_tx(tx, *done))
            objects = size = faults = 0
            self._noted_s = self._clock.monotonic_s()

        self._noted_s = self._clock.monotonic_s()
        try:
            for row_id, fault in page:
                try:
                    damage = None if await self._is_whole(fault) else await self.set_apart(fault)
                    unread, last_id = 0, row_id
                except StorageError:
                    unread += 1
                    if unread >= MOST_UNREAD:
                        raise
                    continue
                objects, size, faults = objects + 1, size + fault.size, faults + (damage is not None)
                self.objects, self.bytes = self.objects + 1, self.bytes + fault.size
                if self._clock.monotonic_s() - self._noted_s >= NOTED_EVERY_S:
                    await note()
            last_id = page[-1][0]  # one that gave no answer amid others that did is left for the next reading
        finally:
            await note()

    async def set_apart(self, fault: Fault) -> Fault | None:
        """Look at an object that does not seem whole; what is wrong with it, or None.

        Raises:
            StorageError: the disk, or the object store, gives no answer.
        """
        damage = await self._workers.run(self._faults.look, fault)
        if damage is not None:
            await self._tell([damage], [])
        return damage

    async def _is_whole(self, fault: Fault) -> bool:
        """Whether it seems so; what does not is read once more before anything is done."""
        reading: Reading | None = None
        try:
            reading = await self._workers.run(self._open, self._layout.held(fault.sha256), fault)
            while size := await self._workers.run(reading.more):
                await self._pace.spend(size)
            return reading.digest == fault.sha256
        except FileNotFoundError:
            return self._bucket is not None and await self._is_whole_away(self._bucket, fault)
        except OSError:
            return False
        finally:
            if reading is not None:
                reading.close()

    async def _is_whole_away(self, bucket: Bucket, fault: Fault) -> bool:
        seen, at, end = hashlib.sha256(), 0, fault.offset + fault.size
        try:
            async with aclosing(bucket.stream(fault.sha256)) as chunks:
                async for data in chunks:
                    seen.update(data[max(fault.offset - at, 0) : max(end - at, 0)])
                    at += len(data)
                    await self._pace.spend(len(data))
        except CrosslightError:
            return False
        return seen.digest() == fault.sha256

    def _open(self, path: Path, fault: Fault) -> Reading:
        handle = self._files.open(path)
        cached = self._files.drop_cached(handle, fault.offset)
        keep = None if cached else lambda: self._files.drop_cached(handle, fault.offset)
        return Reading(handle, fault.offset, fault.size, keep)


class Reading:
    """A data set that is being read, from its file's beginning to its end.

    Args:
        handle: The file.
        offset, size: Of the data set in it.
        end: Called before the file is closed; None: nothing is.
    """

    def __init__(
        self, handle: BinaryIO, offset: int, size: int, end: Callable[[], object] | None = None
    ) -> None:
        self._handle, self._left, self._end = handle, size, end
        self._hash = hashlib.sha256()
        handle.seek(offset)

    def more(self) -> int:
        """Read on; how many bytes, 0 at the end. Blocking.

        Raises:
            OSError: the disk cannot.
        """
        chunk = self._handle.read(min(CHUNK, self._left))
        self._hash.update(chunk)
        self._left -= len(chunk)
        return len(chunk)

    @property
    def digest(self) -> bytes:
        """Of what was read."""
        return self._hash.digest()

    def close(self) -> None:
        """Done."""
        try:
            if self._end is not None:
                self._end()
        finally:
            self._handle.close()
