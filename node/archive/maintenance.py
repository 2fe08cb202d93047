"""Maintenance of what is held. Blocking; runs in workers.

The bin, purging, reconciling files with rows, verifying every byte.

An object's file belongs to its digest: it stays as long as any row, live or in the bin, names that digest.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from crosslight.runtime.db import Tx
from crosslight.runtime.log import get_logger
from crosslight.standards.dicom.file import gate
from crosslight.standards.problem import NotFound
from node.archive.ingest import Ingestor
from node.archive.model import BinEntry, Fault, VerifyReport
from node.archive.queries import live_tx
from node.archive.staging import StageFolder
from node.archive.store import Storage
from node.holdings import Received

log = get_logger("archive")
_CHUNK = 1 << 20
Progress = Callable[[int, int], None]  # done, of how many


@dataclass(frozen=True, slots=True)
class Reconciled:
    """Files without a row: taken in, or removed because they were never whole."""

    adopted: int
    removed: int


class Maintenance:
    """The care of one archive's objects and rows."""

    def __init__(
        self,
        storage: Storage,
        ingestor: Ingestor,
        stage: StageFolder,
        bin_days: float,
        changed: Callable[[str], None],
    ) -> None:
        self._db = storage.db
        self._layout = storage.layout
        self._store = storage.store
        self._clock, self._files = storage.clock, storage.files
        self._ingestor = ingestor
        self._stage = stage
        self._bin_days = bin_days
        self._changed = changed

    # --- the bin --------------------------------------------------------------------------------------------

    def delete(self, study_uid: str, reason: str) -> int:
        """Put a study into the bin; how many instances went.

        Raises:
            NotFound: when nothing of it is here.
        """
        now = self._clock.now().timestamp()

        def work(tx: Tx) -> int:
            held_rows = tx.row(
                "SELECT COUNT(*) FROM instance WHERE study_uid = ? AND binned = 0", (study_uid,)
            )
            if held_rows is None or not held_rows[0]:
                raise NotFound("This study is not held here.", where="StudyInstanceUID")
            row = tx.row(
                "INSERT INTO bin (study_uid, reason, deleted_unix) VALUES (?,?,?) RETURNING id",
                (study_uid, reason[:500], now),
            )
            assert row is not None  # noqa: S101 - RETURNING always gives a row
            (deletion,) = row
            tx.execute(
                "UPDATE instance SET binned = ?, visible = 0 WHERE study_uid = ? AND binned = 0",
                (deletion, study_uid),
            )
            self._store.refresh_tx(tx, study_uid)
            self._store.marks.touch_tx(tx, study_uid, now)
            return int(held_rows[0])

        count = self._db.submit_write("delete_study", work).result()
        log.info("study deleted", study=study_uid, instances=count)
        self._changed(study_uid)
        return count

    def restore(self, study_uid: str) -> int:
        """Take the newest deletion of a study back out of the bin; how many instances came back.

        An instance that has been received again since stays as it is now.

        Raises:
            NotFound: when it is not in the bin.
        """
        now = self._clock.now().timestamp()

        def work(tx: Tx) -> int:
            (deletion,) = tx.row("SELECT MAX(id) FROM bin WHERE study_uid = ?", (study_uid,)) or (None,)
            if deletion is None:
                raise NotFound(
                    "This study is not in the bin.", todo="See status for what is.", where="StudyInstanceUID"
                )
            count = tx.execute(
                "UPDATE instance SET binned = 0, visible = (kind = 'content' AND hidden = '') WHERE binned ="
                " ? AND study_uid = ? AND sop_uid NOT IN (SELECT sop_uid FROM instance WHERE study_uid = ?"
                " AND binned = 0)",
                (deletion, study_uid, study_uid),
            )
            (left,) = tx.row("SELECT COUNT(*) FROM instance WHERE binned = ?", (deletion,)) or (0,)
            if not left:
                tx.execute("DELETE FROM bin WHERE id = ?", (deletion,))
            self._store.refresh_tx(tx, study_uid)
            self._store.marks.touch_tx(tx, study_uid, now)
            return count

        count = self._db.submit_write("restore_study", work).result()
        log.info("study restored", study=study_uid, instances=count)
        self._changed(study_uid)
        return count

    def bin_tx(self, tx: Tx) -> list[BinEntry]:
        """What is in the bin, newest first."""
        rows = tx.rows(
            "SELECT b.id, b.study_uid, b.reason, b.deleted_unix, (SELECT COUNT(*) FROM instance i WHERE"
            " i.visible = 0 AND i.binned = b.id) AS n FROM bin b WHERE n > 0 ORDER BY b.id DESC LIMIT 1000"
        )
        return [
            BinEntry(id=r[0], study_uid=r[1], reason=r[2], deleted_unix=r[3], instances=r[4]) for r in rows
        ]

    def purge(self) -> int:
        """Remove for good what has been in the bin for ``bin_days``; how many instances went.

        Files go first, then rows: a crash between leaves rows in the bin, which the next purge removes.
        """
        before = (self._clock.now() - timedelta(days=self._bin_days)).timestamp()
        due = self._db.submit_read(
            "purge_due", lambda tx: tx.rows("SELECT id FROM bin WHERE deleted_unix <= ?", (before,))
        )
        gone = sum(self._purge_entry(row[0]) for row in due.result())
        if gone:
            log.info("bin purged", instances=gone)
        return gone

    def _purge_entry(self, entry: int) -> int:
        sql = "SELECT id, sha256 FROM instance WHERE visible = 0 AND binned = ? LIMIT 500"
        gone = 0
        while page := self._db.submit_read("purge_page", lambda tx: tx.rows(sql, (entry,))).result():
            for number, sha256 in page:
                self._purge_one(number, sha256)
            gone += len(page)
        self._db.submit_write(
            "purge_entry", lambda tx: tx.execute("DELETE FROM bin WHERE id = ?", (entry,))
        ).result()
        return gone

    def _purge_one(self, number: int, sha256: bytes) -> None:
        others = "SELECT 1 FROM instance WHERE sha256 = ? AND id <> ? LIMIT 1"
        pending = self._ingestor.pending
        with pending.lock:
            shared = self._db.submit_read(
                "purge_shared", lambda tx: tx.row(others, (sha256, number))
            ).result()
            if shared is None and not pending.holds(sha256):
                self._files.remove(self._layout.object(sha256))

        def forget(tx: Tx) -> None:
            tx.execute("DELETE FROM instance WHERE id = ? AND binned > 0", (number,))
            for table in ("metadata", "large_metadata"):
                tx.execute(
                    f"DELETE FROM {table} WHERE id = ? AND NOT EXISTS (SELECT 1 FROM instance WHERE id = ?)",
                    (number, number),
                )

        self._db.submit_write("purge_rows", forget).result()

    # --- files and rows -------------------------------------------------------------------------------------

    def reconcile(self) -> Reconciled:
        """Find object files that no row names: whole ones are taken in, broken ones removed.

        They are what a crash between rename and commit leaves, or what a database restored from a backup does
        not know yet.
        """
        adopted = removed = 0
        if not self._stage.alone():
            return Reconciled(0, 0)
        for prefix in self._layout.prefixes():
            known = self._known_below(prefix)
            for sha256, path in self._layout.below(prefix):
                if sha256 not in known:
                    taken = self._orphan(sha256, path)
                    adopted += taken is True
                    removed += taken is False
        if adopted or removed:
            log.warning("reconciled", count=adopted + removed, n=adopted)
        return Reconciled(adopted, removed)

    def _known_below(self, prefix: str) -> set[bytes]:
        span = (bytes.fromhex(prefix) + bytes(31), bytes.fromhex(prefix) + b"\xff" * 31)
        sql = "SELECT sha256 FROM instance WHERE sha256 BETWEEN ? AND ?"
        return {
            row[0] for row in self._db.submit_read("known_digests", lambda tx: tx.rows(sql, span)).result()
        }

    def _knows(self, sha256: bytes) -> bool:
        return self._db.submit_read("known", lambda tx: self._store.knows_content_tx(tx, sha256)).result()

    def _orphan(self, sha256: bytes, path: Path) -> bool | None:
        """Take in or remove one file; None when it is on its way in, has arrived by now, or must wait."""
        pending = self._ingestor.pending
        with pending.lock:
            if pending.holds(sha256) or self._knows(sha256) or not path.exists():
                return None
            if not self._whole(sha256, path):
                self._files.remove(path)
                return False
            staged = self._stage.link(path)
        state = self._ingestor.ingest(staged, Received(road="import", peer="reconciled")).state
        if state == "refused":  # its link is in quarantine now
            self._files.remove(path)
        return True if state in ("stored", "duplicate") else None if state == "full" else False

    def _whole(self, sha256: bytes, path: Path) -> bool:
        with self._files.open(path) as handle:
            head = handle.read(1 << 16)
        try:
            _, offset = gate.read_meta(head)
        except gate.Refused:
            return False
        return sha256 in (digest_of(path, offset), _digest_without_tail(path))

    def verify(self, progress: Progress | None = None) -> VerifyReport:
        """Read and hash every object there is."""
        rows = self._db.submit_read("verify_rows", lambda tx: list(live_tx(tx))).result()
        faults: list[Fault] = []
        for done, (study_uid, sop_uid, sha256, offset, size) in enumerate(rows, 1):
            path = self._layout.object(sha256)
            damaged = Fault("damaged", study_uid, sop_uid, sha256, offset, size, path)
            try:
                if digest_of(path, offset, size) != sha256:
                    faults.append(damaged)
            except FileNotFoundError:
                if self._knows(sha256):
                    faults.append(damaged.found("missing", path))
            except OSError:
                faults.append(damaged)
            if progress is not None:
                progress(done, len(rows))
        reconciled = self.reconcile()
        return VerifyReport(
            checked=len(rows), faults=tuple(faults), orphans=reconciled.adopted + reconciled.removed
        )


def digest_of(path: Path, offset: int, size: int | None = None) -> bytes:
    """SHA-256 of ``size`` bytes of a file from ``offset`` on; to its end when ``size`` is None."""
    digest = hashlib.sha256()
    left = path.stat().st_size if size is None else size
    with path.open("rb") as handle:
        handle.seek(offset)
        while chunk := handle.read(min(_CHUNK, left)):
            digest.update(chunk)
            left -= len(chunk)
    return digest.digest()


def _digest_without_tail(path: Path) -> bytes:
    """SHA-256 of the data set alone, of a file that may have padding after it; b'' when it cannot be read."""
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        try:
            examined = gate.examine(mapped)
        except gate.Refused:
            return b""
        start, end = examined.dataset_offset, examined.dataset_end
    return digest_of(path, start, end - start)
