"""When tokens and certificates were last shown here.

Kept to the minute, and of what this registry gave only, so that it costs next to nothing and strangers write
nothing. What a token opened at a node, the node knows: its audit says so.
"""

from __future__ import annotations

from datetime import datetime

from crosslight.runtime.clock import Clock
from crosslight.runtime.db import Db, Tx
from registry.members.credential_store import WithdrawnKind

EVERY_S = 60.0
MOST = 10_000  # noted in this process and not yet kept

Used = tuple[WithdrawnKind, str]
_KNOWN: dict[WithdrawnKind, str] = {
    "token": "SELECT 1 FROM issued_token WHERE token_id = ?",
    "certificate": "SELECT 1 FROM certificate WHERE serial = ?",
}


class LastUse:
    """Notes uses, and keeps them.

    Args:
        db: Of the registry.
        clock: Time.
    """

    def __init__(self, db: Db, clock: Clock) -> None:
        self._db, self._clock = db, clock
        self._new: dict[Used, datetime] = {}
        self._kept_s: dict[Used, float] = {}

    def saw(self, kind: WithdrawnKind, credential_id: str) -> None:
        """A credential was shown, and let in; it is kept soon (:meth:`keep`)."""
        used, now_s = (kind, credential_id), self._clock.monotonic_s()
        if credential_id and now_s - self._kept_s.get(used, float("-inf")) >= EVERY_S:
            if len(self._kept_s) >= MOST:
                self._kept_s.clear()
            self._kept_s[used] = now_s
            self._new[used] = self._clock.now()

    async def keep(self) -> None:
        """Write what was noted."""
        if not self._new:
            return
        new, self._new = self._new, {}

        def write(tx: Tx) -> None:
            for (kind, credential_id), at in new.items():
                if tx.row(_KNOWN[kind], (credential_id,)) is not None:
                    tx.execute(
                        "INSERT INTO credential_use VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET"
                        " used = excluded.used WHERE credential_use.used < excluded.used",
                        (kind, credential_id, at.isoformat()),
                    )

        await self._db.write("credentials_used", write)

    async def all(self) -> dict[Used, datetime]:
        """When each was used last, of what has not ended by itself; what ended is forgotten."""
        now = self._clock.now().isoformat()

        def write(tx: Tx) -> dict[Used, datetime]:
            tx.execute(
                "DELETE FROM credential_use WHERE kind = 'token' AND id NOT IN (SELECT token_id FROM"
                " issued_token) OR kind = 'certificate' AND id IN (SELECT serial FROM certificate WHERE"
                " expires <= ?)",
                (now,),
            )
            rows = tx.rows("SELECT kind, id, used FROM credential_use")
            return {(kind, credential_id): datetime.fromisoformat(used) for kind, credential_id, used in rows}

        return await self._db.write("credentials_use", write)
