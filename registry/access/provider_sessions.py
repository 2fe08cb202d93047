"""Sessions as the identity provider names them; SQL in named methods."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from crosslight.runtime.clock import Clock
from crosslight.runtime.db import Db, Tx
from registry.access.logout_token import Logout
from registry.access.store import hashed

#: Where the token names a session and ours knows which it is, only that one.
_NAMED = (
    "FROM provider_session p JOIN session s ON s.id_hash = p.id_hash WHERE p.issuer = ? AND (? = '' OR"
    " p.subject = ?) AND (? = '' OR p.sid = ? OR (p.sid = '' AND ? <> ''))"
)


@dataclass(frozen=True, slots=True)
class NamedSession:
    """A session that the provider means; ``id`` is its hash."""

    id: str
    principal: dict[str, Any]


class ProviderSessions:
    """Finds and ends sessions by what the provider calls them, in the database that all processes share."""

    def __init__(self, db: Db, clock: Clock) -> None:
        self._db, self._clock = db, clock

    async def named(self, logout: Logout) -> list[NamedSession]:
        """Those that a logout token means."""
        sql = f"SELECT s.id_hash, s.principal {_NAMED} ORDER BY s.id_hash"
        rows = await self._db.read("sessions_named", lambda tx: tx.rows(sql, _values(logout)))
        return [NamedSession(id_hash, orjson.loads(principal)) for id_hash, principal in rows]

    async def end(self, logout: Logout, until: datetime) -> bool:
        """End them, and spend the token; whether it was not spent before.

        Args:
            logout: What the token says.
            until: How long it is remembered.
        """
        now, token = self._clock.now().isoformat(), hashed(f"{logout.issuer} {logout.token_id}")

        def write(tx: Tx) -> bool:
            tx.execute("DELETE FROM logout_token WHERE ends <= ?", (now,))
            sql = "INSERT INTO logout_token VALUES (?, ?) ON CONFLICT (id_hash) DO NOTHING"
            if not tx.execute(sql, (token, until.isoformat())):
                return False
            ended = [(row[0],) for row in tx.rows(f"SELECT s.id_hash {_NAMED}", _values(logout))]
            for table in ("session", "provider_session"):
                tx.executemany(f"DELETE FROM {table} WHERE id_hash = ?", ended)
            return True

        return await self._db.write("sessions_logout", write)


def _values(logout: Logout) -> tuple[str, ...]:
    return logout.issuer, logout.subject, logout.subject, logout.sid, logout.sid, logout.subject
