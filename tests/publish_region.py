"""One real node and one real registry core in this process, joined by either road: for tests of publication end to end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast

import grpc
import grpc.aio
from aiohttp import ClientSession, web
from joserfc.jwk import ECKey
from loopback import served, service
from node_serving import part10
from publish_fakes import SeededIds
from pydicom.dataset import Dataset
from registry_samples import REGION, MemoryDirectory

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.clock import Clock, SystemClock
from crosslight.runtime.db import Db, SqliteDb
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.http import ErrorRenderers, client_session, problems
from crosslight.runtime.mllp import MllpClient, MllpServer
from crosslight.runtime.seams import SystemHttp, system_seams
from crosslight.runtime.soap.client import SoapClient
from crosslight.runtime.soap.endpoint import SoapEndpoint, add_faults
from crosslight.runtime.soap.server import MAX_SUBMISSION_BYTES
from crosslight.runtime.tokens import TokenSigner, TokenVerifier
from crosslight.runtime.waiting import draw_from
from crosslight.runtime.workers import Workers
from crosslight.standards.access import OPEN
from crosslight.standards.ids import MemberId
from crosslight.standards.membership import Endpoints
from crosslight.standards.problem import Unavailable
from crosslight.standards.xds.mapping.values import ValueSets
from node.archive.archive import Archive
from node.archive.config import ArchiveConfig
from node.holdings import Received
from node.membership.model import EpochGrant, own_authority
from node.publish.build import DESTINATION
from node.publish.config import PublishConfig
from node.publish.grpc_road import GrpcRoad
from node.publish.model import Identity
from node.publish.outbox_store import OutboxStore
from node.publish.publisher import Publisher
from node.publish.revise import Origin, Retrieval
from node.publish.road import Destination, Road
from node.publish.soap_road import SoapRoad
from node.publish.store import PublishStore
from node.publish.xds_wire import XdsWire
from node.serve import dicomweb as node_dicomweb
from node.serve import soap as node_soap
from node.serve.authenticate import Authenticator
from node.serve.context import ServeContext
from node.serve.patients import PatientsOf
from node.serve.release import Release
from registry.ask.ask import Ask
from registry.dicomweb.config import DicomwebConfig
from registry.dicomweb.face import DicomwebFace
from registry.dicomweb.face import routes as dicomweb_routes
from registry.enrich.completion import Completion
from registry.enrich.config import EnrichConfig
from registry.enrich.enrich import Enricher
from registry.fhir.config import FhirConfig
from registry.fhir.errors import render_error
from registry.fhir.face import FhirFace
from registry.fhir.routes import routes as fhir_routes
from registry.gateway.forward import Gateway
from registry.identity.store import IdentityStore
from registry.ihe import iti18, iti42, iti57, iti62
from registry.ihe.admission import Admission
from registry.ihe.iti8 import AdtFeed
from registry.index.store import IndexStore
from registry.intake.accept import Acceptor
from registry.intake.patients import PatientIntake
from registry.link.feed import FeedServicer
from registry.members.model import Member, Presence
from registry.reach.config import ReachConfig
from registry.reach.members import Reach
from registry.reach.sessions import MemberSessions

FILES = SystemFiles()
FAST = PublishConfig(first_s=0.05, quiet_s=0.3, retry_first_s=0.02, retry_max_s=0.2, timeout_s=5.0)


class StoppedClock(SystemClock):
    """Sleeps and counts as the real one; the time of day stands still, so that two runs say the same."""

    def __init__(self, at: datetime = datetime(2025, 7, 1, 12, tzinfo=UTC)) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


async def until(condition: Callable[[], Awaitable[bool]], within_s: float = 20.0) -> None:
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
    """Index, identity, doors and faces of one registry."""

    db: Db
    directory: MemoryDirectory
    index: IndexStore
    identity: IdentityStore
    acceptor: Acceptor
    ask: Ask
    audit: AuditLog
    enricher: Enricher
    completion: Completion
    clock: Clock
    key: ECKey
    base: str = ""
    grpc_port: int = 0
    mllp_port: int = 0
    down: bool = False
    lose: list[str] = field(default_factory=list)  # fates of the next SOAP messages: '', request, answer

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
    clock, ids, directory = clock or SystemClock(), SeededIds(seed), MemoryDirectory()
    index = IndexStore(database, directory, clock, ids)
    identity = IdentityStore(database, REGION, ids, headers=index.read.headers_of, moved=index.moved)
    audit = AuditLog(database, clock)
    for part in (index, identity, audit):
        await part.open()
    ask = Ask(database, index, identity, directory, audit, clock, REGION)
    key = ECKey.generate_key("P-256", parameters={"kid": "k1"})
    sessions = MemberSessions(ReachConfig(), SystemHttp())
    signer = TokenSigner(key, REGION.home_community_id, clock, ids)
    reach = Reach(directory, signer, sessions, ReachConfig(), ids)
    workers = Workers(threads=1, children=1)
    acceptor = Acceptor(
        database, index, identity, directory, clock, ids, REGION, on_change=lambda changes: core.enricher.changed(changes)
    )
    config = EnrichConfig(scan_s=0.2, retry_first_s=0.05, retry_max_s=0.2, timeout_s=5.0)
    completion = Completion(index, acceptor, reach, audit, workers, ids, REGION, config)
    enricher = Enricher(index, directory, completion, clock, ids, config)
    core = RegistryCore(database, directory, index, identity, acceptor, ask, audit, enricher, completion, clock, key)
    async with AsyncExitStack() as stack:
        app = _faces(core, Gateway(reach), ids)
        core.base = await stack.enter_async_context(served(app))
        adt = AdtFeed(PatientIntake(identity, audit, directory, REGION, clock), directory, REGION, clock, ids, open_mode=True)
        mllp = MllpServer(adt.handle, "127.0.0.1", 0)
        await mllp.start()
        stack.push_async_callback(mllp.stop)
        core.mllp_port = mllp.port
        server = grpc.aio.server()
        FeedServicer(acceptor, index, Callers(directory), audit, ids, open_mode=True).register(server)
        core.grpc_port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        stack.push_async_callback(server.stop, 0.1)
        if enrich:
            enricher.start()
        stack.push_async_callback(enricher.stop)
        try:
            yield core
        finally:
            await ask.close()
            await sessions.close()
            await workers.close()


def _faces(core: RegistryCore, gateway: Gateway, ids: SeededIds) -> web.Application:
    admission = Admission(core.directory, _no_foreign, core.audit, core.ask)
    transactions = (
        iti18.RegistryStoredQuery(core.ask, REGION),
        iti42.RegisterDocumentSet(core.acceptor, admission, ids, REGION, ValueSets()),
        iti57.UpdateDocumentSet(core.acceptor, admission),
        iti62.RemoveMetadata(core.acceptor, admission),
    )
    soap = SoapEndpoint(transactions, max_bytes=MAX_SUBMISSION_BYTES)
    fhir = FhirFace(
        core.ask, core.directory, key=core.index.region_key, seams=system_seams(clock=core.clock, ids=ids), config=FhirConfig()
    )
    face = DicomwebFace(core.ask, core.directory, gateway, DicomwebConfig())
    renderers = ErrorRenderers()
    renderers.add("/fhir", render_error)
    add_faults(renderers, "/xds")
    app = service([*soap.routes("/xds/registry"), *fhir_routes(fhir), *dicomweb_routes(face)], renderers, lambda request: OPEN)

    @web.middleware
    async def lossy(request: web.Request, handler: Any) -> web.StreamResponse:
        fate = "request" if core.down else core.lose.pop(0) if core.lose and request.path == "/xds/registry" else ""
        if fate == "request":
            raise Unavailable("lost")
        answer: web.StreamResponse = await handler(request)
        if fate == "answer":
            raise Unavailable("lost")
        return answer

    app.middlewares.append(cast(Any, lossy))
    return app


async def _no_foreign(repository: str) -> Member:
    raise AssertionError(f"no foreign member is expected: {repository}")


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
        """Receive objects."""
        for ds in files:
            staged = self.archive.stage()
            staged.write(part10(ds))
            result = await self.archive.ingest_async(staged, Received(road="import", peer="test"))
            assert result.state in ("stored", "duplicate"), result

    async def settled(self) -> None:
        """Until nothing waits."""

        async def nothing_waits() -> bool:
            status = await self.publisher.status()
            return status.waiting == 0 and status.parked == 0 and self.publisher.reviser.settled and not status.held_up

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
    db, workers = SqliteDb(folder / "node.sqlite"), Workers(threads=2, children=1)
    earlier = StoppedClock(clock.now() - timedelta(hours=1)) if isinstance(clock, StoppedClock) else clock
    archive = Archive(db, folder / "archive", FILES, earlier, ids, workers, ArchiveConfig(min_free_bytes=0))
    archive.rules = replace(
        archive.rules, authority=member.authority, namespace=member.code, site_zone=REGION.zone, nationals=REGION.nationals,
        allow_test_numbers=True,
    )  # fmt: skip
    audit = AuditLog(db, clock)
    await archive.open()
    await audit.open()

    def identity() -> Identity:
        return Identity(source=member.source, secret=member.secret)

    async with AsyncExitStack() as stack:
        rows, store = OutboxStore(db, DESTINATION), PublishStore(db, ids, [DESTINATION])
        channel = grpc.aio.insecure_channel(f"127.0.0.1:{core.grpc_port}")
        stack.push_async_callback(channel.close)
        feed = GrpcRoad(lambda: channel, metadata=(("crosslight-member", "RTK"),), timeout_s=5.0)
        session: ClientSession = await stack.enter_async_context(client_session())
        mllp = MllpClient("127.0.0.1", core.mllp_port)
        stack.push_async_callback(mllp.close)
        url = f"{core.base}/xds/registry"
        wire = XdsWire(SoapClient(session, ids), lambda: url, mllp, clock, ids, identity, timeout_s=5.0)
        chosen: Road = feed if road == "grpc" else SoapRoad(wire, identity, rows, own_authority)
        seams = system_seams(clock=clock, ids=ids, workers=workers, draw=draw_from(ids))
        publisher = Publisher(
            store, rows, archive, seams, replace(config, road=road),
            Origin(identity=identity, retrieval=Retrieval(ae_title="RTK")), Destination(road=chosen, comparer=feed),
        )  # fmt: skip
        await publisher.open()
        base = await stack.enter_async_context(served(_node_faces(folder, archive, publisher, audit, workers, core)))
        core.directory.set(replace(member, endpoints=_endpoints(base)))
        core.directory.presences[MemberId(member.id)] = Presence(member=member.id, reachable=True)
        node = PublishingNode(archive, publisher, rows, store, audit, base)
        if start:
            publisher.start()
            await publisher.on_welcome(grant or EpochGrant(epoch=1, reconcile=False, incarnation=core.index.incarnation))
        try:
            yield node
        finally:
            await publisher.close()
            await archive.close()
            await workers.close()
            await db.close()


def _endpoints(url: str) -> Endpoints:
    return Endpoints(
        base=url, systems=url, dicomweb=f"{url}/dicomweb", rad69=f"{url}/rad69", xds_repository=f"{url}/xds/repository"
    )


def _node_faces(
    folder: Path, archive: Archive, publisher: Publisher, audit: AuditLog, workers: Workers, core: RegistryCore
) -> web.Application:
    member, home, ids = core.member, REGION.home_community_id, SeededIds(9)
    serve = ServeContext(
        holdings=archive, release=Release(audit, patients_of=PatientsOf(archive)), workers=workers, ids=ids,
        spool=folder / "spool", retrieve_location_uid=lambda: member.retrieve_location_uid,
        repository_unique_id=lambda: member.repository_unique_id,
    )  # fmt: skip
    serve.open()
    verifier = TokenVerifier(home, core.clock, {"keys": [core.key.as_dict(private=False)]})
    gate = Authenticator(verifier, code=lambda: "RTK", home_community_id=lambda: home, open_mode=True)
    renderers = node_soap.renderers(ErrorRenderers())
    app = web.Application(middlewares=[cast(Any, problems(renderers, ids)), cast(Any, gate.middleware("systems"))])
    app.add_routes(node_dicomweb.routes(serve))
    app.add_routes(node_soap.routes(serve, publisher))
    return app
