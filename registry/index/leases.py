"""Who is completing what (D17, ADR 0031): a row while a process is at it, so that no other is.

A lease ends by itself, so that what a killed process was at is taken up by another. Whoever takes one looks
afterwards whether there is still something to do: a lease is given back after the commit that did it.
"""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from crosslight.runtime.clock import Clock
from crosslight.runtime.db import Db, Tx
from crosslight.standards.ids import hash8
from registry.index.imaging_documents import DocumentKey, entry_hash
from registry.index.model import HoldingKey
from registry.index.rows import to_ms

_KEY = "record_key = ? AND name_hash = ? AND member_id = ?"
# One statement that waits for nobody but another taking the same lease; PostgreSQL and SQLite alike.
_TAKE = (
    "INSERT INTO enrich_lease (record_key, name_hash, member_id, holder, ends) VALUES (?, ?, ?, ?, ?) "
    "ON CONFLICT (record_key, name_hash, member_id) "
    "DO UPDATE SET holder = excluded.holder, ends = excluded.ends "
    "WHERE enrich_lease.ends <= ? OR enrich_lease.holder = excluded.holder"
)
Leased = HoldingKey | DocumentKey


class Leases:
    """The table ``enrich_lease``.

    Args:
        db: The index's database.
        clock: By which leases end; clocks of processes are held together.
    """

    def __init__(self, db: Db, clock: Clock) -> None:
        self._db, self._clock = db, clock

    async def take(self, key: Leased, holder: str, lasts_s: float) -> bool:
        """Take a lease for ``lasts_s``; whether it was free, or ``holder``'s already."""
        now = self._clock.now()
        row = (*_place(key), holder, _ends(now, lasts_s), to_ms(now))
        return bool(await self._db.write("lease_take", lambda tx: tx.execute(_TAKE, row)))

    async def extend(self, keys: Collection[Leased], holder: str, lasts_s: float) -> None:
        """Whoever is still at it says so; a lease that another has taken meanwhile stays the other's."""
        ends = _ends(self._clock.now(), lasts_s)
        rows = [(ends, holder, *_place(key)) for key in keys]
        sql = f"UPDATE enrich_lease SET ends = ? WHERE holder = ? AND {_KEY}"
        await self._db.write("lease_extend", lambda tx: tx.executemany(sql, rows))

    async def give_back(self, keys: Collection[Leased], holder: str) -> None:
        """Done, or given up: anybody may take them now."""
        rows = [(holder, *_place(key)) for key in keys]

        def give_back(tx: Tx) -> None:
            tx.executemany(f"DELETE FROM enrich_lease WHERE holder = ? AND {_KEY}", rows)

        if rows:
            await self._db.write("lease_give_back", give_back)


def _place(key: Leased) -> tuple[int, int, int]:
    if isinstance(key, HoldingKey):
        return int(key.record_key), hash8(key.study_uid), int(key.member)
    return 0, entry_hash(key.entry_uuid), int(key.member)


def _ends(now: datetime, lasts_s: float) -> int:
    return to_ms(now + timedelta(seconds=lasts_s))
