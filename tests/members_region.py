"""A registry's membership and nodes' ends of it, in one process with real TLS: for tests of rooms members and region."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from ports import free_ports

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.db import Db, SqliteDb
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.http import ErrorRenderers, Handler, Listener, problems
from crosslight.runtime.seams import GrpcLink, system_seams
from crosslight.standards.census import Census
from crosslight.standards.ids import NHS_NUMBER_OID, MemberId, Oid, Version
from crosslight.standards.membership import Endpoints, RegistryAddresses
from crosslight.standards.region import Region
from node.membership.config import RegionConfig
from node.membership.join import join
from node.membership.link import Link
from node.membership.model import EpochGrant, HelloFacts, NodeStatus
from node.membership.renewal import Renewal
from node.membership.state import RegionState
from registry.link.link import MembershipServicer
from registry.link.server import MemberServer
from registry.members.config import MembersConfig
from registry.members.join import Join
from registry.members.service import MemberService

REGION = Region(
    name="Test region", home_community_id=Oid("1.2.826.0.1.3680043.10.1"), authority=Oid("1.2.826.0.1.3680043.10.1.2"),
    national_authority=NHS_NUMBER_OID, allow_test_numbers=True,
)  # fmt: skip
CLOCK, IDS, FILES = SystemClock(), SystemIds(), SystemFiles()
FAST = MembersConfig(poll_s=0.1, heartbeat_s=0.2)


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait until ``condition`` holds; ``within_s`` ends a test that would wait for ever."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


@dataclass
class FakeIndex:
    """What membership asks of the index, to be set by a test."""

    incarnation: str = "incarnation-1"
    cursors: dict[MemberId, Version] = field(default_factory=dict)
    counts: dict[MemberId, Census] = field(default_factory=dict)

    async def cursor(self, member: MemberId) -> Version | None:
        return self.cursors.get(member)

    async def census(self, member: MemberId) -> Census:
        return self.counts.get(member, Census())


class TestRegistry:
    """People's listener with /join, and the gRPC port."""

    __test__ = False

    def __init__(self, folder: Path, config: MembersConfig = FAST, *, db: Db | None = None, open_mode: bool = False) -> None:
        self.folder, self.config, self.open_mode = folder, config, open_mode
        self.db = db or SqliteDb(folder / "registry.sqlite")
        self._own_db = db is None
        self.index = FakeIndex()
        self.port, self.grpc_port = free_ports(2)
        self.audit = AuditLog(self.db, CLOCK)
        self.members = self.service()
        self.seen: list[str] = []  # methods asked of the people listener

    def service(self) -> MemberService:
        """Another process's view of the same registry."""
        return MemberService(self.db, system_seams(), REGION, self.folder, self.config, self.audit, open_mode=self.open_mode)

    @property
    def url(self) -> str:
        """Of the people listener."""
        return f"{'http' if self.open_mode else 'https'}://127.0.0.1:{self.port}"

    async def start(self) -> None:
        """Bring it up."""
        await self.audit.open()
        await self.members.open()
        self.members.start()
        addresses = RegistryAddresses(people=self.url, grpc=f"127.0.0.1:{self.grpc_port}")

        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.seen.append(request.method)
            return await handler(request)

        app = web.Application(middlewares=[problems(ErrorRenderers(), IDS), note])
        app.add_routes(Join(self.members, self.index, addresses).routes())
        people = self.members.own.people
        assert people is not None
        tls = None if self.open_mode else people.server(mutual=False)
        self.listener = Listener(app, "127.0.0.1", self.port, tls)
        await self.listener.start()
        self.servicer = MembershipServicer(self.members, self.index, CLOCK)
        self.grpc = MemberServer(
            self.servicer, "127.0.0.1", self.grpc_port, None if self.open_mode else self.members.own.gateway, link=GrpcLink()
        )
        await self.grpc.start()

    async def stop(self) -> None:
        """Take it down; the database stays open for another start when it was given."""
        await self.listener.stop()
        await self.grpc.stop(0.2)
        await self.members.close()
        if self._own_db:
            await self.db.close()

    async def invite(self, code: str) -> str:
        """An invitation."""
        return await self.members.invite(code, self.url, name=f"{code} Hospitals")

    async def joined(self, code: str, folder: Path) -> RegionState:
        """A node's state after joining."""
        return await join(await self.invite(code), folder, system_seams())


@asynccontextmanager
async def registry(folder: Path, config: MembersConfig = FAST, *, open_mode: bool = False) -> AsyncIterator[TestRegistry]:
    """A registry for one test."""
    one = TestRegistry(folder, config, open_mode=open_mode)
    await one.start()
    try:
        yield one
    finally:
        await one.stop()


class TestNode:
    """A node's link with what its other rooms would say."""

    __test__ = False

    def __init__(
        self, state: RegionState, *, heartbeat_s: float = 0.2, open_mode: bool = False, state_id: str = "state-1"
    ) -> None:
        self.state = state
        self.facts = HelloFacts(state_id=state_id)
        self.report = NodeStatus()
        self.grants: list[EpochGrant] = []
        self.reconciles: list[str] = []
        config = RegionConfig(heartbeat_s=heartbeat_s, reconnect_min_s=0.05, reconnect_max_s=0.5)
        self.link = Link(state, config, system_seams(), endpoints=Endpoints(base="https://127.0.0.1:1"), open_mode=open_mode)
        self.link.speaker = self
        self.renewal = Renewal(state, self.link, CLOCK, IDS)

    async def hello(self) -> HelloFacts:
        return self.facts

    async def status(self) -> NodeStatus:
        return self.report

    async def welcomed(self, grant: EpochGrant) -> None:
        self.grants.append(grant)

    async def reconcile(self, why: str) -> None:
        self.reconciles.append(why)


@asynccontextmanager
async def linked(node: TestNode) -> AsyncIterator[TestNode]:
    """The node's link, up."""
    node.link.start()
    try:
        async with asyncio.timeout(10):
            await node.link.connected()
        yield node
    finally:
        await node.renewal.stop()
        await node.link.stop()
