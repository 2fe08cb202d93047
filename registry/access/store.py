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
from crosslight.runtime.shares import peer_share
from crosslight.standards.problem import Busy

SCHEMA = SchemaVersion("access", schema=3, compat=1)
MAX_PENDING = 20_000


def hashed(secret: str) -> str:
    """How a random id is stored: whoever reads the database cannot use it."""
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class AtProvider:
    """How the identity provider names a session: its ``iss``, ``sub`` and ``sid`` ('' = none)."""

    issuer: str = ""
    subject: str = ""
    sid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSession:
    """A session row. ``checked``: when its provider last said who this is."""

    principal: dict[str, Any]
    csrf: str
    created: datetime
    seen: datetime
    ends: datetime
    checked: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class PendingSignIn:
    """What must be remembered between leaving for the provider and coming back."""

    nonce: str
    verifier: str
    return_to: str


#: Tables whose rows whoever is not signed in can make, with their keys.
_BEGUN = {"signin": "state_hash", "demo_grant": "id_hash"}
_OLDEST = "SELECT id_hash FROM begun WHERE what = ? AND place = ? ORDER BY ends LIMIT 1"
_LARGEST = "SELECT place FROM begun WHERE what = ? GROUP BY place ORDER BY count(*) DESC LIMIT 1"


def _count(tx: Tx, sql: str, *params: str) -> int:
    return int((tx.row(f"SELECT count(*) FROM {sql}", params) or (0,))[0])


def _forget(tx: Tx, table: str, id_hash: str) -> None:
    tx.execute(f"DELETE FROM {table} WHERE {_BEGUN[table]} = ?", (id_hash,))
    tx.execute("DELETE FROM begun WHERE id_hash = ?", (id_hash,))


class AccessStore:
    """Sessions and what leads to them.

    Args:
        db: Of the registry.
        clock, ids: Time and randomness.
        per_address: What one address may have begun; beyond, the oldest of it is forgotten.
    """

    def __init__(self, db: Db, clock: Clock, ids: Ids, *, per_address: int = 500) -> None:
        self._db, self._clock, self._ids, self._per_address = db, clock, ids, per_address

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self._db, "registry.access", SCHEMA)

    def _now(self) -> str:
        return self._clock.now().isoformat()

    # --- sessions -------------------------------------------------------------------------------------------

    async def add_session(self, session_id: str, session: StoredSession, known: AtProvider) -> None:
        """Keep a new session; those that ended go at this occasion."""
        principal, id_hash = orjson.dumps(session.principal).decode(), hashed(session_id)
        times = (session.created.isoformat(), session.seen.isoformat(), session.ends.isoformat())
        at_provider = (id_hash, known.issuer, known.subject, known.sid, session.checked.isoformat())
        now = self._now()

        def write(tx: Tx) -> None:
            tx.execute("DELETE FROM session WHERE ends <= ?", (now,))
            tx.execute("DELETE FROM provider_session WHERE id_hash NOT IN (SELECT id_hash FROM session)")
            tx.execute(
                "INSERT INTO session VALUES (?, ?, ?, ?, ?, ?)",
                (id_hash, principal, session.csrf, *times),
            )
            tx.execute("INSERT INTO provider_session VALUES (?, ?, ?, ?, ?)", at_provider)

        await self._db.write("session_add", write)

    async def check_session(self, session_id: str, principal: dict[str, Any], known: AtProvider) -> None:
        """Its provider said again who this is: that is so from now on. Its end stays."""
        now, id_hash = self._now(), hashed(session_id)

        def write(tx: Tx) -> None:
            changed = (orjson.dumps(principal).decode(), now, id_hash)
            if tx.execute("UPDATE session SET principal = ?, seen = ? WHERE id_hash = ?", changed):
                tx.execute("DELETE FROM provider_session WHERE id_hash = ?", (id_hash,))
                tx.execute(
                    "INSERT INTO provider_session VALUES (?, ?, ?, ?, ?)",
                    (id_hash, known.issuer, known.subject, known.sid, now),
                )

        await self._db.write("session_check", write)

    async def session(self, session_id: str) -> StoredSession | None:
        """A session as stored; whether it still holds is for the caller to say."""
        row = await self._db.read_near(
            "session",
            lambda tx: tx.row(
                "SELECT s.principal, s.csrf, s.created, s.seen, s.ends, coalesce(p.checked, s.created) FROM"
                " session s LEFT JOIN provider_session p ON p.id_hash = s.id_hash WHERE s.id_hash = ?",
                (hashed(session_id),),
            ),
        )
        if row is None:
            return None
        created, seen, ends, checked = (datetime.fromisoformat(text) for text in row[2:6])
        return StoredSession(
            principal=orjson.loads(row[0]),
            csrf=row[1],
            created=created,
            seen=seen,
            ends=ends,
            checked=checked,
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
            for table in ("session", "provider_session", "signin", "demo_grant", "begun"):
                tx.execute(f"DELETE FROM {table}")

        await self._db.write("sessions_end", write)

    # --- sign-ins under way ---------------------------------------------------------------------------------

    def _make_room(self, tx: Tx, table: str, id_hash: str, place: str, ends: str) -> None:
        """Room for one row more of what a stranger begins, noted for its place.

        Where a place has all of its own, its oldest row gives way; where the table is full, that of the
        place that has most.
        """
        now = self._now()
        for name in (table, "begun"):
            tx.execute(f"DELETE FROM {name} WHERE ends <= ?", (now,))
        own = _count(tx, "begun WHERE what = ? AND place = ?", table, place)
        full = place if own >= self._per_address else ""
        if not full and _count(tx, table) >= MAX_PENDING:
            full = str((tx.row(_LARGEST, (table,)) or ("",))[0])
            if not full:  # of an older release, all of them
                raise Busy("Too many people are signing in at once.", todo="Try again in a few minutes.")
        if oldest := tx.row(_OLDEST, (table, full)) if full else None:
            _forget(tx, table, oldest[0])
        tx.execute("INSERT INTO begun VALUES (?, ?, ?, ?)", (id_hash, table, place, ends))

    async def begin_signin(
        self, state: str, browser: str, pending: PendingSignIn, life_s: float, *, address: str = ""
    ) -> None:
        """Remember a sign-in that leaves for the provider, begun from ``address``."""
        ends = (self._clock.now() + timedelta(seconds=life_s)).isoformat()
        row = (hashed(state), hashed(browser), pending.nonce, pending.verifier, pending.return_to, ends)
        place = hashed(peer_share(address))

        def write(tx: Tx) -> None:
            self._make_room(tx, "signin", row[0], place, ends)
            tx.execute("INSERT INTO signin VALUES (?, ?, ?, ?, ?, ?)", row)

        await self._db.write("signin_begin", write)

    async def take_signin(self, state: str, browser: str) -> PendingSignIn | None:
        """The sign-in that this browser began with this state; it can be taken once."""
        now = self._now()

        def write(tx: Tx) -> Row | None:
            taken = tx.row(
                "DELETE FROM signin WHERE state_hash = ? AND browser_hash = ? AND ends > ? RETURNING nonce,"
                " verifier, return_to",
                (hashed(state), hashed(browser), now),
            )
            if taken is not None:
                tx.execute("DELETE FROM begun WHERE id_hash = ?", (hashed(state),))
            return taken

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

    async def add_grant(
        self, grant_id: str, body: dict[str, Any], life_s: float, *, address: str = ""
    ) -> None:
        """Keep a ticket or code of the demo provider, begun from ``address``."""
        ends = (self._clock.now() + timedelta(seconds=life_s)).isoformat()
        text, place = orjson.dumps(body).decode(), hashed(peer_share(address))

        def write(tx: Tx) -> None:
            self._make_room(tx, "demo_grant", hashed(grant_id), place, ends)
            tx.execute("INSERT INTO demo_grant VALUES (?, ?, ?)", (hashed(grant_id), text, ends))

        await self._db.write("demo_grant_add", write)

    async def grant(self, grant_id: str, *, take: bool) -> dict[str, Any] | None:
        """A ticket or code; ``take`` spends it."""
        now = self._now()

        def run(tx: Tx) -> Row | None:
            if take:
                tx.execute("DELETE FROM begun WHERE id_hash = ?", (hashed(grant_id),))
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
