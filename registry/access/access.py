"""The room in one object.

Keys, tokens, sessions, sign-in and the middlewares, put together from the configuration.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import aiohttp
from aiohttp import web

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.db import Db
from crosslight.runtime.log import get_logger
from crosslight.runtime.rates import PerMinute
from crosslight.runtime.seams import Seams
from crosslight.standards.problem import ConfigError
from registry.access.authenticate import Authenticator
from registry.access.config import AccessConfig, OidcConfig
from registry.access.demo_idp import BANNER, PREFIX, DemoProvider, OwnClient
from registry.access.exchange import TokenExchange
from registry.access.oidc import OidcClient, provider_context
from registry.access.pages import page
from registry.access.provider_logout import LOGOUT_AT, ProviderLogout
from registry.access.provider_sessions import ProviderSessions
from registry.access.sessions import Sessions
from registry.access.signin import SignIn
from registry.access.signin_audit import SignInAudit
from registry.access.store import AccessStore
from registry.access.tokens import AccessTokens
from registry.keys import TokenKeys
from registry.members.service import MemberService

log = get_logger("access")


class Access:
    """Who gets in.

    Args:
        folder: The registry's own, for keys and the client secret.
        base: Of the people listener, as browsers reach it.
        name: What the service is called on its pages (``portal.service_name``).
        members: Open already: its token keys are used, and its authority is trusted where the provider is the
            demo's own.
    """

    def __init__(
        self,
        db: Db,
        folder: Path,
        base: str,
        config: AccessConfig,
        members: MemberService,
        audit: AuditLog,
        seams: Seams,
        *,
        name: str = "Imaging network",
    ) -> None:
        self._name, self._seams = name, seams
        self._folder, self._config, self._members = folder, config, members
        clock, ids = seams.clock, seams.ids
        self._clock, self._ids, self._client = clock, ids, seams.http.client
        self._audit, self._demo_audit = SignInAudit(audit), SignInAudit(audit, "demo provider")
        self._base, self._redirect_uri = base.rstrip("/"), base.rstrip("/") + "/signin/callback"
        self._http: aiohttp.ClientSession | None = None
        self.demo_provider: DemoProvider | None = None  # where it signs people in
        self.demo_keys = TokenKeys(folder / "demo-idp-keys.json", seams.files, seams.ids)
        self.store = AccessStore(db, clock, ids, per_address=config.signins_per_address)
        self.sessions = Sessions(self.store, config, clock, ids)
        self.signin_rates = PerMinute("sign-ins", config.signins_per_minute, clock)
        self.logout_rates = PerMinute("logout tokens", config.signins_per_minute, clock)
        self.exchange_rates = PerMinute("token exchanges", config.exchanges_per_minute, clock)
        self._at_provider = ProviderSessions(db, clock)
        self.tokens = AccessTokens(
            members.keys,
            members.region,
            config,
            clock,
            ids,
            presenter=members.own.presenter,
            withdrawn=lambda: members.issued.withdrawn_tokens,
            saw=partial(members.last_use.saw, "token"),
        )
        self.exchange = TokenExchange(
            self.tokens,
            members,
            audit,
            clock,
            base,
            life_s=config.exchanged_token_minutes * 60,
            rates=self.exchange_rates,
        )
        self.authenticator = Authenticator(
            members, self.tokens, self.sessions, clock, open_mode=members.open_mode
        )

    @property
    def demo(self) -> bool:
        """Whether the demo's provider signs people in."""
        return self._config.demo.enabled and not self._config.oidc.issuer

    async def open(self) -> None:
        """Tables and keys.

        Raises:
            ConfigError: if the client secret cannot be read.
        """
        await self.store.open()
        if self.demo:
            self.demo_keys.open()
            log.warning(BANNER)

    async def close(self) -> None:
        """Close the connection to the provider."""
        if self._http is not None:
            await self._http.close()

    def _session(self) -> aiohttp.ClientSession:
        if self._http is None:
            self._http = self._client(
                provider_context(self._members.ca.bundle if self.demo else None), read_timeout_s=15
            )
        return self._http

    def _oidc(self) -> OidcConfig:
        if self.demo:
            return replace(
                self._config.oidc,
                issuer=self._base + PREFIX,
                algorithms=("ES256",),
                role_map={},
                roles_claim="roles",
                organisation_claim="organisation",
                name_claim="name",
                subject_claim="sub",
                acr_claim="acr",
            )
        return self._config.oidc

    def _client_secret(self) -> str:
        name = self._config.oidc.client_secret_file
        if not name or self.demo:
            return ""
        try:
            return (self._folder / name).read_text("utf-8").strip()
        except OSError:
            raise ConfigError(
                "The client secret cannot be read.", where="access.oidc.client_secret_file"
            ) from None

    async def _no_provider(self, request: web.Request) -> web.Response:
        """Where nobody can sign in."""
        what = "<p>No identity provider is configured. Apps use access tokens.</p>"
        return page("Nobody can sign in here", what, status=503, name=self._name)

    def routes(self) -> list[web.RouteDef]:
        """The routes of the people listener.

        They are the public keys, sign-in where there is a provider, the demo's provider where enabled.

        Raises:
            ConfigError: if the client secret cannot be read.
        """
        routes = [*self.tokens.routes(), *self.exchange.routes(), *self.exchange.metadata_routes()]
        oidc = self._oidc()
        # without TLS a browser keeps no __Host- cookie, and nobody needs to sign in
        if self._members.open_mode:
            return routes
        if not oidc.issuer:
            return [*routes, web.get("/signin", self._no_provider)]
        client = OidcClient(
            oidc, self._session, self._redirect_uri, self._clock, secret=self._client_secret()
        )
        routes += SignIn(
            client,
            self.sessions,
            self.store,
            self._audit,
            self._ids,
            name=self._name,
            rates=self.signin_rates,
        ).routes()
        routes += ProviderLogout(
            client, self._at_provider, self._audit, self._clock, rates=self.logout_rates
        ).routes()
        if self.demo:
            self.demo_provider = demo = DemoProvider(
                self._config,
                self._base,
                OwnClient(oidc.client_id, self._redirect_uri, self._base + LOGOUT_AT, self._session),
                self.store,
                self.demo_keys,
                self._demo_audit,
                self._seams,
                name=self._name,
            )
            routes += demo.routes()
        return routes
