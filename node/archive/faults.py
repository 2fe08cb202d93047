"""Objects that are missing or damaged: set apart, so that nobody is given them, and healed. Blocking.

A damaged file is moved out of ``objects`` into ``damaged`` and stays there: part of it may be all that is
left. What stands in its place again, sent once more or from a backup, is compared with the digest before it
counts as whole.
"""

from __future__ import annotations

import errno
import hashlib
from datetime import timedelta
from pathlib import Path
from typing import Final

from crosslight.runtime.log import get_logger
from crosslight.standards.problem import CrosslightError, NotFound, StorageError
from node.archive import carried_rows as carried
from node.archive import fault_rows as rows
from node.archive.digest import digest_of
from node.archive.journal import Pending
from node.archive.model import Fault, FaultKind
from node.archive.store import Storage

log = get_logger("archive")

ALL: Final = 1 << 30
#: What a disk says of a sector that it cannot read; anything else says nothing of the object.
_UNREADABLE: Final = frozenset({errno.EIO})


class Faults:
    """What is wrong with the objects of one archive."""

    def __init__(self, storage: Storage, pending: Pending, bin_days: float) -> None:
        self._db, self._layout, self._files = storage.db, storage.layout, storage.files
        self._clock, self._pending, self._bin_days = storage.clock, pending, bin_days
        self._bucket = storage.bucket

    @property
    def due_unix(self) -> float:
        """What was deleted until then is being purged."""
        return (self._clock.now() - timedelta(days=self._bin_days)).timestamp()

    def look(self, fault: Fault) -> Fault | None:
        """Read an object again, and set it apart if it is still not whole; what is wrong with it, or None.

        Raises:
            StorageError: the disk itself cannot be read now: that says nothing of the object.
        """
        path = self._layout.held(fault.sha256)
        kind = self._wrong(fault, path)
        if kind is None:
            return None
        here = kind == "damaged"
        if (kind := self._wrong_away(fault, kind)) is None:
            if here:
                self._remove_copy(fault, path)
            return None
        damage = fault.found(kind, path)
        with self._pending.lock:
            if self._pending.holds(fault.sha256):
                return None  # it comes in again at this moment
            if here and self._stands(fault):
                damage = fault.found(kind, self._layout.apart(fault.sha256))
                try:
                    self._files.move(path, damage.path)
                    self._files.sync_dir(damage.path.parent)
                    self._files.sync_dir(path.parent)
                except FileNotFoundError:
                    return None  # purged meanwhile
                except OSError as error:
                    raise _disk(error) from error
            elif not here and self._layout.apart(fault.sha256).exists():
                damage = fault.found("damaged", self._layout.apart(fault.sha256))
        if not self._add(damage):
            return None
        log.error("object set apart", kind=damage.kind, study=damage.study_uid, sop=damage.sop_uid)
        return damage

    def _wrong(self, fault: Fault, path: Path) -> FaultKind | None:
        try:
            whole = digest_of(path, fault.offset, fault.size) == fault.sha256
        except FileNotFoundError:
            if not path.parent.is_dir():
                raise StorageError(
                    "The archive's disk is not there.", why=f"There is no {path.parent}."
                ) from None
            return "missing"
        except OSError as error:
            if error.errno not in _UNREADABLE:
                raise _disk(error) from error
            return "damaged"
        return None if whole else "damaged"

    def _wrong_away(self, fault: Fault, kind: FaultKind) -> FaultKind | None:
        """What is wrong with an object of which the disk has nothing whole, by what the object store has."""
        if self._bucket is None:
            return kind
        try:
            return None if self._is_whole_away(fault) else "damaged"
        except NotFound:
            return kind
        except CrosslightError as error:
            if kind == "damaged":
                return kind
            raise StorageError("The archive's object store cannot be read now.", why=error.what) from None

    def _is_whole_away(self, fault: Fault) -> bool:
        assert self._bucket is not None  # noqa: S101 - whoever asks has looked
        seen, at, end = hashlib.sha256(), 0, fault.offset + fault.size
        for data in self._bucket.read(fault.sha256):
            seen.update(data[max(fault.offset - at, 0) : max(end - at, 0)])
            at += len(data)
        if whole := seen.digest() == fault.sha256:
            now = self._clock.now().timestamp()
            self._db.submit_write(
                "carried",
                lambda tx: carried.note_tx(tx, fault.sha256, at, now),
            ).result()
        return whole

    def _remove_copy(self, fault: Fault, damaged: Path) -> None:
        """The object store has it whole: what the disk has of it is a copy, and may go."""
        with self._pending.lock:
            if not self._pending.holds(fault.sha256):
                self._files.remove(damaged)
        now = self._clock.now().timestamp()
        gone = [(fault.sha256, False)]
        self._db.submit_write("carried_gone", lambda tx: carried.here_tx(tx, gone, now)).result()
        log.error("a damaged copy removed", study=fault.study_uid, sop=fault.sop_uid)

    def _stands(self, fault: Fault) -> bool:
        return self._db.submit_read(
            "fault_stands", lambda tx: rows.stands_tx(tx, fault.sha256, self.due_unix)
        ).result()

    def _add(self, damage: Fault) -> bool:
        now = self._clock.now().timestamp()
        return self._db.submit_write(
            "fault", lambda tx: rows.add_fault_tx(tx, damage, self.due_unix, now)
        ).result()

    def look_again(self, *, apart: bool) -> list[Fault]:
        """Of all that is set apart, what is whole again in its place; ``apart``: or where it was put."""
        standing = self._db.submit_read("faults", lambda tx: rows.faults_tx(tx, ALL)).result()
        return [fault for fault, _ in standing if self._healed(fault, look_apart=apart)]

    def _healed(self, fault: Fault, *, look_apart: bool) -> bool:
        path, apart = self._layout.held(fault.sha256), self._layout.apart(fault.sha256)
        if not _is_whole(path, fault):
            if not look_apart:
                return False
            if not _is_whole(apart, fault):
                return self._healed_away(fault)
            with self._pending.lock:  # a disk that could not be read for a while
                if self._pending.holds(fault.sha256):
                    return False
                self._files.publish(apart, self._layout.back(apart))
        self._db.submit_write("healed", lambda tx: carried.healed_here_tx(tx, fault.sha256)).result()
        return self._whole_again(fault)

    def _healed_away(self, fault: Fault) -> bool:
        try:
            if self._bucket is None or not self._is_whole_away(fault):
                return False
        except CrosslightError:
            return False
        self._db.submit_write("healed", lambda tx: rows.forget_fault_tx(tx, fault.sha256)).result()
        return self._whole_again(fault)

    def _whole_again(self, fault: Fault) -> bool:
        for left in self._layout.all_apart(fault.sha256):
            self._files.remove(left)
        log.info("object whole again", study=fault.study_uid, sop=fault.sop_uid)
        return True


def _is_whole(path: Path, fault: Fault) -> bool:
    try:
        return digest_of(path, fault.offset, fault.size) == fault.sha256
    except OSError:
        return False


def _disk(error: OSError) -> StorageError:
    return StorageError("The archive's disk cannot be read.", why=error.strerror or type(error).__name__)
