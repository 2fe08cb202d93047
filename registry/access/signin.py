"""Sign-in and sign-out of people: leave for the provider, come back, get a session. Each outcome is audited."""

from __future__ import annotations

import base64

from aiohttp import hdrs, web

from crosslight.runtime.audit import AuditEntry, AuditLog
from crosslight.runtime.clock import Ids
from crosslight.runtime.http import CORRELATION
from crosslight.runtime.log import get_logger
from crosslight.standards.access import Principal
from crosslight.standards.problem import CrosslightError, Unauthenticated
from registry.access.oidc import OidcClient
from registry.access.pages import problem_page, signed_out_page
from registry.access.sessions import COOKIE, SESSION, Sessions, drop_cookie, set_cookie
from registry.access.store import AccessStore, PendingSignIn

log = get_logger("signin")

BROWSER_COOKIE = "__Host-crosslight-signin"
SIGNIN_LIFE_S = 600
STRANGER = Principal(subject="stranger", evidence="none")


class SignInAudit:
    """Writes sign-ins, sign-outs and failures into the audit."""

    def __init__(self, audit: AuditLog, ids: Ids) -> None:
        self._audit, self._ids = audit, ids

    async def note(self, request: web.Request, principal: Principal, act: str, *, refused: str = "") -> None:
        """One act and its outcome."""
        entry = AuditEntry(
            principal=principal,
            face="portal",
            action="read",
            decision="deny" if refused else "permit",
            rule=refused or act,
            correlation=request.get(CORRELATION) or self._ids.uuid4().hex,
            peer=request.remote or "",
            query={"act": act},
        )
        await self._audit.begin(entry)
        await self._audit.end(entry, f"refused: {refused}" if refused else "ok")


def local_path(text: str) -> str:
    """A path of this site to return to, else ``/``: never another site, never a query (it may name a patient)."""
    good = text.startswith("/") and not text.startswith("//") and text.isascii() and text.isprintable() and len(text) <= 200
    return text if good and not set(text) & set("\\?#\"'<> ") else "/"


class SignIn:
    """Routes of the people listener."""

    def __init__(self, client: OidcClient, sessions: Sessions, store: AccessStore, audit: SignInAudit, ids: Ids) -> None:
        self._client, self._sessions, self._store = client, sessions, store
        self._audit, self._ids = audit, ids

    def routes(self) -> list[web.RouteDef]:
        """``/signin``, ``/signin/callback``, ``/signout`` (POST with the CSRF token), ``/signed-out``."""
        return [
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
        pending = PendingSignIn(nonce=nonce, verifier=verifier, return_to=local_path(request.query.get("return", "/")))
        try:
            url = await self._client.authorize_url(state, nonce, verifier)
            await self._store.begin_signin(state, browser, pending, SIGNIN_LIFE_S)
        except CrosslightError as error:
            return problem_page(error.what, status=error.http_status)
        response = web.Response(status=303, headers={hdrs.LOCATION: url, hdrs.CACHE_CONTROL: "no-store"})
        set_cookie(response, BROWSER_COOKIE, browser, SIGNIN_LIFE_S)
        return response

    async def come_back(self, request: web.Request) -> web.StreamResponse:
        """The provider sent the browser back: a session, or a page that says no."""
        try:
            principal, return_to = await self._finish(request)
        except CrosslightError as error:
            await self._audit.note(request, STRANGER, "sign-in", refused=f"{type(error).__name__} {error.where}".strip())
            log.warning("sign-in refused", kind=type(error).__name__, reason=error.what, detail=error.where)
            response: web.StreamResponse = problem_page(error.what, status=error.http_status)
            drop_cookie(response, BROWSER_COOKIE)
            return response
        await self._sessions.end(request.cookies.get(COOKIE, ""))
        await self._audit.note(request, principal, "sign-in")
        session = await self._sessions.begin(principal)
        response = web.Response(status=303, headers={hdrs.LOCATION: return_to, hdrs.CACHE_CONTROL: "no-store"})
        set_cookie(response, COOKIE, session.id, self._sessions.cookie_life_s)
        drop_cookie(response, BROWSER_COOKIE)
        return response

    async def _finish(self, request: web.Request) -> tuple[Principal, str]:
        query = request.query
        if any(len(value) > 4096 for value in query.values()):
            raise Unauthenticated("The answer of the identity provider is too long.")
        pending = await self._store.take_signin(query.get("state", ""), request.cookies.get(BROWSER_COOKIE, ""))
        if pending is None:
            raise Unauthenticated("This sign-in was not begun in this window, or took too long.", where="state")
        if "error" in query or not query.get("code"):
            raise Unauthenticated("The identity provider did not sign you in.", where="error")
        principal = await self._client.sign_in(query["code"], pending.verifier, pending.nonce, query.get("iss", ""))
        return principal, pending.return_to

    async def sign_out(self, request: web.Request) -> web.StreamResponse:
        """End the session; the middleware has checked the CSRF token."""
        session = request.get(SESSION)
        if session is not None:
            await self._sessions.end(session.id)
            await self._audit.note(request, session.principal, "sign-out")
        response = web.Response(status=303, headers={hdrs.LOCATION: "/signed-out", hdrs.CACHE_CONTROL: "no-store"})
        drop_cookie(response, COOKIE)
        return response

    async def signed_out(self, request: web.Request) -> web.StreamResponse:
        """Said once more, in plain words."""
        return signed_out_page()
