"""Rows of studies and their revisions (D10, D14).

Nothing else touches ``publish_study``, ``publish_revision`` and ``publish_withdrawn``.
``PublishStore`` makes revisions by these methods; ``OutboxStore`` asks by them what a version says, and has
studies made anew. They take a transaction, so that a revision and its intents, or an acknowledgement and what
it makes superfluous, are one commit.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import orjson

from crosslight.runtime.db import Row, Tx
from crosslight.standards.ids import Identifier, Version
from crosslight.standards.study import Progress
from node.publish import rows
from node.publish.model import Revision

StudyState = Literal["live", "deleted", "withdrawn"]
_AT_ONCE = 400  # study UIDs of one statement


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
    forced: bool  # to be made anew although nothing changed
    unread: int = 0  # national numbers of its patient that fail their check


@dataclass(frozen=True, slots=True)
class Seen:
    """What the newest revision of a study has seen: up to which change, and whether it is to be made anew."""

    change: int
    progress: Progress
    forced: bool


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A study that was withdrawn for safety, or is sealed."""

    study_uid: str
    reason: str
    since_unix: float


_STUDY = "study_uid, state, epoch, n, digest, progress, patient, seen_change, forced, unread"


class Revisions:
    """The newest revision of each study, and what was fixed at every version that can still be asked for."""

    # --- studies --------------------------------------------------------------------------------------------

    def study_tx(self, tx: Tx, study_uid: str) -> StudyRow | None:
        """Its newest revision."""
        row = tx.row(f"SELECT {_STUDY} FROM publish_study WHERE study_uid = ?", (study_uid,))
        return _study_of(row) if row else None

    def version_tx(self, tx: Tx, study_uid: str) -> Version | None:
        """The version of its newest revision."""
        row = tx.row("SELECT epoch, n FROM publish_study WHERE study_uid = ?", (study_uid,))
        return Version(*row) if row else None

    def seen_tx(self, tx: Tx, study_uids: Sequence[str]) -> dict[str, Seen]:
        """What the newest revisions of these studies have seen; studies without one are left out."""
        sql = "SELECT study_uid, seen_change, progress, forced FROM publish_study WHERE study_uid IN ({})"
        return {row[0]: Seen(row[1], row[2], bool(row[3])) for row in _each(tx, sql, study_uids)}

    def saw_tx(self, tx: Tx, study_uid: str, change: int, progress: Progress) -> None:
        """Note that up to ``change`` nothing new is to be published."""
        tx.execute(
            "UPDATE publish_study SET seen_change = max(seen_change, ?), progress = ? WHERE study_uid = ?",
            (change, progress, study_uid),
        )

    def withdraw_tx(self, tx: Tx, study_uid: str, reason: str, now_unix: float) -> None:
        """From now on nothing of the study is to be at any destination (D16).

        It need not have been published before.
        """
        self._put_state_tx(tx, study_uid, "withdrawn")
        sql = (
            "INSERT INTO publish_withdrawn VALUES (?,?,?) ON CONFLICT (study_uid) DO UPDATE SET reason ="
            " excluded.reason"
        )
        tx.execute(sql, (study_uid, reason, now_unix))

    def publish_again_tx(self, tx: Tx, study_uid: str) -> bool:
        """The end of :meth:`withdraw_tx`; False when it is not withdrawn."""
        if not tx.execute("DELETE FROM publish_withdrawn WHERE study_uid = ?", (study_uid,)):
            return False
        self._put_state_tx(tx, study_uid, "live")
        return True

    @staticmethod
    def _put_state_tx(tx: Tx, study_uid: str, state: StudyState) -> None:
        tx.execute(
            "INSERT INTO publish_study (study_uid, state, epoch, n, digest, progress, patient, seen_change,"
            " forced) VALUES (?, ?, 0, 0, '', 'complete', ?, 0, 1) ON CONFLICT (study_uid) DO UPDATE SET"
            " state = excluded.state, forced = 1",
            (study_uid, state, rows.identifier_text(Identifier(""))),
        )

    def withdrawn_tx(self, tx: Tx, limit: int) -> tuple[int, list[Withdrawn]]:
        """How many studies are withdrawn, and those withdrawn last."""
        count = tx.row("SELECT count(*) FROM publish_withdrawn")
        sql = (
            "SELECT study_uid, reason, since_unix FROM publish_withdrawn ORDER BY since_unix DESC, study_uid"
            " LIMIT ?"
        )
        return count[0] if count else 0, [Withdrawn(*row) for row in tx.rows(sql, (limit,))]

    def unread_tx(self, tx: Tx, limit: int) -> tuple[int, list[str]]:
        """How many live studies have a patient whose national number fails its check, and the first ones."""
        where = "FROM publish_study WHERE unread > 0 AND state = 'live'"
        count = tx.row(f"SELECT count(*) {where}")
        first = tx.rows(f"SELECT study_uid {where} ORDER BY study_uid LIMIT ?", (limit,))
        return count[0] if count else 0, [row[0] for row in first]

    # --- to be made anew ------------------------------------------------------------------------------------

    def force_tx(self, tx: Tx, study_uid: str) -> None:
        """Have it made anew although nothing changed."""
        tx.execute("UPDATE publish_study SET forced = 1 WHERE study_uid = ?", (study_uid,))

    def force_of_other_epochs_tx(self, tx: Tx, study_uids: Sequence[str], epoch: int) -> None:
        """As :meth:`force_tx`, those of these whose version is of another epoch."""
        for batch in _batches(study_uids):
            marks = ",".join("?" * len(batch))
            sql = f"UPDATE publish_study SET forced = 1 WHERE epoch <> ? AND study_uid IN ({marks})"
            tx.execute(sql, (epoch, *batch))

    def force_learnt_tx(self, tx: Tx, study_uid: str, patient: Identifier) -> None:
        """As :meth:`force_tx`; one of which nothing is known here is deleted, and was of ``patient``."""
        self.force_tx(tx, study_uid)
        tx.execute(
            "INSERT OR IGNORE INTO publish_study (study_uid, state, epoch, n, digest, progress, patient,"
            " seen_change, forced) VALUES (?, 'deleted', 0, 0, '', 'complete', ?, 0, 1)",
            (study_uid, rows.identifier_text(patient)),
        )

    def forced_tx(self, tx: Tx, after: str, limit: int) -> list[str]:
        """The next studies to be made anew, in the order of their UIDs."""
        sql = (
            "SELECT study_uid FROM publish_study WHERE forced = 1 AND study_uid > ? ORDER BY study_uid"
            " LIMIT ?"
        )
        return [row[0] for row in tx.rows(sql, (after, limit))]

    def forced_count_tx(self, tx: Tx) -> int:
        """How many are to be made anew."""
        row = tx.row("SELECT count(*) FROM publish_study WHERE forced = 1")
        return int(row[0]) if row else 0

    def forced_among_tx(self, tx: Tx, study_uids: Sequence[str]) -> set[str]:
        """Which of these are to be made anew."""
        sql = "SELECT study_uid FROM publish_study WHERE forced = 1 AND study_uid IN ({})"
        return {row[0] for row in _each(tx, sql, study_uids)}

    def forced_patients_tx(self, tx: Tx, limit: int) -> dict[str, Identifier]:
        """Whose the studies to be made anew are; withdrawn ones are left out."""
        sql = "SELECT study_uid, patient FROM publish_study WHERE forced = 1 AND state <> 'withdrawn' LIMIT ?"
        return {row[0]: rows.identifier_of(row[1]) for row in tx.rows(sql, (limit,))}

    def patients_tx(self, tx: Tx, study_uids: Sequence[str]) -> dict[str, tuple[StudyState, Identifier]]:
        """Of those that have a revision, their state and whose they are."""
        sql = "SELECT study_uid, state, patient FROM publish_study WHERE study_uid IN ({})"
        return {row[0]: (row[1], rows.identifier_of(row[2])) for row in _each(tx, sql, study_uids)}

    # --- revisions ------------------------------------------------------------------------------------------

    def put_tx(self, tx: Tx, row: StudyRow, revision: Revision | None, manifest: bytes) -> bool:
        """A new version of a study, ``manifest`` packed; an older one that no destination can have seen goes.

        Returns:
            False, and nothing is stored, when the study was withdrawn while its version was made, or
            published again.
        """
        stored = tx.execute(
            f"INSERT INTO publish_study ({_STUDY}) VALUES (?,?,?,?,?,?,?,?,0,?) ON CONFLICT (study_uid) DO"
            " UPDATE SET state = excluded.state, epoch = excluded.epoch, n = excluded.n, digest ="
            " excluded.digest, progress = excluded.progress, patient = excluded.patient, seen_change ="
            " excluded.seen_change, forced = 0, unread = excluded.unread WHERE (publish_study.state ="
            " 'withdrawn') = (excluded.state = 'withdrawn')",
            (
                row.study_uid,
                row.state,
                row.version.epoch,
                row.version.n,
                row.digest,
                row.progress,
                rows.identifier_text(row.patient),
                row.seen_change,
                row.unread,
            ),
        )
        if not stored:
            return False
        tx.execute("DELETE FROM publish_revision WHERE study_uid = ? AND sent = 0", (row.study_uid,))
        if revision is not None:
            marks = ",".join("?" * 12)
            tx.execute(
                f"INSERT INTO publish_revision ({rows.REVISION}, manifest) VALUES ({marks})",
                (*rows.revision_values(revision), manifest),
            )
        return True

    def at_tx(self, tx: Tx, version: Version) -> Revision | None:
        """What was fixed at a version."""
        row = tx.row(
            f"SELECT {rows.REVISION} FROM publish_revision WHERE epoch = ? AND n = ?",
            (version.epoch, version.n),
        )
        return rows.revision_of(row) if row else None

    def manifest_tx(self, tx: Tx, version: Version, document_uid: str) -> bytes | None:
        """The bytes of a manifest, packed."""
        row = tx.row(
            "SELECT manifest FROM publish_revision WHERE epoch = ? AND n = ? AND document_uid = ?",
            (version.epoch, version.n, document_uid),
        )
        return row[0] if row else None

    def listed_tx(self, tx: Tx, version: Version, document_uid: str) -> str | None:
        """The study of a manifest."""
        row = tx.row(
            "SELECT study_uid FROM publish_revision WHERE epoch = ? AND n = ? AND document_uid = ?",
            (version.epoch, version.n, document_uid),
        )
        return row[0] if row else None

    def sent_tx(self, tx: Tx, version: Version) -> None:
        """A destination may have seen it from now on."""
        tx.execute(
            "UPDATE publish_revision SET sent = 1 WHERE epoch = ? AND n = ?", (version.epoch, version.n)
        )

    def day_tx(self, tx: Tx, version: Version) -> str:
        """The study's date as a version says it (YYYYMMDD); '' when it says none, or is not kept whole."""
        row = tx.row(
            "SELECT record FROM publish_revision WHERE epoch = ? AND n = ?", (version.epoch, version.n)
        )
        return _day_of(row)

    def superseded_tx(self, tx: Tx, study_uid: str, version: Version) -> None:
        """``version`` is acknowledged: drop the records of those before it, but not their manifests."""
        tx.execute(
            "UPDATE publish_revision SET record = NULL WHERE study_uid = ? AND sent = 1 AND record IS NOT"
            " NULL AND (epoch < ? OR (epoch = ? AND n < ?))",
            (study_uid, version.epoch, version.epoch, version.n),
        )

    def forget_tx(self, tx: Tx, study_uid: str, versions: Collection[Version]) -> None:
        """Nobody can ask for these any more."""
        for version in versions:
            sql = "DELETE FROM publish_revision WHERE epoch = ? AND n = ? AND study_uid = ?"
            tx.execute(sql, (version.epoch, version.n, study_uid))


def _batches(study_uids: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(study_uids), _AT_ONCE):
        yield study_uids[start : start + _AT_ONCE]


def _each(tx: Tx, sql: str, study_uids: Sequence[str]) -> Iterator[Row]:
    """Rows of a statement about some studies, however many."""
    for batch in _batches(study_uids):
        yield from tx.rows(sql.format(",".join("?" * len(batch))), batch)


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


def _day_of(row: Row | None) -> str:
    if row is None or row[0] is None:
        return ""
    time: dict[str, Any] = orjson.loads(rows.unpack(row[0])).get("time", {})
    date = str(time.get("date", "")).replace(".", "").replace("-", "")
    return date if len(date) == 8 and date.isdecimal() else ""
