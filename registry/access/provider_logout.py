"""The identity provider ends sessions: OpenID Connect Back-Channel Logout 1.0.

The provider calls this address itself, so a session ends in every process of the registry at once, whether
or not the person's browser is open. Only what the provider signed changes anything.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import orjson
from aiohttp import hdrs, web

from crosslight.runtime.clock import Clock
from crosslight.runtime.http import form_fields, refuse
from crosslight.runtime.log import get_logger
from crosslight.runtime.rates import PerMinute
from crosslight.runtime.shares import peer_share
from crosslight.standards.problem import (
    CrosslightError,
    Malformed,
    OurError,
    OverRate,
    PeerError,
    Unauthenticated,
)
from registry.access.logout_token import LIFE_S, Logout
from registry.access.oidc import LEEWAY_S, OidcClient
from registry.access.provider_sessions import ProviderSessions
from registry.access.sessions import principal_of_plain
from registry.access.signin_audit import SignInAudit

log = get_logger("signin")

LOGOUT_AT = "/signin/backchannel-logout"
MAX_TOKEN_CHARS = 16384


class ProviderLogout:
    """The back-channel logout address.

    Args:
        client: Verifies with the provider's keys.
        sessions: Which of them the provider means.
        audit: Where an ended session is noted, as a sign-out at the provider.
        clock: Time.
        rates: How often an address may come with a token that is none; one that is good does not count, so
            that a provider may end everybody's sessions at once.
    """

    def __init__(
        self,
        client: OidcClient,
        sessions: ProviderSessions,
        audit: SignInAudit,
        clock: Clock,
        *,
        rates: PerMinute,
    ) -> None:
        self._client, self._sessions, self._audit, self._clock = client, sessions, audit, clock
        self._rates = rates

    def routes(self) -> list[web.RouteDef]:
        """For the people listener; it needs no sign-in."""
        return [web.post(LOGOUT_AT, self.logout)]

    async def logout(self, request: web.Request) -> web.Response:
        """End what a logout token names: 200, also where nothing was left to end; 400 for any other token.

        429 with ``Retry-After`` for an address that came too often with one that was none.
        """
        try:
            await self._logout(request)
        except CrosslightError as error:
            if isinstance(error, PeerError):
                refuse(request, error)
            return _refused(error)
        return web.Response(status=200, headers={hdrs.CACHE_CONTROL: "no-store"})

    async def _logout(self, request: web.Request) -> None:
        address = peer_share(request.remote or "")
        self._rates.take(address)
        token = (await form_fields(request)).get("logout_token", "")
        if not 0 < len(token) <= MAX_TOKEN_CHARS:
            raise Malformed("A logout_token is wanted, in a form.", why="Back-Channel Logout 1.0, 2.5.")
        logout = await self._client.logout(token)
        self._rates.give_back(address)
        until = self._clock.now() + timedelta(seconds=LIFE_S + 2 * LEEWAY_S)
        named = await self._sessions.named(logout)
        if not named:
            await self._spend(logout, until)
            return
        person = principal_of_plain(named[0].principal, named[0].id)
        told = {"at": "identity provider", "sessions": len(named)}
        async with self._audit.act(request, person, "sign-out", **told):
            await self._spend(logout, until)
        log.info("sessions ended by the identity provider", subject=person.subject, count=len(named))

    async def _spend(self, logout: Logout, until: datetime) -> None:
        if not await self._sessions.end(logout, until):
            raise Unauthenticated("This logout token was used before.", where="jti")


def _refused(error: CrosslightError) -> web.Response:
    """Back-Channel Logout 1.0, 2.8."""
    often, ours = isinstance(error, OverRate), isinstance(error, OurError)
    words = " ".join(part for part in (error.what, error.why, error.where) if part)
    told = {
        "error": "temporarily_unavailable" if often else "server_error" if ours else "invalid_request",
        "error_description": words.encode("ascii", "replace").decode().replace('"', "'"),
    }
    status = error.http_status if often or ours or error.http_status >= 500 else 400
    headers = {hdrs.CACHE_CONTROL: "no-store"}
    if isinstance(error, OverRate):
        headers[hdrs.RETRY_AFTER] = str(error.retry_after_s)
    return web.Response(
        status=status, body=orjson.dumps(told), content_type="application/json", headers=headers
    )
