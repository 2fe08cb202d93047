"""Sessions of people: an opaque id in a cookie, everything else in the database.

A session has an idle and an absolute limit, and a CSRF token.
"""

from __future__ import annotations

import hmac
import math
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from aiohttp import web

from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.http import form_fields
from crosslight.standards.access import Principal
from crosslight.standards.problem import Forbidden
from registry.access.config import AccessConfig
from registry.access.store import AccessStore, AtProvider, StoredSession, hashed

# Secure, Path=/, no Domain: the browser itself enforces it (RFC 6265bis 4.1.3.2)
COOKIE = "__Host-crosslight"
CSRF_HEADER = "X-CSRF-Token"
CSRF_FIELD = "csrf"
UNKNOWN = AtProvider()
PUT_OFF_S = 60.0
MOST_PUT_OFF = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A session that holds now."""

    id: str
    principal: Principal
    csrf: str
    left_s: int  # until it ends, if nothing more is asked
    stale: bool = False  # its roles are old: the provider is to be asked again


#: Set beside CALLER when a session cookie is what the caller showed; pages put ``csrf`` into their forms.
SESSION: web.RequestKey[Session] = web.RequestKey("session", Session)


def principal_plain(principal: Principal) -> dict[str, Any]:
    """A person as a session keeps them."""
    return {
        "subject": principal.subject,
        "name": principal.name,
        "roles": sorted(principal.roles),
        "organisation": principal.organisation,
        "purpose": principal.purpose,
    }


def session_name(session_id: str) -> str:
    """How the audit names a session: by its digest, for the id itself is a secret."""
    return f"session {hashed(session_id)[:16]}"


def principal_of_plain(person: dict[str, Any], id_hash: str) -> Principal:
    """Who a session is of; ``id_hash`` is that of its id."""
    return Principal(
        subject=person["subject"],
        name=person["name"],
        roles=frozenset(person["roles"]),
        organisation=person["organisation"],
        purpose=person["purpose"],
        evidence="session",
        credential=f"session {id_hash[:16]}",
    )


def last_end(stored: StoredSession, roles_life: timedelta) -> datetime:
    """The end that no use puts off: the session's, or that of what is known of its roles."""
    return min(stored.ends, stored.checked + 2 * roles_life)


def session_end(stored: StoredSession, idle: timedelta, roles_life: timedelta) -> datetime:
    """When a session ends, if it is not used before."""
    return min(last_end(stored, roles_life), stored.seen + idle)


class Sessions:
    """Makes, finds and ends sessions."""

    def __init__(self, store: AccessStore, config: AccessConfig, clock: Clock, ids: Ids) -> None:
        self._store, self._clock, self._ids = store, clock, ids
        self._idle = timedelta(minutes=config.session_idle_minutes)
        self._life = timedelta(hours=config.session_hours)
        self._roles_life = timedelta(minutes=config.roles_minutes)
        self._put_off: dict[str, float] = {}  # sessions whose provider could not be asked, and when

    @property
    def cookie_life_s(self) -> int:
        """How long a browser keeps the cookie: as long as a session may last."""
        return int(self._life.total_seconds())

    def new_id(self) -> str:
        """An id for :meth:`begin`, for whoever has to name the session before it begins."""
        return self._ids.token_bytes(32).hex()

    async def begin(self, principal: Principal, session_id: str = "", known: AtProvider = UNKNOWN) -> Session:
        """A new session with a new id, whatever the browser had before."""
        session_id, csrf = session_id or self.new_id(), self._ids.token_bytes(32).hex()
        now = self._clock.now()
        stored = StoredSession(
            principal=principal_plain(principal),
            csrf=csrf,
            created=now,
            seen=now,
            ends=now + self._life,
            checked=now,
        )
        await self._store.add_session(session_id, stored, known)
        return Session(id=session_id, principal=principal, csrf=csrf, left_s=self._left_s(stored, now))

    async def vouched(self, session_id: str, principal: Principal, known: AtProvider) -> None:
        """The provider said again who this is, and what roles they have now. The session's end stays."""
        await self._store.check_session(session_id, principal_plain(principal), known)

    def put_off(self, session_id: str) -> None:
        """The provider cannot be asked just now: the session goes on for a while, up to its end."""
        if len(self._put_off) >= MOST_PUT_OFF:
            self._put_off.clear()
        self._put_off[hashed(session_id)] = self._clock.monotonic_s()

    async def find(self, session_id: str) -> Session | None:
        """The session with this id, if it holds; its use is noted now and then."""
        if not session_id or len(session_id) > 128:
            return None
        stored = await self._store.session(session_id)
        if stored is None:
            return None
        now = self._clock.now()
        if now >= self._end(stored):
            await self._store.end_session(session_id)
            return None
        if now - stored.seen > self._idle / 20:
            await self._store.touch_session(session_id)
            stored = replace(stored, seen=now)
        id_hash = hashed(session_id)
        put_off_s = self._put_off.get(id_hash, float("-inf"))
        return Session(
            id=session_id,
            principal=principal_of_plain(stored.principal, id_hash),
            csrf=stored.csrf,
            left_s=self._left_s(stored, now),
            stale=now - stored.checked >= self._roles_life
            and self._clock.monotonic_s() - put_off_s >= PUT_OFF_S,
        )

    def _end(self, stored: StoredSession) -> datetime:
        return session_end(stored, self._idle, self._roles_life)

    def _left_s(self, stored: StoredSession, now: datetime) -> int:
        return max(0, math.ceil((self._end(stored) - now).total_seconds()))

    async def left(self, session_id: str) -> tuple[int, bool]:
        """Seconds until the session with this id ends, 0 for none, and whether no use can put that off.

        Asking is no use.
        """
        stored = await self._store.session(session_id) if 0 < len(session_id) <= 128 else None
        if stored is None:
            return 0, True
        return self._left_s(stored, self._clock.now()), stored.seen + self._idle >= last_end(
            stored, self._roles_life
        )

    async def end(self, session_id: str) -> None:
        """Sign out."""
        await self._store.end_session(session_id)


async def check_csrf(request: web.Request, session: Session) -> None:
    """Whether an unsafe request comes from our own page.

    Our pages send the session's token: in the header ``X-CSRF-Token``, or in the field ``csrf`` of a form.

    Raises:
        Forbidden: if not.
    """
    given = request.headers.get(CSRF_HEADER, "")
    if not given and request.content_type == "application/x-www-form-urlencoded":
        given = (await form_fields(request)).get(CSRF_FIELD, "")
    if not hmac.compare_digest(given.encode("utf-8", "replace"), session.csrf.encode()):
        raise Forbidden(
            "The page is too old to do this.",
            why="Its anti-forgery token does not match.",
            todo="Load it again.",
        )


def set_cookie(response: web.StreamResponse, name: str, value: str, max_age_s: int) -> None:
    """A cookie that only this site gets, over TLS, out of scripts' reach."""
    response.set_cookie(name, value, max_age=max_age_s, path="/", secure=True, httponly=True, samesite="Lax")


def drop_cookie(response: web.StreamResponse, name: str) -> None:
    """Forget a cookie."""
    response.del_cookie(name, path="/", secure=True, httponly=True, samesite="Lax")
