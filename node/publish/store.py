"""PublishStore: the node's revisions and its version counter, in the archive's own database (D10, D14).

An intent stands in the same transaction as the revision that it announces. The outbox's own rows are in ``outbox_store.py``.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from crosslight.runtime.clock import Ids
from crosslight.runtime.db import Db, Row, Tx
from crosslight.runtime.schema import SchemaVersion, migrate
from crosslight.standards.ids import DerivedId, Identifier, Kind, Version
from crosslight.standards.problem import StorageError
from crosslight.standards.study import Progress
from node.publish import rows
from node.publish.decide import version_for
from node.publish.model import Revision, Want

SCHEMA = SchemaVersion("publish", schema=3, compat=1)
MAX_N = (1 << 24) - 2

StudyState = Literal["live", "deleted", "withdrawn"]


class NoEpoch(StorageError):
    """Nothing can be published before the registry has been heard once."""


class EpochUsedUp(StorageError):
    """All 24 bits of the epoch's numbers have been given out (D9)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StudyRow:
    """The newest revision of a study."""

    study_uid: str
    state: StudyState
    version: Version
    digest: str
    progress: Progress
    patient: Identifier
    seen_change: int
    forced: bool
    unread: int = 0  # national numbers of its patient that fail their check


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """The archive's change mark of a study."""

    study_uid: str
    change: int
    last_change_unix: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeRow:
    """The node's name as a database, and its counter."""

    state_id: str
    epoch: int
    next_n: int
    secret: bytes


@dataclass(frozen=True, slots=True)
class RereadRow:
    """How far all studies have been read under which rules."""

    rules: str
    after: str
    done: bool


_STUDY = "study_uid, state, epoch, n, digest, progress, patient, seen_change, forced, unread"


class PublishStore:
    """Revisions and versions.

    Args:
        db: The node's database, which the archive uses too.
        ids: Where the database's name comes from.
        destinations: Names of those that get an intent for every revision.
    """

    def __init__(self, db: Db, ids: Ids, destinations: Iterable[str]) -> None:
        self.db, self._ids = db, ids
        self._destinations = tuple(destinations)

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self.db, "node.publish", SCHEMA)
        state_id, secret = self._ids.uuid4().hex, self._ids.token_bytes(32).hex()

        def begin(tx: Tx) -> None:
            if tx.row("SELECT 1 FROM publish_node WHERE id = 1") is None:
                tx.execute("INSERT INTO publish_node VALUES (1, ?, 0, 1, ?)", (state_id, secret))
            for name in self._destinations:
                tx.execute("INSERT OR IGNORE INTO publish_destination VALUES (?, '', 0, 0, 1, '')", (name,))

        await self.db.write("publish_begin", begin)

    # --- the node ---------------------------------------------------------------------------------------------------

    async def node(self) -> NodeRow:
        """The counter as it stands."""

        def read(tx: Tx) -> NodeRow:
            row = tx.row("SELECT state_id, epoch, next_n, secret FROM publish_node WHERE id = 1")
            if row is None:
                raise StorageError("The publication tables are empty.", todo="Restore the node's database from backup.")
            return NodeRow(state_id=row[0], epoch=row[1], next_n=row[2], secret=bytes.fromhex(row[3]))

        return await self.db.read("publish_node", read)

    async def rename(self) -> str:
        """Give the database a new name: after a restore, or when the epoch's numbers are used up."""
        state_id = self._ids.uuid4().hex
        await self.db.write("publish_rename", lambda tx: tx.execute("UPDATE publish_node SET state_id = ?", (state_id,)))
        return state_id

    async def take_epoch(self, epoch: int) -> bool:
        """Publish under ``epoch`` from now on; whether it is another one. What waits unsent is made again under it."""

        def take(tx: Tx) -> bool:
            if tx.execute("UPDATE publish_node SET epoch = ?, next_n = 1 WHERE id = 1 AND epoch < ?", (epoch, epoch)) == 0:
                return False
            tx.execute(
                "UPDATE publish_study SET forced = 1 WHERE epoch <> ? AND study_uid IN (SELECT study_uid FROM publish_intent)",
                (epoch,),
            )
            return True

        return await self.db.write("publish_take_epoch", take)

    async def restored(self, *, own_epochs: bool) -> None:
        """The database was restored from a backup: a new name, a comparison is owed, and a new epoch (D10).

        Args:
            own_epochs: Nobody grants epochs (D18): take the next one here. A registry of ours sees the new name.
        """
        state_id = self._ids.uuid4().hex

        def write(tx: Tx) -> int:
            tx.execute("UPDATE publish_node SET state_id = ?", (state_id,))
            tx.execute("UPDATE publish_destination SET reconcile = 'restored from backup', filling = 1")
            row = tx.row("SELECT epoch FROM publish_node WHERE id = 1")
            return int(row[0]) if row else 0

        epoch = await self.db.write("publish_restored", write)
        if own_epochs and epoch:
            await self.take_epoch(epoch + 1)

    async def set_state(self, study_uid: str, state: StudyState) -> None:
        """Have a study published again as being in this state."""
        await self.db.write(
            "publish_set_state",
            lambda tx: tx.execute("UPDATE publish_study SET state = ?, forced = 1 WHERE study_uid = ?", (state, study_uid)),
        )

    async def reserve(self, study_uid: str) -> Version:
        """A version for a new revision of a study; a crash leaves a gap, which means nothing.

        Raises:
            NoEpoch: when none was granted yet. EpochUsedUp: when its numbers have all been given out.
        """

        def take(tx: Tx) -> Version:
            node = tx.row("SELECT epoch, next_n FROM publish_node WHERE id = 1")
            if node is None or node[0] == 0:
                raise NoEpoch("No epoch was granted yet.", todo="Wait for the registry.")
            if node[1] > MAX_N:
                raise EpochUsedUp("The epoch's numbers are used up.", why="They have 24 bits.", todo="A new epoch is asked for.")
            last = tx.row("SELECT epoch, n FROM publish_study WHERE study_uid = ?", (study_uid,))
            version = version_for(node[1], node[0], Version(*last) if last else None)
            tx.execute("UPDATE publish_node SET next_n = ? WHERE id = 1", (version.n + 1,))
            return version

        return await self.db.write("publish_reserve", take)

    # --- studies ----------------------------------------------------------------------------------------------------

    async def look(self, study_uid: str) -> tuple[StudyRow | None, Mark | None]:
        """The newest revision of a study, and the archive's change mark, as of one moment."""

        def read(tx: Tx) -> tuple[StudyRow | None, Mark | None]:
            row = tx.row(f"SELECT {_STUDY} FROM publish_study WHERE study_uid = ?", (study_uid,))
            mark = tx.row("SELECT study_uid, change, last_change_unix FROM mark WHERE study_uid = ?", (study_uid,))
            return (
                _study_of(row) if row else None,
                Mark(study_uid=mark[0], change=mark[1], last_change_unix=mark[2]) if mark else None,
            )

        return await self.db.read("publish_look", read)

    async def unseen(self, after: str, limit: int) -> list[tuple[Mark, bool]]:
        """Marked studies, in the order of their UIDs, whose mark is ahead or whose last revision says that they arrive.

        Returns:
            With each mark, whether the study has a revision already.
        """

        def read(tx: Tx) -> list[tuple[Mark, bool]]:
            found = tx.rows(
                "SELECT m.study_uid, m.change, m.last_change_unix, s.study_uid IS NOT NULL FROM mark m "
                "LEFT JOIN publish_study s ON s.study_uid = m.study_uid WHERE m.study_uid > ? "
                "AND (s.study_uid IS NULL OR m.change > s.seen_change OR s.progress = 'arriving') ORDER BY m.study_uid LIMIT ?",
                (after, limit),
            )
            return [(Mark(study_uid=r[0], change=r[1], last_change_unix=r[2]), bool(r[3])) for r in found]

        return await self.db.read("publish_unseen", read)

    async def last_serial(self) -> int:
        """The serial of the latest change in the archive; 0 = none."""

        def read(tx: Tx) -> int:
            row = tx.row("SELECT max(serial) FROM mark")
            return int(row[0] or 0) if row else 0

        return await self.db.read("publish_last_serial", read)

    async def changed_after(self, serial: int, limit: int) -> list[tuple[int, Mark, bool, bool]]:
        """Marks that moved after ``serial``, in the order of their latest change, whichever process moved them.

        Returns:
            Each mark's serial, the mark, whether the study has a revision already, and whether the mark is ahead of it.
        """

        def read(tx: Tx) -> list[tuple[int, Mark, bool, bool]]:
            found = tx.rows(
                "SELECT m.serial, m.study_uid, m.change, m.last_change_unix, s.study_uid IS NOT NULL, "
                "s.study_uid IS NULL OR m.change > s.seen_change FROM mark m "
                "LEFT JOIN publish_study s ON s.study_uid = m.study_uid WHERE m.serial > ? ORDER BY m.serial LIMIT ?",
                (serial, limit),
            )
            return [(r[0], Mark(study_uid=r[1], change=r[2], last_change_unix=r[3]), bool(r[4]), bool(r[5])) for r in found]

        return await self.db.read("publish_changed_after", read)

    async def forced(self, after: str, limit: int) -> list[str]:
        """Studies that must be published again although nothing changed."""

        def read(tx: Tx) -> list[str]:
            found = tx.rows(
                "SELECT study_uid FROM publish_study WHERE forced = 1 AND study_uid > ? ORDER BY study_uid LIMIT ?",
                (after, limit),
            )
            return [row[0] for row in found]

        return await self.db.read("publish_forced", read)

    async def saw(self, study_uid: str, change: int, progress: Progress) -> None:
        """Nothing new up to ``change``."""
        await self.db.write(
            "publish_saw",
            lambda tx: tx.execute(
                "UPDATE publish_study SET seen_change = max(seen_change, ?), progress = ? WHERE study_uid = ?",
                (change, progress, study_uid),
            ),
        )

    async def unread_numbers(self, limit: int) -> tuple[int, list[str]]:
        """How many live studies give their patient a national number that fails its check, and the first of them."""

        def read(tx: Tx) -> tuple[int, list[str]]:
            where = "FROM publish_study WHERE unread > 0 AND state = 'live'"
            count = tx.row(f"SELECT count(*) {where}")
            return count[0] if count else 0, [
                row[0] for row in tx.rows(f"SELECT study_uid {where} ORDER BY study_uid LIMIT ?", (limit,))
            ]

        return await self.db.read("publish_unread", read)

    async def reread(self) -> RereadRow | None:
        """How far the studies have been read again; None before the first time."""
        row = await self.db.read(
            "publish_reread", lambda tx: tx.row("SELECT rules, after, done FROM publish_reread WHERE id = 1")
        )
        return RereadRow(row[0], row[1], bool(row[2])) if row else None

    async def save_reread(self, rules: str, after: str, *, done: bool) -> None:
        """Remember it."""
        sql = "INSERT OR REPLACE INTO publish_reread VALUES (1, ?, ?, ?)"
        await self.db.write("publish_save_reread", lambda tx: tx.execute(sql, (rules, after, int(done))))

    async def commit(self, row: StudyRow, want: Want, revision: Revision | None, manifest: bytes) -> bool:
        """A new version of a study and its intents, in one transaction.

        Returns:
            False, and nothing is stored, when another epoch has been taken since the version was reserved.
        """
        packed = rows.pack(manifest) if revision is not None else b""

        def write(tx: Tx) -> bool:
            node = tx.row("SELECT epoch FROM publish_node WHERE id = 1")
            if node is None or node[0] != row.version.epoch:
                return False
            tx.execute(
                f"INSERT OR REPLACE INTO publish_study ({_STUDY}) VALUES (?,?,?,?,?,?,?,?,0,?)",
                (
                    row.study_uid, row.state, row.version.epoch, row.version.n, row.digest, row.progress,
                    rows.identifier_text(row.patient), row.seen_change, row.unread,
                ),
            )  # fmt: skip
            tx.execute("DELETE FROM publish_revision WHERE study_uid = ? AND sent = 0", (row.study_uid,))
            if revision is not None:
                marks = ",".join("?" * 12)
                tx.execute(
                    f"INSERT INTO publish_revision ({rows.REVISION}, manifest) VALUES ({marks})",
                    (*rows.revision_values(revision), packed),
                )
            for destination in self._destinations:
                _put_want(tx, destination, row.study_uid, want)
            return True

        return await self.db.write("publish_commit", write)

    async def revision(self, version: Version) -> Revision | None:
        """What was fixed at a version."""

        def read(tx: Tx) -> Revision | None:
            row = tx.row(f"SELECT {rows.REVISION} FROM publish_revision WHERE epoch = ? AND n = ?", (version.epoch, version.n))
            return rows.revision_of(row) if row else None

        return await self.db.read("publish_revision", read)

    async def manifest(self, document_uid: str) -> bytes | None:
        """The bytes of a manifest of ours, as fixed at its revision."""
        packed = await self._of_document("manifest", document_uid)
        return rows.unpack(packed) if packed is not None else None

    async def study_of(self, document_uid: str) -> str | None:
        """The study of a manifest of ours."""
        found: str | None = await self._of_document("study_uid", document_uid)
        return found

    async def _of_document(self, column: str, document_uid: str) -> Any:
        derived = DerivedId.parse(document_uid)
        if derived is None or derived.kind != Kind.DOCUMENT:
            return None
        version = derived.version

        def read(tx: Tx) -> Any:
            row = tx.row(
                f"SELECT {column} FROM publish_revision WHERE epoch = ? AND n = ? AND document_uid = ?",
                (version.epoch, version.n, document_uid),
            )
            return row[0] if row else None

        return await self.db.read(f"publish_{column}", read)


def _put_want(tx: Tx, destination: str, study_uid: str, want: Want) -> None:
    """A newer intent takes the place of an unsent one; what is in flight stays to be settled first (D15)."""
    tx.execute(
        f"INSERT INTO publish_intent (destination, study_uid, {rows.WANT}) VALUES (?,?,?,?,?,?,?) "
        "ON CONFLICT (destination, study_uid) DO UPDATE SET want = excluded.want, epoch = excluded.epoch, n = excluded.n, "
        "digest = excluded.digest, patient = excluded.patient, attempts = 0, next_unix = 0, parked_code = '', parked_why = ''",
        (destination, study_uid, *rows.want_values(want)),
    )


def _study_of(row: Row) -> StudyRow:
    study_uid, state, epoch, n, digest, progress, patient, seen_change, forced, unread = row
    return StudyRow(
        study_uid=str(study_uid),
        state=state,
        version=Version(epoch, n),
        digest=str(digest),
        progress=progress,
        patient=rows.identifier_of(str(patient)),
        seen_change=seen_change,
        forced=bool(forced),
        unread=unread,
    )
