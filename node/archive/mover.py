"""The objects on their way to another disk while the node serves (``crosslight-node archive move``).

New objects go to the new place from the start. What lies in the old one is copied at a bounded rate, read
again from the new disk and compared before it gets its name there; reads look there first. Nothing is removed
from the old disk before all is copied and :data:`GRACE_S` have passed, and then only what the new one has. So
a process that is killed at any moment goes on where it was, and loses nothing.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from crosslight.runtime.db import Tx
from crosslight.runtime.files import private_folder
from crosslight.runtime.log import get_logger
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import CrosslightError, StorageError
from node.archive.digest import CHUNK, write_all
from node.archive.faults import Faults
from node.archive.journal import Pending
from node.archive.layout import Layout, finish_move
from node.archive.model import Fault
from node.archive.pace import GentlePace
from node.archive.store import Storage

log = get_logger("archive")

FOLDERS: Final = 256
PAUSE_S: Final = 60.0
GRACE_S: Final = 2 * 3600.0  # whoever opened an object in its old place is done with it by then
_STATE = "target, folders, objects, bytes, began_unix, copied_unix, ended_unix, left_behind"


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveState:
    """How far it is. Times are Unix; 0 = not yet."""

    target: str
    folders: int
    objects: int
    bytes: int
    began_unix: float
    copied_unix: float
    ended_unix: float
    left_behind: int  # files of the old disk that were not moved


def state_tx(tx: Tx) -> MoveState | None:
    """The move that goes on, or the last one."""
    row = tx.row(f"SELECT {_STATE} FROM move WHERE id = 1")
    return MoveState(**dict(zip(MoveState.__dataclass_fields__, row, strict=True))) if row else None


class Mover:
    """Moves one archive's objects, where a move was asked for.

    Args:
        storage: Where it rests.
        pending: What comes in at this moment.
        faults: What becomes of objects that are not whole.
        workers: Threads.
        pace: How fast.
        min_free_bytes: Left free on the new disk.
    """

    def __init__(
        self,
        storage: Storage,
        pending: Pending,
        faults: Faults,
        workers: Workers,
        pace: GentlePace,
        min_free_bytes: int,
    ) -> None:
        self._db, self._files, self._clock = storage.db, storage.files, storage.clock
        self._layout, self._pending, self._faults = storage.layout, pending, faults
        self._workers, self._pace, self._min_free_bytes = workers, pace, min_free_bytes
        self.trouble = ""

    async def state(self) -> MoveState | None:
        """How far it is; None where nothing was ever moved."""
        return await self._db.read("move", state_tx)

    async def run(self) -> None:
        """Move until all is moved; nothing where no move was asked for."""
        while self._layout.before is not None:
            await self._clock.sleep(PAUSE_S)
            try:
                done = await self.step()
                self.trouble = ""
            except CrosslightError as error:
                done, self.trouble = False, f"{error.what} {error.why}".strip()
                log.warning("the move stands still", reason=self.trouble)
            except Exception as error:
                done, self.trouble = False, type(error).__name__
                log.exception("the move failed")
            if done:
                return

    async def step(self) -> bool:
        """Do what can be done now; whether all is moved.

        Raises:
            StorageError: a disk refuses.
        """
        before = self._layout.old
        if before is None:
            return True
        if not before.objects.is_dir():
            raise StorageError(
                "The disk that is moved from is not there.", why=f"There is no {before.objects}."
            )
        state = await self._begun()
        if not state.copied_unix:
            await self._workers.run(self._clear)
            for folder in range(state.folders, FOLDERS):
                await self._copy_folder(before, folder)
            await self._note("copied_unix = ?", self._clock.now().timestamp())
            log.info("all objects copied to the new disk")
            return False
        if self._clock.now().timestamp() < state.copied_unix + GRACE_S:
            return False
        left = await self._remove_old(before)
        await self._copy_beside(before)
        await self._note("left_behind = ?", left)
        if left:
            raise StorageError(
                f"{left} files of the old disk were not moved.", why=f"They lie in {before.root}."
            )
        await self._note("ended_unix = ?", self._clock.now().timestamp())
        await self._workers.run(finish_move, self._layout, self._files)
        log.info("moved to the new disk")
        return True

    async def _begun(self) -> MoveState:
        target, now = str(self._layout.root), self._clock.now().timestamp()
        state = await self.state()
        if state is None or state.ended_unix or state.target != target:
            await self._db.write(
                "move_begin",
                lambda tx: tx.execute(
                    f"INSERT OR REPLACE INTO move (id, {_STATE}) VALUES (1, ?, 0, 0, 0, ?, 0, 0, 0)",
                    (target, now),
                ),
            )
            state = await self.state()
        assert state is not None  # noqa: S101 - it was written
        return state

    async def _note(self, what: str, value: float) -> None:
        await self._db.write("move", lambda tx: tx.execute(f"UPDATE move SET {what} WHERE id = 1", (value,)))

    # --- copying --------------------------------------------------------------------------------------------

    def _clear(self) -> None:
        """Drop what a killed process had half copied."""
        self._files.remove_folder(self._layout.moving)
        private_folder(self._layout.moving)

    async def _copy_folder(self, before: Layout, folder: int) -> None:
        if self._files.free_bytes(self._layout.root) < self._min_free_bytes:
            raise StorageError("The new disk is nearly full.", todo="Make room: the move goes on by itself.")
        objects = size = 0
        for sha256, path in await self._workers.run(_listed, before, f"{folder:02x}"):
            copied = await self._copy(sha256, path)
            objects, size = objects + bool(copied), size + copied
        await self._db.write(
            "move_folder",
            lambda tx: tx.execute(
                "UPDATE move SET folders = ?, objects = objects + ?, bytes = bytes + ? WHERE id = 1",
                (folder + 1, objects, size),
            ),
        )

    async def _copy(self, sha256: bytes, path: Path) -> int:
        """Copy an object; how many bytes, 0 where it is there already, or goes."""
        final, tmp = self._layout.object(sha256), self._layout.moving / path.name
        if final.exists():
            return 0
        fault = await self._db.read("move_known", lambda tx: _known_tx(tx, sha256))
        try:
            written, dataset = await self._copied(path, tmp, fault)
        except FileNotFoundError:
            return 0  # purged meanwhile
        except OSError as error:
            raise StorageError(
                "An object cannot be copied to the new disk.", why=error.strerror or type(error).__name__
            ) from error
        if fault is not None and dataset != sha256:
            self._files.remove(tmp)
            await self._workers.run(self._faults.look, fault)
            return 0
        if await self._read_back(tmp) != written:
            self._files.remove(tmp)
            raise StorageError("The new disk does not keep what is written to it.", why=f"At {tmp.parent}.")
        return await self._workers.run(self._name, path, tmp, final)

    async def _copied(self, path: Path, tmp: Path, fault: Fault | None) -> tuple[bytes, bytes]:
        """Digests of the file and of the data set in it, as they were read; the copy is flushed."""
        whole, dataset, at = hashlib.sha256(), hashlib.sha256(), 0
        first, last = (fault.offset, fault.offset + fault.size) if fault is not None else (0, 0)
        self._files.remove(tmp)
        with self._files.open(path) as source, self._files.create(tmp) as target:
            while chunk := await self._workers.run(source.read, CHUNK):
                await self._workers.run(write_all, target, chunk)
                whole.update(chunk)
                dataset.update(chunk[max(first - at, 0) : max(last - at, 0)])
                at += len(chunk)
                await self._pace.spend(len(chunk))
            if note := self._files.noted(path):
                self._files.note(target, note)
            await self._workers.run(self._files.sync, target)
        return whole.digest(), dataset.digest()

    async def _read_back(self, tmp: Path) -> bytes:
        digest = hashlib.sha256()
        with self._files.open(tmp) as handle:
            self._files.drop_cached(handle, 0)
            while chunk := await self._workers.run(handle.read, CHUNK):
                digest.update(chunk)
            self._files.drop_cached(handle, 0)
        return digest.digest()

    def _name(self, path: Path, tmp: Path, final: Path) -> int:
        size = tmp.stat().st_size
        with self._pending.lock:
            if final.exists() or not path.exists():
                self._files.remove(tmp)
                return 0
            self._files.publish(tmp, final)
            if not path.exists():  # purged by a command at this moment
                self._files.remove(final)
                return 0
        return size

    async def _copy_beside(self, before: Layout) -> None:
        """What was refused, and what was set apart: files without rows of their objects."""
        for old, new in (
            (before.quarantine, self._layout.quarantine),
            (before.damaged, self._layout.damaged),
        ):
            for path in await self._workers.run(_files_of, old):
                final, tmp = new / path.name, self._layout.moving / path.name
                if not final.exists():
                    written, _ = await self._copied(path, tmp, None)
                    if await self._read_back(tmp) != written:
                        raise StorageError("The new disk does not keep what is written to it.")
                    await self._workers.run(self._files.publish, tmp, final)
                self._files.remove(path)

    # --- the end --------------------------------------------------------------------------------------------

    async def _remove_old(self, before: Layout) -> int:
        """Remove what the new disk has; how many files are left."""
        left = 0
        for folder in range(FOLDERS):
            for sha256, path in await self._workers.run(_listed, before, f"{folder:02x}"):
                await self._copy(sha256, path)  # what could not be copied before
                left += not await self._workers.run(self._remove, sha256, path)
        return left

    def _remove(self, sha256: bytes, path: Path) -> bool:
        """Remove a file of the old disk, where the new one has its object or it has gone."""
        with self._pending.lock:
            if self._layout.object(sha256).exists():
                self._files.remove(path)
            return not path.exists()


def _listed(before: Layout, prefix: str) -> list[tuple[bytes, Path]]:
    return list(before.below(prefix)) if (before.objects / prefix).is_dir() else []


def _files_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file()) if folder.is_dir() else []


def _known_tx(tx: Tx, sha256: bytes) -> Fault | None:
    row = tx.row(
        "SELECT study_uid, sop_uid, sha256, dataset_offset, size_bytes FROM instance WHERE sha256 = ?"
        " LIMIT 1",
        (sha256,),
    )
    return Fault("damaged", *row) if row is not None else None
