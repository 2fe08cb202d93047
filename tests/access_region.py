"""A registry's two HTTP listeners with real TLS, real sign-in and two handlers that say who came: for tests
of room access.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import aiohttp
from aiohttp import web
from members_region import CLOCK, FAST, HOST, IDS, members_config, members_ground
from ports import free_ports
from yarl import URL

from crosslight.runtime.clock import SystemClock
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.http import CALLER, ErrorRenderers, problems
from crosslight.runtime.tls import client_context
from registry.access.authenticate import EXCHANGE_AT
from registry.access.config import AccessConfig, DemoAccount, DemoConfig
from registry.access.exchange import render_oauth_error
from registry.access.sessions import SESSION
from registry.config import ListenConfig, addresses, people_url
from registry.members.config import MembersConfig
from registry.parts import make_access, make_members

DEMO = DemoConfig(
    enabled=True,
    accounts=(
        DemoAccount(
            user="dr.amos", password="light-box", name="Dr A. Amos", roles=("clinician",), organisation="RA2"
        ),
        DemoAccount(
            user="porter", password="trolley", name="P. Porter", roles=("nothing-of-ours", "gateway")
        ),
    ),
)
CONFIG = AccessConfig(demo=DEMO, failures_per_account=3, failures_per_address=100)


class MovedClock(SystemClock):
    """The system's clock, some time later."""

    def __init__(self) -> None:
        self.later = timedelta()

    def now(self) -> datetime:
        return super().now() + self.later

    def monotonic_s(self) -> float:
        return super().monotonic_s() + self.later.total_seconds()


class TestAccess:
    """The listeners and what is behind them."""

    __test__ = False

    def __init__(
        self, folder: Path, config: AccessConfig, *, open_mode: bool, members: MembersConfig = FAST
    ) -> None:
        self.folder, self.open_mode = folder, open_mode
        self.people_port, self.systems_port = free_ports(2)
        self.db = SqliteDb(folder / "registry.sqlite")
        listen = ListenConfig(
            host=HOST,
            public_host=HOST,
            people_port=self.people_port,
            systems_port=self.systems_port,
            open=open_mode,
        )
        whole = members_config(members=members, access=config, listen=listen)
        # the clock of sign-in and sessions
        self.ground, self.clock = members_ground(self.db, whole), MovedClock()
        self.audit = self.ground.audit
        self.members = make_members(self.ground, folder)

    @property
    def people(self) -> str:
        """Base of the people listener."""
        return people_url(self.ground.config)

    @property
    def systems(self) -> str:
        """Base of the systems listener."""
        return addresses(self.ground.config).systems

    async def start(self) -> None:
        """Bring them up."""
        await self.audit.open()
        await self.members.open()
        self.members.start()
        ground = replace(self.ground, seams=replace(self.ground.seams, clock=self.clock))
        self.access = make_access(ground, self.folder, self.people, self.members)
        await self.access.open()
        self.listeners = [
            self.ground.seams.http.listener(self._app("people"), HOST, self.people_port, self._tls("people")),
            self.ground.seams.http.listener(
                self._app("systems"), HOST, self.systems_port, self._tls("systems")
            ),
        ]
        for listener in self.listeners:
            await listener.start()

    def _tls(self, name: str) -> ssl.SSLContext | None:
        own = self.members.own
        assert own.people is not None
        assert own.gateway is not None
        if self.open_mode:
            return None
        return own.for_people() if name == "people" else own.gateway.server(mutual=True)

    def _app(self, name: str) -> web.Application:
        middleware = self.access.authenticator.middleware("people" if name == "people" else "systems")
        renderers = ErrorRenderers()
        renderers.add(EXCHANGE_AT, render_oauth_error)
        app = web.Application(middlewares=[problems(renderers, IDS), middleware])
        routes = [
            web.get("/", self.who),
            web.get("/fhir/x", self.who),
            web.post("/fhir/x", self.who),
            web.get("/slow", self.slow),
            web.get("/patients/{handle}/studies/{study}", self.who),
        ]
        app.add_routes(routes)
        app.add_routes(self.access.routes() if name == "people" else self.access.exchange.routes())
        return app

    async def who(self, request: web.Request) -> web.Response:
        """Who came."""
        caller, session = request[CALLER], request.get(SESSION)
        said = {"member": caller.principal.member, "via": caller.via, "csrf": session.csrf if session else ""}
        return web.json_response({**caller.principal.describe(), **said})

    async def slow(self, request: web.Request) -> web.StreamResponse:
        """A stream without end."""
        response = web.StreamResponse()
        await response.prepare(request)
        while True:
            await response.write(b"x" * 1000)
            await CLOCK.sleep(0.05)

    async def stop(self) -> None:
        """Take them down."""
        for listener in self.listeners:
            await listener.stop()
        await self.access.close()
        await self.members.close()
        await self.db.close()


@asynccontextmanager
async def access(
    folder: Path, config: AccessConfig = CONFIG, *, open_mode: bool = False, members: MembersConfig = FAST
) -> AsyncIterator[TestAccess]:
    """For one test."""
    one = TestAccess(folder, config, open_mode=open_mode, members=members)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


@asynccontextmanager
async def browser(a: TestAccess) -> AsyncIterator[aiohttp.ClientSession]:
    """A plain client with a cookie jar; redirects are followed only when asked."""
    jar = aiohttp.CookieJar(unsafe=True)
    connector = aiohttp.TCPConnector(ssl=client_context(a.members.ca.bundle))
    async with aiohttp.ClientSession(cookie_jar=jar, connector=connector) as session:
        yield session


async def sign_in(
    a: TestAccess, session: aiohttp.ClientSession, user: str, password: str, start: str = "/signin"
) -> aiohttp.ClientResponse:
    """Walk the whole way from ``start`` as a browser does; the last response."""
    async with session.get(URL(a.people + start, encoded=True)) as response:
        html = await response.text()
    ticket = re.search(r'name="ticket" value="([0-9a-f]+)"', html)
    assert ticket, html
    form = {"ticket": ticket.group(1), "user": user, "password": password}
    async with session.post(f"{a.people}/demo-idp/login", data=form) as response:
        await response.read()
        return response
