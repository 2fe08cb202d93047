"""Rows of the outbox (D15).

Nothing else touches ``publish_destination``, ``publish_intent``, ``publish_acked`` and ``publish_fed``.
``OutboxStore`` works by these methods; ``PublishStore`` puts the intents of a new revision by them, in its
own transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crosslight.runtime.db import Row, Tx
from crosslight.standards.ids import Identifier, Version
from node.publish import rows
from node.publish.model import Acked, Delivery, Parked, Want

_AT_ONCE = 400  # study UIDs of one statement
#: Every destination by name, so that the primary key, which begins with it, is used.
_ANY = "destination IN (SELECT destination FROM publish_destination)"


@dataclass(frozen=True, slots=True, kw_only=True)
class DestinationRow:
    """What is known of a destination."""

    incarnation: str
    acked_epoch: int
    acked_n: int
    filling: bool
    reconcile: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """An intent whose time has come; ``sent`` is the act that may be on its way."""

    study_uid: str
    attempts: int
    want: Want
    sent: Delivery | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """What to write of one job.

    ``truth`` is set where ``acked`` says what is there now; ``keep`` leaves the act in flight.
    """

    study_uid: str
    truth: bool
    acked: Acked | None = None
    keep: bool = False
    attempts: int = 0
    next_unix: float = 0.0
    parked_code: str = ""
    parked_why: str = ""
    acknowledged: Version | None = None  # of the act, for the cursor (D10)
    anew: bool = False


class OutboxRows:
    """What one destination wants, may have been sent, and has acknowledged."""

    def __init__(self, destination: str) -> None:
        self._d = destination

    # --- the destination ------------------------------------------------------------------------------------

    def begin_tx(self, tx: Tx) -> None:
        """Have a row for it: nothing is there yet, all is to be filled."""
        tx.execute("INSERT OR IGNORE INTO publish_destination VALUES (?, '', 0, 0, 1, '')", (self._d,))

    @staticmethod
    def all_tx(tx: Tx) -> list[OutboxRows]:
        """Of every destination there is."""
        return [
            OutboxRows(row[0])
            for row in tx.rows("SELECT destination FROM publish_destination ORDER BY destination")
        ]

    def destination_tx(self, tx: Tx) -> DestinationRow:
        """What is known of it."""
        row = tx.row(
            "SELECT incarnation, acked_epoch, acked_n, filling, reconcile FROM publish_destination WHERE"
            " destination = ?",
            (self._d,),
        ) or ("", 0, 0, 1, "")
        return DestinationRow(
            incarnation=row[0], acked_epoch=row[1], acked_n=row[2], filling=bool(row[3]), reconcile=row[4]
        )

    def set_incarnation_tx(self, tx: Tx, incarnation: str) -> None:
        """The registry that acknowledges from now on."""
        self._set(tx, "incarnation = ?", incarnation)

    def owe_reconciliation_tx(self, tx: Tx, why: str) -> None:
        """A comparison is owed."""
        self._set(tx, "reconcile = ?, filling = 1", why)

    def filled_tx(self, tx: Tx) -> None:
        """All that was to be filled or compared is acknowledged."""
        self._set(tx, "filling = 0")

    def compared_tx(self, tx: Tx) -> None:
        """All was compared: no comparison is owed, and nothing is in flight any more."""
        tx.execute(
            "UPDATE publish_intent SET sent = '', attempts = 0, next_unix = 0 WHERE destination = ?",
            (self._d,),
        )
        self._set(tx, "reconcile = ''")

    def advance_tx(self, tx: Tx, version: Version) -> None:
        """The cursor: the highest version acknowledged (D10)."""
        tx.execute(
            "UPDATE publish_destination SET acked_epoch = ?, acked_n = ? WHERE destination = ? "
            "AND (acked_epoch < ? OR (acked_epoch = ? AND acked_n < ?))",
            (version.epoch, version.n, self._d, version.epoch, version.epoch, version.n),
        )

    def _set(self, tx: Tx, columns: str, *values: object) -> None:
        tx.execute(f"UPDATE publish_destination SET {columns} WHERE destination = ?", (*values, self._d))

    # --- intents --------------------------------------------------------------------------------------------

    def put_want_tx(self, tx: Tx, study_uid: str, want: Want) -> None:
        """A newer intent replaces an unsent one; what is in flight stays to be settled first (D15)."""
        tx.execute(
            f"INSERT INTO publish_intent (destination, study_uid, {rows.WANT}) VALUES (?,?,?,?,?,?,?) ON"
            " CONFLICT (destination, study_uid) DO UPDATE SET want = excluded.want, epoch = excluded.epoch,"
            " n = excluded.n, digest = excluded.digest, patient = excluded.patient, attempts = 0, next_unix"
            " = 0, parked_code = '', parked_why = ''",
            (self._d, study_uid, *rows.want_values(want)),
        )

    def want_tx(self, tx: Tx, study_uid: str) -> Want | None:
        """What a study should be there."""
        row = tx.row(
            f"SELECT {rows.WANT} FROM publish_intent WHERE destination = ? AND study_uid = ?",
            (self._d, study_uid),
        )
        return rows.want_of(row) if row else None

    def due_tx(self, tx: Tx, now_unix: float, limit: int) -> list[Due]:
        """Intents whose time has come, in the order of their versions."""
        records = tx.rows(
            f"SELECT study_uid, attempts, {rows.WANT}, {rows.SENT} FROM publish_intent "
            "WHERE destination = ? AND parked_code = '' AND next_unix <= ? ORDER BY epoch, n LIMIT ?",
            (self._d, now_unix, limit),
        )
        return [
            Due(study_uid=row[0], attempts=row[1], want=rows.want_of(row[2:7]), sent=rows.sent_of(row[7:]))
            for row in records
        ]

    def in_flight_tx(self, tx: Tx, study_uid: str, act: Delivery | None) -> None:
        """The act that may be on its way from now on; None: none is."""
        tx.execute(
            "UPDATE publish_intent SET sent = ?, sent_epoch = ?, sent_n = ?, sent_replaces = ? "
            "WHERE destination = ? AND study_uid = ?",
            (*rows.sent_values(act), self._d, study_uid),
        )

    def try_again_tx(self, tx: Tx, settled: Settled) -> None:
        """When it is tried next, or why an operator is needed."""
        tx.execute(
            "UPDATE publish_intent SET attempts = ?, next_unix = ?, parked_code = ?, parked_why = ?,"
            " parked_unix = ? WHERE destination = ? AND study_uid = ?",
            (
                settled.attempts,
                settled.next_unix,
                settled.parked_code,
                settled.parked_why,
                settled.next_unix,
                self._d,
                settled.study_uid,
            ),
        )

    def unpark_tx(self, tx: Tx, study_uid: str) -> int:
        """Try parked intents again: one study's, or all ('')."""
        return tx.execute(
            "UPDATE publish_intent SET parked_code = '', parked_why = '', attempts = 0, next_unix = 0 "
            "WHERE destination = ? AND parked_code <> '' AND (? = '' OR study_uid = ?)",
            (self._d, study_uid, study_uid),
        )

    def drop_tx(self, tx: Tx, study_uid: str) -> None:
        """Nothing is left to be done."""
        tx.execute("DELETE FROM publish_intent WHERE destination = ? AND study_uid = ?", (self._d, study_uid))

    @staticmethod
    def named_tx(tx: Tx, study_uid: str) -> set[Version]:
        """Versions that an intent of any destination names, as wanted or as perhaps on its way."""
        records = tx.rows(
            f"SELECT epoch, n, sent_epoch, sent_n FROM publish_intent WHERE {_ANY} AND study_uid = ?",
            (study_uid,),
        )
        return {version for row in records for version in (Version(row[0], row[1]), Version(row[2], row[3]))}

    def studies_tx(self, tx: Tx, after: str, limit: int) -> list[str]:
        """The next studies with an intent, in the order of their UIDs."""
        sql = (
            "SELECT study_uid FROM publish_intent WHERE destination = ? AND study_uid > ? ORDER BY study_uid"
            " LIMIT ?"
        )
        return [row[0] for row in tx.rows(sql, (self._d, after, limit))]

    def among_tx(self, tx: Tx, study_uids: Sequence[str]) -> set[str]:
        """Which of these have an intent."""
        with_intent: set[str] = set()
        for start in range(0, len(study_uids), _AT_ONCE):
            batch = study_uids[start : start + _AT_ONCE]
            marks = ",".join("?" * len(batch))
            sql = f"SELECT study_uid FROM publish_intent WHERE destination = ? AND study_uid IN ({marks})"
            with_intent.update(row[0] for row in tx.rows(sql, (self._d, *batch)))
        return with_intent

    def counts_tx(self, tx: Tx) -> tuple[int, int]:
        """(intents, those of them that need an operator)."""
        row = tx.row(
            "SELECT count(*), coalesce(sum(parked_code <> ''), 0) FROM publish_intent WHERE destination = ?",
            (self._d,),
        )
        return (row[0], row[1]) if row else (0, 0)

    def next_unix_tx(self, tx: Tx) -> float | None:
        """When the next is due; None when nothing waits."""
        row = tx.row(
            "SELECT min(next_unix) FROM publish_intent WHERE destination = ? AND parked_code = ''", (self._d,)
        )
        return row[0] if row else None

    def parked_tx(self, tx: Tx, limit: int) -> list[Parked]:
        """Intents that need an operator."""
        records = tx.rows(
            "SELECT study_uid, parked_code, parked_why, parked_unix FROM publish_intent "
            "WHERE destination = ? AND parked_code <> '' ORDER BY parked_unix LIMIT ?",
            (self._d, limit),
        )
        return [Parked(study_uid=row[0], code=row[1], why=row[2], since_unix=row[3]) for row in records]

    def held_back_tx(self, tx: Tx, limit: int) -> list[tuple[str, str]]:
        """Studies that the destination answered for and that wait all the same: (study UID, why)."""
        records = tx.rows(
            "SELECT study_uid, parked_why FROM publish_intent "
            "WHERE destination = ? AND parked_code = '' AND parked_why <> '' ORDER BY epoch, n LIMIT ?",
            (self._d, limit),
        )
        return [(row[0], row[1]) for row in records]

    def patients_tx(
        self, tx: Tx, after: str, limit: int, *, parked: bool
    ) -> list[tuple[str, set[Identifier]]]:
        """The next studies that wait, or (``parked``) were refused for good, in the order of their UIDs.

        Each comes with the patients under whom it is to be, and is, published. Those that are to be withdrawn
        are left out.
        """
        records = tx.rows(
            "SELECT i.study_uid, i.patient, a.patient FROM publish_intent i LEFT JOIN publish_acked a ON"
            " a.destination = i.destination AND a.study_uid = i.study_uid WHERE i.destination = ? AND"
            f" i.study_uid > ? AND i.want <> 'withdraw' AND i.parked_code {'<>' if parked else '='} '' ORDER"
            " BY i.study_uid LIMIT ?",
            (self._d, after, limit),
        )
        return [(row[0], {rows.identifier_of(text) for text in row[1:] if text}) for row in records]

    # --- what was acknowledged ------------------------------------------------------------------------------

    def acked_tx(self, tx: Tx, study_uid: str) -> Acked | None:
        """Of one study."""
        row = tx.row(
            f"SELECT {rows.ACKED} FROM publish_acked WHERE destination = ? AND study_uid = ?",
            (self._d, study_uid),
        )
        return rows.acked_of(row) if row else None

    def put_acked_tx(self, tx: Tx, study_uid: str, acked: Acked, day: str) -> None:
        """The destination has this from now on.

        Args:
            tx: Written in.
            study_uid: The study.
            acked: What was acknowledged of it.
            day: The study's date as YYYYMMDD; '' keeps the date known before.
        """
        if not day:
            sql = "SELECT study_date FROM publish_acked WHERE destination = ? AND study_uid = ?"
            known = tx.row(sql, (self._d, study_uid))
            day = known[0] if known else ""
        marks = ",".join("?" * 10)
        tx.execute(
            f"INSERT OR REPLACE INTO publish_acked (destination, study_uid, {rows.ACKED}, study_date) VALUES"
            f" ({marks})",
            (self._d, study_uid, *rows.acked_values(acked), day),
        )

    def forget_acked_tx(self, tx: Tx, study_uid: str) -> None:
        """The destination has nothing of it."""
        tx.execute("DELETE FROM publish_acked WHERE destination = ? AND study_uid = ?", (self._d, study_uid))

    @staticmethod
    def is_anywhere_tx(tx: Tx, study_uid: str) -> bool:
        """Whether any destination has something of it."""
        return tx.row(f"SELECT 1 FROM publish_acked WHERE {_ANY} AND study_uid = ?", (study_uid,)) is not None

    def held_after_tx(self, tx: Tx, after: str, limit: int) -> list[tuple[str, Acked]]:
        """A page of what was acknowledged, in the order of study UIDs."""
        records = tx.rows(
            f"SELECT study_uid, {rows.ACKED} FROM publish_acked WHERE destination = ? AND study_uid > ? "
            "ORDER BY study_uid LIMIT ?",
            (self._d, after, limit),
        )
        return [(row[0], rows.acked_of(row[1:])) for row in records]

    def approved_tx(self, tx: Tx) -> list[Row]:
        """Study UID and SHA-1 of all that is Approved there: for the census."""
        return tx.rows(
            "SELECT study_uid, sha1 FROM publish_acked WHERE destination = ? AND status = 'Approved'",
            (self._d,),
        )

    def oldest_day_tx(self, tx: Tx) -> str:
        """The oldest study date that was acknowledged; '' = none."""
        row = tx.row(
            "SELECT study_date FROM publish_acked WHERE destination = ? AND study_date <> '' ORDER BY"
            " study_date LIMIT 1",
            (self._d,),
        )
        return row[0] if row else ""

    # --- patients fed (ITI-8) -------------------------------------------------------------------------------

    def fed_tx(self, tx: Tx, patient: Identifier) -> str:
        """The digest of the demographics that the destination has, '' = never fed."""
        row = tx.row(
            "SELECT digest FROM publish_fed WHERE destination = ? AND authority = ? AND value = ?",
            (self._d, patient.authority, patient.value),
        )
        return row[0] if row else ""

    def set_fed_tx(self, tx: Tx, patient: Identifier, digest: str) -> None:
        """The destination has these demographics; '' = it has forgotten the patient."""
        tx.execute(
            "INSERT OR REPLACE INTO publish_fed VALUES (?,?,?,?)",
            (self._d, patient.authority, patient.value, digest),
        )
