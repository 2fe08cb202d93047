"""What `doctor` says of sign-in: whether the provider answers, and where it ends sessions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from access_region import CONFIG, TestAccess, access
from aiohttp import web
from members_region import HOST
from ports import free_ports

from crosslight.client.doctor import Finding
from registry.access.config import DemoConfig, OidcConfig
from registry.access.demo_idp import PREFIX
from registry.commands import Offline
from registry.doctor import sign_in_found


async def found(a: TestAccess, issuer: str = "", *, demo: bool = False) -> Finding:
    """With this provider in the registry's file."""
    told = replace(CONFIG, oidc=OidcConfig(issuer=issuer), demo=CONFIG.demo if demo else DemoConfig())
    ground = replace(a.ground, config=replace(a.ground.config, access=told))
    return await sign_in_found(Offline(a.folder, ground, a.members, a.db))


async def test_where_sessions_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with access(tmp_path) as a:
        at = f"{a.people}/signin/backchannel-logout"
        demo = await found(a, demo=True)
        assert (demo.check, demo.result) == ("sign-in", "warn")
        assert demo.what.endswith(f"Its back-channel logout goes to {at}.")
        # the machine trusts the region's authority, as it would a provider's
        monkeypatch.setenv("SSL_CERT_FILE", str(a.members.ca.bundle))
        issuer = a.people + PREFIX
        real = await found(a, issuer)
        assert (real.result, real.what) == (
            "ok",
            f"{issuer} answers. Register there for back-channel logout: {at}",
        )


async def test_a_provider_that_ends_no_sessions_is_away_or_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with access(tmp_path) as a:
        monkeypatch.setenv("SSL_CERT_FILE", str(a.members.ca.bundle))
        (port,) = free_ports(1)
        issuer = f"https://{HOST}:{port}"

        async def discovery(_: web.Request) -> web.Response:
            names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
            return web.json_response({"issuer": issuer, **{name: f"{issuer}/{name}" for name in names}})

        away = await found(a, issuer)
        assert (away.result, away.what.startswith(f"{issuer}: ")) == ("fail", True)
        app = web.Application()
        app.add_routes([web.get("/.well-known/openid-configuration", discovery)])
        listener = a.ground.seams.http.listener(app, HOST, port, a.members.own.for_people())
        await listener.start()
        try:
            silent = await found(a, issuer)
        finally:
            await listener.stop()
        assert silent.result == "warn"
        assert "does not say that it can end sessions here" in silent.what
        assert f"Ask there for {a.people}/signin/backchannel-logout" in silent.todo
        nobody = await found(a)
        assert (nobody.result, "nobody signs in" in nobody.what) == ("ok", True)
