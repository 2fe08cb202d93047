"""Maintenance of what is held. Blocking; runs in workers.

The bin, purging, reconciling files with rows, verifying every byte.

An object's file belongs to its digest: it stays as long as any row, live or in the bin, names that digest.
"""

from __future__ import annotations

import mmap
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from pathlib import Path

from crosslight.runtime.db import Tx
from crosslight.runtime.files import Files
from crosslight.runtime.log import get_logger
from crosslight.standards.dicom.file import gate
from crosslight.standards.problem import NotFound, PeerError
from node.archive import carried_rows, variants
from node.archive.bucket import Bucket
from node.archive.config import ArchiveConfig
from node.archive.digest import digest_of
from node.archive.faults import Faults
from node.archive.holds import Holds
from node.archive.ingest import Ingestor
from node.archive.model import BinEntry, Fault, VerifyReport
from node.archive.queries import live_tx
from node.archive.staging import StageFolder, received_of
from node.archive.store import Storage
from node.holdings import Received

log = get_logger("archive")
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
        faults: Faults,
        holds: Holds,
        config: ArchiveConfig,
        changed: Callable[[str], None],
    ) -> None:
        self._db = storage.db
        self._layout = storage.layout
        self._store = storage.store
        self._clock, self._files = storage.clock, storage.files
        self._ingestor = ingestor
        self._stage = stage
        self._faults, self._holds = faults, holds
        self._bucket, self._most_bytes = storage.bucket, config.max_object_bytes
        self._bin_days = config.bin_days
        self._changed = changed

    # --- the bin --------------------------------------------------------------------------------------------

    def delete(self, study_uid: str, reason: str, check: Callable[[Tx], None] | None = None) -> int:
        """Put a study into the bin; how many instances went.

        Args:
            study_uid: Which.
            reason: Kept with it.
            check: Raises in the transaction where it may not go after all.

        Raises:
            NotFound: when nothing of it is here.
            Conflict: it is under a legal hold.
        """
        self._ingestor.journal.settle()
        now = self._clock.now().timestamp()

        def work(tx: Tx) -> int:
            held_rows = tx.row(
                "SELECT COUNT(*) FROM instance WHERE study_uid = ? AND binned = 0", (study_uid,)
            )
            if held_rows is None or not held_rows[0]:
                raise NotFound("This study is not held here.", where="StudyInstanceUID")
            self._holds.refuse_tx(tx, study_uid)
            if check is not None:
                check(tx)
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
        self._ingestor.journal.settle()
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
        """Remove for good what has been in the bin for ``bin_days`` and is not held; how many instances went.

        Files go first, then rows: a crash between leaves rows in the bin, which the next purge removes.
        """
        before = (self._clock.now() - timedelta(days=self._bin_days)).timestamp()
        due = self._db.submit_read(
            "purge_due", lambda tx: tx.rows("SELECT id FROM bin WHERE deleted_unix <= ?", (before,))
        )
        gone = 0
        try:
            for row in due.result():
                gone += self._purge_entry(row[0])
        except PeerError as error:  # the object store is away: what is left goes once it answers
            log.warning("the bin is not purged", reason=error.what)
        if gone:
            log.info("bin purged", instances=gone)
            self._forget_attributes()
        return gone

    def _forget_attributes(self) -> None:
        """Remove attribute sets, with the patient's name in them, that no instance has any more.

        They are looked for beside all writers, for that takes a while. What is found is set aside first, so
        that no object that comes meanwhile takes it up, and looked for again.
        """
        if not (aside := self._db.submit_read("variants_unused", variants.unused_tx).result()):
            return
        self._db.submit_write("variants_aside", partial(variants.set_aside_tx, aside)).result()
        unused = aside & self._db.submit_read("variants_unused", variants.unused_tx).result()
        self._db.submit_write(
            "variants_forgotten", partial(variants.forget_tx, unused, aside - unused)
        ).result()

    def _purge_entry(self, entry: int) -> int:
        sql = "SELECT id, sha256 FROM instance WHERE visible = 0 AND binned = ? LIMIT 500"
        gone = 0
        while page := self._db.submit_read("purge_page", lambda tx: tx.rows(sql, (entry,))).result():
            if not self._db.submit_write("purge_claim", lambda tx: self._claim_tx(tx, entry)).result():
                return gone
            for number, sha256 in page:
                self._purge_one(number, sha256)
            gone += len(page)
        self._db.submit_write(
            "purge_entry", lambda tx: tx.execute("DELETE FROM bin WHERE id = ?", (entry,))
        ).result()
        return gone

    def _claim_tx(self, tx: Tx, entry: int) -> bool:
        """Whether the next objects of an entry may go: a hold that is placed from now on is told of them."""
        row = tx.row("SELECT study_uid FROM bin WHERE id = ?", (entry,))
        free = row is not None and not self._holds.of_tx(tx, row[0])
        tx.execute("UPDATE bin SET purging = ? WHERE id = ?", (int(free), entry))
        return free

    def _purge_one(self, number: int, sha256: bytes) -> None:
        if self._bucket is None or not sha256:
            self._purge_here(number, sha256)
            self._forget(number)
        else:
            with self._bucket.claimed(sha256):  # it is not carried meanwhile
                self._bucket.ready_here()
                # relied on no more: whoever needs the object after all finds it there, or carries it again
                self._db.submit_write("uncarried", lambda tx: carried_rows.forget_tx(tx, sha256)).result()
                if self._purge_here(number, sha256):
                    self._bucket.remove(sha256)
                self._forget(number)

    def _forget(self, number: int) -> None:
        self._db.submit_write("purge_rows", lambda tx: self._store.purge_tx(tx, number)).result()

    def _purge_here(self, number: int, sha256: bytes) -> bool:
        """Remove what the disk has of an object, unless another row needs it; whether it goes."""
        others = "SELECT 1 FROM instance WHERE sha256 = ? AND id <> ? LIMIT 1"
        pending = self._ingestor.pending
        with pending.lock:
            shared = self._db.submit_read(
                "purge_shared", lambda tx: tx.row(others, (sha256, number))
            ).result()
            goes = bool(sha256) and shared is None and not pending.holds(sha256)  # b'': it lies elsewhere
            if goes:
                for path in self._layout.copies(sha256):
                    self._files.remove(path)
        return goes

    # --- files and rows -------------------------------------------------------------------------------------

    def adopt(self) -> int:
        """After a crash: rows for what was acknowledged and has none yet; how many objects.

        These are objects that still have their name in the stage of a process that ended. What else it left
        is thrown away.
        """
        adopted = 0
        for path in self._stage.left():
            received = received_of(self._files.noted(path))
            if received is not None and self._is_object(path):
                adopted += self._ingestor.ingest(self._stage.link(path), received).state == "stored"
        self._ingestor.journal.settle()
        if swept := self._stage.sweep():
            log.info("unfinished objects swept", count=swept, n=adopted)
        return adopted

    def _is_object(self, path: Path) -> bool:
        """Whether a staged file, whole, has the name of its digest too."""
        for sha256 in _digests_of(self._files, path):
            final = self._layout.object(sha256)
            if final.exists() and final.samefile(path):
                return True
        return False

    def reconcile(self) -> Reconciled:
        """Find object files that no row names: whole ones are taken in, broken ones removed.

        They are what a crash between rename and commit leaves, or what a database restored from a backup does
        not know yet.
        """
        adopted = removed = 0
        if not self._stage.alone():
            return Reconciled(0, 0)
        self._ingestor.journal.settle()
        for prefix in self._layout.prefixes():
            known = self._known_below(prefix)
            for sha256, path in self._layout.below(prefix):
                if sha256 not in known:
                    taken = self._orphan(sha256, path)
                    adopted += taken is True
                    removed += taken is False
        adopted += self._adopt_away()
        self._ingestor.journal.settle()
        if adopted or removed:
            log.warning("reconciled", count=adopted + removed, n=adopted)
        return Reconciled(adopted, removed)

    def _adopt_away(self) -> int:
        """Take in what the object store has and no row names; how many objects."""
        if self._bucket is None:
            return 0
        adopted = 0
        try:
            for prefix in self._layout.prefixes():
                listed = set(self._bucket.below(prefix))
                unknown = listed - self._known_below(prefix) if listed else set()
                adopted += sum(self._taken_in(self._bucket, sha256) for sha256 in unknown)
        except PeerError as error:  # nothing is removed: the next time will do
            log.warning("the object store is not reconciled", reason=error.what)
        return adopted

    def _taken_in(self, bucket: Bucket, sha256: bytes) -> bool:
        if self._knows(sha256):
            return False
        staged = self._stage.new(self._most_bytes)
        try:
            for data in bucket.read(sha256):
                staged.write(data)
        except NotFound:  # purged meanwhile
            staged.discard()
            return False
        except BaseException:
            staged.discard()
            raise
        received = Received(road="import", peer="reconciled")
        return self._ingestor.ingest(staged, received).state == "stored"

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
            if sha256 not in _digests_of(self._files, path):
                self._files.remove(path)
                return False
            staged = self._stage.link(path)
        received = received_of(self._files.noted(path)) or Received(road="import", peer="reconciled")
        state = self._ingestor.ingest(staged, received).state
        if state == "refused":  # its link is in quarantine now
            self._files.remove(path)
        return True if state in ("stored", "duplicate") else None if state == "full" else False

    def verify(self, progress: Progress | None = None) -> VerifyReport:
        """Read and hash every object there is; what is not whole is set apart."""
        self._ingestor.journal.settle()
        self._faults.look_again(apart=True)
        rows = self._db.submit_read("verify_rows", lambda tx: list(live_tx(tx))).result()
        faults: list[Fault] = []
        for done, row in enumerate(rows, 1):
            if (fault := self._faults.look(Fault("damaged", *row))) is not None:
                faults.append(fault)
            if progress is not None:
                progress(done, len(rows))
        reconciled = self.reconcile()
        return VerifyReport(
            checked=len(rows), faults=tuple(faults), orphans=reconciled.adopted + reconciled.removed
        )


def _digests_of(files: Files, path: Path) -> Iterator[bytes]:
    """Digests of the data set of a file, if that is whole: to its end, and without padding after it."""
    with files.open(path) as handle:
        head = handle.read(1 << 16)
    try:
        _, offset = gate.read_meta(head)
    except gate.Refused:
        return
    yield digest_of(path, offset)
    yield _digest_without_tail(path)


def _digest_without_tail(path: Path) -> bytes:
    """SHA-256 of the data set alone, of a file that may have padding after it; b'' when it cannot be read."""
    with path.open("rb") as handle, mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        try:
            examined = gate.examine(mapped)
        except gate.Refused:
            return b""
        start, end = examined.dataset_offset, examined.dataset_end
    return digest_of(path, start, end - start)
