"""A registry's membership and nodes' ends of it, in one process with real TLS: for tests of rooms members and
region.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from aiohttp import web
from callers import caller
from ports import free_ports
from registry_samples import patient, published, study

from crosslight.runtime.clock import Clock, SystemClock, SystemIds
from crosslight.runtime.db import Db, SqliteDb
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.http import ErrorRenderers, Handler, problems
from crosslight.runtime.seams import system_seams
from crosslight.standards.ids import NHS_NUMBER_OID, Oid
from crosslight.standards.membership import Endpoints
from crosslight.standards.region import Region
from node.membership.config import RegionConfig
from node.membership.join import join
from node.membership.link import Link
from node.membership.model import EpochGrant, HelloFacts, NodeStatus
from node.membership.renewal import Renewal
from node.membership.state import RegionState
from registry.config import ListenConfig, RegistryConfig, addresses, people_url
from registry.config import RegionConfig as RegionSection
from registry.index.store import IndexStore
from registry.intake.submission import Publish, Submission
from registry.link.link import MembershipServicer
from registry.link.server import MemberServer
from registry.members.config import MembersConfig
from registry.members.join import Join
from registry.members.service import MemberService
from registry.parts import Ground, make_ground, make_members, make_waists

REGION = Region(
    name="Test region",
    home_community_id=Oid("1.2.826.0.1.3680043.10.1"),
    authority=Oid("1.2.826.0.1.3680043.10.1.2"),
    national_authority=NHS_NUMBER_OID,
    allow_test_numbers=True,
)
CLOCK, IDS, FILES = SystemClock(), SystemIds(), SystemFiles()
HOST = "127.0.0.1"
FAST = MembersConfig(poll_s=0.1, heartbeat_s=0.2, loopback=True)


async def until(condition: Callable[[], bool], within_s: float = 60.0) -> None:
    """Wait until ``condition`` holds; ``within_s`` ends a test that would wait for ever."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


def members_config(**sections: Any) -> RegistryConfig:
    """The configuration of this region's registry; ``sections`` replace the defaults."""
    home, authority = REGION.home_community_id, REGION.authority
    region = RegionSection(
        name=REGION.name, home_community_id=home, authority=authority, allow_test_numbers=True
    )
    return RegistryConfig(region=region, **sections)


def members_ground(db: Db, config: RegistryConfig, clock: Clock = CLOCK) -> Ground:
    """What its parts stand on; one database has members and audit."""
    return make_ground(system_seams(clock=clock), config, db, db, REGION)


class TestRegistry:
    """People's listener with /join, and the gRPC port."""

    __test__ = False

    def __init__(
        self, folder: Path, config: MembersConfig = FAST, *, db: Db | None = None, open_mode: bool = False
    ) -> None:
        self.folder, self.config, self.open_mode = folder, config, open_mode
        self.db = db or SqliteDb(folder / "registry.sqlite")
        self._own_db = db is None
        self.port, self.grpc_port = free_ports(2)
        self.ground = members_ground(self.db, self._whole())
        self.audit = self.ground.audit
        self.members = self.service()
        self.waists = make_waists(self.ground, self.members)
        self.seen: list[str] = []  # methods asked of the people listener

    @property
    def index(self) -> IndexStore:
        return self.waists.index

    def service(self) -> MemberService:
        """Another process's view of the same registry."""
        return make_members(self.ground, self.folder)

    def _whole(self) -> RegistryConfig:
        listen = ListenConfig(
            host=HOST, public_host=HOST, people_port=self.port, grpc_port=self.grpc_port, open=self.open_mode
        )
        return members_config(members=self.config, listen=listen)

    @property
    def url(self) -> str:
        """Of the people listener."""
        return people_url(self.ground.config)

    async def start(self) -> None:
        """Bring it up."""
        await self.audit.open()
        await self.members.open()
        await self.waists.open()
        self.members.start()

        @web.middleware
        async def note(request: web.Request, handler: Handler) -> web.StreamResponse:
            self.seen.append(request.method)
            return await handler(request)

        app = web.Application(middlewares=[problems(ErrorRenderers(), IDS), note])
        app.add_routes(Join(self.members, self.index, addresses(self.ground.config)).routes())
        people = self.members.own.people
        assert people is not None
        tls = None if self.open_mode else self.members.own.for_people()
        self.listener = self.ground.seams.http.listener(app, HOST, self.port, tls)
        await self.listener.start()
        self.servicer = MembershipServicer(self.members, self.index, CLOCK)
        self.grpc = MemberServer(
            self.servicer,
            HOST,
            self.grpc_port,
            None if self.open_mode else self.members.own.gateway,
            link=self.ground.seams.link,
        )
        await self.grpc.start()

    async def stop(self) -> None:
        """Take it down; the database stays open for another start when it was given."""
        await self.listener.stop()
        await self.grpc.stop(0.2)
        await self.members.close()
        if self._own_db:
            await self.db.close()

    async def publish(self, code: str, n: int) -> tuple[str, str]:
        """A member's version ``n`` of its first epoch, of a study more: study UID and SHA-1, as a census
        counts them.
        """
        member = self.members.active(code)
        record = study(patient(member), n)
        publication = published(member, record, n)
        act = Publish(publication=publication, digest=record.digest(), patient=record.patient)
        submission = Submission(member=member, caller=caller(), acts=(act,), road="grpc", strict=False)
        assert (await self.waists.acceptor.accept(submission)).outcomes == ("accepted",)
        return record.study_uid, publication.manifest.sha1

    async def invite(self, code: str) -> str:
        """An invitation."""
        return await self.members.invite(code, self.url, name=f"{code} Hospitals")

    async def joined(self, code: str, folder: Path) -> RegionState:
        """A node's state after joining."""
        return await join(await self.invite(code), folder, system_seams())


@asynccontextmanager
async def registry(
    folder: Path, config: MembersConfig = FAST, *, open_mode: bool = False
) -> AsyncIterator[TestRegistry]:
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
        self,
        state: RegionState,
        *,
        heartbeat_s: float = 0.2,
        open_mode: bool = False,
        state_id: str = "state-1",
    ) -> None:
        self.state = state
        self.facts = HelloFacts(state_id=state_id)
        self.report = NodeStatus()
        self.grants: list[EpochGrant] = []
        self.reconciles: list[str] = []
        config = RegionConfig(heartbeat_s=heartbeat_s, reconnect_min_s=0.05, reconnect_max_s=0.5)
        self.link = Link(
            state,
            config,
            system_seams(),
            endpoints=Endpoints(base="https://127.0.0.1:1"),
            open_mode=open_mode,
        )
        self.link.speaker = self
        self.renewal = Renewal(state, self.link, system_seams())

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
