"""Sign-in and sign-out of people: leave for the provider, come back, get a session.

Each outcome is audited.
"""

from __future__ import annotations

import base64
import re
from dataclasses import replace
from urllib.parse import urlencode

from aiohttp import hdrs, web

from crosslight.runtime.clock import Ids
from crosslight.runtime.http import refuse
from crosslight.runtime.log import get_logger
from crosslight.runtime.rates import PerMinute
from crosslight.runtime.shares import peer_share
from crosslight.standards.problem import CrosslightError, Unauthenticated
from registry.access.oidc import OidcClient, SignedIn
from registry.access.pages import problem_page, signed_out_page
from registry.access.sessions import COOKIE, SESSION, Sessions, drop_cookie, session_name, set_cookie
from registry.access.signin_audit import SignInAudit
from registry.access.store import AccessStore, PendingSignIn

log = get_logger("signin")

BROWSER_COOKIE = "__Host-crosslight-signin"
SIGNIN_LIFE_S = 600
MAX_RETURN_CHARS = 512
SILENT = "silent-"  # how the state of a sign-in begins that asks its person nothing
#: A provider cannot answer without its person (OIDC Core 3.1.2.6).
ASK_THE_PERSON = frozenset(
    {"login_required", "interaction_required", "consent_required", "account_selection_required"}
)


_HERE = re.compile(r"/[A-Za-z0-9/._~-]*")
_QUERY = re.compile(r"(?:(?:series|copy)=[A-Za-z0-9.]{1,64}(?:&|\Z))*")


def local_path(text: str) -> str:
    """An address of this site to return to, else ``/``.

    Never another site, and of a query only which series and which copy were looked at (anything else may name
    a patient).
    """
    path, _, query = text.partition("?")
    plain = _HERE.fullmatch(path) and "//" not in path and not {".", ".."} & set(path.split("/"))
    good = len(text) <= MAX_RETURN_CHARS and plain and _QUERY.fullmatch(query)
    return text if good else "/"


def sign_in_address(request: web.Request, *, silent: bool = False) -> str:
    """Where a page that needs a session sends its reader, so that they come back to it.

    ``silent``: the provider is asked who they are, and they are asked nothing, where that will do.
    """
    here = local_path(request.path_qs)
    if here == "/":  # perhaps without its query
        here = local_path(request.path)
    return _signin(here, silent=silent)


def _signin(return_to: str, *, silent: bool = False) -> str:
    query = {**({} if return_to == "/" else {"return": return_to}), **({"silent": "1"} if silent else {})}
    return f"/signin?{urlencode(query)}" if query else "/signin"


class SignIn:
    """Routes of the people listener."""

    def __init__(
        self,
        client: OidcClient,
        sessions: Sessions,
        store: AccessStore,
        audit: SignInAudit,
        ids: Ids,
        *,
        name: str,
        rates: PerMinute,
    ) -> None:
        self._rates = rates
        self._client, self._sessions, self._store = client, sessions, store
        self._audit, self._ids, self._name = audit, ids, name

    def routes(self) -> list[web.RouteDef]:
        """``/signin``, its callback and session, ``/signout`` (POST with the CSRF token), ``/signed-out``."""
        return [
            web.get("/signin/session", self.left, allow_head=False),
            web.get("/signin", self.leave, allow_head=False),
            web.get("/signin/callback", self.come_back, allow_head=False),
            web.post("/signout", self.sign_out),
            web.get("/signed-out", self.signed_out),
        ]

    def _secret(self) -> str:
        return base64.urlsafe_b64encode(self._ids.token_bytes(32)).decode().rstrip("=")

    async def leave(self, request: web.Request) -> web.StreamResponse:
        """Send the browser to the provider."""
        state, browser, nonce, verifier = (self._secret() for _ in range(4))
        silent = request.query.get("silent") == "1"
        if silent:
            state = SILENT + state
        pending = PendingSignIn(
            nonce=nonce, verifier=verifier, return_to=local_path(request.query.get("return", "/"))
        )
        try:
            self._rates.take(peer_share(request.remote or ""))
            url = await self._client.authorize_url(state, nonce, verifier, silent=silent)
            await self._store.begin_signin(
                state, browser, pending, SIGNIN_LIFE_S, address=request.remote or ""
            )
        except CrosslightError as error:
            if silent and await self._sessions.find(request.cookies.get(COOKIE, "")) is not None:
                log.warning("nobody can be asked for roles: sessions go on", reason=error.what)
                self._sessions.put_off(request.cookies[COOKIE])
                raise web.HTTPSeeOther(pending.return_to) from None
            return problem_page(error, return_to=pending.return_to, name=self._name)
        response = web.Response(status=303, headers={hdrs.LOCATION: url, hdrs.CACHE_CONTROL: "no-store"})
        set_cookie(response, BROWSER_COOKIE, browser, SIGNIN_LIFE_S)
        return response

    async def come_back(self, request: web.Request) -> web.StreamResponse:
        """The provider sent the browser back: a session, or a page that says no."""
        pending: PendingSignIn | None = None
        silent = request.query.get("state", "").startswith(SILENT)
        try:
            pending = await self._pending(request)
            if silent and request.query.get("error") in ASK_THE_PERSON:
                raise web.HTTPSeeOther(_signin(pending.return_to))
            signed_in = await self._finish(request, pending)
        except CrosslightError as error:
            refuse(request, error)  # nobody has signed in yet: a stranger writes nothing of their own
            response: web.StreamResponse = problem_page(
                error, return_to=pending.return_to if pending else "/", name=self._name
            )
            drop_cookie(response, BROWSER_COOKIE)
            return response
        response = web.Response(
            status=303, headers={hdrs.LOCATION: pending.return_to, hdrs.CACHE_CONTROL: "no-store"}
        )
        if not (silent and await self._vouched(request, signed_in)):
            await self._begin(request, signed_in, response)
        drop_cookie(response, BROWSER_COOKIE)
        return response

    async def _vouched(self, request: web.Request, signed_in: SignedIn) -> bool:
        """Whether this browser's session goes on, with the roles that the provider says now."""
        session = await self._sessions.find(request.cookies.get(COOKIE, ""))
        if session is None or session.principal.subject != signed_in.principal.subject:
            return False
        named = replace(signed_in.principal, credential=session_name(session.id))
        async with self._audit.act(request, named, "sign-in", session="goes on", roles=sorted(named.roles)):
            await self._sessions.vouched(session.id, signed_in.principal, signed_in.known)
        return True

    async def _begin(self, request: web.Request, signed_in: SignedIn, response: web.Response) -> None:
        await self._sessions.end(request.cookies.get(COOKIE, ""))
        session_id = self._sessions.new_id()
        named = replace(signed_in.principal, credential=session_name(session_id))
        async with self._audit.act(request, named, "sign-in"):
            session = await self._sessions.begin(signed_in.principal, session_id, signed_in.known)
        set_cookie(response, COOKIE, session.id, self._sessions.cookie_life_s)

    async def _pending(self, request: web.Request) -> PendingSignIn:
        """The sign-in that this browser began; it is spent."""
        query = request.query
        if any(len(value) > 4096 for value in query.values()):
            raise Unauthenticated("The answer of the identity provider is too long.")
        pending = await self._store.take_signin(
            query.get("state", ""), request.cookies.get(BROWSER_COOKIE, "")
        )
        if pending is None:
            raise Unauthenticated(
                "This sign-in was not begun in this window, or took too long.", where="state"
            )
        return pending

    async def _finish(self, request: web.Request, pending: PendingSignIn) -> SignedIn:
        query = request.query
        if "error" in query or not query.get("code"):
            raise Unauthenticated("The identity provider did not sign you in.", where="error")
        return await self._client.sign_in(
            query["code"], pending.verifier, pending.nonce, query.get("iss", "")
        )

    async def left(self, request: web.Request) -> web.Response:
        """How many seconds the session of this browser lasts, for an open page.

        Asking does not make it last longer.
        """
        left_s, final = await self._sessions.left(request.cookies.get(COOKIE, ""))
        return web.json_response({"left_s": left_s, "final": final}, headers={hdrs.CACHE_CONTROL: "no-store"})

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """End the session; the middleware has checked the CSRF token."""
        session = request.get(SESSION)
        if session is not None:
            async with self._audit.act(request, session.principal, "sign-out"):
                await self._sessions.end(session.id)
        response = web.Response(
            status=303, headers={hdrs.LOCATION: "/signed-out", hdrs.CACHE_CONTROL: "no-store"}
        )
        drop_cookie(response, COOKIE)
        return response

    async def signed_out(self, request: web.Request) -> web.StreamResponse:
        """Said once more, in plain words."""
        return signed_out_page(self._name)
