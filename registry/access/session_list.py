"""People's sessions as an operator sees and ends them; SQL in named methods."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import orjson

from crosslight.runtime.clock import Clock
from crosslight.runtime.db import Db

MOST = 10_000  # sessions that are listed


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedSession:
    """A session that has not ended; ``id`` is the hash by which it is kept, which opens nothing."""

    id: str
    subject: str
    name: str
    roles: tuple[str, ...]
    organisation: str
    created: datetime
    seen: datetime
    ends: datetime


class SessionList:
    """Reads and ends sessions in the database that every process of the registry shares."""

    def __init__(self, db: Db, clock: Clock) -> None:
        self._db, self._clock = db, clock

    async def sessions(self) -> list[ListedSession]:
        """Those that have not ended, the one used last first."""
        sql = (
            "SELECT id_hash, principal, created, seen, ends FROM session WHERE ends > ? ORDER BY seen DESC,"
            f" id_hash LIMIT {MOST}"
        )
        now = self._clock.now().isoformat()
        rows = await self._db.read("sessions_list", lambda tx: tx.rows(sql, (now,)))
        sessions = []
        for id_hash, principal, *times in rows:
            person = orjson.loads(principal)
            created, seen, ends = map(datetime.fromisoformat, times)
            sessions.append(
                ListedSession(
                    id=id_hash,
                    subject=person["subject"],
                    name=person["name"],
                    roles=tuple(person["roles"]),
                    organisation=person["organisation"],
                    created=created,
                    seen=seen,
                    ends=ends,
                )
            )
        return sessions

    async def end(self, ids: Sequence[str]) -> None:
        """Forget these sessions: whoever holds one must sign in again."""
        rows = [(id_hash,) for id_hash in ids]
        await self._db.write(
            "sessions_end_some", lambda tx: tx.executemany("DELETE FROM session WHERE id_hash = ?", rows)
        )
