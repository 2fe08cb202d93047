"""Rows of what was asked, and what was said to it; SQL in named methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from crosslight.runtime.clock import Clock
from crosslight.runtime.db import EmbeddedDb, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate
from crosslight.standards.dicom.query.commitment import COMMITTED, CommitmentReport
from crosslight.standards.problem import NotFound

SCHEMA = SchemaVersion("commitment", schema=1, compat=1)
ROOM: Final = "node.commitment"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One transaction; a verdict is None while nothing was said of that instance."""

    transaction_uid: str
    peer: str
    study_uid: str
    asked_unix: float
    answered_unix: float | None
    verdicts: Mapping[str, int | None]


class CommitmentStore:
    """What was asked, and what was said to it.

    Args:
        db: The node's database; these tables are this room's own.
        clock: Time.
    """

    def __init__(self, db: EmbeddedDb, clock: Clock) -> None:
        self._db, self._clock = db, clock

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self._db, ROOM, SCHEMA)

    async def ask(self, transaction_uid: str, peer: str, study_uid: str, sop_uids: Sequence[str]) -> None:
        """Keep that a peer is asked; before it is."""
        now_unix = self._clock.now().timestamp()

        def write(tx: Tx) -> None:
            tx.execute(
                "INSERT INTO commitment_request VALUES (?, ?, ?, ?, NULL)",
                (transaction_uid, peer, study_uid, now_unix),
            )
            for sop_uid in sop_uids:
                tx.execute("INSERT INTO commitment_instance VALUES (?, ?, NULL)", (transaction_uid, sop_uid))

        await self._db.write("commitment_ask", write)

    async def report(self, peer: str, report: CommitmentReport) -> str:
        """Keep what ``peer`` says; the study it is about. The first report counts.

        Raises:
            NotFound: this peer was not asked for this.
        """
        now_unix = self._clock.now().timestamp()

        def write(tx: Tx) -> str:
            row = tx.row(
                "SELECT study_uid, answered_unix FROM commitment_request WHERE transaction_uid = ? AND"
                " peer = ?",
                (report.transaction_uid, peer),
            )
            if row is None:
                raise NotFound("This was not asked for")
            if row[1] is None:
                for sop_uid, verdict in report.verdicts.items():
                    tx.execute(
                        "UPDATE commitment_instance SET verdict = ? WHERE transaction_uid = ? AND"
                        " sop_uid = ?",
                        (verdict, report.transaction_uid, sop_uid),
                    )
                tx.execute(
                    "UPDATE commitment_request SET answered_unix = ? WHERE transaction_uid = ?",
                    (now_unix, report.transaction_uid),
                )
            return str(row[0])

        return await self._db.write("commitment_report", write)

    async def answered(self, transaction_uid: str) -> bool:
        """Whether the peer has reported."""
        sql = "SELECT answered_unix FROM commitment_request WHERE transaction_uid = ?"
        row = await self._db.read("commitment_answered", lambda tx: tx.row(sql, (transaction_uid,)))
        return row is not None and row[0] is not None

    @staticmethod
    def committed_tx(tx: Tx, study_uid: str, peer: str) -> dict[str, float]:
        """The instances of a study that ``peer`` keeps for good, by the last that it said of each.

        And when it was asked. In a transaction of others, for those who let go of what is kept elsewhere.
        """
        if not tx.has_table("commitment_request"):
            return {}
        rows = tx.rows(
            "SELECT i.sop_uid, i.verdict, r.asked_unix FROM commitment_request r JOIN commitment_instance i"
            " ON i.transaction_uid = r.transaction_uid WHERE r.study_uid = ? AND r.peer = ? AND i.verdict"
            " IS NOT NULL ORDER BY r.asked_unix",
            (study_uid, peer),
        )
        last = {sop_uid: (verdict, asked_unix) for sop_uid, verdict, asked_unix in rows}
        return {
            sop_uid: asked_unix for sop_uid, (verdict, asked_unix) in last.items() if verdict == COMMITTED
        }

    async def of_study(self, study_uid: str, limit: int = 100) -> list[Asked]:
        """What was asked of a study, the newest first."""

        def read(tx: Tx) -> list[Asked]:
            asked = tx.rows(
                "SELECT transaction_uid, peer, asked_unix, answered_unix FROM commitment_request WHERE"
                " study_uid = ? ORDER BY asked_unix DESC LIMIT ?",
                (study_uid, limit),
            )
            sql = (
                "SELECT sop_uid, verdict FROM commitment_instance WHERE transaction_uid = ? ORDER BY sop_uid"
            )
            return [
                Asked(
                    transaction_uid=uid,
                    peer=peer,
                    study_uid=study_uid,
                    asked_unix=asked_unix,
                    answered_unix=answered_unix,
                    verdicts=dict(tx.rows(sql, (uid,))),
                )
                for uid, peer, asked_unix, answered_unix in asked
            ]

        return await self._db.read("commitment_of_study", read)
