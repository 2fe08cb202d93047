"""Signed tokens between our own ends and for apps (D21).

JWS ES256 by the region's token key, verified offline.

Two kinds, told apart by ``typ``: ``access`` (a person or system, for hours, any member) and ``release``
(minutes, one holder, one patient, named studies). Algorithms are fixed; a token of one kind is never accepted
as the other.
"""

from __future__ import annotations

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
Kind = Literal["access", "release"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a verified token says."""

    kind: Kind
    principal: Principal
    audience: str
    token_id: str
    expires: int
    correlation: str = ""
    patient: str = ""
    studies: tuple[str, ...] = ()


class TokenSigner:
    """Mints tokens with the region's token key."""

    def __init__(self, key: ECKey, issuer: str, clock: Clock, ids: Ids) -> None:
        self._key = key
        self._issuer = issuer
        self._clock = clock
        self._ids = ids

    def _mint(
        self, kind: Kind, principal: Principal, audience: str, ttl_s: int, extra: dict[str, Any]
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
        return compact_jws({"kid": self._key.kid, "typ": f"{kind}+jwt"}, orjson.dumps(claims), self._key)

    def access(self, principal: Principal, *, audience: str, ttl_s: int) -> str:
        """A token for an app or person, good at every member of the region."""
        return self._mint("access", principal, audience, ttl_s, {})

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
        """A five-minute token that lets ``holder`` release ``studies`` to ``principal`` (D21)."""
        return self._mint(
            "release", principal, holder, ttl_s, {"pat": patient, "stu": list(studies), "cor": correlation}
        )


class TokenVerifier:
    """Verifies tokens with public keys learnt from the directory.

    The key set can be replaced while running.
    """

    def __init__(self, issuer: str, clock: Clock, jwks: dict[str, Any] | None = None) -> None:
        self._issuer, self._clock = issuer, clock
        self._keys = KeySet([])
        if jwks is not None:
            self.replace_keys(jwks)

    def replace_keys(self, jwks: dict[str, Any]) -> None:
        """Use these public keys from now on."""
        self._keys = KeySet.import_key_set(jwks)  # type: ignore[arg-type]  # plain JSON, which it checks

    def verify(self, token: str, *, kind: Kind, audience: str) -> Claims:
        """The claims of a good token.

        Raises:
            Unauthenticated: for any other; the reason names no content of the token.
        """
        try:
            decoded = jwt.decode(token, self._keys, algorithms=ALGORITHMS)
        except (JoseError, ValueError, KeyError, TypeError) as error:
            raise Unauthenticated("The token cannot be verified.", why=kind_as_sentence(error)) from None
        claims, now = decoded.claims, int(self._clock.now().timestamp())
        if claims.get("iss") != self._issuer or claims.get("typ") != kind or claims.get("aud") != audience:
            raise Unauthenticated("The token is for something else.", why="Issuer, kind or audience differ.")
        expires, issued = claims.get("exp"), claims.get("iat")
        if not isinstance(expires, int) or not isinstance(issued, int) or now > expires + LEEWAY_S:
            raise Unauthenticated("The token has expired.", todo="Get a new one.")
        if issued > now + 2 * LEEWAY_S:
            raise Unauthenticated("The token is from the future.", todo="Check the clocks.")
        principal = Principal(
            subject=str(claims.get("sub", "")),
            name=str(claims.get("name", "")),
            roles=frozenset(str(r) for r in claims.get("roles", ())),
            organisation=str(claims.get("org", "")),
            purpose=str(claims.get("pou", "")),
            evidence="gateway-token" if kind == "release" else "bearer",
            grants=Grants.from_plain(claims.get("grants")),
            credential=f"token {str(claims.get('jti', ''))[:MAX_ID_CHARS]}",
        )
        return Claims(
            kind=kind,
            principal=principal,
            audience=audience,
            token_id=str(claims.get("jti", "")),
            expires=expires,
            correlation=str(claims.get("cor", "")),
            patient=str(claims.get("pat", "")),
            studies=tuple(str(s) for s in claims.get("stu", ())),
        )
