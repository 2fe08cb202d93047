"""The archive of a node: what it holds of its own. Other rooms know it as :class:`~node.holdings.Holdings`.

Everything blocking runs in the workers' threads or the database's; ``ingest`` itself is blocking, for callers
in threads.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from crosslight.runtime.backup_files import Vault
from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.db import EmbeddedDb, Tx
from crosslight.runtime.db.schema import migrate
from crosslight.runtime.db.seam import NEAR_STEPS
from crosslight.runtime.files import Files, private_file
from crosslight.runtime.log import get_logger
from crosslight.runtime.workers import Workers
from crosslight.standards.dicom.file.verdict import Note
from crosslight.standards.dicom.record import record
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.dicom.web.json import Attributes
from crosslight.standards.dicom.web.qido import QidoQuery
from crosslight.standards.dicom.web.qido_attributes import Level
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError, StorageError
from crosslight.standards.study import StudyRecord
from node.archive import backup, fault_rows, search
from node.archive import queries as reads
from node.archive.backup import BackupReport
from node.archive.bucket import Bucket
from node.archive.care import Care
from node.archive.carrier import ObjectCarrier, whose
from node.archive.config import ArchiveConfig
from node.archive.elsewhere import ObjectsElsewhere
from node.archive.faults import Faults
from node.archive.fetching import Fetcher
from node.archive.holds import Holds
from node.archive.importer import Importer, ImportProgress
from node.archive.ingest import Ingestor
from node.archive.layout import layout_in
from node.archive.maintenance import Maintenance, Progress, Reconciled
from node.archive.model import ArchiveStatus, BinEntry, Fault, ImportReport, VerifyReport
from node.archive.mover import Mover
from node.archive.quarantine import Quarantine
from node.archive.retention import Retention
from node.archive.staging import Staged, StageFolder, file_meta
from node.archive.store import SCHEMA, ArchiveStore, Storage, json_of
from node.holdings import Arriving, IngestResult, Local, Opened, Received, Staging, StoredObject, set_apart
from node.marks import Mark

log = get_logger("archive")
T = TypeVar("T")

SEARCH_STEPS = 4_000  # a search that takes more is a thread's: rows also cost what is made of them


class Archive:
    """Objects on disk and their index.

    Args:
        db: The node's database; the archive's tables are its own.
        folder: Holds ``objects``, ``tmp`` and ``quarantine``; one file system.
        files: The seam for durable writes.
        clock: The seam for time.
        ids: The seam for random names.
        workers: Threads and bounded children.
        config: The ``[archive]`` section.
        bucket: Where objects go once they are on the disk; None: nowhere.
    """

    def __init__(
        self,
        db: EmbeddedDb,
        folder: Path,
        files: Files,
        clock: Clock,
        ids: Ids,
        workers: Workers,
        config: ArchiveConfig,
        bucket: Bucket | None = None,
    ) -> None:
        self._db, self._files, self._clock, self._ids = db, files, clock, ids
        self._workers, self._config = workers, config
        self.layout = layout_in(folder)
        self.rules = config.rules()  # the application sets it again once the region is known
        self._listeners: list[Callable[[str], None]] = []
        self._stage = StageFolder(self.layout.tmp, files, ids)
        self._store = ArchiveStore()
        self.quarantine = Quarantine(db, self.layout.quarantine, files, clock, ids, config)
        self._storage = Storage(db, self.layout, self._store, files, clock, bucket)
        self._ingestor = Ingestor(self._storage, self.quarantine, workers, config, self._tell)
        self._faults = Faults(self._storage, self._ingestor.pending, config.bin_days)
        self.care = Care(self._storage, self._faults, workers, config.care)
        pace, reserve = self.care.pace(config.move_mb_per_s), config.min_free_bytes
        self.mover = Mover(self._storage, self._ingestor.pending, self._faults, workers, pace, reserve)
        self.carrier = ObjectCarrier(
            self._storage, self._ingestor.pending, self._faults, self.care, workers, config
        )
        self.fetcher = Fetcher(self._storage, self._stage, self.carrier, self.care, workers)
        self.holds = Holds(db, self._store, clock, lambda: self.rules)
        self._maintenance = Maintenance(
            self._storage, self._ingestor, self._stage, self._faults, self.holds, config, self._tell
        )
        self.retention = Retention(
            self._storage, self._maintenance, self.holds, workers, self.catch_up, config.retention
        )
        self.elsewhere = ObjectsElsewhere(db, self._store, clock, self._tell)
        self._lock, self._purging = threading.Lock(), asyncio.Lock()
        self._refused: tuple[list[tuple[str, bytes]], RecordRules | None, set[Identifier]] = ([], None, set())
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Create or upgrade the tables; after a crash, files and rows are reconciled in the background."""
        await migrate(self._db, "node.archive", SCHEMA)
        await whose(self._storage, self._ids)
        await self._workers.run(self.layout.make, self._files)
        await self._workers.run(self._stage.open)
        await self._workers.run(self._maintenance.adopt)
        clean = self.layout.clean.exists()
        self._files.remove(self.layout.clean)
        task = asyncio.create_task(self._settle(clean))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _settle(self, clean: bool) -> None:
        try:
            if not clean:
                await self._workers.run(self._maintenance.reconcile)
            await self.tidy()
        except CrosslightError as error:
            log.warning("reconciling failed", reason=error.what)

    async def settled(self) -> None:
        """Wait for the background work of the start."""
        for task in list(self._tasks):
            await asyncio.wait({task})

    async def close(self) -> None:
        """Finish background work; the database stays open, it is the node's."""
        await self.settled()
        await self.retention.close()
        await self.fetcher.close()
        await self._ingestor.journal.settled()
        alone = self._ingestor.journal.idle and await self._workers.run(self._stage.alone)
        await self._workers.run(self._stage.close)
        if alone:
            private_file(self.layout.clean)

    # --- in -------------------------------------------------------------------------------------------------

    def stage(self, received: Received | None = None) -> Staged:
        """A place for incoming bytes.

        Args:
            received: Given for a bare data set (``transfer_syntax_uid`` set): its file meta is written first.

        Raises:
            OutOfSpace: below the reserve.
            StorageError: when the disk refuses.
        """
        self._ingestor.check_space()
        self.care.traffic()
        staged = self._stage.new(self._config.max_object_bytes)
        if received is not None and received.transfer_syntax_uid:
            try:
                staged.write(file_meta(received))
                staged.begin_dataset()
            except StorageError:
                staged.discard()
                raise
        return staged

    def ingest(self, staged: Staging, received: Received, arriving: Arriving | None = None) -> IngestResult:
        """As :meth:`Holdings.ingest`."""
        if not isinstance(staged, Staged):
            raise TypeError("only what this archive staged can be taken in")
        return self._ingestor.ingest(staged, received, arriving)

    async def ingest_async(self, staged: Staging, received: Received) -> IngestResult:
        """As :meth:`ingest`, from the event loop."""
        return await self._workers.run(self.ingest, staged, received)

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` with the study's UID after commits that changed it; in any thread, so quick."""
        with self._lock:
            self._listeners.append(callback)

    def _tell(self, study_uid: str) -> None:
        for callback in self._listeners:
            try:
                callback(study_uid)
            except Exception:
                log.exception("change listener")

    # --- out ------------------------------------------------------------------------------------------------

    async def catch_up(self) -> None:
        """Wait for the rows of what was answered a moment ago; listeners were told of them then."""
        await self._ingestor.journal.settled()

    async def _read(self, name: str, fn: Callable[[Tx], T]) -> T:
        await self._ingestor.journal.settled()
        return await self._db.read(name, fn)

    async def _read_near(self, name: str, fn: Callable[[Tx], T], *, steps: int = NEAR_STEPS) -> T:
        await self._ingestor.journal.settled()
        return await self._db.read_near(name, fn, steps=steps)

    async def record(self, study_uid: str) -> StudyRecord | None:
        """The study as it is now; None when nothing of it is visible."""
        instances = await self._read("record", lambda tx: reads.instances_tx(tx, self._store, study_uid))
        return record.build(study_uid, instances, self.rules)

    def patients(self, study_uid: str, arriving: Attributes) -> tuple[Identifier, ...]:
        """As :meth:`Holdings.patients`, for the audit."""
        waiting = self._ingestor.journal.study(study_uid)  # of its first object: no row is waited for
        rows = self._db.read_here(lambda tx: reads.study_attributes_tx(tx, study_uid))
        return self._identifiers(study_uid, rows or waiting or arriving)

    async def patients_of(self, study_uid: str) -> tuple[Identifier, ...]:
        """As :meth:`patients`, from the event loop."""
        return self._identifiers(
            study_uid,
            await self._read_near("patients", lambda tx: reads.study_attributes_tx(tx, study_uid)),
        )

    async def concerned(self, study_uids: Sequence[str]) -> set[Identifier]:
        """Every identifier of every header of these studies: also of one that disagrees with the rest."""

        def read(tx: Tx) -> set[Identifier]:
            headers = reads.variants_of_tx(tx, self._store, study_uids)
            return {i for study_uid, attributes in headers for i in self._identifiers(study_uid, attributes)}

        return await self._read("concerned", read)

    async def refused(self, limit: int) -> tuple[set[Identifier], bool]:
        """As :meth:`Holdings.refused`: of the quarantine; a source may have what is not known here, too."""
        rows = await self.quarantine.patients(limit + 1)
        if (rows, self.rules) != self._refused[:2]:  # asked at every heartbeat, and seldom another
            known = {i for uid, patient in rows if patient for i in self._identifiers(uid, json_of(patient))}
            self._refused = (rows, self.rules, known)
        unread = len(rows) > limit or any(not patient for _, patient in rows)
        return self._refused[2], unread or self.elsewhere.behind()

    def _identifiers(self, study_uid: str, study: Attributes) -> tuple[Identifier, ...]:
        patient = record.patient_of(study, self.rules, study_uid) if study else None
        return tuple(p for p in (patient.local, *patient.others) if p.value) if patient is not None else ()

    async def objects(self, study_uid: str, series_uid: str = "", sop_uid: str = "") -> list[StoredObject]:
        """Visible objects of a study, a series or one instance, in a fixed order; [] when there are none."""
        return await self._read_near(
            "objects", lambda tx: reads.objects_tx(tx, study_uid, series_uid, sop_uid)
        )

    async def open_object(self, stored: StoredObject) -> Opened:
        """Its file, named by its digest; or what the source gives that has it.

        Raises:
            StorageError: it is missing or damaged, and is set apart.
        """
        self.care.traffic()
        self.retention.opened(stored.ref.study_uid)
        if not stored.ref.sha256:
            return await self.elsewhere.open(stored)
        if stored.damaged:
            raise set_apart()
        assert stored.size is not None  # noqa: S101 - of what lies here it is known
        if self._storage.bucket is not None:
            self.carrier.opened(stored.ref.study_uid)
        file = self.layout.object_file(stored.ref.sha256)
        if self._storage.bucket is not None and not os.path.exists(file):
            return await self.fetcher.open(stored)
        return Local(file, 0, stored.size)

    async def damaged(self, sop_uids: Sequence[str]) -> set[str]:
        """Those of these instances that are missing or damaged here."""
        return await self._read("faulty", lambda tx: fault_rows.faulty_tx(tx, sop_uids))

    async def was_here(self, study_uid: str, series_uid: str = "", sop_uid: str = "") -> bool:
        """Whether a study, series or instance was held and is deleted or rejected: 410 instead of 404."""
        return await self._read_near(
            "was_here", lambda tx: reads.was_here_tx(tx, study_uid, series_uid, sop_uid)
        )

    async def metadata(self, objects: Sequence[StoredObject], *, large: bool = True) -> list[bytes]:
        """The DICOM JSON of each of these, without bulk data; ``large``: with sequences of very many items.

        Raises:
            NotFound: one of them is no longer held.
        """
        sop_uids = [stored.ref.sop_uid for stored in objects]
        return await self._read_near("metadata", lambda tx: reads.metadata_tx(tx, sop_uids, large=large))

    async def search(self, level: Level, query: QidoQuery) -> list[Attributes]:
        """The page of ``query``: full DICOM JSON rows of the level and those above."""
        return await self._read_near(
            "search", lambda tx: search.search_tx(tx, level, query), steps=SEARCH_STEPS
        )

    async def study_uids(self, after: str = "", limit: int = 1000) -> list[str]:
        """UIDs of visible studies in their order, after one of them: a census in pages."""
        return await self._read("study_uids", lambda tx: reads.study_uids_tx(tx, after, limit))

    async def marks(self, after_serial: int = 0, limit: int = 1000) -> list[Mark]:
        """Change marks that moved after ``after_serial``, in the order of their latest change (D14)."""
        return await self._read("marks", lambda tx: self._store.marks.moved_tx(tx, after_serial, limit))

    async def mark(self, study_uid: str) -> Mark | None:
        """The change mark of one study; None when it was never here."""
        return await self._read("mark", lambda tx: self._store.marks.of_tx(tx, study_uid))

    async def touch(self, study_uids: Sequence[str]) -> None:
        """Mark studies as changed although no object came: what is made of them is made anew (D14)."""
        now = self._clock.now().timestamp()
        await self._db.write("touch", lambda tx: self._store.marks.touch_all_tx(tx, study_uids, now))
        for study_uid in study_uids:
            self._tell(study_uid)

    async def status(self) -> ArchiveStatus:
        """Counts and space."""
        counts = await self._read("counts", reads.counts_tx)
        free = self._files.free_bytes(self.layout.root)
        return ArchiveStatus(**counts, free_bytes=free, accepting=free >= self._config.min_free_bytes)

    async def note_counts(self) -> list[tuple[Note, int]]:
        """What the reader tolerated, and in how many studies each."""
        return await self._read("note_counts", reads.note_counts_tx)

    async def noted(self, after: str = "", limit: int = 1000) -> list[tuple[str, tuple[Note, ...]]]:
        """The next studies, after one of them, in which the reader tolerated something, and what."""
        return await self._read("noted", lambda tx: reads.noted_tx(tx, after, limit))

    # --- care -----------------------------------------------------------------------------------------------

    async def delete(self, study_uid: str, reason: str) -> int:
        """Put a study into the bin for ``bin_days``; how many went. Raises NotFound, Conflict (held)."""
        return await self._workers.run(self._maintenance.delete, study_uid, reason)

    async def restore(self, study_uid: str) -> int:
        """Take a study back out of the bin; how many instances came back. Raises NotFound."""
        return await self._workers.run(self._maintenance.restore, study_uid)

    async def bin(self) -> list[BinEntry]:
        """What can be restored, newest first."""
        return await self._db.read("bin", self._maintenance.bin_tx)

    async def purge(self) -> int:
        """Remove for good what has been in the bin long enough."""
        async with self._purging:
            return await self._workers.run(self._maintenance.purge)

    async def tidy(self) -> None:
        """Purge the bin and bound the quarantine; the application calls it daily."""
        await self.retention.note_opened()
        await self.purge()
        await self._workers.run(self.quarantine.sweep)

    async def reconcile(self) -> Reconciled:
        """Take in or remove object files that no row names."""
        return await self._workers.run(self._maintenance.reconcile)

    async def faults(self, limit: int) -> list[tuple[Fault, float]]:
        """What is missing or damaged, the newest first, and when that was found."""
        return await self._db.read("faults", lambda tx: fault_rows.faults_tx(tx, limit))

    async def verify(self, progress: Progress | None = None) -> VerifyReport:
        """Re-hash every object, set apart what is not whole; ``progress(done, n)`` is told in a thread."""
        return await self._workers.run(self._maintenance.verify, progress)

    async def import_paths(
        self, paths: Sequence[Path], progress: ImportProgress | None = None
    ) -> ImportReport:
        """Take in files and folders; ``progress(report)`` is called in a thread after each file."""
        return await self._workers.run(Importer(self._db, self).run, paths, progress)

    async def backup(
        self, target: Path, vault: Vault | None = None, progress: Progress | None = None
    ) -> BackupReport:
        """Copy the node's database and all objects it names into ``target``; a second one, what is new.

        The bin is not purged meanwhile. Take it back with :func:`node.archive.backup.restore`.
        """
        async with self._purging:
            await self._ingestor.journal.settled()
            return await backup.write(
                self._storage, self._workers, target, vault or Vault(self._files), progress
            )

    async def repair(self, faults: tuple[Fault, ...], source: Path, vault: Vault) -> tuple[Fault, ...]:
        """Put objects of a backup in the place of missing or damaged ones; those for which it has none."""
        left = await self._workers.run(backup.repair, faults, source, self.layout.root, vault)
        await self._workers.run(self._faults.look_again, apart=False)
        return left
