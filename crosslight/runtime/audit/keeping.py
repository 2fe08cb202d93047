"""How long the audit is kept, and by whom it may be changed: what its owner does, and no service.

On PostgreSQL the tables are their owner's, and the service's own role may add rows and read them, nothing
else. Whoever may write a SQLite file may change what is in it; there the triggers stop mistakes and
statements, not the file's owner.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial

from crosslight.runtime.audit.act import About
from crosslight.runtime.audit.log import AuditLog
from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock, instant
from crosslight.runtime.db import Db, Row, Tx
from crosslight.runtime.operators import AT_THE_MACHINE
from crosslight.standards.problem import Invalid

TABLES = ("audit_entry", "audit_patient", "audit_expiry")
APPENDED = ("audit_entry", "audit_patient")
READ = ("audit_expiry", "schema_version")
STEP = 5_000  # rows that are read, or removed, in one transaction
_COLUMNS = (
    "seq, kind, correlation, at, face, action, who, decision, rule, peer, query, outcome, patients, studies"
)


@dataclass(frozen=True, slots=True)
class Expired:
    """What an expiry is about: how many acts, when the first and the last were, and what they said.

    ``digest`` is the SHA-256 of all rows in their order, for whoever kept a copy.
    """

    acts: int
    oldest: str
    newest: str
    digest: str


async def is_protected(db: Db) -> bool:
    """Whether the role that ``db`` is opened as can do no more to the audit than to add and to read."""
    return not await db.read("audit_protected", lambda tx: tx.may_rewrite(TABLES))


async def grant(owner: Db, role: str) -> None:
    """Let ``role`` add rows to the audit and read it."""

    def write(tx: Tx) -> None:
        tx.let_append(role, APPENDED, READ)

    await owner.write("audit_grant", write)


class Keeping:
    """The audit as its owner has it.

    Args:
        db: Opened as the owner of its tables.
        clock: Time.
    """

    def __init__(self, db: Db, clock: Clock) -> None:
        self._db, self._clock, self._audit = db, clock, AuditLog(db, clock)

    async def look(self, before: str) -> Expired:
        """What there is from before the moment ``before`` (ISO 8601, UTC)."""
        digest, after, acts, oldest, newest = hashlib.sha256(), 0, 0, "", ""
        while rows := await self._db.read("audit_expired", partial(_older, before, after)):
            for row in rows:
                digest.update("\x1f".join(str(value) for value in row).encode("utf-8", "surrogatepass"))
                digest.update(b"\x1e")
                acts += row[1] == "act"
            oldest, newest, after = oldest or str(rows[0][3]), str(rows[-1][3]), int(rows[-1][0])
        return Expired(acts, oldest, newest, digest.hexdigest())

    async def expire(self, before: str, by: Caller) -> Expired:
        """Remove what is from before ``before``.

        That it was, by whom, how much and a digest of what it said stay for good.

        Raises:
            Invalid: ``before`` is not over yet.
            StorageError: this role may not do it.
        """
        if before > instant(self._clock.now()):
            raise Invalid("That day is not over yet.", todo="Name one that the retention schedule allows.")
        expired = await self.look(before)
        said = {"before": before, "from": expired.oldest, "to": expired.newest, "digest": expired.digest}
        about = About(query=said | {"acts": expired.acts})
        async with self._audit.act(by, "admin", "expire", about, decision=AT_THE_MACHINE) as act:
            await self._db.write(
                "audit_expiry", partial(_expires, before, expired, instant(self._clock.now()))
            )
            removed = 0
            while count := await self._db.write("audit_expire", partial(_remove, before)):
                removed += count
            act.done(acts=expired.acts, rows=removed)
        return expired


def _older(before: str, after: int, tx: Tx) -> list[Row]:
    return tx.rows(
        f"SELECT {_COLUMNS} FROM audit_entry WHERE at < ? AND seq > ? ORDER BY seq LIMIT ?",
        (before, after, STEP),
    )


def _expires(before: str, expired: Expired, at: str, tx: Tx) -> None:
    tx.execute(
        "INSERT INTO audit_expiry (at, before, acts, oldest, newest, digest) VALUES (?, ?, ?, ?, ?, ?)",
        (at, before, expired.acts, expired.oldest, expired.newest, expired.digest),
    )


def _remove(before: str, tx: Tx) -> int:
    """Remove the oldest rows; how many. The patients go first: what they belong to says that they may."""
    chosen = "SELECT seq FROM audit_entry WHERE at < ? ORDER BY seq LIMIT ?"
    tx.execute(f"DELETE FROM audit_patient WHERE seq IN ({chosen})", (before, STEP))
    return tx.execute(f"DELETE FROM audit_entry WHERE seq IN ({chosen})", (before, STEP))
