"""Change marks: how often each study has changed, whoever changed it (D14).

The only hand on the table ``mark``.

Whoever holds studies moves their marks, in the transaction of the change itself; publication reads them. So
neither knows the other's rows, and a holding of another kind (``node/holdings.py``) moves the same marks. The
table is in the node's database, made by the archive's first delta. Methods take a transaction.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from crosslight.runtime.db import Row, Tx


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """How often a study has changed. ``serial`` orders the latest changes of all studies."""

    study_uid: str
    change: int
    serial: int
    first_change_unix: float
    last_change_unix: float


_MARK = "study_uid, change, serial, first_change_unix, last_change_unix"


class Marks:
    """The marks of one node."""

    def touch_tx(
        self, tx: Tx, study_uid: str, now_unix: float, *, times: int = 1, first_unix: float = 0.0
    ) -> None:
        """The study has changed, so many times; the first at ``first_unix``, the last at ``now_unix``."""
        tx.execute(
            f"INSERT INTO mark ({_MARK}) VALUES (?, ?, (SELECT COALESCE(MAX(serial), 0) + 1 FROM mark), ?, ?)"
            " ON CONFLICT (study_uid) DO UPDATE SET change = mark.change + excluded.change, serial ="
            " excluded.serial, last_change_unix = excluded.last_change_unix",
            (study_uid, times, first_unix or now_unix, now_unix),
        )

    def touch_all_tx(self, tx: Tx, study_uids: Sequence[str], now_unix: float) -> None:
        """As :meth:`touch_tx`, once each."""
        for study_uid in study_uids:
            self.touch_tx(tx, study_uid, now_unix)

    def of_tx(self, tx: Tx, study_uid: str) -> Mark | None:
        """The mark of one study; None when it was never here."""
        row = tx.row(f"SELECT {_MARK} FROM mark WHERE study_uid = ?", (study_uid,))
        return _mark(row) if row is not None else None

    def moved_tx(self, tx: Tx, after_serial: int, limit: int) -> list[Mark]:
        """Marks that moved after ``after_serial``, in the order of their latest change."""
        return [
            _mark(row)
            for row in tx.rows(
                f"SELECT {_MARK} FROM mark WHERE serial > ? ORDER BY serial LIMIT ?", (after_serial, limit)
            )
        ]

    def page_tx(self, tx: Tx, after: str, limit: int) -> list[Mark]:
        """The next marks after that of the study ``after``, in the order of the studies' UIDs."""
        return [
            _mark(row)
            for row in tx.rows(
                f"SELECT {_MARK} FROM mark WHERE study_uid > ? ORDER BY study_uid LIMIT ?", (after, limit)
            )
        ]

    def last_serial_tx(self, tx: Tx) -> int:
        """The serial of the latest change; 0 = none."""
        row = tx.row("SELECT max(serial) FROM mark")
        return int(row[0] or 0) if row else 0


def _mark(row: Row) -> Mark:
    return Mark(
        study_uid=row[0], change=row[1], serial=row[2], first_change_unix=row[3], last_change_unix=row[4]
    )
