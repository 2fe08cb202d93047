"""A region of real nodes (archive and serve, in this process) behind the registry's gateway, DICOMweb root, ITI-43 and RAD-69."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

from aiohttp import ClientSession, web
from ask_double import served, service
from joserfc.jwk import ECKey
from node_serving import Manifests, part10
from pydicom.dataset import Dataset
from registry_room import Room, make_room
from registry_samples import NHS, REGION, MemoryDirectory

from crosslight.runtime.audit import Audited, AuditLog
from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.http import ErrorRenderers, client_session, problems
from crosslight.runtime.problem_details import render_problem
from crosslight.runtime.seams import SystemHttp
from crosslight.runtime.soap.endpoint import SoapEndpoint, add_faults
from crosslight.runtime.soap.server import MAX_QUERY_BYTES
from crosslight.runtime.tokens import TokenSigner, TokenVerifier
from crosslight.runtime.workers import Workers
from crosslight.standards.access import Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.membership import Endpoints
from crosslight.standards.study import StudyRecord
from node.archive.archive import Archive
from node.archive.config import ArchiveConfig
from node.holdings import Received
from node.serve import dicomweb as node_dicomweb
from node.serve import soap as node_soap
from node.serve.authenticate import Authenticator
from node.serve.context import ServeContext
from node.serve.patients import PatientsOf
from node.serve.release import Release
from registry.dicomweb.config import DicomwebConfig
from registry.dicomweb.face import DicomwebFace
from registry.dicomweb.face import routes as dicomweb_routes
from registry.gateway.config import GatewayConfig
from registry.gateway.forward import Gateway
from registry.ihe.iti43 import RetrieveDocumentSet
from registry.ihe.rad69 import RetrieveImagingDocumentSet
from registry.ihe.retrieve_merge import RetrieveMerge
from registry.index.model import Holding
from registry.members.live import LiveConnections
from registry.members.model import Member
from registry.reach.members import Reach
from registry.reach.sessions import MemberSessions

CLOCK, IDS, FILES = SystemClock(), SystemIds(), SystemFiles()
CLINICIAN = Principal(subject="dr.who", name="Dr Who", roles=frozenset({"clinician"}), organisation="RYR")


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
        return [act for act in reversed(await self.room.audit.search()) if act.who.subject == CLINICIAN.subject]

    def member(self, code: str) -> Member:
        found = self.directory.by_code(code)
        assert found is not None
        return found

    async def add(self, code: str, *files: Dataset, national: str = "", local: str = "") -> None:
        """Store at a node and index what it then holds; ``local`` is its own number where the images say another's."""
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
            await self.publish(code, replace(record, patient=replace(record.patient, local=local, others=others)))

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
        member = self.directory.set(replace(self.member(code), status="suspended", status_since=self.room.clock.now()))
        self.live.cut(member.id)


@asynccontextmanager
async def node(folder: Path, member: Member, key: ECKey) -> AsyncIterator[Node]:
    """One node with real archive and serve, protected: it takes release tokens only."""
    folder.mkdir(parents=True)
    db, workers = SqliteDb(folder / "node.sqlite"), Workers(children=1)
    archive = Archive(db, folder / "archive", FILES, CLOCK, IDS, workers, ArchiveConfig(min_free_bytes=0))
    audit = AuditLog(db, CLOCK)
    await archive.open()
    await audit.open()
    serve = ServeContext(
        holdings=archive, release=Release(audit, patients_of=PatientsOf(archive)), workers=workers, ids=IDS,
        spool=folder / "spool", retrieve_location_uid=lambda: member.retrieve_location_uid,
        repository_unique_id=lambda: member.repository_unique_id,
    )  # fmt: skip
    serve.open()
    home = REGION.home_community_id
    verifier = TokenVerifier(home, CLOCK, {"keys": [key.as_dict(private=False)]})
    gate = Authenticator(verifier, code=lambda: member.code, home_community_id=lambda: home, open_mode=True)
    manifests, runner = Manifests(), AsyncExitStack()
    renderers = node_soap.renderers(ErrorRenderers())
    app = web.Application(middlewares=[cast(Any, problems(renderers, IDS)), cast(Any, gate.middleware("systems"))])
    app.add_routes(node_dicomweb.routes(serve))
    app.add_routes(node_soap.routes(serve, manifests))
    url = await runner.enter_async_context(served(app))
    try:
        yield Node(member.code, archive, audit, manifests, runner, url)
    finally:
        await runner.aclose()
        await archive.close()
        await workers.close()
        await db.close()


def endpoints(url: str, code: str) -> Endpoints:
    """Addresses of a member at ``url``."""
    return Endpoints(
        base=url, systems=url, dicomweb=f"{url}/dicomweb", rad69=f"{url}/rad69", xds_repository=f"{url}/xds/repository", aet=code
    )


@asynccontextmanager
async def gateway_region(
    folder: Path, codes: tuple[str, ...] = ("RA2", "RTK"), *, config: GatewayConfig | None = None
) -> AsyncIterator[GatewayRegion]:
    """A registry's retrieve side, and real nodes for ``codes``."""
    key = ECKey.generate_key("P-256", parameters={"kid": "k1"})
    config, live = config or GatewayConfig(), LiveConnections()
    db = SqliteDb(folder / "registry.sqlite")
    room = await make_room(db)
    sessions = MemberSessions(config, SystemHttp())
    signer = TokenSigner(key, REGION.home_community_id, CLOCK, IDS)
    reach = Reach(room.directory, signer, sessions, config, IDS, live)
    renderers = ErrorRenderers()
    add_faults(renderers, "/xds", "/rad69")
    renderers.add("/dicomweb", render_problem)
    face = DicomwebFace(room.ask, room.directory, Gateway(reach), DicomwebConfig(cors_origins=("https://viewer.example",)))
    merge = RetrieveMerge(room.ask, reach, config.max_documents)
    soap = SoapEndpoint((RetrieveDocumentSet(merge), RetrieveImagingDocumentSet(merge)), max_bytes=MAX_QUERY_BYTES)
    addresses = [*dicomweb_routes(face), *soap.routes("/xds/repository", "/rad69")]
    app = service(addresses, renderers, lambda request: CLINICIAN)
    async with AsyncExitStack() as stack:
        nodes = {}
        for code in codes:
            member = room.member(code)
            nodes[code] = await stack.enter_async_context(node(folder / code, member, key))
            room.directory.set(replace(member, endpoints=endpoints(nodes[code].url, code)))
            room.live(code)
        base = await stack.enter_async_context(served(app))
        http = await stack.enter_async_context(client_session())
        yield GatewayRegion(room, reach, live, base, http, nodes)
        await sessions.close()
    await room.ask.close()
    await db.close()


@contextmanager
def endless_member(region: GatewayRegion, code: str, url: str) -> Iterator[Member]:
    """A member whose addresses are another server's."""
    member = region.directory.set(replace(region.member(code), endpoints=endpoints(url, code)))
    region.linked(code)
    yield member
