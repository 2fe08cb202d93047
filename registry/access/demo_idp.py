"""A built-in OpenID provider, for demonstrations only, with made-up people from the configuration.

Every page says so.

It is a provider like any other (discovery, authorisation code with PKCE, ES256 ID tokens, a session of its
own that answers ``prompt=none``, back-channel logout), so that a demonstration signs in through the same
client code as a region does.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any
from urllib.parse import urlencode

import aiohttp
import orjson
from aiohttp import hdrs, web
from joserfc import jwt

from crosslight.runtime.http import form_fields, refuse
from crosslight.runtime.log import get_logger
from crosslight.runtime.seams import Seams
from crosslight.standards.access import Principal
from crosslight.standards.problem import Unauthenticated
from registry.access.config import AccessConfig, DemoAccount
from registry.access.logout_token import EVENT
from registry.access.oidc import challenge
from registry.access.pages import page
from registry.access.sessions import drop_cookie, set_cookie
from registry.access.signin_audit import SignInAudit
from registry.access.store import AccessStore, hashed
from registry.keys import TokenKeys

log = get_logger("signin")

PREFIX = "/demo-idp"
BANNER = "DEMO ONLY: this sign-in and the people in it are made up. Never use it with real patients."
COOKIE = "__Host-crosslight-demo-idp"
TICKET_LIFE_S = 600
SESSION_LIFE_S = 10 * 3600
CODE_LIFE_S = 60
TOKEN_LIFE_S = 300
_WRONG = "The name or the password is wrong."
_WAIT = "Too many attempts. Wait a few minutes."


@dataclass(frozen=True, slots=True)
class OwnClient:
    """The registry as the provider's client.

    Attributes:
        id: Its client id.
        redirect_uri: The only place a code is sent to.
        logout_uri: Its back-channel logout address.
        session: How that is called.
    """

    id: str
    redirect_uri: str
    logout_uri: str
    session: Callable[[], aiohttp.ClientSession]


class DemoProvider:
    """The provider's endpoints under ``/demo-idp``.

    Args:
        base: Of the people listener; the issuer is below it.
        client: The only one.
        keys: Its own signing keys, not the region's.
    """

    def __init__(
        self,
        config: AccessConfig,
        base: str,
        client: OwnClient,
        store: AccessStore,
        keys: TokenKeys,
        audit: SignInAudit,
        seams: Seams,
        *,
        name: str,
    ) -> None:
        self._name = name
        self._config, self._client = config, client
        self._client_id, self._redirect_uri = client.id, client.redirect_uri
        self.issuer = base.rstrip("/") + PREFIX
        self._store, self._keys, self._audit, self._clock, self._ids = (
            store,
            keys,
            audit,
            seams.clock,
            seams.ids,
        )
        self.accounts = {a.user: a for a in config.demo.accounts}

    def routes(self) -> list[web.RouteDef]:
        """For the people listener."""
        return [
            web.get(f"{PREFIX}/.well-known/openid-configuration", self.discovery),
            web.get(f"{PREFIX}/jwks", self.jwks),
            web.get(f"{PREFIX}/authorize", self.authorize, allow_head=False),
            web.post(f"{PREFIX}/login", self.login),
            web.post(f"{PREFIX}/token", self.token),
            web.get(f"{PREFIX}/logout", self.ask_logout, allow_head=False),
            web.post(f"{PREFIX}/logout", self.logout),
        ]

    async def discovery(self, request: web.Request) -> web.Response:
        """OIDC Discovery 3."""
        return _json(
            {
                "issuer": self.issuer,
                "authorization_endpoint": f"{self.issuer}/authorize",
                "token_endpoint": f"{self.issuer}/token",
                "jwks_uri": f"{self.issuer}/jwks",
                "response_types_supported": ["code"],
                "grant_types_supported": ["authorization_code"],
                "subject_types_supported": ["public"],
                "id_token_signing_alg_values_supported": ["ES256"],
                "token_endpoint_auth_methods_supported": ["none"],
                "code_challenge_methods_supported": ["S256"],
                "scopes_supported": ["openid", "profile"],
                "authorization_response_iss_parameter_supported": True,
                "prompt_values_supported": ["none"],
                "acr_values_supported": sorted({a.acr for a in self.accounts.values() if a.acr}),
                "end_session_endpoint": f"{self.issuer}/logout",
                "backchannel_logout_supported": True,
                "backchannel_logout_session_supported": True,
            }
        )

    async def jwks(self, request: web.Request) -> web.Response:
        """Public keys."""
        return _json(self._keys.jwks())

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """The login form, for a well-formed request of our own client; with ``prompt=none`` an answer."""
        asked = request.query
        good = (
            asked.get("client_id") == self._client_id
            and asked.get("redirect_uri") == self._redirect_uri
            and asked.get("response_type") == "code"
            and asked.get("code_challenge_method") == "S256"
            and "openid" in asked.get("scope", "").split()
            and all(0 < len(asked.get(name, "")) <= 512 for name in ("state", "nonce", "code_challenge"))
        )
        if not good:
            return self._page("This request cannot be used", "<p>Begin again at the start page.</p>", 400)
        grant = {"kind": "ticket", **{n: asked[n] for n in ("state", "nonce", "code_challenge")}}
        address = request.remote or ""
        if asked.get("prompt") == "none":
            here = await self._signed_in(request)
            if here is None:
                return self._back({"error": "login_required", "state": asked["state"]})
            return await self._send_code(grant, *here, address)
        ticket = self._ids.token_bytes(32).hex()
        await self._store.add_grant(ticket, grant, TICKET_LIFE_S, address=address)
        return self._form(ticket)

    async def _signed_in(self, request: web.Request) -> tuple[DemoAccount, str] | None:
        """Who is signed in here, in this browser, and the id of that session (``sid``)."""
        cookie = request.cookies.get(COOKIE, "")[:128]
        grant = await self._store.grant(cookie, take=False) if cookie else None
        if grant is None or grant.get("kind") != "session":
            return None
        account = self.accounts.get(str(grant["user"]))
        return (account, hashed(cookie)[:32]) if account is not None else None

    def _form(self, ticket: str, error: str = "", status: int = 200) -> web.Response:
        shown = f'<p class="error" role="alert">{escape(error)}</p>' if error else ""
        body = (
            f'{shown}<form method="post" action="{PREFIX}/login"><input type="hidden" name="ticket"'
            f' value="{escape(ticket)}"><label for="user">Name</label><input type="text" id="user"'
            ' name="user" autocomplete="username" autofocus required><label'
            ' for="password">Password</label><input type="password" id="password" name="password"'
            ' autocomplete="current-password" required><button type="submit">Sign in</button></form>'
        )
        return self._page("Sign in", body, status)

    def _page(self, title: str, body: str, status: int) -> web.Response:
        return page(title, body, status=status, banner=BANNER, name=self._name)

    async def login(self, request: web.Request) -> web.StreamResponse:
        """Check name and password; on success send a code to our client."""
        form = await form_fields(request)
        ticket, user, password = (str(form.get(name, ""))[:200] for name in ("ticket", "user", "password"))
        grant = await self._store.grant(ticket, take=False)
        if grant is None or grant.get("kind") != "ticket":
            return self._page("This took too long", '<a class="button" href="/signin">Sign in again</a>', 400)
        subjects = (f"user:{user}", f"address:{request.remote}")
        window_s = self._config.failure_window_minutes * 60
        by_user, by_address = await self._store.failures(subjects, window_s)
        if by_user >= self._config.failures_per_account or by_address >= self._config.failures_per_address:
            refuse(request, Unauthenticated(_WAIT))
            return self._form(ticket, _WAIT, 429)
        account = self._check(user, password)
        if account is None:
            await self._store.add_failures(subjects, window_s)
            refuse(request, Unauthenticated(_WRONG))
            if user in self.accounts:  # as often as its failures are bounded
                who = Principal(subject=f"person:{user}", evidence="none")
                await self._audit.refused(request, who, "wrong name or password")
            return self._form(ticket, _WRONG, 401)
        await self._store.grant(ticket, take=True)
        cookie, address = self._ids.token_bytes(32).hex(), request.remote or ""
        body = {"kind": "session", "user": account.user}
        await self._store.add_grant(cookie, body, SESSION_LIFE_S, address=address)
        response = await self._send_code(grant, account, hashed(cookie)[:32], address)
        set_cookie(response, COOKIE, cookie, SESSION_LIFE_S)
        return response

    def _check(self, user: str, password: str) -> DemoAccount | None:
        """The account, if the password is its own.

        An unknown name costs and answers the same as a wrong password.
        """
        account = self.accounts.get(user)
        expected = account.password if account is not None else self._ids.token_bytes(16).hex()
        right = hmac.compare_digest(password.encode("utf-8", "replace"), expected.encode())
        return account if right else None

    async def _send_code(
        self, grant: dict[str, Any], account: DemoAccount, sid: str, address: str
    ) -> web.Response:
        code = self._ids.token_bytes(32).hex()
        body = {**grant, "kind": "code", "user": account.user, "sid": sid}
        await self._store.add_grant(code, body, CODE_LIFE_S, address=address)
        return self._back({"code": code, "state": str(grant["state"])})

    def _back(self, answer: dict[str, str]) -> web.Response:
        """To our client, with an answer (RFC 6749 4.1.2, RFC 9207)."""
        location = f"{self._redirect_uri}?{urlencode({**answer, 'iss': self.issuer})}"
        return web.Response(status=303, headers={hdrs.LOCATION: location, hdrs.CACHE_CONTROL: "no-store"})

    async def ask_logout(self, request: web.Request) -> web.Response:
        """A page to sign out here, and so everywhere."""
        here = await self._signed_in(request)
        if here is None:
            return self._page("Nobody is signed in", "<p>Nobody is signed in here in this browser.</p>", 200)
        body = (
            f"<p>{escape(here[0].name or here[0].user)} is signed in at this provider.</p>"
            f'<form method="post" action="{PREFIX}/logout"><button type="submit">Sign out everywhere'
            "</button></form>"
        )
        return self._page("Sign out everywhere", body, 200)

    async def logout(self, request: web.Request) -> web.StreamResponse:
        """End the session here, and tell our client (Back-Channel Logout 1.0, 2.5)."""
        here = await self._signed_in(request)
        if here is None:
            return await self.ask_logout(request)
        await self._store.grant(request.cookies[COOKIE][:128], take=True)
        account, sid = here
        form = {"logout_token": self.logout_token(account.user, sid)}
        async with self._client.session().post(self._client.logout_uri, data=form) as answer:
            told = answer.status == 200
        if not told:
            log.error("the demo's provider could not sign somebody out here", status=answer.status)
        words = "You are signed out everywhere." if told else "You are signed out here, perhaps not there."
        response = self._page("Signed out", f"<p>{words}</p>", 200 if told else 502)
        drop_cookie(response, COOKIE)
        return response

    def logout_token(self, user: str, sid: str = "", **other: Any) -> str:
        """A logout token (Back-Channel Logout 1.0, 2.4) with ``other`` claims, for one session or all."""
        now = int(self._clock.now().timestamp())
        claims = {
            "iss": self.issuer,
            "sub": user,
            "aud": self._client_id,
            "iat": now,
            "exp": now + 120,
            "jti": self._ids.token_bytes(16).hex(),
            "events": {EVENT: {}},
            **({"sid": sid} if sid else {}),
            **other,
        }
        key = self._keys.signing
        return jwt.encode({"alg": "ES256", "kid": key.kid, "typ": "logout+jwt"}, claims, key)

    async def token(self, request: web.Request) -> web.Response:
        """An ID token for a code and its PKCE verifier (RFC 6749 4.1.3, RFC 7636 4.6).

        A code is spent by the first try.
        """
        form = await form_fields(request)
        value = {
            n: str(form.get(n, ""))[:512]
            for n in ("grant_type", "code", "redirect_uri", "client_id", "code_verifier")
        }
        if value["grant_type"] != "authorization_code":
            return _json({"error": "unsupported_grant_type"}, 400)
        grant = await self._store.grant(value["code"], take=True)
        proof = value["code_verifier"].encode("ascii", "replace").decode()
        good = (
            grant is not None
            and grant.get("kind") == "code"
            and value["client_id"] == self._client_id
            and value["redirect_uri"] == self._redirect_uri
            and hmac.compare_digest(
                challenge(proof).encode(), str(grant["code_challenge"]).encode("ascii", "replace")
            )
        )
        account = self.accounts.get(str(grant["user"])) if good and grant else None
        if account is None or grant is None:
            return _json({"error": "invalid_grant"}, 400)
        return _json(
            {
                # good for nothing: there is no userinfo here
                "access_token": self._ids.token_bytes(16).hex(),
                "token_type": "Bearer",
                "expires_in": TOKEN_LIFE_S,
                "id_token": self._id_token(account, grant),
            }
        )

    def _id_token(self, account: DemoAccount, grant: dict[str, Any]) -> str:
        now = int(self._clock.now().timestamp())
        claims = {
            "iss": self.issuer,
            "sub": account.user,
            "aud": self._client_id,
            "iat": now,
            "exp": now + TOKEN_LIFE_S,
            "nonce": str(grant["nonce"]),
            "sid": str(grant["sid"]),
            "name": account.name or account.user,
            "roles": list(account.roles),
            "organisation": account.organisation,
            **({"acr": account.acr} if account.acr else {}),
            **({"amr": list(account.amr)} if account.amr else {}),
        }
        key = self._keys.signing
        return jwt.encode({"alg": "ES256", "kid": key.kid}, claims, key)


def _json(data: dict[str, Any], status: int = 200) -> web.Response:
    headers = {hdrs.CACHE_CONTROL: "no-store"}
    return web.Response(
        body=orjson.dumps(data), status=status, content_type="application/json", headers=headers
    )
