"""The tables of permits: exports counted by the hour, and whom disputed persons were shown to.

SQL in named methods; callers are stored as hashes of their names.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from datetime import datetime

from crosslight.runtime.db import Db, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate
from registry.identity.model import PersonKey

SCHEMA = SchemaVersion("ask", schema=1, compat=1)
MAX_OPENINGS = 200  # of one caller; the oldest give way


def caller_hash(subject: str) -> str:
    """How a caller is stored."""
    return hashlib.sha256(subject.encode("utf-8", "replace")).hexdigest()


class PermitStore:
    """What was permitted, and for how long."""

    def __init__(self, db: Db) -> None:
        self._db = db

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self._db, "registry.ask", SCHEMA)

    async def count_export(self, subject: str, hour: int, *, refused: bool) -> tuple[int, int]:
        """One more export of this caller in this hour: how many there are now, answered and refused."""
        add = (0, 1) if refused else (1, 0)

        def write(tx: Tx) -> tuple[int, int]:
            tx.execute("DELETE FROM export_count WHERE hour < ?", (hour - 1,))
            row = tx.row(
                "INSERT INTO export_count VALUES (?, ?, ?, ?) ON CONFLICT (caller, hour) DO UPDATE SET"
                " answered = export_count.answered + excluded.answered,"
                " refused = export_count.refused + excluded.refused RETURNING answered, refused",
                (caller_hash(subject), hour, *add),
            )
            return (int(row[0]), int(row[1])) if row is not None else add

        return await self._db.write("export_count", write)

    async def keep_openings(
        self, subject: str, persons: Collection[PersonKey], now: datetime, ends: datetime
    ) -> None:
        """This caller was shown these persons; those that ended go at this occasion."""
        caller = caller_hash(subject)

        def write(tx: Tx) -> None:
            tx.execute("DELETE FROM disputed_opening WHERE ends <= ?", (now.isoformat(),))
            tx.executemany(
                "INSERT INTO disputed_opening VALUES (?, ?, ?) ON CONFLICT (caller, person) DO UPDATE SET"
                " ends = excluded.ends",
                [(caller, int(person), ends.isoformat()) for person in sorted(persons)],
            )
            tx.execute(
                "DELETE FROM disputed_opening WHERE caller = ? AND person NOT IN (SELECT person FROM"
                " disputed_opening WHERE caller = ? ORDER BY ends DESC, person LIMIT ?)",
                (caller, caller, MAX_OPENINGS),
            )

        await self._db.write("disputed_openings", write)

    def openings_tx(self, tx: Tx, subject: str, now: datetime) -> frozenset[PersonKey]:
        """The disputed persons whose studies this caller may open by their own names now."""
        rows = tx.rows(
            "SELECT person FROM disputed_opening WHERE caller = ? AND ends > ?",
            (caller_hash(subject), now.isoformat()),
        )
        return frozenset(PersonKey(row[0]) for row in rows)

    async def end_openings(self) -> None:
        """Forget whom disputed persons were shown to: after a restore nobody knows when."""
        await self._db.write("openings_end", lambda tx: tx.execute("DELETE FROM disputed_opening"))
