"""The archive of a node: what it holds on its own disk.

Other rooms know it as :class:`~node.holdings.Holdings`.

Everything blocking runs in the workers' threads or the database's; ``ingest`` itself is blocking, for callers
in threads.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.db import EmbeddedDb, Tx
from crosslight.runtime.db.schema import migrate
from crosslight.runtime.files import Files, private_file, private_folder
from crosslight.runtime.log import get_logger
from crosslight.runtime.workers import Workers
from crosslight.standards.dicom.file.verdict import Note
from crosslight.standards.dicom.record import record
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.dicom.web.json import Attributes
from crosslight.standards.dicom.web.qido import QidoQuery
from crosslight.standards.dicom.web.qido_attributes import Level
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import StorageError
from crosslight.standards.study import StudyRecord
from node.archive import backup, search
from node.archive import queries as reads
from node.archive.backup import BackupReport
from node.archive.backup_files import Vault
from node.archive.config import ArchiveConfig
from node.archive.importer import Importer, ImportProgress
from node.archive.ingest import Ingestor
from node.archive.layout import Layout
from node.archive.maintenance import Maintenance, Progress, Reconciled
from node.archive.model import ArchiveStatus, BinEntry, Fault, ImportReport, VerifyReport
from node.archive.quarantine import Quarantine
from node.archive.staging import Staged, StageFolder, file_meta
from node.archive.store import SCHEMA, ArchiveStore, Storage, json_of
from node.holdings import IngestResult, Local, Received, Staging, StoredObject
from node.marks import Mark

log = get_logger("archive")

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
    ) -> None:
        self._db = db
        self._files = files
        self._clock = clock
        self._workers = workers
        self._config = config
        self.layout = Layout(folder)
        #: How records are made; the application sets it again once the region is known.
        self.rules = config.rules()
        self._listeners: list[Callable[[str], None]] = []
        self._stage = StageFolder(self.layout.tmp, files, ids)
        self._store = ArchiveStore()
        self.quarantine = Quarantine(db, self.layout.quarantine, files, clock, ids, config)
        storage = Storage(db=db, layout=self.layout, store=self._store, files=files, clock=clock)
        self._ingestor = Ingestor(storage, self.quarantine, workers, config, self._tell)
        self._maintenance = Maintenance(storage, self._ingestor, self._stage, config.bin_days, self._tell)
        self._lock = threading.Lock()
        self._purging = asyncio.Lock()
        self._refused: tuple[list[tuple[str, bytes]], RecordRules | None, set[Identifier]] = ([], None, set())
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Create or upgrade the tables, and sweep what a crash left.

        After a crash, files and rows are reconciled in the background.
        """
        await migrate(self._db, "node.archive", SCHEMA)
        await self._workers.run(self.layout.make, self._files)
        swept = await self._workers.run(self._stage.open)
        if swept:
            log.info("unfinished objects swept", count=swept)
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
        except StorageError as error:
            log.warning("reconciling failed", reason=error.what)

    async def settled(self) -> None:
        """Wait for the background work of the start."""
        for task in list(self._tasks):
            await asyncio.wait({task})

    async def close(self) -> None:
        """Finish background work; the database stays open, it is the node's."""
        await self.settled()
        alone = await self._workers.run(self._stage.alone)
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
        staged = self._stage.new(self._config.max_object_bytes)
        if received is not None and received.transfer_syntax_uid:
            try:
                staged.write(file_meta(received))
                staged.begin_dataset()
            except StorageError:
                staged.discard()
                raise
        return staged

    def ingest(self, staged: Staging, received: Received) -> IngestResult:
        """Take in what was staged; durable when this returns. Blocking: for threads."""
        if not isinstance(staged, Staged):
            raise TypeError("only what this archive staged can be taken in")
        return self._ingestor.ingest(staged, received)

    async def ingest_async(self, staged: Staging, received: Received) -> IngestResult:
        """As :meth:`ingest`, from the event loop."""
        return await self._workers.run(self.ingest, staged, received)

    def on_change(self, callback: Callable[[str], None]) -> None:
        """Call ``callback`` with the study's UID after each commit that changed it.

        From any thread, so it must be quick.
        """
        with self._lock:
            self._listeners.append(callback)

    def _tell(self, study_uid: str) -> None:
        for callback in self._listeners:
            try:
                callback(study_uid)
            except Exception:
                log.exception("change listener")

    # --- out ------------------------------------------------------------------------------------------------

    async def record(self, study_uid: str) -> StudyRecord | None:
        """The study as it is now; None when nothing of it is visible."""
        instances = await self._db.read("record", lambda tx: reads.instances_tx(tx, self._store, study_uid))
        return record.build(study_uid, instances, self.rules)

    def patients(self, study_uid: str) -> tuple[Identifier, ...]:
        """Whose study it is: local and other identifiers, () when nothing is visible.

        Blocking: for threads, for the audit.
        """
        return self._identifiers(
            study_uid,
            self._db.submit_read("patients", lambda tx: reads.study_attributes_tx(tx, study_uid)).result(),
        )

    async def patients_of(self, study_uid: str) -> tuple[Identifier, ...]:
        """As :meth:`patients`, from the event loop."""
        return self._identifiers(
            study_uid,
            await self._db.read_near("patients", lambda tx: reads.study_attributes_tx(tx, study_uid)),
        )

    async def concerned(self, study_uids: Sequence[str]) -> set[Identifier]:
        """Every identifier of every header of these studies.

        An object whose header disagrees with the rest counts too.
        """

        def read(tx: Tx) -> set[Identifier]:
            headers = reads.variants_of_tx(tx, self._store, study_uids)
            return {i for study_uid, attributes in headers for i in self._identifiers(study_uid, attributes)}

        return await self._db.read("concerned", read)

    async def refused(self, limit: int) -> tuple[set[Identifier], bool]:
        """Whose the objects in quarantine are.

        And whether there are some whose header could not be read, or too many.
        """
        rows = await self.quarantine.patients(limit + 1)
        if (rows, self.rules) != self._refused[:2]:  # asked at every heartbeat, and seldom another
            known = {i for uid, patient in rows if patient for i in self._identifiers(uid, json_of(patient))}
            self._refused = (rows, self.rules, known)
        return self._refused[2], len(rows) > limit or any(not patient for _, patient in rows)

    def _identifiers(self, study_uid: str, study: Attributes) -> tuple[Identifier, ...]:
        patient = record.patient_of(study, self.rules, study_uid) if study else None
        return tuple(p for p in (patient.local, *patient.others) if p.value) if patient is not None else ()

    async def objects(self, study_uid: str, series_uid: str = "", sop_uid: str = "") -> list[StoredObject]:
        """Visible objects of a study, a series or one instance, in a fixed order; [] when there are none."""
        return await self._db.read_near(
            "objects", lambda tx: reads.objects_tx(tx, study_uid, series_uid, sop_uid)
        )

    async def open_object(self, stored: StoredObject) -> Local:
        """Its file: object files are named by their digests."""
        assert stored.size is not None  # noqa: S101 - of what lies here it is known
        return Local(self.layout.object_file(stored.ref.sha256), 0, stored.size)

    async def was_here(self, study_uid: str, series_uid: str = "", sop_uid: str = "") -> bool:
        """Whether a study, series or instance was held and is deleted or rejected: 410 instead of 404."""
        return await self._db.read_near(
            "was_here", lambda tx: reads.was_here_tx(tx, study_uid, series_uid, sop_uid)
        )

    async def metadata(
        self, study_uid: str, series_uid: str = "", sop_uid: str = "", *, large: bool = True
    ) -> list[bytes]:
        """One ready DICOM JSON object per visible instance, in the order of :meth:`objects`.

        Without bulk data, and where ``large`` is false without sequences of very many items.
        """
        return await self._db.read_near(
            "metadata", lambda tx: reads.metadata_tx(tx, study_uid, series_uid, sop_uid, large=large)
        )

    async def search(self, level: Level, query: QidoQuery) -> list[Attributes]:
        """The page of ``query``: full DICOM JSON rows of the level and those above.

        ``query.select`` cuts them down.
        """
        return await self._db.read_near(
            "search", lambda tx: search.search_tx(tx, level, query), steps=SEARCH_STEPS
        )

    async def study_uids(self, after: str = "", limit: int = 1000) -> list[str]:
        """UIDs of visible studies in their order, after one of them: a census in pages."""
        return await self._db.read("study_uids", lambda tx: reads.study_uids_tx(tx, after, limit))

    async def marks(self, after_serial: int = 0, limit: int = 1000) -> list[Mark]:
        """Change marks that moved after ``after_serial``, in the order of their latest change (D14)."""
        return await self._db.read("marks", lambda tx: self._store.marks.moved_tx(tx, after_serial, limit))

    async def mark(self, study_uid: str) -> Mark | None:
        """The change mark of one study; None when it was never here."""
        return await self._db.read("mark", lambda tx: self._store.marks.of_tx(tx, study_uid))

    async def touch(self, study_uids: Sequence[str]) -> None:
        """Mark studies as changed although no object came: what is made of them is made anew (D14)."""
        now = self._clock.now().timestamp()

        def write(tx: Tx) -> None:
            for study_uid in study_uids:
                self._store.marks.touch_tx(tx, study_uid, now)

        await self._db.write("touch", write)
        for study_uid in study_uids:
            self._tell(study_uid)

    async def status(self) -> ArchiveStatus:
        """Counts and space."""
        row = await self._db.read("counts", reads.counts_tx)
        free = self._files.free_bytes(self.layout.root)
        return ArchiveStatus(
            studies=row[0],
            series=row[1],
            instances=row[2],
            hidden=row[3],
            notes=row[4],
            binned=row[5],
            quarantined=row[6],
            quarantined_bytes=row[7],
            object_bytes=row[8],
            free_bytes=free,
            accepting=free >= self._config.min_free_bytes,
        )

    async def note_counts(self) -> list[tuple[Note, int]]:
        """What the reader tolerated (``verdict.MEANINGS``), and in how many studies each."""
        return await self._db.read("note_counts", reads.note_counts_tx)

    async def noted(self, after: str = "", limit: int = 1000) -> list[tuple[str, tuple[Note, ...]]]:
        """The next studies, after one of them, in which the reader tolerated something, and what."""
        return await self._db.read("noted", lambda tx: reads.noted_tx(tx, after, limit))

    # --- care -----------------------------------------------------------------------------------------------

    async def delete(self, study_uid: str, reason: str) -> int:
        """Put a study into the bin for ``bin_days``; how many instances went. Raises NotFound."""
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
        await self.purge()
        await self._workers.run(self.quarantine.sweep)

    async def reconcile(self) -> Reconciled:
        """Take in or remove object files that no row names."""
        return await self._workers.run(self._maintenance.reconcile)

    async def verify(self, progress: Progress | None = None) -> VerifyReport:
        """Re-hash every object; ``progress(done, total)`` is called in a thread."""
        return await self._workers.run(self._maintenance.verify, progress)

    async def import_paths(
        self, paths: Sequence[Path], progress: ImportProgress | None = None
    ) -> ImportReport:
        """Take in files and folders; ``progress(report)`` is called in a thread after each file."""
        return await self._workers.run(Importer(self._db, self).run, paths, progress)

    async def backup(
        self, target: Path, vault: Vault | None = None, progress: Progress | None = None
    ) -> BackupReport:
        """Copy the node's database and all objects it names into ``target``.

        A second one copies only what is new.

        The bin is not purged meanwhile. Take it back with :func:`node.archive.backup.restore`.
        """
        vault = vault or Vault(self._files)
        private_folder(target)
        self._files.remove(target / backup.FACTS)
        # Encrypted, the copy is made here first: nothing lies in the target in the clear.
        copy = self.layout.tmp / f"backup.{os.getpid()}" if vault.sealed else target / backup.DATABASE
        try:
            async with self._purging:
                await self._db.backup_to(copy)
                if vault.sealed:
                    await self._workers.run(vault.put, copy, target / backup.DATABASE)
                report = await self._workers.run(
                    backup.copy_objects, self.layout, Layout(target / "archive"), copy, vault, progress
                )
        finally:
            if vault.sealed:
                self._files.remove(copy)
        backup.write_facts(target, report, vault, self._clock, self._files)
        return report

    async def repair(self, faults: tuple[Fault, ...], source: Path, vault: Vault) -> tuple[Fault, ...]:
        """Put objects of the backup ``source`` in the place of missing or damaged ones.

        Answers those for which it has none.
        """
        return await self._workers.run(backup.repair, faults, source, self.layout.root, vault)
