"""Who registered the objects of sources that are no members (ADR 0036), in a caller's transaction."""

from __future__ import annotations

from collections.abc import Collection

from crosslight.runtime.db import Tx
from registry.index.rows import chunks, marks


class EntryOwners:
    """The table ``entry_owner``."""

    def of(self, tx: Tx, entry_uuids: Collection[str]) -> dict[str, str]:
        """The subject that registered each of these, where it is known."""
        return {
            row[0]: row[1]
            for batch in chunks(set(entry_uuids))
            for row in tx.rows(
                f"SELECT entry_uuid, subject FROM entry_owner WHERE entry_uuid IN ({marks(batch)})", batch
            )
        }

    def put(self, tx: Tx, entry_uuids: Collection[str], subject: str) -> None:
        """These were registered by ``subject``."""
        rows = [(uuid, subject) for uuid in sorted(set(entry_uuids))]
        sql = "INSERT INTO entry_owner VALUES (?, ?) ON CONFLICT (entry_uuid) DO NOTHING"
        tx.executemany(sql, rows)

    def remove(self, tx: Tx, entry_uuids: Collection[str]) -> None:
        """These are no more."""
        for batch in chunks(set(entry_uuids)):
            tx.execute(f"DELETE FROM entry_owner WHERE entry_uuid IN ({marks(batch)})", batch)
