"""The tables of certificates in use and of alarms: SQL in named methods, nothing else. Authoritative (D8)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from crosslight.runtime.clock import Clock
from crosslight.runtime.db import Db, Tx
from crosslight.standards.ids import MemberId

AlarmKind = Literal["two-holders", "superseded", "renewals"]

#: A certificate ``c`` whose holder has shown a newer one.
_SUPERSEDED = (
    "EXISTS (SELECT 1 FROM certificate n JOIN certificate_use u ON u.serial = n.serial WHERE n.identity ="
    " c.identity AND n.issued > c.issued AND u.seen <= ?)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Superseded:
    """A certificate that a newer one has taken the place of."""

    serial: str
    identity: str  # URI
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Alarm:
    """What somebody should look at."""

    member: MemberId
    kind: AlarmKind
    first: datetime
    last: datetime
    times: int
    detail: str


class UseStore:
    """Certificates in use, and alarms."""

    def __init__(self, db: Db, clock: Clock) -> None:
        self._db, self._clock = db, clock

    def _now(self) -> str:
        return self._clock.now().isoformat()

    # --- certificates ---------------------------------------------------------------------------------------

    async def note(self, serials: Collection[str]) -> None:
        """These were shown; one that this database did not issue says nothing of others."""
        now = self._now()

        def write(tx: Tx) -> None:
            for serial in serials:
                tx.execute(
                    "INSERT INTO certificate_use (serial, seen) SELECT serial, ? FROM certificate WHERE"
                    " serial = ? ON CONFLICT (serial) DO NOTHING",
                    (now, serial),
                )

        await self._db.write("certificate_seen", write)

    async def superseded(self, seen_until: datetime) -> list[Superseded]:
        """Those not yet withdrawn whose holder showed a newer one.

        Args:
            seen_until: The newer one was first shown then, or before.
        """
        sql = (
            f"SELECT c.serial, c.identity, c.expires FROM certificate c WHERE c.expires > ? AND {_SUPERSEDED}"
            " AND NOT EXISTS (SELECT 1 FROM withdrawn_credential w WHERE w.kind = 'certificate' AND w.id ="
            " c.serial)"
        )
        rows = await self._db.read(
            "certificates_superseded", lambda tx: tx.rows(sql, (self._now(), seen_until.isoformat()))
        )
        return [
            Superseded(serial=row[0], identity=row[1], expires=datetime.fromisoformat(row[2])) for row in rows
        ]

    async def is_superseded(self, serial: str) -> bool:
        """Whether the holder of this certificate has shown a newer one."""
        sql = f"SELECT 1 FROM certificate c WHERE c.serial = ? AND {_SUPERSEDED}"
        row = await self._db.read("certificate_superseded", lambda tx: tx.row(sql, (serial, self._now())))
        return row is not None

    async def of_member(self, member: MemberId) -> list[Superseded]:
        """A member's certificates that have not ended."""
        sql = "SELECT serial, identity, expires FROM certificate WHERE member = ? AND expires > ?"
        rows = await self._db.read("certificates_of_member", lambda tx: tx.rows(sql, (member, self._now())))
        return [
            Superseded(serial=row[0], identity=row[1], expires=datetime.fromisoformat(row[2])) for row in rows
        ]

    async def issued_since(self, member: MemberId, since: datetime) -> int:
        """How many certificates a member was given since then."""
        sql = "SELECT count(*) FROM certificate WHERE member = ? AND issued > ?"
        row = await self._db.read("certificates_issued", lambda tx: tx.row(sql, (member, since.isoformat())))
        return int(row[0]) if row else 0

    # --- alarms ---------------------------------------------------------------------------------------------

    async def alarm(self, member: MemberId, kind: AlarmKind, detail: str, times: int) -> None:
        """Keep an alarm, ``times`` more of it."""
        now = self._now()
        row = (member, kind, now, now, times, detail)
        await self._db.write(
            "member_alarm",
            lambda tx: tx.execute(
                "INSERT INTO member_alarm (member, kind, first, last, times, detail) VALUES (?,?,?,?,?,?) ON"
                " CONFLICT (member, kind) DO UPDATE SET last = excluded.last, detail = excluded.detail, times"
                " = member_alarm.times + excluded.times",
                row,
            ),
        )

    async def alarms(self) -> list[Alarm]:
        """Those that nobody has seen to, newest first."""
        sql = "SELECT member, kind, first, last, times, detail FROM member_alarm ORDER BY last DESC"
        rows = await self._db.read("member_alarms", lambda tx: tx.rows(sql))
        return [
            Alarm(
                member=MemberId(int(row[0])),
                kind=row[1],
                first=datetime.fromisoformat(row[2]),
                last=datetime.fromisoformat(row[3]),
                times=int(row[4]),
                detail=row[5],
            )
            for row in rows
        ]

    async def alarms_seen(self, member: MemberId) -> int:
        """Somebody has seen to a member's alarms; how many there were."""
        sql = "DELETE FROM member_alarm WHERE member = ?"
        return await self._db.write("member_alarms_seen", lambda tx: tx.execute(sql, (member,)))
