"""What was not let in: the file, the reason, and where it came from; bounded in size and days."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.db import EmbeddedDb, Row, Tx
from crosslight.runtime.files import Files
from crosslight.runtime.log import get_logger
from crosslight.standards.dicom.file.gate import Reason
from crosslight.standards.ids import is_uid
from crosslight.standards.problem import NotFound
from node.archive.config import ArchiveConfig
from node.archive.model import Quarantined
from node.archive.staging import Staged
from node.holdings import Received

log = get_logger("archive")
_COLUMNS = "id, received_unix, reason, detail, road, peer, sop_uid, study_uid, size_bytes"


class Quarantine:
    """Files under ``quarantine/`` with a row each."""

    def __init__(
        self, db: EmbeddedDb, folder: Path, files: Files, clock: Clock, ids: Ids, config: ArchiveConfig
    ) -> None:
        self._db, self._folder, self._files = db, folder, files
        self._clock, self._ids, self._config = clock, ids, config

    def put(
        self,
        source: Staged | Path,
        received: Received,
        reason: Reason,
        detail: str,
        *,
        sop_uid: str = "",
        study_uid: str = "",
        patient: bytes = b"",
    ) -> str:
        """Keep what is in ``source`` (which is moved); the id of the entry. Called in threads.

        Where the file cannot be kept (a full disk) the entry is made without it. ``patient`` are the patient
        attributes of its header (DICOM JSON), empty where it could not be read.
        """
        name = self._ids.uuid4().hex
        path = source if isinstance(source, Path) else source.path
        size = 0
        try:
            if isinstance(source, Staged):
                source.sync()
            size = path.stat().st_size
            if size <= self._config.quarantine_max_bytes:
                self._files.publish(path, self._folder / name)
            else:
                self._files.remove(path)
        except OSError as error:
            log.warning("quarantine file lost", reason=reason, error=type(error).__name__)
        row = (
            name,
            self._clock.now().timestamp(),
            reason,
            detail[:500],
            received.road,
            received.peer[:200],
            sop_uid if is_uid(sop_uid) else "",
            study_uid if is_uid(study_uid) else "",
            size,
            patient,
        )
        gone = self._db.submit_write("quarantine_put", lambda tx: self._put_tx(tx, row)).result()
        self._forget(gone)
        log.warning("quarantined", reason=reason, road=received.road, bytes=size)
        return name

    def _put_tx(self, tx: Tx, row: Row) -> list[str]:
        tx.execute(f"INSERT INTO quarantine ({_COLUMNS}, patient) VALUES (?,?,?,?,?,?,?,?,?,?)", row)
        return self._bound_tx(tx)

    def _bound_tx(self, tx: Tx) -> list[str]:
        """Drop entries over age, then the oldest over size; their ids."""
        oldest = (self._clock.now() - timedelta(days=self._config.quarantine_days)).timestamp()
        gone = [row[0] for row in tx.rows("SELECT id FROM quarantine WHERE received_unix < ?", (oldest,))]
        total = tx.row(
            "SELECT COALESCE(SUM(size_bytes), 0) FROM quarantine WHERE received_unix >= ?", (oldest,)
        )
        held_bytes = int(total[0]) if total is not None else 0
        while held_bytes > self._config.quarantine_max_bytes:
            page = tx.rows(
                "SELECT id, size_bytes FROM quarantine WHERE received_unix >= ? ORDER BY received_unix, id"
                " LIMIT 100",
                (oldest,),
            )
            if not page:
                break
            for name, size in page:
                if held_bytes <= self._config.quarantine_max_bytes:
                    break
                gone.append(name)
                held_bytes -= size
                tx.execute("DELETE FROM quarantine WHERE id = ?", (name,))
        tx.execute("DELETE FROM quarantine WHERE received_unix < ?", (oldest,))
        return gone

    def _forget(self, names: list[str]) -> None:
        for name in names:
            self._files.remove(self._folder / name)

    def sweep(self) -> int:
        """Drop what is over age or size, and files that no entry knows; how many went. Called in threads."""
        gone = self._db.submit_write("quarantine_sweep", self._bound_tx).result()
        self._forget(gone)
        known = self._db.submit_read(
            "quarantine_ids", lambda tx: {r[0] for r in tx.rows("SELECT id FROM quarantine")}
        ).result()
        now = self._clock.now().timestamp()
        strays = [f for f in self._folder.iterdir() if f.name not in known and now - f.stat().st_mtime > 3600]
        for stray in strays:
            self._files.remove(stray)
        return len(gone) + len(strays)

    async def entries(self, limit: int = 1000) -> list[Quarantined]:
        """The newest entries."""

        def read(tx: Tx) -> list[Quarantined]:
            rows = tx.rows(
                f"SELECT {_COLUMNS} FROM quarantine ORDER BY received_unix DESC, id LIMIT ?", (limit,)
            )
            return [self._entry(row) for row in rows]

        return await self._db.read("quarantine_entries", read)

    async def patients(self, limit: int) -> list[tuple[str, bytes]]:
        """(study UID, patient attributes) of what was not let in, each pair once.

        Attributes are empty where no header was read.

        An empty file is nobody's. With more than ``limit`` the rest is left out.
        """
        sql = (
            "SELECT DISTINCT study_uid, patient FROM quarantine WHERE size_bytes > 0 ORDER BY patient,"
            " study_uid LIMIT ?"
        )
        return await self._db.read(
            "quarantine_patients", lambda tx: [(r[0], bytes(r[1])) for r in tx.rows(sql, (limit,))]
        )

    async def entry(self, name: str) -> Quarantined:
        """One entry.

        Raises:
            NotFound: when there is none (any more).
        """
        row = await self._db.read(
            "quarantine_entry", lambda tx: tx.row(f"SELECT {_COLUMNS} FROM quarantine WHERE id = ?", (name,))
        )
        if row is None:
            raise NotFound("No such object in quarantine.", where=name[:64])
        return self._entry(row)

    def _entry(self, row: Row) -> Quarantined:
        return Quarantined(
            id=row[0],
            path=self._folder / row[0],
            received_unix=row[1],
            reason=row[2],
            detail=row[3],
            road=row[4],
            peer=row[5],
            sop_uid=row[6],
            study_uid=row[7],
            size_bytes=row[8],
        )
