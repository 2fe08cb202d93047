"""Presence in the database: who was last reachable, and whom a member's unlisted studies concern.

Not authoritative (D8): a registry that lost these rows learns them from the next heartbeats. The tables are
made by :class:`registry.members.store.MemberStore`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import datetime

import orjson

from crosslight.runtime.db import Db, Row, Tx
from crosslight.standards.concern import Concern, packed, unpacked
from crosslight.standards.ids import MemberId
from registry.members.presence import PresenceRow, Report


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


_ROWS = "SELECT member, process, reachable, since, last_heard, report FROM member_presence"


def _row(row: Row) -> PresenceRow:
    return PresenceRow(
        member=MemberId(int(row[0])),
        process=row[1],
        reachable=bool(row[2]),
        since=_moment(row[3]),
        last_heard=_moment(row[4]),
        report=Report.from_plain(orjson.loads(row[5])),
    )


class PresenceStore:
    """What :class:`~registry.members.presence.PresenceBoard` shares between processes and restarts."""

    def __init__(self, db: Db) -> None:
        self._db = db

    async def write(self, rows: Sequence[PresenceRow]) -> list[PresenceRow]:
        """Keep presence; a lost link changes nothing when another process has the member's link by now.

        Returns:
            Rows that other processes had written of links that are up, and that these take the place of.
        """
        ours = {row.member: row.process for row in rows if row.reachable}

        def write(tx: Tx) -> list[PresenceRow]:
            found = map(_row, tx.rows(f"{_ROWS} WHERE reachable = 1")) if ours else ()
            replaced = [one for one in found if ours.get(one.member, one.process) != one.process]
            for row in rows:
                report = orjson.dumps(asdict(row.report)).decode()
                since, heard = (t.isoformat() if t else None for t in (row.since, row.last_heard))
                guard = "" if row.reachable else " WHERE member_presence.process = excluded.process"
                tx.execute(
                    "INSERT INTO member_presence (member, process, reachable, since, last_heard, report)"
                    " VALUES (?,?,?,?,?,?) ON CONFLICT (member) DO UPDATE SET process = excluded.process,"
                    " reachable = excluded.reachable, since = excluded.since, last_heard ="
                    f" excluded.last_heard, report = excluded.report{guard}",
                    (row.member, row.process, int(row.reachable), since, heard, report),
                )
            return replaced

        return await self._db.write("presence_write", write)

    async def write_concern(self, member: MemberId, concern: Concern) -> None:
        """Keep whom a member's unlisted studies concern."""
        row = (
            member,
            concern.version.hex(),
            packed(concern.waiting).hex(),
            packed(concern.refused).hex(),
            int(concern.anybody_waiting),
            int(concern.anybody_refused),
        )
        await self._db.write(
            "concern_write",
            lambda tx: tx.execute(
                "INSERT INTO member_concern (member, version, waiting, refused, anybody_waiting,"
                " anybody_refused) VALUES (?,?,?,?,?,?) ON CONFLICT (member) DO UPDATE SET version ="
                " excluded.version, waiting = excluded.waiting, refused = excluded.refused, anybody_waiting ="
                " excluded.anybody_waiting, anybody_refused = excluded.anybody_refused",
                row,
            ),
        )

    async def concern(self, member: MemberId) -> Concern | None:
        """The newest set of a member; None when it never sent one."""
        sql = "SELECT waiting, refused, anybody_waiting, anybody_refused FROM member_concern WHERE member = ?"
        row = await self._db.read("concern_read", lambda tx: tx.row(sql, (member,)))
        if row is None:
            return None
        waiting, refused = (unpacked(bytes.fromhex(text)) for text in row[:2])
        return Concern(
            waiting=waiting, refused=refused, anybody_waiting=bool(row[2]), anybody_refused=bool(row[3])
        )

    async def elsewhere(self, member: MemberId, process: str) -> PresenceRow | None:
        """The member's link as another process than ``process`` last wrote of it; None where none is up."""
        sql = f"{_ROWS} WHERE member = ? AND process <> ? AND reachable = 1"
        row = await self._db.read("presence_elsewhere", lambda tx: tx.row(sql, (member, process)))
        return _row(row) if row is not None else None

    async def read(self) -> list[PresenceRow]:
        """The presence of every member that ever linked."""
        return list(map(_row, await self._db.read("presence_read", lambda tx: tx.rows(_ROWS))))
