"""One real node and one real registry core in this process, joined by either road: for tests of publication
end to end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
from aiohttp import web
from loopback import served
from node_parts import StillConnection, node_ground
from node_serving import part10
from publish_fakes import SeededIds
from pydicom.dataset import Dataset
from registry_room import Room, make_room, room_config
from registry_samples import REGION, MemoryDirectory
from room_faces import RoomFaces, room_faces

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.clock import Clock, SystemClock
from crosslight.runtime.db import Db
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.mllp import MllpServer
from crosslight.standards.ids import MemberId
from crosslight.standards.membership import Endpoints, MembershipFacts
from crosslight.standards.problem import Unavailable
from node.archive.archive import Archive
from node.archive.config import ArchiveConfig
from node.config import ListenConfig, NodeConfig
from node.holdings import Received
from node.listeners import face_application
from node.membership.model import EpochGrant, Feed, RegistryRoads, own_authority
from node.parts import make_gate, make_serve
from node.publish.build import DESTINATION, build_publisher
from node.publish.config import PublishConfig
from node.publish.outbox_store import OutboxStore
from node.publish.publisher import Publisher
from node.publish.store import PublishStore
from registry.ask.ask import Ask
from registry.enrich.completion import Completion
from registry.enrich.config import EnrichConfig
from registry.enrich.enricher import Enricher
from registry.ihe.iti8 import AdtFeed
from registry.index.store import IndexStore
from registry.link.feed import FeedServicer
from registry.members.model import Member, Presence

FILES = SystemFiles()
FAST = PublishConfig(first_s=0.05, quiet_s=0.3, retry_first_s=0.02, retry_max_s=0.2, timeout_s=5.0)


class StoppedClock(SystemClock):
    """Sleeps and counts as the real one; the time of day stands still, so that two runs say the same."""

    def __init__(self, at: datetime = datetime(2025, 7, 1, 12, tzinfo=UTC)) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 60.0) -> None:
    """Wait until ``condition`` holds."""
    async with asyncio.timeout(within_s):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@dataclass
class Callers:
    """Who calls the feed: whoever the metadata names."""

    directory: MemoryDirectory

    async def member(self, context: Any) -> Member:
        code = dict(context.invocation_metadata()).get("crosslight-member", "")
        found = self.directory.by_code(str(code))
        if found is None or found.status != "active":
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "not an active member")
        assert found is not None
        return found


@dataclass
class RegistryCore:
    """A registry in a room, with its faces and the doors that a node knocks at."""

    room: Room
    there: RoomFaces = field(init=False)
    grpc_port: int = 0
    mllp_port: int = 0
    down: bool = False
    lose: list[str] = field(default_factory=list)  # fates of the next SOAP messages: '', request, answer

    @property
    def base(self) -> str:
        """Of the systems listener."""
        return self.there.base

    @property
    def directory(self) -> MemoryDirectory:
        return self.room.directory

    @property
    def index(self) -> IndexStore:
        return self.room.index

    @property
    def ask(self) -> Ask:
        return self.room.ask

    @property
    def audit(self) -> AuditLog:
        return self.room.audit

    @property
    def enricher(self) -> Enricher:
        return self.there.retrieves.enricher

    @property
    def completion(self) -> Completion:
        return self.there.retrieves.completion

    async def fate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        """The request or its answer is lost where the test says so."""
        fate = (
            "request"
            if self.down
            else self.lose.pop(0)
            if self.lose and request.path == "/xds/registry"
            else ""
        )
        if fate == "request":
            raise Unavailable("lost")
        answer: web.StreamResponse = await handler(request)
        if fate == "answer":
            raise Unavailable("lost")
        return answer

    @property
    def member(self) -> Member:
        """The one member that publishes."""
        found = self.directory.by_code("RTK")
        assert found is not None
        return found

    async def studies(self) -> dict[str, Any]:
        """What is held, by study UID."""
        found: dict[str, Any] = {}
        cursor = ""
        while True:
            page, cursor = await self.index.held_after(self.member.id, cursor, 100)
            found |= {held.study_uid: held for held in page}
            if not cursor:
                return found


@asynccontextmanager
async def registry_core(
    database: Db, *, clock: Clock | None = None, seed: int = 7, enrich: bool = True
) -> AsyncIterator[RegistryCore]:
    """A registry's core on ``database``, with its SOAP, MLLP and gRPC doors on loopback."""
    clock, ids = clock or SystemClock(), SeededIds(seed)
    config = room_config(enrich=EnrichConfig(scan_s=0.2, retry_first_s=0.05, retry_max_s=0.2, timeout_s=5.0))
    room = await make_room(database, clock=clock, ids=ids, config=config)
    core = RegistryCore(room)

    @web.middleware
    async def lossy(request: web.Request, handler: Any) -> web.StreamResponse:
        return await core.fate(request, handler)

    async with AsyncExitStack() as stack:
        serving = room_faces(room, kind="systems", outer=lambda app: app.middlewares.append(lossy))
        core.there = await stack.enter_async_context(serving)
        adt = AdtFeed(room.waists.patients, room.directory, REGION, clock, ids, open_mode=True)
        mllp = MllpServer(adt.handle, "127.0.0.1", 0)
        await mllp.start()
        stack.push_async_callback(mllp.stop)
        core.mllp_port = mllp.port
        server = room.ground.seams.link.server([])
        FeedServicer(
            room.acceptor, room.index, Callers(room.directory), room.audit, ids, open_mode=True
        ).register(server)
        core.grpc_port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 0.1)
        room.waists.follower.start()
        stack.push_async_callback(room.waists.follower.stop)
        if enrich:
            core.enricher.start()
        yield core


@dataclass
class PublishingNode:
    """A node with a real archive, its faces, and a publisher."""

    archive: Archive
    publisher: Publisher
    rows: OutboxStore
    store: PublishStore
    audit: AuditLog
    url: str

    async def add(self, *files: Dataset) -> None:
        """Receive objects, and wait for their rows.

        A publisher that starts when only some are there makes two revisions of a study.
        """
        for ds in files:
            staged = self.archive.stage()
            staged.write(part10(ds))
            result = await self.archive.ingest_async(staged, Received(road="import", peer="test"))
            assert result.state in ("stored", "duplicate"), result
        await self.archive.study_uids()  # rows follow their objects (ADR 0051)

    async def settled(self) -> None:
        """Until nothing waits."""
        await self.archive.study_uids()  # rows that follow their objects are there (ADR 0051)

        async def nothing_waits() -> bool:
            status = await self.publisher.status()
            return (
                status.waiting == 0
                and status.parked == 0
                and self.publisher.reviser.settled
                and not status.held_up
            )

        await until(nothing_waits)


@asynccontextmanager
async def publishing_node(
    folder: Path,
    core: RegistryCore,
    road: str,
    *,
    clock: Clock | None = None,
    config: PublishConfig = FAST,
    grant: EpochGrant | None = None,
    start: bool = True,
) -> AsyncIterator[PublishingNode]:
    """Member RTK of ``core``; kept files in ``folder`` are used again."""
    clock, ids, member = clock or SystemClock(), SeededIds(3), core.member
    folder.mkdir(parents=True, exist_ok=True)
    facts = MembershipFacts(
        id=member.id,
        code=member.code,
        name=member.name,
        repository_unique_id=member.repository_unique_id,
        retrieve_location_uid=member.retrieve_location_uid,
        authority=member.authority,
        secret=member.secret,
        epoch=1,
    )
    whole = NodeConfig(
        listen=ListenConfig(open=True),
        archive=ArchiveConfig(min_free_bytes=0),
        publish=replace(config, road=road),
    )
    earlier = StoppedClock(clock.now() - timedelta(hours=1)) if isinstance(clock, StoppedClock) else clock
    making = node_ground(
        folder,
        facts,
        REGION,
        core.there.key,
        config=whole,
        clock=clock,
        ids=ids,
        draw=ids.draw,
        archive_clock=earlier,
    )
    async with making as (ground, archive), AsyncExitStack() as stack:
        channel = ground.seams.link.channel(f"127.0.0.1:{core.grpc_port}", None, [])
        stack.push_async_callback(channel.close)
        roads = RegistryRoads(
            url=lambda: f"{core.base}/xds/registry",
            mllp=f"127.0.0.1:{core.mllp_port}",
            mllp_name="of a test",
            tls=lambda: None,
            patient=own_authority,
            feed=Feed(
                channel=lambda: channel, metadata=(("crosslight-member", "RTK"),), hello_again=lambda: None
            ),
        )
        publisher = await build_publisher(
            whole.publish,
            ground.db,
            archive,
            ground.seams,
            membership=ground.membership,
            roads=roads,
            endpoints=Endpoints(aet="RTK"),
        )
        stack.push_async_callback(publisher.close)
        await publisher.open()
        serve = make_serve(ground, archive, StillConnection())
        serve.open()
        base = await stack.enter_async_context(
            served(face_application(ground, serve, make_gate(ground), publisher, "systems"))
        )
        core.directory.set(replace(member, endpoints=_endpoints(base)))
        core.directory.presences[MemberId(member.id)] = Presence(member=member.id, reachable=True)
        rows = OutboxStore(ground.db, DESTINATION)
        node = PublishingNode(archive, publisher, rows, publisher.store, ground.audit, base)
        if start:
            publisher.start()
            await publisher.on_welcome(
                grant or EpochGrant(epoch=1, reconcile=False, incarnation=core.index.incarnation)
            )
        yield node


def _endpoints(url: str) -> Endpoints:
    return Endpoints(
        base=url,
        systems=url,
        dicomweb=f"{url}/dicomweb",
        rad69=f"{url}/rad69",
        xds_repository=f"{url}/xds/repository",
    )
