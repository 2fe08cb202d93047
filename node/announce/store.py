"""Rows of who is to be told what; SQL in named methods. The queue follows the change marks (D14)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from crosslight.runtime.db import EmbeddedDb, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate
from crosslight.standards.dicom.query.availability import NotifiedInstance
from node.marks import Marks

SCHEMA = SchemaVersion("announce", schema=2, compat=2)
ROOM: Final = "node.announce"
_PAGE: Final = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class DueWord:
    """A study of which a peer is to be told now; ``change`` is the change that it waits for."""

    study_uid: str
    change: int
    tries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenWord:
    """What a peer has taken word of: the digest of the instances, and which they are."""

    digest: bytes = b""
    instances: tuple[NotifiedInstance, ...] = ()


class AnnounceStore:
    """What waits, and what was told.

    Args:
        db: The node's database; these tables are this room's own.
    """

    def __init__(self, db: EmbeddedDb) -> None:
        self._db, self._marks = db, Marks()

    async def open(self, peers: Sequence[str]) -> None:
        """Create or upgrade the tables; what is remembered of other peers is forgotten.

        A peer that is new is told of what changes from now on.
        """
        await migrate(self._db, ROOM, SCHEMA)

        def write(tx: Tx) -> None:
            for (known,) in tx.rows("SELECT peer FROM announce_peer"):
                if known not in peers:
                    for table in ("announce_peer", "announce_waiting", "announce_told"):
                        tx.execute(f"DELETE FROM {table} WHERE peer = ?", (known,))
            serial = self._marks.last_serial_tx(tx)
            for peer in peers:
                tx.execute("INSERT OR IGNORE INTO announce_peer VALUES (?, ?)", (peer, serial))

        await self._db.write("announce_peers", write)

    async def follow(self, peer: str) -> None:
        """Put what changed since the last time among what waits."""
        sql = "SELECT serial FROM announce_peer WHERE peer = ?"

        def behind(tx: Tx) -> bool:
            row = tx.row(sql, (peer,))
            return row is not None and row[0] < self._marks.last_serial_tx(tx)

        def write(tx: Tx) -> None:
            row = tx.row(sql, (peer,))
            for mark in self._marks.moved_tx(tx, row[0] if row else 0, _PAGE):
                tx.execute(
                    "INSERT INTO announce_waiting VALUES (?, ?, ?, ?, ?, 0, 0) ON CONFLICT (peer, study_uid)"
                    " DO UPDATE SET change = excluded.change, last_unix = excluded.last_unix, tries = 0",
                    (peer, mark.study_uid, mark.change, mark.last_change_unix, mark.last_change_unix),
                )
                tx.execute("UPDATE announce_peer SET serial = ? WHERE peer = ?", (mark.serial, peer))

        while await self._db.read("announce_behind", behind):
            await self._db.write("announce_follow", write)

    async def due(
        self, peer: str, now_unix: float, quiet_s: float, longest_s: float, limit: int
    ) -> list[DueWord]:
        """Studies without a change for ``quiet_s``, or that have waited ``longest_s``; the oldest first."""
        sql = (
            "SELECT study_uid, change, tries FROM announce_waiting WHERE peer = ? AND (last_unix <= ? OR"
            " first_unix <= ?) AND not_before_unix <= ? ORDER BY first_unix LIMIT ?"
        )
        values = (peer, now_unix - quiet_s, now_unix - longest_s, now_unix, limit)
        rows = await self._db.read("announce_due", lambda tx: tx.rows(sql, values))
        return [DueWord(study_uid=uid, change=change, tries=tries) for uid, change, tries in rows]

    async def told(self, peer: str, study_uid: str) -> TakenWord:
        """What the peer has taken word of."""
        sql = "SELECT digest, instances FROM announce_told WHERE peer = ? AND study_uid = ?"
        row = await self._db.read("announce_told", lambda tx: tx.row(sql, (peer, study_uid)))
        return TakenWord(digest=bytes(row[0]), instances=_unpacked(row[1])) if row else TakenWord()

    async def done(self, peer: str, due: DueWord, taken: TakenWord) -> None:
        """The peer has taken it; a study that changed meanwhile waits on."""
        values = (peer, due.study_uid, taken.digest, _packed(taken.instances))

        def write(tx: Tx) -> None:
            tx.execute(
                "INSERT OR REPLACE INTO announce_told (peer, study_uid, digest, instances) VALUES (?, ?, ?,"
                " ?)",
                values,
            )
            key = (peer, due.study_uid)
            tx.execute(
                "DELETE FROM announce_waiting WHERE peer = ? AND study_uid = ? AND change = ?",
                (*key, due.change),
            )
            tx.execute(
                "UPDATE announce_waiting SET first_unix = last_unix WHERE peer = ? AND study_uid = ?", key
            )

        await self._db.write("announce_done", write)

    async def put_off(self, peer: str, due: DueWord, until_unix: float) -> None:
        """The peer would not have it: again then."""
        which = "peer = ? AND study_uid = ?"
        sql = f"UPDATE announce_waiting SET tries = tries + 1, not_before_unix = ? WHERE {which}"
        values = (until_unix, peer, due.study_uid)
        await self._db.write("announce_put_off", lambda tx: tx.execute(sql, values))

    async def waiting(self) -> dict[str, int]:
        """How many studies each peer is still to be told of."""
        sql = (
            "SELECT announce_peer.peer, COUNT(study_uid) FROM announce_peer LEFT JOIN announce_waiting ON"
            " announce_waiting.peer = announce_peer.peer GROUP BY announce_peer.peer"
        )
        return dict(await self._db.read("announce_waiting", lambda tx: tx.rows(sql)))


def _packed(instances: Sequence[NotifiedInstance]) -> bytes:
    """In few bytes: their UIDs begin alike."""
    rows = [(one.series_uid, one.sop_class_uid, one.sop_uid) for one in instances]
    return zlib.compress(orjson.dumps(rows)) if rows else b""


def _unpacked(data: bytes) -> tuple[NotifiedInstance, ...]:
    rows = orjson.loads(zlib.decompress(data)) if data else ()
    return tuple(NotifiedInstance(series_uid=r[0], sop_class_uid=r[1], sop_uid=r[2]) for r in rows)
