"""OpenID Connect as a relying party: authorisation code with PKCE (OIDC Core 3.1, RFC 7636), any issuer.

Every check of OIDC Core 3.1.3.7 that applies to the code flow is made; keys are fetched again for an unknown
``kid`` at most once a minute, so that forged tokens cannot make us ask.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import aiohttp
import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from crosslight.runtime.clock import Clock
from crosslight.runtime.http import limited_chunks
from crosslight.runtime.log import get_logger
from crosslight.standards.access import ROLES, Principal
from crosslight.standards.problem import Forbidden, TooLarge, Unauthenticated, Unavailable, kind_as_sentence
from registry.access.config import OidcConfig
from registry.access.logout_token import Logout, read_logout
from registry.access.store import AtProvider
from registry.access.tokens import NOT_FOR_PEOPLE

log = get_logger("signin")

LEEWAY_S = 60
MAX_ANSWER_BYTES = 1 << 20
DISCOVERY_LIFE_S = 3600.0
KEYS_PAUSE_S = 60.0


@dataclass(frozen=True, slots=True)
class Provider:
    """What discovery says (OIDC Discovery 3)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    iss_in_response: bool  # RFC 9207
    ends_sessions: bool  # Back-Channel Logout 1.0, 2.1


@dataclass(frozen=True, slots=True)
class SignedIn:
    """Somebody the provider vouches for, and how it names their session."""

    principal: Principal
    known: AtProvider


def challenge(verifier: str) -> str:
    """The S256 challenge of a PKCE verifier (RFC 7636 4.2)."""
    return base64.urlsafe_b64encode(hashlib.sha256(verifier.encode("ascii")).digest()).decode().rstrip("=")


def claim(claims: dict[str, Any], path: str) -> list[str]:
    """The values at a dotted path, through objects and lists of objects."""
    values: list[Any] = [claims]
    for name in path.split("."):
        next_values: list[Any] = []
        for node in values:
            value = node.get(name) if isinstance(node, dict) else None
            next_values.extend(value if isinstance(value, list) else [value])
        values = [v for v in next_values if v is not None]
    return [str(v) for v in values if isinstance(v, str | int)]


def person(claims: dict[str, Any], config: OidcConfig) -> Principal:
    """The principal that a verified ID token speaks of.

    Somebody without a role of ours is a porter, who may see nothing.

    Raises:
        Unauthenticated: without a subject.
    """
    subject = next(iter(claim(claims, config.subject_claim)), "")
    if not subject:
        raise Unauthenticated("The identity provider does not say who you are.", where=config.subject_claim)
    given_roles = claim(claims, config.roles_claim)
    roles = {config.role_map.get(r, "") for r in given_roles} if config.role_map else set(given_roles)
    roles = {r for r in roles if r in ROLES and r not in NOT_FOR_PEOPLE}
    return Principal(
        subject=f"person:{subject}"[:200],
        name=next(iter(claim(claims, config.name_claim)), "")[:200],
        roles=frozenset(roles or {"porter"}),
        organisation=next(iter(claim(claims, config.organisation_claim)), "")[:64],
        evidence="session",
    )


def check_assurance(claims: dict[str, Any], config: OidcConfig) -> None:
    """Whether somebody signed in as surely as this service asks (OIDC Core 2: acr, amr).

    Raises:
        Forbidden: not so surely.
    """
    reached, used = claim(claims, config.acr_claim), claim(claims, "amr")
    missing = [method for method in config.amr_required if method not in used]
    if config.acr_required and not set(reached) & set(config.acr_required):
        said = ", ".join(reached) or "it was not said"
        why = f"Wanted: {' or '.join(config.acr_required)}. Your sign-in: {said}."
    elif missing:
        why = f"Wanted too: {', '.join(missing)}."
    else:
        return
    raise Forbidden(
        "You did not sign in as surely as this service asks.",
        why=why[:300],
        todo="Sign in again with the stronger way that your organisation gives, such as a smartcard or a"
        " security key; if you have none, ask your organisation for it.",
        where=config.acr_claim,
    )


class OidcClient:
    """Talks to one provider.

    Args:
        session: Made when first needed; its TLS trusts the provider.
        redirect_uri: Of our callback, as registered there.
        secret: Our client secret; '' = public client.
    """

    def __init__(
        self,
        config: OidcConfig,
        session: Callable[[], aiohttp.ClientSession],
        redirect_uri: str,
        clock: Clock,
        *,
        secret: str = "",
    ) -> None:
        self._config, self._session, self._clock = config, session, clock
        self._redirect_uri, self._secret = redirect_uri, secret
        self._provider: tuple[float, Provider] | None = None
        self._keys: tuple[float, KeySet] | None = None

    async def _get(self, method: str, url: str, **more: Any) -> dict[str, Any]:
        try:
            more["headers"] = {
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                **more.get("headers", {}),
            }
            async with self._session().request(method, url, allow_redirects=False, **more) as response:
                chunks = limited_chunks(response.content.iter_chunked(1 << 16), MAX_ANSWER_BYTES)
                data = orjson.loads(b"".join([chunk async for chunk in chunks]))
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError, TooLarge) as error:
            log.error("identity provider does not answer", error=type(error).__name__)
            raise Unavailable(
                "The identity provider does not answer.", todo="Try again in a moment."
            ) from None
        if status != 200 or not isinstance(data, dict):
            code = data.get("error", "") if isinstance(data, dict) else ""
            log.error("identity provider refuses", status=status, reason=str(code)[:80])
            raise Unauthenticated("The identity provider did not confirm the sign-in.", todo="Sign in again.")
        return data

    async def provider(self) -> Provider:
        """Discovery, kept for an hour.

        Raises:
            Unavailable: when it cannot be had, or names another issuer.
        """
        now = self._clock.monotonic_s()
        if self._provider is not None and now - self._provider[0] < DISCOVERY_LIFE_S:
            return self._provider[1]
        issuer = self._config.issuer
        data = await self._get("GET", issuer.rstrip("/") + "/.well-known/openid-configuration")
        try:
            provider = Provider(
                issuer=str(data["issuer"]),
                authorization_endpoint=str(data["authorization_endpoint"]),
                token_endpoint=str(data["token_endpoint"]),
                jwks_uri=str(data["jwks_uri"]),
                iss_in_response=data.get("authorization_response_iss_parameter_supported") is True,
                ends_sessions=data.get("backchannel_logout_supported") is True,
            )
        except KeyError:
            raise Unavailable("The identity provider's discovery is not complete.") from None
        if provider.issuer != issuer:
            raise Unavailable(
                "The identity provider names another issuer.",
                why="OIDC Discovery 4.3.",
                todo="Check access.oidc.issuer.",
            )
        self._provider = (now, provider)
        return provider

    async def authorize_url(self, state: str, nonce: str, verifier: str, *, silent: bool = False) -> str:
        """Where the browser goes to sign in.

        ``silent``: its person is asked nothing (OIDC Core 3.1.2.1, prompt=none).
        """
        query = {
            "response_type": "code",
            "client_id": self._config.client_id,
            "redirect_uri": self._redirect_uri,
            "scope": self._config.scopes,
            "state": state,
            "nonce": nonce,
            "code_challenge": challenge(verifier),
            "code_challenge_method": "S256",
        }
        if self._config.acr_values:
            query["acr_values"] = self._config.acr_values
        if silent:
            query["prompt"] = "none"
        endpoint = (await self.provider()).authorization_endpoint
        return endpoint + ("&" if "?" in endpoint else "?") + urlencode(query)

    async def sign_in(self, code: str, verifier: str, nonce: str, iss: str) -> SignedIn:
        """Exchange a code, verify the ID token, and say who it is.

        Raises:
            Unauthenticated: if any check fails. Forbidden: with less assurance than is asked for.
            Unavailable: if the provider does not answer.
        """
        provider = await self.provider()
        if (iss or provider.iss_in_response) and iss != provider.issuer:
            raise Unauthenticated("The answer is of another identity provider.", why="RFC 9207.")
        form = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": self._redirect_uri,
            "code_verifier": verifier,
        }
        headers = {}
        if self._secret:
            # RFC 6749 2.3.1
            pair = f"{quote(self._config.client_id, safe='')}:{quote(self._secret, safe='')}"
            headers["Authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            form["client_id"] = self._config.client_id
        answer = await self._get("POST", provider.token_endpoint, data=form, headers=headers)
        claims = await self.verify(str(answer.get("id_token", "")), nonce)
        check_assurance(claims, self._config)
        subject, sid = (str(claims.get(name) or "")[:512] for name in ("sub", "sid"))
        known = AtProvider(issuer=provider.issuer, subject=subject, sid=sid)
        return SignedIn(person(claims, self._config), known)

    async def logout(self, token: str) -> Logout:
        """What a logout token of the provider says (Back-Channel Logout 1.0, 2.6).

        Raises:
            Unauthenticated: for any other. Unavailable: if the provider's keys cannot be had.
        """
        header, claims = await self._decoded(token)
        return read_logout(
            header,
            claims,
            issuer=(await self.provider()).issuer,
            client_id=self._config.client_id,
            now=self._clock.now().timestamp(),
            leeway_s=LEEWAY_S,
        )

    async def verify(self, id_token: str, nonce: str) -> dict[str, Any]:
        """The claims of a good ID token (OIDC Core 3.1.3.7).

        Raises:
            Unauthenticated: for any other.
        """
        _, claims = await self._decoded(id_token)
        now = self._clock.now().timestamp()
        audience = claims.get("aud")
        audiences = audience if isinstance(audience, list) else [audience]
        ours = self._config.client_id
        expires, issued = claims.get("exp"), claims.get("iat")
        checks = {
            "iss": claims.get("iss") == (await self.provider()).issuer,
            "aud": ours in audiences,
            "azp": claims.get("azp", ours if len(audiences) == 1 else None) == ours,
            "exp": isinstance(expires, int | float) and now < expires + LEEWAY_S,
            "iat": isinstance(issued, int | float) and issued < now + LEEWAY_S,
            "nonce": bool(nonce) and claims.get("nonce") == nonce,
        }
        if wrong := [name for name, good in checks.items() if not good]:
            raise Unauthenticated(
                "The identity provider's token is not for this sign-in.", where=", ".join(wrong)
            )
        return claims

    async def _decoded(self, token: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Header and claims of what the provider signed."""
        algorithms = list(self._config.algorithms)
        keys = await self._jwks(again=False)
        try:
            try:
                decoded = jwt.decode(token, keys, algorithms=algorithms)
            except (JoseError, ValueError):
                fresh = await self._jwks(again=True)
                if fresh is keys:
                    raise
                decoded = jwt.decode(token, fresh, algorithms=algorithms)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise Unauthenticated(
                "The identity provider's token cannot be verified.", why=kind_as_sentence(error)
            ) from None
        return dict(decoded.header), dict(decoded.claims)

    async def _jwks(self, *, again: bool) -> KeySet:
        now = self._clock.monotonic_s()
        if self._keys is not None and (not again or now - self._keys[0] < KEYS_PAUSE_S):
            return self._keys[1]
        data = await self._get("GET", (await self.provider()).jwks_uri)
        usable = [
            k
            for k in data.get("keys", [])
            if isinstance(k, dict) and k.get("kty") in ("RSA", "EC") and k.get("use") != "enc"
        ]
        keys = KeySet.import_key_set({"keys": usable})
        self._keys = (now, keys)
        return keys


def provider_context(bundle: Path | None) -> ssl.SSLContext:
    """TLS towards a provider.

    The system's authorities, and the region's own (``bundle``) where the provider is ours.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if bundle is not None:
        context.load_verify_locations(bundle)
    return context
