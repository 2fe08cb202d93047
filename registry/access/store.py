"""The tables of sign-in: sessions, sign-ins under way, failures.

SQL in named methods; ids are stored as hashes.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import orjson

from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.db import Db, Row, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate
from crosslight.standards.problem import Busy

SCHEMA = SchemaVersion("access", schema=1, compat=1)
MAX_PENDING = 20_000


def hashed(secret: str) -> str:
    """How a random id is stored: whoever reads the database cannot use it."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession:
    """A session row."""

    principal: dict[str, Any]
    csrf: str
    created: datetime
    seen: datetime
    ends: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSignIn:
    """What must be remembered between leaving for the provider and coming back."""

    nonce: str
    verifier: str
    return_to: str


def _bounded(tx: Tx, table: str) -> None:
    """Whoever is not signed in can make these rows: only so many."""
    count = tx.row(f"SELECT count(*) FROM {table}")
    if count is not None and count[0] >= MAX_PENDING:
        raise Busy("Too many people are signing in at once.", todo="Try again in a few minutes.")


class AccessStore:
    """Sessions and what leads to them."""

    def __init__(self, db: Db, clock: Clock, ids: Ids) -> None:
        self._db, self._clock, self._ids = db, clock, ids

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self._db, "registry.access", SCHEMA)

    def _now(self) -> str:
        return self._clock.now().isoformat()

    # --- sessions -------------------------------------------------------------------------------------------

    async def add_session(self, session_id: str, session: StoredSession) -> None:
        """Keep a new session; those that ended go at this occasion."""
        principal = orjson.dumps(session.principal).decode()
        times = (session.created.isoformat(), session.seen.isoformat(), session.ends.isoformat())
        now = self._now()

        def write(tx: Tx) -> None:
            tx.execute("DELETE FROM session WHERE ends <= ?", (now,))
            tx.execute(
                "INSERT INTO session VALUES (?, ?, ?, ?, ?, ?)",
                (hashed(session_id), principal, session.csrf, *times),
            )

        await self._db.write("session_add", write)

    async def session(self, session_id: str) -> StoredSession | None:
        """A session as stored; whether it still holds is for the caller to say."""
        row = await self._db.read(
            "session",
            lambda tx: tx.row(
                "SELECT principal, csrf, created, seen, ends FROM session WHERE id_hash = ?",
                (hashed(session_id),),
            ),
        )
        if row is None:
            return None
        created, seen, ends = (datetime.fromisoformat(text) for text in row[2:5])
        return StoredSession(
            principal=orjson.loads(row[0]), csrf=row[1], created=created, seen=seen, ends=ends
        )

    async def touch_session(self, session_id: str) -> None:
        """Note that the session was used now."""
        now = self._now()
        await self._db.write(
            "session_touch",
            lambda tx: tx.execute("UPDATE session SET seen = ? WHERE id_hash = ?", (now, hashed(session_id))),
        )

    async def end_session(self, session_id: str) -> None:
        """Forget the session."""
        await self._db.write(
            "session_end",
            lambda tx: tx.execute("DELETE FROM session WHERE id_hash = ?", (hashed(session_id),)),
        )

    async def end_all(self) -> None:
        """Forget every session and every sign-in under way.

        After a restore nobody knows which of them ended since the backup.
        """

        def write(tx: Tx) -> None:
            for table in ("session", "signin", "demo_grant"):
                tx.execute(f"DELETE FROM {table}")

        await self._db.write("sessions_end", write)

    # --- sign-ins under way ---------------------------------------------------------------------------------

    async def begin_signin(self, state: str, browser: str, pending: PendingSignIn, life_s: float) -> None:
        """Remember a sign-in that leaves for the provider."""
        ends = (self._clock.now() + timedelta(seconds=life_s)).isoformat()
        now = self._now()
        row = (hashed(state), hashed(browser), pending.nonce, pending.verifier, pending.return_to, ends)

        def write(tx: Tx) -> None:
            tx.execute("DELETE FROM signin WHERE ends <= ?", (now,))
            _bounded(tx, "signin")
            tx.execute("INSERT INTO signin VALUES (?, ?, ?, ?, ?, ?)", row)

        await self._db.write("signin_begin", write)

    async def take_signin(self, state: str, browser: str) -> PendingSignIn | None:
        """The sign-in that this browser began with this state; it can be taken once."""
        now = self._now()

        def write(tx: Tx) -> Row | None:
            return tx.row(
                "DELETE FROM signin WHERE state_hash = ? AND browser_hash = ? AND ends > ? RETURNING nonce,"
                " verifier, return_to",
                (hashed(state), hashed(browser), now),
            )

        row = await self._db.write("signin_take", write)
        return PendingSignIn(nonce=row[0], verifier=row[1], return_to=row[2]) if row else None

    # --- failures -------------------------------------------------------------------------------------------

    async def failures(self, subjects: tuple[str, ...], window_s: float) -> list[int]:
        """How often each of ``subjects`` failed in the last ``window_s`` seconds."""
        since = (self._clock.now() - timedelta(seconds=window_s)).isoformat()

        def read(tx: Tx) -> list[int]:
            sql = "SELECT count(*) FROM signin_failure WHERE subject = ? AND at > ?"
            return [int((tx.row(sql, (hashed(s), since)) or (0,))[0]) for s in subjects]

        return await self._db.read("signin_failures", read)

    async def add_failures(self, subjects: tuple[str, ...], window_s: float) -> None:
        """Each of ``subjects`` failed now."""
        now, old = self._now(), (self._clock.now() - timedelta(seconds=window_s)).isoformat()

        def write(tx: Tx) -> None:
            tx.execute("DELETE FROM signin_failure WHERE at <= ?", (old,))
            rows = [(self._ids.uuid4().hex, hashed(s), now) for s in subjects]
            tx.executemany("INSERT INTO signin_failure VALUES (?, ?, ?)", rows)

        await self._db.write("signin_failed", write)

    # --- the demo provider ----------------------------------------------------------------------------------

    async def add_grant(self, grant_id: str, body: dict[str, Any], life_s: float) -> None:
        """Keep a ticket or code of the demo provider."""
        now, ends = self._now(), (self._clock.now() + timedelta(seconds=life_s)).isoformat()
        text = orjson.dumps(body).decode()

        def write(tx: Tx) -> None:
            tx.execute("DELETE FROM demo_grant WHERE ends <= ?", (now,))
            _bounded(tx, "demo_grant")
            tx.execute("INSERT INTO demo_grant VALUES (?, ?, ?)", (hashed(grant_id), text, ends))

        await self._db.write("demo_grant_add", write)

    async def grant(self, grant_id: str, *, take: bool) -> dict[str, Any] | None:
        """A ticket or code; ``take`` spends it."""
        now = self._now()

        def run(tx: Tx) -> Row | None:
            if take:
                return tx.row(
                    "DELETE FROM demo_grant WHERE id_hash = ? AND ends > ? RETURNING body",
                    (hashed(grant_id), now),
                )
            return tx.row(
                "SELECT body FROM demo_grant WHERE id_hash = ? AND ends > ?", (hashed(grant_id), now)
            )

        row = await (self._db.write("demo_grant_take", run) if take else self._db.read("demo_grant", run))
        body: dict[str, Any] | None = orjson.loads(row[0]) if row else None
        return body
