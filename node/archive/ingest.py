"""The one way in (docs/architecture.md): gate, hash, fsync, rename, commit.

Only then is success answered.

Runs in the caller's thread: DIMSE has one for each association, HTTP goes through the workers. Untrusted
bytes meet only our own bounded walk here (gate.py); what our reader cannot make sense of is read by pydicom
in a bounded child (D27).
"""

from __future__ import annotations

import hashlib
import mmap
import threading
from collections.abc import Callable
from pathlib import Path

import zstandard

from crosslight.runtime.log import get_logger
from crosslight.runtime.workers import Workers
from crosslight.standards.dicom.file import gate, header
from crosslight.standards.dicom.file.header import Header
from crosslight.standards.dicom.file.verdict import notes_to_bits
from crosslight.standards.problem import CrosslightError, OutOfSpace
from crosslight.standards.study import InstanceRef
from node.archive.config import ArchiveConfig
from node.archive.quarantine import Quarantine
from node.archive.staging import Staged
from node.archive.store import Facts, Ingested, Storage, attribute_blobs, patient_attributes
from node.holdings import CANNOT_UNDERSTAND, MISMATCH, OUT_OF_RESOURCES, SUCCESS, IngestResult, Received

log = get_logger("archive")

CONFLICT = 0xC111  # of the Cxxx range, which is ours to divide: another object is kept under this UID
#: Reason of a refusal -> C-STORE status, where it is not Cannot Understand.
STATUS: dict[str, int] = {"sop-class": MISMATCH, "meta-mismatch": MISMATCH, "conflict": CONFLICT}
_FALLBACK_BYTES = 64 << 20


class Pending:
    """Digests between naming and commit in this process: one at a time each.

    Care must not touch their files.
    """

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._freed = threading.Condition(self.lock)
        self._held: set[bytes] = set()

    def add(self, sha256: bytes) -> None:
        """Before the file gets its name; waits for an equal object that is on its way."""
        with self._freed:
            while sha256 in self._held:
                self._freed.wait()
            self._held.add(sha256)

    def remove(self, sha256: bytes) -> None:
        """After the commit."""
        with self._freed:
            self._held.discard(sha256)
            self._freed.notify_all()

    def holds(self, sha256: bytes) -> bool:
        """Whether it is on its way; call with ``lock`` held."""
        return sha256 in self._held


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
        self._files, self._clock = storage.files, storage.clock
        self._quarantine = quarantine
        self._workers = workers
        self._config = config
        self._changed = changed
        self._limits = config.limits()
        self._local = threading.local()
        self.pending = Pending()

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

    def ingest(self, staged: Staged, received: Received) -> IngestResult:
        """Take in one object; durable when it is answered as stored or duplicate.

        Never raises for what the object is.

        Raises:
            StorageError: when the disk or the database refused; nothing was stored.
        """
        try:
            self.check_space()
            staged.begin_writing()  # the disk works while we read
            object_header, facts = self._read(staged, received)
        except gate.Refused as refusal:
            return self._refuse(staged, received, refusal)
        except OutOfSpace as error:
            staged.discard()
            return IngestResult(state="full", status=OUT_OF_RESOURCES, reason=error.what)
        except BaseException:
            staged.discard()
            raise
        try:
            return self._keep(staged, received, object_header, facts)
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

    # --- reading --------------------------------------------------------------------------------------------

    def _read(self, staged: Staged, received: Received) -> tuple[Header, Facts]:
        if not staged.size:
            raise gate.Refused("not-dicom", "This is an empty file.")
        content = staged.content()
        if content is not None:
            return self._parse(content, staged, received)
        with (
            self._files.open(staged.path) as handle,
            mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        ):
            return self._parse(mapped, staged, received)

    def _parse(self, data: gate.Buffer, staged: Staged, received: Received) -> tuple[Header, Facts]:
        parsed = gate.examine(data, limits=self._limits)
        _check_announced(parsed, received)
        try:
            object_header = header.read(parsed)
        except Exception:
            log.exception("header fallback")
            object_header = self._fallback(data, parsed)
        offset, length = gate.pixel_span(parsed)
        hashed = staged.dataset_offset == parsed.dataset_offset and parsed.dataset_end == len(data)
        sha256 = staged.dataset_sha256() if hashed else None
        if sha256 is None:
            with memoryview(data) as whole, whole[parsed.dataset_offset : parsed.dataset_end] as dataset:
                sha256 = hashlib.sha256(dataset).digest()
        size = parsed.dataset_end - parsed.dataset_offset
        notes = object_header.notes | (
            {"no-meta"} if received.road == "import" and received.transfer_syntax_uid else set()
        )
        study_json, series_json = attribute_blobs(object_header)
        facts = Facts(
            sha256=sha256,
            size_bytes=size,
            dataset_offset=parsed.dataset_offset,
            pixel_offset=offset,
            pixel_length=length,
            tiff_preamble=parsed.tiff_preamble,
            received=received,
            received_unix=self._clock.now().timestamp(),
            metadata_zstd=self._compress(object_header.metadata),
            study_json=study_json,
            series_json=series_json,
            large_zstd=self._compress(object_header.large) if object_header.large else b"",
            notes=notes_to_bits(notes),
        )
        return object_header, facts

    def _fallback(self, data: gate.Buffer, parsed: gate.Parsed) -> Header:
        if len(data) > _FALLBACK_BYTES:
            raise gate.Refused("unreadable", "The object cannot be read.")
        try:
            attributes, syntax = self._workers.run_bounded_sync(header.read_with_pydicom, bytes(data[:]))
            object_header = header.from_attributes(attributes, syntax, parsed.notes)
        except CrosslightError as error:
            raise gate.Refused("unreadable", error.what, why=error.why) from None
        except Exception:  # noqa: BLE001 - pydicom has no base of its own for errors
            raise gate.Refused("unreadable", "The object cannot be read.") from None
        walked = (parsed.text(0x00080018), parsed.text(0x0020000D))
        if (object_header.sop_uid, object_header.study_uid) != walked:
            raise gate.Refused("unreadable", "The object reads differently to different readers.")
        return object_header

    def _compress(self, data: bytes) -> bytes:
        compressor: zstandard.ZstdCompressor | None = getattr(self._local, "zstd", None)
        if compressor is None:
            compressor = self._local.zstd = zstandard.ZstdCompressor(level=3)
        return compressor.compress(data)

    # --- keeping --------------------------------------------------------------------------------------------

    def _keep(self, staged: Staged, received: Received, object_header: Header, facts: Facts) -> IngestResult:
        final = self._layout.object(facts.sha256)
        self.pending.add(facts.sha256)
        try:
            named = self._give_name(staged, final, facts.sha256)
            outcome = self._db.submit_write(
                "ingest", lambda tx: self._store.ingest_tx(tx, object_header, facts)
            ).result()
            if outcome.outcome == "conflict":
                return self._conflict(final if named else staged, received, object_header, facts)
        finally:
            self.pending.remove(facts.sha256)
        for study_uid in outcome.changed:
            self._changed(study_uid)
        return _result(outcome, object_header, facts)

    def _give_name(self, staged: Staged, final: Path, sha256: bytes) -> bool:
        """Make the file durable under its object's name; False when a file that is known already has it."""
        if (
            final.exists()
            and self._db.submit_read("known", lambda tx: self._store.knows_content_tx(tx, sha256)).result()
        ):
            return False
        staged.place(final)
        return True

    def _conflict(
        self, source: Staged | Path, received: Received, object_header: Header, facts: Facts
    ) -> IngestResult:
        what = "Another object is kept under this SOP Instance UID; the first one stays."
        if isinstance(source, Path) and not source.exists():  # an equal one, at the same time, has moved it
            return IngestResult(state="conflict", status=CONFLICT, reason=what)
        name = self._quarantine.put(
            source,
            received,
            "conflict",
            what,
            sop_uid=object_header.sop_uid,
            study_uid=object_header.study_uid,
            patient=patient_attributes(facts.study_json),
        )
        return IngestResult(state="conflict", status=CONFLICT, reason=what, quarantine_id=name)


def _result(outcome: Ingested, object_header: Header, facts: Facts) -> IngestResult:
    ref = InstanceRef(
        study_uid=object_header.study_uid,
        series_uid=object_header.series_uid,
        sop_uid=object_header.sop_uid,
        sop_class_uid=object_header.sop_class_uid,
        transfer_syntax_uid=object_header.transfer_syntax_uid,
        number=object_header.number,
        frames=object_header.frames,
        sha256=facts.sha256.hex(),
        size_bytes=facts.size_bytes,
    )
    return IngestResult(
        state="duplicate" if outcome.outcome == "duplicate" else "stored", status=SUCCESS, ref=ref
    )


def _check_announced(parsed: gate.Parsed, received: Received) -> None:
    """The data set must be what C-STORE said it is (PS3.4 B.2.3: Data Set does not match SOP Class)."""
    if received.sop_class_uid and received.sop_class_uid != parsed.text(0x00080016):
        raise gate.Refused(
            "sop-class", "The data set is of another SOP Class than was announced.", why="PS3.4 B.2.3."
        )
    if received.sop_instance_uid and received.sop_instance_uid != parsed.text(0x00080018):
        raise gate.Refused(
            "meta-mismatch", "The data set is another instance than was announced.", why="PS3.4 B.2.3."
        )
