"""The composition root of a registry: every room is made here and given what it needs; nothing else knows them all."""

from __future__ import annotations

import asyncio
import ssl
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from crosslight import __version__
from crosslight.runtime import health
from crosslight.runtime.audit import AuditLog
from crosslight.runtime.compression import compressed
from crosslight.runtime.health import Gauge, Total
from crosslight.runtime.http import ErrorRenderers, Listener, problems
from crosslight.runtime.log import get_logger
from crosslight.runtime.mllp import MllpServer, Peer
from crosslight.runtime.problem_details import render_problem
from crosslight.runtime.seams import Seams, system_seams
from crosslight.runtime.serving import FolderLock
from crosslight.runtime.soap.server import render_soap_error
from crosslight.runtime.tls import Credentials, Identity, peer_identity
from crosslight.runtime.workers import Workers
from crosslight.standards.membership import RegistryAddresses
from crosslight.standards.problem import CrosslightError
from crosslight.standards.xds.mapping.values import ValueSets, type_code
from crosslight.standards.xds.wire import adhoc
from registry.access.access import Access
from registry.access.authenticate import ListenerKind
from registry.ask.ask import Ask
from registry.config import RegistryConfig
from registry.dicomweb import face as dicomweb
from registry.enrich import enrich
from registry.fhir.errors import render_error as render_fhir_error
from registry.fhir.face import FhirFace
from registry.fhir.routes import routes as fhir_routes
from registry.gateway.forward import Gateway
from registry.identity.review import Review
from registry.identity.store import IdentityStore
from registry.ihe import iti18, iti42, iti57, iti62
from registry.ihe.admission import Door
from registry.ihe.endpoint import SoapEndpoint
from registry.ihe.iti8 import AdtFeed
from registry.ihe.relay import Relay
from registry.ihe.relay_routes import routes as relay_routes
from registry.index.follow import Follower
from registry.index.model import Change
from registry.index.store import IndexStore
from registry.intake.accept import Acceptor
from registry.keys import TokenKeys
from registry.link import feed
from registry.link.callers import Callers
from registry.link.link import MembershipServicer
from registry.link.server import MemberServer
from registry.members.join import Join
from registry.members.model import Member
from registry.members.service import MemberService
from registry.officer.decisions import IdentityDecisions
from registry.portal import pages as portal_pages
from registry.reach.members import Reach
from registry.reach.sessions import MemberSessions

log = get_logger("registry")

PRELOAD = ("crosslight.standards.dicom.record.kos_read",)
READY_S = 3.0  # how long a database may take to say that it is there
#: Where credentials come from, as a 401 of each listener says it.
CREDENTIALS: dict[ListenerKind, str] = {
    "people": "People sign in at /signin; the region's operator issues bearer tokens to apps (crosslight-registry token).",
    "systems": "The region's operator issues client certificates (crosslight-registry system).",
}
XDS_REGISTRY, XDS_REPOSITORY, RAD69 = "/xds/registry", "/xds/repository", "/rad69"


def _member_of(peer: Peer) -> str:
    try:
        identity = peer_identity(peer.certificate)
    except CrosslightError:
        return ""
    return identity.name if identity.kind == "member" else ""


class RegistryApp:
    """One registry. ``start`` and ``stop`` are its whole life; several fit into one process.

    Args:
        folder: The registry's, with ``registry.toml``.
        config: What the file says.
        seams: The world outside; it is this registry's alone, and its workers end with the registry. None: the real one.
    """

    def __init__(self, folder: Path, config: RegistryConfig, seams: Seams | None = None) -> None:
        self.folder, self.config = folder, config
        self.seams = seams or system_seams(workers=Workers(threads=4, children=1, preload=PRELOAD))
        self.clock, self.ids, self.files, self.workers = self.seams.clock, self.seams.ids, self.seams.files, self.seams.workers
        self.region = config.region.region()
        self.lock = FolderLock(folder)
        self.accepted = 0  # changes since the start, for metrics
        self._listeners: list[Listener] = []
        self._tasks: list[asyncio.Task[None]] = []

    # --- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Databases, members, index, faces, listeners: in this order."""
        self.lock.acquire()
        listen = self.config.listen
        self.db = self.seams.databases.open(self.config.database.url, base=self.folder)
        self.audit_db = self.seams.databases.open(self.config.database.audit_url, base=self.folder)
        self.audit = AuditLog(self.audit_db, self.clock)
        await self.audit.open()
        keys = TokenKeys(self.folder / "keys" / "token.json", self.files)
        self.members = MemberService(
            self.db, self.region, self.folder, self.config.members, self.clock, self.ids, self.files, keys, self.audit,
            open_mode=listen.open, public_host=listen.public_host,
        )  # fmt: skip
        await self.members.open()
        await self._open_index()
        self.access = Access(
            self.db,
            self.folder,
            self.people_url,
            self.config.access,
            self.members,
            self.audit,
            self.clock,
            self.ids,
            self.files,
            name=self.config.portal.service_name,
        )
        await self.access.open()
        self._make_gateway()
        self._make_faces()
        await self._listen()
        self.members.start()
        self.enricher.start()
        self.follower.start()
        self._tasks = [
            asyncio.create_task(self.workers.warm()),
            asyncio.create_task(self._refresh_directories()),
            asyncio.create_task(self._follow_links()),
            asyncio.create_task(self._review()),
        ]

    async def stop(self) -> None:
        """Stop listening, finish, close. Safe after a start that failed half way."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, CrosslightError):
                await task
        for name in ("mllp", "grpc", "follower", "enricher"):
            part = getattr(self, name, None)
            if part is not None:
                await part.stop()
        for listener in self._listeners:
            await listener.stop()
        audit = getattr(self, "audit", None)
        if audit is not None:
            with suppress(CrosslightError):
                await audit.settle()
        for name in ("sessions", "access", "members", "ask", "workers", "db", "audit_db"):
            part = getattr(self, name, None)
            if part is not None:
                await part.close()
        self.lock.release()

    # --- parts -----------------------------------------------------------------------------------------------------

    @property
    def people_url(self) -> str:
        """Base of the people listener, as others reach it."""
        listen = self.config.listen
        return f"{'http' if listen.open else 'https'}://{listen.public_host}:{listen.people_port}"

    @property
    def addresses(self) -> RegistryAddresses:
        """What members are told."""
        listen = self.config.listen
        scheme = "http" if listen.open else "https"
        return RegistryAddresses(
            people=self.people_url,
            systems=f"{scheme}://{listen.public_host}:{listen.systems_port}",
            grpc=f"{listen.public_host}:{listen.grpc_port}",
            mllp=f"{listen.public_host}:{listen.mllp_port}",
        )

    async def _open_index(self) -> None:
        self.index = IndexStore(self.db, self.members, self.clock, self.ids)
        rules = self.config.identity.rules()
        self.identity = IdentityStore(self.db, self.region, self.ids, rules, self.index.read.headers_of, self.index.moved)
        await self.identity.open()
        await self.index.open()
        self.review = Review(self.db, self.identity, self.region, self.clock)
        self.again = await self.review.begin()
        self.ask = Ask(self.db, self.index, self.identity, self.members, self.audit, self.clock, self.ids, self.region)
        self.acceptor = Acceptor(
            self.db, self.index, self.identity, self.members, self.clock, self.ids, self.region, on_change=self._committed,
        )  # fmt: skip
        self.follower = Follower(self.index.changes, self.clock, self.config.changes)

    def _committed(self, changes: Sequence[Change]) -> None:
        self.accepted += len(changes)
        self.follower.wake()

    def _member_tls(self, member: Member) -> ssl.SSLContext | None:
        if self.config.listen.open or self.members.own.gateway is None:
            return None
        if member.status == "foreign":  # known by its host name, under the region's authority
            return self.members.own.gateway.client()
        return self.members.own.gateway.client(Identity("member", member.code, self.region.home_community_id))

    def _make_gateway(self) -> None:
        self.sessions = MemberSessions(self.config.gateway, self._member_tls)
        signer = self.access.tokens.signer
        self.reach = Reach(self.members, signer, self.sessions, self.config.gateway, self.ids, self.members.live)
        self.gateway = Gateway(self.reach)
        self.relay = Relay(self.ask, self.reach, self.config.gateway.max_documents)
        self.enricher = enrich.Enricher(
            self.index, self.acceptor, self.members, self.reach, self.audit, self.workers, self.clock, self.ids, self.region,
            self.config.enrich,
        )  # fmt: skip
        self.members.on_change(self.enricher.members_changed)
        self.follower.tell(self.enricher.changed, self.enricher.members_changed)

    def _make_faces(self) -> None:
        open_mode, key = self.config.listen.open, self.index.region_key
        self.fhir = FhirFace(
            self.ask, self.members, key=key, clock=self.clock, ids=self.ids, config=self.config.fhir, version=__version__,
            secured=not open_mode,
        )  # fmt: skip
        self.dicomweb = dicomweb.DicomwebFace(self.ask, self.members, self.gateway, self.config.dicomweb)
        self.portal = portal_pages.Portal(
            portal_pages.PortalContext(
                ask=self.ask, directory=self.members, key=key, clock=self.clock, ids=self.ids, config=self.config.portal,
                open_mode=open_mode, decisions=self._officers_room(),
            )
        )  # fmt: skip
        xds = self.config.xds
        door = Door(self.members, self.members.foreign_member, self.audit, self.ask)
        own_types = frozenset(type_code(row.type_code).key for row in self.region.procedure_codes if row.type_code)
        values = ValueSets(check=xds.check_codes and not open_mode, type_codes=own_types)
        self.soap = SoapEndpoint({
            adhoc.ACTION_REQUEST: iti18.RegistryStoredQuery(self.ask, self.region, warn=xds.warn, quiet=frozenset(xds.quiet_for)),
            iti42.ACTION_REQUEST: iti42.RegisterDocumentSet(self.acceptor, door, self.ids, self.region, values),
            iti57.ACTION_REQUEST: iti57.UpdateDocumentSet(self.acceptor, door),
            iti62.ACTION_REQUEST: iti62.RemoveMetadata(self.acceptor, door),
        })  # fmt: skip

    def _officers_room(self) -> IdentityDecisions:
        return IdentityDecisions(self.db, self.identity, self.index, self.members, self.audit, self.clock, self.ids)

    # --- listening -------------------------------------------------------------------------------------------------

    async def _listen(self) -> None:
        listen, own, http = self.config.listen, self.members.own, self.seams.http
        people_tls = gateway_tls = None
        if not listen.open and own.people is not None and own.gateway is not None:
            people_tls, gateway_tls = own.people.server(mutual=False), own.gateway.server(mutual=True)
        self._listeners = [
            http.listener(self._web("people"), listen.host, listen.people_port, people_tls, name="people"),
            http.listener(self._web("systems"), listen.host, listen.systems_port, gateway_tls, name="systems"),
        ]
        for listener in self._listeners:
            await listener.start()
        await self._listen_grpc(None if listen.open else own.gateway)
        self.adt = AdtFeed(self.identity, self.audit, self.members, self.region, self.clock, self.ids, open_mode=listen.open)
        self.mllp = MllpServer(self.adt.handle, listen.host, listen.mllp_port, tls=gateway_tls)
        await self.mllp.start()
        self.members.on_change(self._cut_mllp)

    def _cut_mllp(self) -> None:
        suspended = {m.code for m in self.members.all() if m.status == "suspended"}
        if suspended:
            self.mllp.disconnect(lambda peer: _member_of(peer) in suspended)

    async def _listen_grpc(self, credentials: Credentials | None) -> None:
        listen = self.config.listen
        self.membership = MembershipServicer(self.members, self.index, self.clock)
        callers = Callers(self.members, self.clock)
        servicer = feed.FeedServicer(self.acceptor, self.index, callers, self.audit, self.ids, open_mode=listen.open)
        self.grpc = MemberServer(
            self.membership, listen.host, listen.grpc_port, credentials,
            max_message_bytes=self.config.members.max_message_bytes, register=(servicer.register,),
        )  # fmt: skip
        await self.grpc.start()

    def _web(self, kind: ListenerKind) -> web.Application:
        renderers = ErrorRenderers()
        renderers.add("/fhir", render_fhir_error)
        renderers.add("/dicomweb", render_problem)
        for path in (XDS_REGISTRY, XDS_REPOSITORY, RAD69):
            renderers.add(path, partial(render_soap_error, sender_400=self.config.xds.sender_faults_400))
        middlewares = [
            compressed(),
            problems(renderers, self.ids, credentials=CREDENTIALS[kind]),
            self.access.authenticator.middleware(kind),
        ]
        app = web.Application(middlewares=middlewares, client_max_size=1 << 20)
        app.add_routes(health.routes(self.ready, self.gauges))
        app.add_routes(fhir_routes(self.fhir))
        app.add_routes(dicomweb.routes(self.dicomweb))
        if kind == "people":
            for prefix in ("/patients", "/search", "/identity"):
                renderers.add(prefix, portal_pages.renderer(self.portal))
            renderers.add("/", portal_pages.elsewhere(self.portal))
            app.add_routes(portal_pages.routes_of(self.portal))
            app.add_routes(self.access.routes())
            app.add_routes(Join(self.members, self.index, self.addresses).routes())
        if kind == "systems" or self.config.listen.open:
            app.add_routes(self.soap.routes(XDS_REGISTRY))
            app.add_routes(relay_routes(self.relay, repository=XDS_REPOSITORY, imaging=RAD69))
        return app

    # --- while it runs ---------------------------------------------------------------------------------------------

    async def _refresh_directories(self) -> None:
        while True:
            await self.clock.sleep(60.0)
            self.membership.refresh_directories()

    async def _review(self) -> None:
        """Patient records that came by other rules, or from an earlier release, are compared anew."""
        if self.again:
            try:
                await self.review.rest()
            except Exception:
                log.exception("patient records could not be compared anew; the next start goes on with it")

    async def _follow_links(self) -> None:
        """What waits for a member goes on as soon as its link is up."""
        before: frozenset[int] = frozenset()
        while True:
            await self.clock.sleep(0.5)
            up = frozenset(m.id for m in self.members.all() if self.members.presence(m.id).reachable)
            if up - before:
                self.enricher.members_changed()
            before = up
            if not self.identity.settled and self._filled():
                await self.identity.settle_holders()

    def _filled(self) -> bool:
        """Whether every member has been heard of and has filled the index with what it holds."""
        presences = [self.members.presence(m.id) for m in self.members.all()]
        return bool(presences) and all(p.last_heard is not None and not p.filling and p.census_equal is True for p in presences)

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether questions can be answered and submissions taken now: both need their databases."""
        coverage, answers = self.ask.coverage(), await self._databases_answer()
        return answers, {
            "version": __version__,
            "databases": answers,
            "incarnation": self.index.incarnation,
            "members": {m.code: list(m.states) for m in coverage.members},
            "waiting": sum(m.waiting for m in coverage.members),
            "parked": sum(m.parked for m in coverage.members),
        }

    async def _databases_answer(self) -> bool:
        try:
            async with asyncio.timeout(READY_S):
                for db in (self.db, self.audit_db):
                    await db.read("ready", lambda tx: tx.row("SELECT 1"))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing can be asked now
            log.error("a database does not answer", error=type(error).__name__)
            return False
        return True

    async def gauges(self) -> list[Gauge]:
        """Metrics: of members only, never of patients."""
        coverage, waiting = self.ask.coverage(), float(await self.identity.waiting_count())

        def each(value: str) -> dict[tuple[str, ...], float]:
            return {(m.code,): float(getattr(m, value)) for m in coverage.members}

        now, label = self.clock.now(), ("member",)
        ages: dict[tuple[str, ...], float] = {
            (m.code,): (now - m.as_of).total_seconds() for m in coverage.members if m.as_of is not None
        }
        skew: dict[tuple[str, ...], float] = {(m.code,): m.skew_ms / 1000 for m in coverage.members}
        unread = self.acceptor.unread + (self.adt.unread if hasattr(self, "adt") else Counter[str]())
        unreadable: dict[tuple[str, ...], float] = {(code,): float(n) for code, n in unread.items()}
        return [
            Gauge(
                "crosslight_registry_numbers_unreadable",
                "Studies and feeds with a national number that is none.",
                unreadable,
                label,
            ),
            Gauge("crosslight_member_reachable", "1 while a member's node is linked.", each("reachable"), label),
            Gauge("crosslight_member_suspended", "1 while a member is suspended.", each("suspended"), label),
            Gauge("crosslight_member_waiting", "Studies that a member has yet to publish.", each("waiting"), label),
            Gauge("crosslight_member_parked", "Studies of a member refused for good.", each("parked"), label),
            Gauge("crosslight_member_quarantined", "Objects in a member's quarantine.", each("quarantined"), label),
            Gauge("crosslight_member_index_age_seconds", "Since when the index of a member is current.", ages, label),
            Gauge("crosslight_member_clock_skew_seconds", "A member's clock minus ours.", skew, label),
            Gauge("crosslight_registry_identity_waiting", "Disputes and doubts that wait for a person.", waiting),
            Total(
                "crosslight_registry_numbers_claimed_by_two",
                "Members' records that claim a number held by another, since the start.",
                float(self.identity.alarms["number claimed by two"]),
            ),
            Total("crosslight_registry_changes", "Holdings changed since the start.", float(self.accepted)),
        ]
