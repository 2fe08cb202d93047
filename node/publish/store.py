"""PublishStore: the node's version counter, and its revisions as they are made (D10, D14).

Both are in the node's own database. A revision and the intents that announce it are one transaction, which
spans three rooms: revisions (``revisions.py``), the outbox (``outbox_rows.py``) and, where a study is looked
at, its change mark (``node/marks.py``). Each statement stands in the room of its table; the counter's
(``publish_node``) and the rereader's place (``publish_reread``) are here.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from crosslight.runtime.clock import Ids
from crosslight.runtime.db import Db, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate
from crosslight.standards.ids import DerivedId, Kind, Version
from crosslight.standards.problem import StorageError
from crosslight.standards.study import Progress
from node.marks import Mark, Marks
from node.publish import rows
from node.publish.decide import version_for
from node.publish.model import Revision, Want
from node.publish.outbox_rows import OutboxRows
from node.publish.revisions import Revisions, Seen, StudyRow, Withdrawn

__all__ = ["MAX_N", "EpochUsedUp", "NoEpoch", "NodeRow", "PublishStore", "RereadRow", "StudyRow", "Withdrawn"]

SCHEMA = SchemaVersion("publish", schema=4, compat=1)
MAX_N = (1 << 24) - 2
_PAGE = 500  # marks, or intents, of one statement
_PAGES = 20  # of one transaction


class NoEpoch(StorageError):
    """Nothing can be published before the registry has been heard once."""


class EpochUsedUp(StorageError):
    """All 24 bits of the epoch's numbers have been given out (D9)."""


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


class PublishStore:
    """Revisions and versions.

    Args:
        db: The node's database: change marks are in it too.
        ids: Where the database's name comes from.
        destinations: Names of those that get an intent for every revision.
    """

    def __init__(self, db: Db, ids: Ids, destinations: Iterable[str]) -> None:
        self.db, self._ids = db, ids
        self._outboxes = [OutboxRows(name) for name in destinations]
        self._revisions, self._marks = Revisions(), Marks()

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self.db, "node.publish", SCHEMA)
        state_id, secret = self._ids.uuid4().hex, self._ids.token_bytes(32).hex()

        def begin(tx: Tx) -> None:
            if tx.row("SELECT 1 FROM publish_node WHERE id = 1") is None:
                tx.execute("INSERT INTO publish_node VALUES (1, ?, 0, 1, ?)", (state_id, secret))
            for outbox in self._outboxes:
                outbox.begin_tx(tx)

        await self.db.write("publish_begin", begin)

    # --- the node -------------------------------------------------------------------------------------------

    async def node(self) -> NodeRow:
        """The counter as it stands."""

        def read(tx: Tx) -> NodeRow:
            row = tx.row("SELECT state_id, epoch, next_n, secret FROM publish_node WHERE id = 1")
            if row is None:
                raise StorageError(
                    "The publication tables are empty.", todo="Restore the node's database from backup."
                )
            return NodeRow(state_id=row[0], epoch=row[1], next_n=row[2], secret=bytes.fromhex(row[3]))

        return await self.db.read("publish_node", read)

    async def rename(self) -> str:
        """Give the database a new name: after a restore, or when the epoch's numbers are used up."""
        state_id = self._ids.uuid4().hex
        await self.db.write(
            "publish_rename", lambda tx: tx.execute("UPDATE publish_node SET state_id = ?", (state_id,))
        )
        return state_id

    async def take_epoch(self, epoch: int) -> bool:
        """Publish under ``epoch`` from now on; whether it is another one.

        What waits unsent is made again under it.
        """

        def take(tx: Tx) -> bool:
            sql = "UPDATE publish_node SET epoch = ?, next_n = 1 WHERE id = 1 AND epoch < ?"
            if tx.execute(sql, (epoch, epoch)) == 0:
                return False
            for outbox in OutboxRows.all_tx(tx):
                after = ""
                while page := outbox.studies_tx(tx, after, _PAGE):
                    self._revisions.force_of_other_epochs_tx(tx, page, epoch)
                    after = page[-1]
            return True

        return await self.db.write("publish_take_epoch", take)

    async def restored(self, *, own_epochs: bool) -> None:
        """The database was restored from a backup: a new name, a comparison is owed, and a new epoch (D10).

        Args:
            own_epochs: Nobody grants epochs (D18): take the next one here. A registry of ours sees the new
                name.
        """
        state_id = self._ids.uuid4().hex

        def write(tx: Tx) -> int:
            tx.execute("UPDATE publish_node SET state_id = ?", (state_id,))
            for outbox in OutboxRows.all_tx(tx):
                outbox.owe_reconciliation_tx(tx, "restored from backup")
            row = tx.row("SELECT epoch FROM publish_node WHERE id = 1")
            return int(row[0]) if row else 0

        epoch = await self.db.write("publish_restored", write)
        if own_epochs and epoch:
            await self.take_epoch(epoch + 1)

    async def withdraw(self, study_uid: str, reason: str, now_unix: float) -> None:
        """Withdraw a study for safety, or because it is sealed: its whole chain, and nothing after it (D16).

        Its mark moves too: by that a running node sees it, whichever process withdraws.
        """

        def write(tx: Tx) -> None:
            self._revisions.withdraw_tx(tx, study_uid, reason, now_unix)
            self._marks.touch_tx(tx, study_uid, now_unix)

        await self.db.write("publish_withdraw", write)

    async def publish_again(self, study_uid: str, now_unix: float) -> bool:
        """Undo :meth:`withdraw`; False when the study is not withdrawn."""

        def write(tx: Tx) -> bool:
            if not self._revisions.publish_again_tx(tx, study_uid):
                return False
            self._marks.touch_tx(tx, study_uid, now_unix)
            return True

        return await self.db.write("publish_again", write)

    async def withdrawn(self, limit: int) -> tuple[int, list[Withdrawn]]:
        """How many studies are withdrawn, and those withdrawn last."""
        return await self.db.read("publish_withdrawn", lambda tx: self._revisions.withdrawn_tx(tx, limit))

    async def reserve(self, study_uid: str) -> Version:
        """A version for a new revision of a study; a crash leaves a gap, which means nothing.

        Raises:
            NoEpoch: when none was granted yet.
            EpochUsedUp: when its numbers have all been given out.
        """

        def take(tx: Tx) -> Version:
            node = tx.row("SELECT epoch, next_n FROM publish_node WHERE id = 1")
            if node is None or node[0] == 0:
                raise NoEpoch("No epoch was granted yet.", todo="Wait for the registry.")
            if node[1] > MAX_N:
                raise EpochUsedUp(
                    "The epoch's numbers are used up.",
                    why="They have 24 bits.",
                    todo="A new epoch is asked for.",
                )
            version = version_for(node[1], node[0], self._revisions.version_tx(tx, study_uid))
            tx.execute("UPDATE publish_node SET next_n = ? WHERE id = 1", (version.n + 1,))
            return version

        return await self.db.write("publish_reserve", take)

    # --- studies --------------------------------------------------------------------------------------------

    async def look(self, study_uid: str) -> tuple[StudyRow | None, Mark | None]:
        """The newest revision of a study, and its change mark, as of one moment."""

        def read(tx: Tx) -> tuple[StudyRow | None, Mark | None]:
            return self._revisions.study_tx(tx, study_uid), self._marks.of_tx(tx, study_uid)

        return await self.db.read("publish_look", read)

    async def unseen(self, after: str, limit: int) -> tuple[list[tuple[Mark, bool]], str | None]:
        """A page of marked studies that may need a revision, in the order of their UIDs.

        Their mark is ahead of the newest revision, or that revision says that they are still arriving.

        Args:
            after: Studies after this one.
            limit: About so many.

        Returns:
            With each mark, whether the study has a revision already; and where to go on, None at the end.
        """

        def read(tx: Tx) -> tuple[list[tuple[Mark, bool]], str | None]:
            studies: list[tuple[Mark, bool]] = []
            last = after
            for _ in range(_PAGES):
                marks = self._marks.page_tx(tx, last, min(limit, _PAGE))
                seen = self._revisions.seen_tx(tx, [mark.study_uid for mark in marks])
                for mark in marks:
                    known = seen.get(mark.study_uid)
                    if known is None or mark.change > known.change or known.progress == "arriving":
                        studies.append((mark, known is not None))
                if len(marks) < min(limit, _PAGE):
                    return studies, None
                last = marks[-1].study_uid
                if len(studies) >= limit:
                    break
            return studies, last

        return await self.db.read("publish_unseen", read)

    async def last_serial(self) -> int:
        """The serial of the latest change of all studies; 0 = none."""
        return await self.db.read("publish_last_serial", self._marks.last_serial_tx)

    async def changed_after(self, serial: int, limit: int) -> list[tuple[Mark, Seen | None]]:
        """Marks that any process moved after ``serial``, in the order of their latest change.

        Returns:
            Each mark, and what the study's newest revision has seen, where there is one.
        """

        def read(tx: Tx) -> list[tuple[Mark, Seen | None]]:
            marks = self._marks.moved_tx(tx, serial, limit)
            seen = self._revisions.seen_tx(tx, [mark.study_uid for mark in marks])
            return [(mark, seen.get(mark.study_uid)) for mark in marks]

        return await self.db.read("publish_changed_after", read)

    async def forced(self, after: str, limit: int) -> list[str]:
        """Studies that must be published again although nothing changed."""
        return await self.db.read("publish_forced", lambda tx: self._revisions.forced_tx(tx, after, limit))

    async def saw(self, study_uid: str, change: int, progress: Progress) -> None:
        """Note that up to ``change`` nothing new is to be published."""
        await self.db.write("publish_saw", lambda tx: self._revisions.saw_tx(tx, study_uid, change, progress))

    async def unread_numbers(self, limit: int) -> tuple[int, list[str]]:
        """How many live studies have a patient whose national number fails its check, and the first ones."""
        return await self.db.read("publish_unread", lambda tx: self._revisions.unread_tx(tx, limit))

    async def reread(self) -> RereadRow | None:
        """How far the studies have been read again; None before the first time."""
        row = await self.db.read(
            "publish_reread", lambda tx: tx.row("SELECT rules, after, done FROM publish_reread WHERE id = 1")
        )
        return RereadRow(row[0], row[1], bool(row[2])) if row else None

    async def save_reread(self, rules: str, after: str, *, done: bool) -> None:
        """Keep how far all studies have been read, under which rules."""
        sql = "INSERT OR REPLACE INTO publish_reread VALUES (1, ?, ?, ?)"
        await self.db.write("publish_save_reread", lambda tx: tx.execute(sql, (rules, after, int(done))))

    async def commit(self, row: StudyRow, want: Want, revision: Revision | None, manifest: bytes) -> bool:
        """A new version of a study and its intents, in one transaction.

        Returns:
            False, and nothing is stored, when another epoch has been taken since the version was reserved, or
            the study was withdrawn meanwhile, or published again.
        """
        packed = rows.pack(manifest) if revision is not None else b""

        def write(tx: Tx) -> bool:
            node = tx.row("SELECT epoch FROM publish_node WHERE id = 1")
            if node is None or node[0] != row.version.epoch:
                return False
            if not self._revisions.put_tx(tx, row, revision, packed):
                return False
            for outbox in self._outboxes:
                outbox.put_want_tx(tx, row.study_uid, want)
            return True

        return await self.db.write("publish_commit", write)

    async def revision(self, version: Version) -> Revision | None:
        """What was fixed at a version."""
        return await self.db.read("publish_revision", lambda tx: self._revisions.at_tx(tx, version))

    async def manifest(self, document_uid: str) -> bytes | None:
        """The bytes of a manifest of ours, as fixed at its revision."""
        version = _version_of(document_uid)
        if version is None:
            return None
        packed = await self.db.read(
            "publish_manifest", lambda tx: self._revisions.manifest_tx(tx, version, document_uid)
        )
        return rows.unpack(packed) if packed is not None else None

    async def study_of(self, document_uid: str) -> str | None:
        """The study of a manifest of ours."""
        version = _version_of(document_uid)
        if version is None:
            return None
        return await self.db.read(
            "publish_listed", lambda tx: self._revisions.listed_tx(tx, version, document_uid)
        )


def _version_of(document_uid: str) -> Version | None:
    """The version that one of our document ids names (D9)."""
    derived = DerivedId.parse(document_uid)
    return derived.version if derived is not None and derived.kind == Kind.DOCUMENT else None
