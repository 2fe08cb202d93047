"""The one way in (docs/architecture.md): read, name, fsync; only then is success answered.

Rows follow in groups (:mod:`node.archive.journal`), but for what changes more than its own: notes, what was
here before, and where the file system keeps no note of where a file came from. What is a duplicate or a
conflict is decided before the answer.

Runs in the caller's thread: DIMSE has one for each association, HTTP goes through the workers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from crosslight.runtime.log import get_logger
from crosslight.runtime.workers import Workers
from crosslight.standards.dicom.file import gate
from crosslight.standards.dicom.file.header import Header
from crosslight.standards.problem import OutOfSpace
from crosslight.standards.study import InstanceRef
from node.archive.config import ArchiveConfig
from node.archive.journal import Journal, Journalled, Pending
from node.archive.quarantine import Quarantine
from node.archive.reading import ObjectReader
from node.archive.staging import Staged
from node.archive.store import (
    Arrived,
    Facts,
    Ingested,
    Outcome,
    Storage,
    is_plain_content,
    patient_attributes,
)
from node.holdings import (
    CANNOT_UNDERSTAND,
    MISMATCH,
    OUT_OF_RESOURCES,
    SUCCESS,
    Arriving,
    IngestResult,
    Received,
)

log = get_logger("archive")

CONFLICT = 0xC111  # of the Cxxx range, which is ours to divide: another object is kept under this UID
#: Reason of a refusal -> C-STORE status, where it is not Cannot Understand.
STATUS: dict[str, int] = {"sop-class": MISMATCH, "meta-mismatch": MISMATCH, "conflict": CONFLICT}


class Ingestor:
    """Gate to commit for one archive."""

    def __init__(
        self,
        storage: Storage,
        quarantine: Quarantine,
        workers: Workers,
        config: ArchiveConfig,
        changed: Callable[[str], None],
    ) -> None:
        self._db, self._layout, self._store = storage.db, storage.layout, storage.store
        self._files = storage.files
        self._quarantine = quarantine
        self._config = config
        self._changed = changed
        self._reader = ObjectReader(storage.files, storage.clock, workers, config.limits())
        self.pending = Pending()
        self.journal = Journal(storage, self.pending, self._committed)

    def check_space(self) -> None:
        """Refuse while less than the reserve is free.

        Raises:
            OutOfSpace: with what to do.
        """
        if self._files.free_bytes(self._layout.root) < self._config.min_free_bytes:
            raise OutOfSpace(
                "The archive's disk is nearly full.",
                why="Less than min_free_bytes is free.",
                todo="Try again later.",
            )

    def ingest(self, staged: Staged, received: Received, arriving: Arriving | None = None) -> IngestResult:
        """Take in one object; durable when it is answered as stored or duplicate.

        Never raises for what the object is. ``arriving`` as :meth:`Holdings.ingest` has it.

        Raises:
            StorageError: when the disk or the database refused; nothing was stored.
        """
        try:
            self.check_space()
            self.journal.check()
            staged.begin_writing()  # the disk works while we read
            arrived = self._reader.read(staged, received)
        except gate.Refused as refusal:
            return self._refuse(staged, received, refusal)
        except OutOfSpace as error:
            staged.discard()
            return IngestResult(state="full", status=OUT_OF_RESOURCES, reason=error.what)
        except BaseException:
            staged.discard()
            raise
        try:
            return self._keep(staged, received, arrived, arriving)
        except OutOfSpace as error:
            return IngestResult(state="full", status=OUT_OF_RESOURCES, reason=error.what)
        finally:
            staged.discard()

    def _refuse(self, staged: Staged, received: Received, refusal: gate.Refused) -> IngestResult:
        detail = f"{refusal} [{refusal.where}]" if refusal.where else str(refusal)
        name = self._quarantine.put(
            staged, received, refusal.reason, detail, sop_uid=received.sop_instance_uid
        )
        staged.discard()
        status = STATUS.get(refusal.reason, CANNOT_UNDERSTAND)
        return IngestResult(state="refused", status=status, reason=str(refusal), quarantine_id=name)

    # --- keeping --------------------------------------------------------------------------------------------

    def _keep(
        self, staged: Staged, received: Received, arrived: Arrived, arriving: Arriving | None
    ) -> IngestResult:
        header, facts = arrived
        if received.study_uid not in ("", header.study_uid):
            return IngestResult(state="refused", status=MISMATCH, reason="The instance is of another study.")
        entry = Journalled(arrived, staged.path)
        self.pending.add(*entry.keys, hurry=self.journal.hurry)
        follows = False
        try:
            known = self._db.read_here(lambda tx: self._store.known_tx(tx, header, facts.sha256))
            if known == "conflict":
                return self._conflict(staged, received, arrived)
            if arriving is not None:
                arriving(header.study_uid, header.study)
            if known == "duplicate":
                return _result("duplicate", header, facts)
            noted = staged.note(received, facts.received_unix)
            named = self._give_name(staged, facts.sha256)
            follows = noted and named and known == "new" and is_plain_content(arrived)
            if follows:
                staged.leave()
                self.journal.add(entry)
                return _result("stored", header, facts)
            outcome = self._db.submit_write(
                "ingest", lambda tx: self._store.ingest_tx(tx, header, facts)
            ).result()
            if outcome.outcome == "conflict":
                final = self._layout.object(facts.sha256)
                return self._conflict(final if named else staged, received, arrived)
        finally:
            if not follows:
                self.pending.remove(*entry.keys)
        if outcome.outcome == "restored":
            for apart in self._layout.all_apart(facts.sha256):  # it is whole again
                self._files.remove(apart)
        for study_uid in outcome.changed:
            self._changed(study_uid)
        return _result(outcome.outcome, header, facts)

    def _committed(self, group: Sequence[Journalled], outcomes: Sequence[Ingested]) -> None:
        """The rows of objects that were answered are there."""
        for entry, outcome in zip(group, outcomes, strict=True):
            if outcome.outcome == "conflict":  # another process was first: reconciling puts it aside
                log.error("an object lost its place", sop=entry.arrived[0].sop_uid)
        for study_uid in dict.fromkeys(uid for outcome in outcomes for uid in outcome.changed):
            self._changed(study_uid)

    def _give_name(self, staged: Staged, sha256: bytes) -> bool:
        """Make the file durable under its object's name; False when a whole file that is known has it."""
        final = self._layout.object(sha256)
        if final.exists() and self._db.read_here(lambda tx: self._store.knows_whole_tx(tx, sha256)):
            return False
        staged.place(final)
        return True

    def _conflict(self, source: Staged | Path, received: Received, arrived: Arrived) -> IngestResult:
        header, facts = arrived
        what = "Another object is kept under this SOP Instance UID; the first one stays."
        if isinstance(source, Path) and not source.exists():  # an equal one, at the same time, has moved it
            return IngestResult(state="conflict", status=CONFLICT, reason=what)
        name = self._quarantine.put(
            source,
            received,
            "conflict",
            what,
            sop_uid=header.sop_uid,
            study_uid=header.study_uid,
            patient=patient_attributes(facts.study_json),
        )
        return IngestResult(state="conflict", status=CONFLICT, reason=what, quarantine_id=name)


def _result(outcome: Outcome, header: Header, facts: Facts) -> IngestResult:
    ref = InstanceRef(
        study_uid=header.study_uid,
        series_uid=header.series_uid,
        sop_uid=header.sop_uid,
        sop_class_uid=header.sop_class_uid,
        transfer_syntax_uid=header.transfer_syntax_uid,
        number=header.number,
        frames=header.frames,
        sha256=facts.sha256.hex(),
        size_bytes=facts.size_bytes,
    )
    return IngestResult(state="duplicate" if outcome == "duplicate" else "stored", status=SUCCESS, ref=ref)
