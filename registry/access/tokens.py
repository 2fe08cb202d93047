"""Access tokens for apps and people's tools, and the public keys that verify them."""

from __future__ import annotations

from collections.abc import Callable, Collection

import orjson
from aiohttp import web

from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.tokens import (
    Claims,
    TokenSigner,
    TokenVerifier,
    nobody_presents,
    none_withdrawn,
)
from crosslight.standards.access import PURPOSES, ROLES, Principal
from crosslight.standards.problem import Invalid
from crosslight.standards.region import Region
from registry.access.config import AccessConfig
from registry.keys import TokenKeys

#: Roles that only a certificate or a mode of operation gives, never a token or a sign-in.
NOT_FOR_PEOPLE = frozenset({"member", "gateway", "open"})


class AccessTokens:
    """Signs and verifies; ``keys`` must be open.

    Args:
        keys, region, config, clock, ids: What tokens are made of.
        presenter: The thumbprint of the certificate that the gateway shows to members now.
        withdrawn: The ids of tokens that were ended before their time.
        saw: Told the id of each token that held.
    """

    def __init__(
        self,
        keys: TokenKeys,
        region: Region,
        config: AccessConfig,
        clock: Clock,
        ids: Ids,
        *,
        presenter: Callable[[], str] = nobody_presents,
        withdrawn: Callable[[], Collection[str]] = none_withdrawn,
        saw: Callable[[str], None] = lambda token_id: None,
    ) -> None:
        self._keys, self._config, self._saw = keys, config, saw
        self._audience = region.home_community_id
        self.signer = TokenSigner(keys.signing, region.home_community_id, clock, ids, presenter)
        self.verifier = TokenVerifier(region.home_community_id, clock, keys.jwks(), withdrawn)

    def issue_access_token(
        self, principal: Principal, *, hours: float | None = None, member: str = "", token_id: str = ""
    ) -> str:
        """A token for an app, good at the registry, or at the one member whose code is given.

        ``token_id`` is its own id (``jti``), where that is noted elsewhere.

        Raises:
            Invalid: for roles that are none, or that no token gives.
        """
        wrong = sorted(r for r in principal.roles if r not in ROLES or r in NOT_FOR_PEOPLE)
        if wrong or principal.purpose not in PURPOSES:
            raise Invalid("No token is given for this.", where=", ".join(wrong) or principal.purpose)
        return self.signer.access(
            principal,
            audience=member or self._audience,
            ttl_s=int((hours or self._config.token_hours) * 3600),
            token_id=token_id,
        )

    def claims(self, token: str, presenter: str = "") -> Claims:
        """What an access token for the registry says.

        Args:
            token: As it came.
            presenter: The thumbprint of the certificate that the caller showed, '' for none.

        Raises:
            Unauthenticated: if it does not hold.
        """
        claims = self.verifier.verify(token, kind="access", audience=self._audience, presenter=presenter)
        self._saw(claims.token_id)
        return claims

    def principal(self, token: str, presenter: str = "") -> Principal:
        """Who an access token speaks for; as :meth:`claims`."""
        return self.claims(token, presenter).principal

    def routes(self) -> list[web.RouteDef]:
        """The public keys, for whoever verifies."""
        return [web.get("/.well-known/jwks.json", self._jwks)]

    async def _jwks(self, request: web.Request) -> web.Response:
        headers = {"Cache-Control": "public, max-age=300"}
        return web.Response(
            body=orjson.dumps(self._keys.jwks()), content_type="application/json", headers=headers
        )
