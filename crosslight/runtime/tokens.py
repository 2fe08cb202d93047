"""Signed tokens between our own ends and for apps (D21).

JWS ES256 by the region's token key, verified offline.

Two kinds, told apart by ``typ``: ``access`` (a person or system, for one audience: the registry, or one
member) and ``release`` (minutes, one holder, one patient, named studies, and the one certificate that may
show it). Algorithms are fixed; a token of one kind is never accepted as the other. A token is ended before
its time by its id, ``jti``, never by its text: one signature can be written in two ways.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet

from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.signing import compact_jws
from crosslight.standards.access import Grants, Principal
from crosslight.standards.problem import Unauthenticated, kind_as_sentence

ALGORITHMS = ["ES256"]
LEEWAY_S = 30
MAX_ID_CHARS = 64  # of a token, as it is audited
KEPT_SIGNATURES = 2000  # of tokens that were shown last
CONFIRMATION = "x5t#S256"  # RFC 8705 3.1, within ``cnf``: SHA-256 of a certificate, base64url
Kind = Literal["access", "release"]


def nobody_presents() -> str:
    """Where there are no certificates: tokens are bound to none."""
    return ""


def none_withdrawn() -> Collection[str]:
    """Where nobody ends tokens before their time."""
    return ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified token says. ``source`` is the id of the token that it was exchanged for, or ''."""

    kind: Kind
    principal: Principal
    audience: str
    token_id: str
    expires: int
    source: str = ""
    correlation: str = ""
    patient: str = ""
    studies: tuple[str, ...] = ()


class TokenSigner:
    """Mints tokens with the region's token key.

    Args:
        key: It.
        issuer: The region's homeCommunityId.
        clock, ids: For their times and ids.
        presenter: The thumbprint of the certificate that the gateway shows to members now: only whoever shows
            it may present a release token. '' where there are none (open mode).
    """

    def __init__(
        self,
        key: ECKey,
        issuer: str,
        clock: Clock,
        ids: Ids,
        presenter: Callable[[], str] = nobody_presents,
    ) -> None:
        self._key = key
        self._issuer = issuer
        self._clock = clock
        self._ids = ids
        self.presenter = presenter

    def _mint(
        self,
        kind: Kind,
        principal: Principal,
        audience: str,
        ttl_s: int,
        extra: dict[str, Any],
        presenter: str,
        source: str,
    ) -> str:
        now = int(self._clock.now().timestamp())
        claims = {
            "iss": self._issuer,
            "sub": principal.subject,
            "aud": audience,
            "iat": now,
            "exp": now + ttl_s,
            "jti": self._ids.uuid4().hex,
            "typ": kind,
            "name": principal.name,
            "roles": sorted(principal.roles),
            "org": principal.organisation,
            "pou": principal.purpose,
            **extra,
        }
        if granted := principal.grants.plain():
            claims["grants"] = granted
        if presenter:
            claims["cnf"] = {CONFIRMATION: presenter}
        if source:
            claims["src"] = source
        return compact_jws({"kid": self._key.kid, "typ": f"{kind}+jwt"}, orjson.dumps(claims), self._key)

    def access(
        self,
        principal: Principal,
        *,
        audience: str,
        ttl_s: int,
        presenter: str = "",
        source: str = "",
        token_id: str = "",
    ) -> str:
        """A token for an app or person.

        Args:
            principal: Whom it speaks for.
            audience: Where it is good: the issuer (the registry), or the code of one member.
            ttl_s: Life.
            presenter: The thumbprint of the only certificate that may show it; '' for whoever has it.
            source: The id of the token that it is given for: it ends with that one.
            token_id: Its own id (``jti``), where that is noted elsewhere; '' for any.
        """
        return self._mint(
            "access", principal, audience, ttl_s, {"jti": token_id} if token_id else {}, presenter, source
        )

    def release(
        self,
        principal: Principal,
        *,
        holder: str,
        patient: str,
        studies: tuple[str, ...],
        correlation: str,
        ttl_s: int = 300,
    ) -> str:
        """A five-minute token that lets ``holder`` release ``studies`` to ``principal`` (D21).

        The gateway alone may show it (RFC 8705), and it ends with the access token that the principal showed.
        """
        extra = {"pat": patient, "stu": list(studies), "cor": correlation}
        source = str(principal.claims.get("jti", ""))
        return self._mint("release", principal, holder, ttl_s, extra, self.presenter(), source)


class TokenVerifier:
    """Verifies tokens with public keys learnt from the directory.

    The key set can be replaced while running. That a signature is good is remembered, as long as the keys
    stay; whether the token holds is asked of it at each use.

    Args:
        issuer: The region's homeCommunityId.
        clock: Against which they end.
        jwks: The public keys.
        withdrawn: The ids of tokens that were ended before their time, as known now.
    """

    def __init__(
        self,
        issuer: str,
        clock: Clock,
        jwks: dict[str, Any] | None = None,
        withdrawn: Callable[[], Collection[str]] = none_withdrawn,
    ) -> None:
        self._issuer, self._clock, self._withdrawn = issuer, clock, withdrawn
        self._keys = KeySet([])
        self._signed: OrderedDict[bytes, Mapping[str, Any]] = OrderedDict()  # by the digest of the token
        if jwks is not None:
            self.replace_keys(jwks)

    def replace_keys(self, jwks: dict[str, Any]) -> None:
        """Use these public keys from now on."""
        self._keys = KeySet.import_key_set(jwks)  # type: ignore[arg-type]  # plain JSON, which it checks
        self._signed.clear()

    def verify(self, token: str, *, kind: Kind, audience: str, presenter: str | None = None) -> Claims:
        """The claims of a good token.

        Args:
            token: As it came.
            kind: What it must be.
            audience: Whom it must be for.
            presenter: The thumbprint of the certificate that the caller showed in the handshake, '' for none.
                A release token must be bound to it, an access token may be. None: callers show none, and
                nothing is bound (open mode).

        Raises:
            Unauthenticated: for any other; the reason names no content of the token.
        """
        claims, now = self._claims(token), int(self._clock.now().timestamp())
        if claims.get("iss") != self._issuer or claims.get("typ") != kind or claims.get("aud") != audience:
            raise self._for_another(claims, kind)
        expires, issued = claims.get("exp"), claims.get("iat")
        if not isinstance(expires, int) or not isinstance(issued, int) or now > expires + LEEWAY_S:
            raise Unauthenticated("The token has expired.", todo="Get a new one.")
        if issued > now + 2 * LEEWAY_S:
            raise Unauthenticated("The token is from the future.", todo="Check the clocks.")
        if not {str(claims.get("jti", "")), str(claims.get("src", ""))}.isdisjoint(self._withdrawn()):
            raise Unauthenticated("The token was withdrawn.", todo="Ask the region's operator for a new one.")
        if presenter is not None and not _may_present(claims, kind, presenter):
            raise Unauthenticated(
                "The token was given to somebody else.",
                why="Its cnf names another certificate than the caller's (RFC 8705 3).",
            )
        principal = Principal(
            subject=str(claims.get("sub", "")),
            name=str(claims.get("name", "")),
            roles=frozenset(str(r) for r in claims.get("roles", ())),
            organisation=str(claims.get("org", "")),
            purpose=str(claims.get("pou", "")),
            evidence="gateway-token" if kind == "release" else "bearer",
            grants=Grants.from_plain(claims.get("grants")),
            credential=f"token {str(claims.get('jti', ''))[:MAX_ID_CHARS]}",
            claims={name: claims[name] for name in ("jti", "src", "exp") if name in claims},
        )
        return Claims(
            kind=kind,
            principal=principal,
            audience=audience,
            token_id=str(claims.get("jti", "")),
            expires=expires,
            source=str(claims.get("src", "")),
            correlation=str(claims.get("cor", "")),
            patient=str(claims.get("pat", "")),
            studies=tuple(str(s) for s in claims.get("stu", ())),
        )

    def _claims(self, token: str) -> Mapping[str, Any]:
        """What a token with a good signature says; raises as :meth:`verify`."""
        digest = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        claims = self._signed.get(digest)
        if claims is None:
            try:
                claims = jwt.decode(token, self._keys, algorithms=ALGORITHMS).claims
            except (JoseError, ValueError, KeyError, TypeError) as error:
                raise Unauthenticated("The token cannot be verified.", why=kind_as_sentence(error)) from None
            self._signed[digest] = claims
            if len(self._signed) > KEPT_SIGNATURES:
                self._signed.popitem(last=False)
        else:
            self._signed.move_to_end(digest)
        return claims

    def _for_another(self, claims: Mapping[str, Any], kind: Kind) -> Unauthenticated:
        own = claims.get("iss") == self._issuer and claims.get("typ") == kind == "access"
        if own and claims.get("aud") == self._issuer:
            return Unauthenticated(
                "This token is for the region's registry.",
                todo="Exchange it there for one for this member (POST /token, RFC 8693).",
            )
        return Unauthenticated("The token is for something else.", why="Issuer, kind or audience differ.")


def _may_present(claims: Mapping[str, Any], kind: Kind, presenter: str) -> bool:
    """Whether whoever shows this certificate may show this token."""
    said = claims.get("cnf")
    bound = said.get(CONFIRMATION) if isinstance(said, Mapping) else None
    if said is None and kind == "access":
        return True
    return bool(presenter) and bound == presenter
