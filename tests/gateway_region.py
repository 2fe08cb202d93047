"""A region of real nodes (archive and serve, in this process) behind the registry's gateway, DICOMweb root,
ITI-43 and RAD-69.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from aiohttp import ClientSession, web
from joserfc.jwk import ECKey
from loopback import served
from node_parts import StillConnection, node_ground
from node_serving import Manifests, part10
from pydicom.dataset import Dataset
from registry_room import Room, make_room, room_config
from registry_samples import NHS, REGION, MemoryDirectory
from room_faces import room_faces

from crosslight.runtime.audit import Audited, AuditLog
from crosslight.runtime.clock import Clock, SystemClock, SystemIds
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.http import client_session
from crosslight.standards.access import Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.membership import Endpoints, MembershipFacts
from crosslight.standards.records import changed
from crosslight.standards.study import StudyRecord
from node.archive.archive import Archive
from node.archive.config import ArchiveConfig
from node.config import ListenConfig, NodeConfig
from node.holdings import Received
from node.listeners import face_application
from node.parts import make_gate, make_serve
from registry.dicomweb.config import DicomwebConfig
from registry.gateway.config import GatewayConfig
from registry.gateway.unbroken import Unbroken
from registry.index.model import Holding
from registry.members.connections import LiveConnections
from registry.members.model import Member
from registry.reach.members import Reach

CLOCK, IDS, FILES = SystemClock(), SystemIds(), SystemFiles()
#: Who may also ask for whoever there is.
CLINICIAN = Principal(
    subject="dr.who", name="Dr Who", roles=frozenset({"clinician", "exporter"}), organisation="RYR"
)


ASKING = "X-Asking"


def _asking(request: web.Request) -> Principal:
    return replace(CLINICIAN, subject=request.headers.get(ASKING, CLINICIAN.subject))


@dataclass
class Node:
    """One holder."""

    code: str
    archive: Archive
    audit: AuditLog
    manifests: Manifests
    runner: AsyncExitStack
    url: str = ""

    async def stop(self) -> None:
        """Stop listening."""
        await self.runner.aclose()


@dataclass
class GatewayRegion:
    """Everything that a test turns or looks at."""

    room: Room
    reach: Reach
    unbroken: Unbroken
    live: LiveConnections
    base: str
    http: ClientSession
    nodes: dict[str, Node] = field(default_factory=dict)
    revisions: int = 0

    @property
    def directory(self) -> MemoryDirectory:
        return self.room.directory

    async def acts(self) -> list[Audited]:
        """The registry's audit of what was asked here, oldest first."""
        await self.room.audit.settle()
        return [
            act for act in reversed(await self.room.audit.search()) if act.who.subject == CLINICIAN.subject
        ]

    def member(self, code: str) -> Member:
        found = self.directory.by_code(code)
        assert found is not None
        return found

    async def add(self, code: str, *files: Dataset, national: str = "", local: str = "") -> None:
        """Store at a node and index what it then holds; ``local`` is its own number where the images say
        another's.
        """
        node, member = self.nodes[code], self.member(code)
        for ds in files:
            staged = node.archive.stage()
            staged.write(part10(ds))
            result = await node.archive.ingest_async(staged, Received(road="import", peer="test"))
            assert result.state == "stored", result
        for study_uid in dict.fromkeys(str(ds.StudyInstanceUID) for ds in files):
            record = await node.archive.record(study_uid)
            assert record is not None
            local = Identifier(local or record.patient.local.value, member.authority)
            others = (Identifier(national, NHS),) if national else ()
            await self.publish(
                code, changed(record, patient=replace(record.patient, local=local, others=others))
            )

    async def publish(self, code: str, record: StudyRecord) -> None:
        """Index one study more, or one version more of it."""
        self.revisions += 1
        assert await self.room.publish(code, record, self.revisions) == "accepted"

    async def held(self, code: str, study_uid: str) -> Holding:
        """What the index has of a member's study."""
        return next(h for h in await self.room.holdings(code) if h.study_uid == study_uid)

    @property
    def since(self) -> str:
        """``since …`` of what happens now."""
        return f"since {self.room.clock.now():%Y-%m-%dT%H:%M:%SZ}"

    def linked(self, code: str) -> None:
        """A member is linked, and all that it holds is indexed."""
        self.room.live(code)

    def down(self, code: str) -> None:
        """A member cannot be reached."""
        member = self.member(code)
        self.directory.presences[member.id] = replace(
            self.directory.presence(member.id), reachable=False, since=self.room.clock.now()
        )

    def suspend(self, code: str) -> None:
        """As the member service does it."""
        member = self.directory.set(
            replace(self.member(code), status="suspended", status_since=self.room.clock.now())
        )
        self.live.cut(member.id)


@asynccontextmanager
async def node(folder: Path, member: Member, key: ECKey, clock: Clock) -> AsyncIterator[Node]:
    """One node with real archive and faces; release tokens are verified, by the registry's clock."""
    folder.mkdir(parents=True)
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
    config = NodeConfig(listen=ListenConfig(open=True), archive=ArchiveConfig(min_free_bytes=0))
    async with (
        node_ground(folder, facts, REGION, key, config=config, clock=clock) as (ground, archive),
        AsyncExitStack() as runner,
    ):
        serve = make_serve(ground, archive, StillConnection())
        serve.open()
        manifests = Manifests()
        url = await runner.enter_async_context(
            served(face_application(ground, serve, make_gate(ground), manifests, "systems"))
        )
        yield Node(member.code, archive, ground.audit, manifests, runner, url)


def endpoints(url: str, code: str) -> Endpoints:
    """Addresses of a member at ``url``."""
    return Endpoints(
        base=url,
        systems=url,
        dicomweb=f"{url}/dicomweb",
        rad69=f"{url}/rad69",
        xds_repository=f"{url}/xds/repository",
        aet=code,
    )


@asynccontextmanager
async def gateway_region(
    folder: Path, codes: tuple[str, ...] = ("RA2", "RTK"), *, config: GatewayConfig | None = None
) -> AsyncIterator[GatewayRegion]:
    """A registry's faces, and real nodes for ``codes``.

    Who asks is a clinician, whose name the header :data:`ASKING` may say.
    """
    dicomweb = DicomwebConfig(cors_origins=("https://viewer.example",))
    whole = room_config(gateway=config or GatewayConfig(), dicomweb=dicomweb)
    async with AsyncExitStack() as stack:
        db = SqliteDb(folder / "registry.sqlite")
        stack.push_async_callback(db.close)
        room = await make_room(db, config=whole)
        there = await stack.enter_async_context(room_faces(room, _asking, kind="systems"))
        nodes = {}
        for code in codes:
            member = room.member(code)
            nodes[code] = await stack.enter_async_context(node(folder / code, member, there.key, room.clock))
            room.directory.set(replace(member, endpoints=endpoints(nodes[code].url, code)))
            room.live(code)
        http = await stack.enter_async_context(client_session())
        yield GatewayRegion(
            room, there.retrieves.reach, there.retrieves.gateway.unbroken, there.live, there.base, http, nodes
        )


@contextmanager
def endless_member(region: GatewayRegion, code: str, url: str) -> Iterator[Member]:
    """A member whose addresses are another server's."""
    member = region.directory.set(replace(region.member(code), endpoints=endpoints(url, code)))
    region.linked(code)
    yield member
