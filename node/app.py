"""The composition root of a node: every room is made here and given what it needs; nothing else knows them all."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import web

from crosslight import __version__
from crosslight.runtime import health
from crosslight.runtime.audit import AuditLog
from crosslight.runtime.health import Gauge, Total
from crosslight.runtime.http import ErrorRenderers, Listener, problems
from crosslight.runtime.log import get_logger
from crosslight.runtime.seams import Seams, system_seams
from crosslight.runtime.serving import FolderLock
from crosslight.runtime.tokens import TokenVerifier
from crosslight.runtime.workers import Workers
from crosslight.standards.membership import Endpoints
from crosslight.standards.problem import CrosslightError
from node.archive.archive import Archive
from node.config import NodeConfig, warnings_of
from node.dimse.accounts import Accounts
from node.dimse.callers import Callers
from node.dimse.listener import DimseListener
from node.dimse.services import all_services
from node.membership.independent import Alone, CertificateWatch, NoLink
from node.membership.link import Link
from node.membership.model import Grant, NodeStatus
from node.membership.renewal import Renewal
from node.membership.seen import SeenLink, write_seen
from node.membership.standing import not_agreed, record_rules, standing
from node.publish.build import build_foreign_publisher, build_publisher, own_secret
from node.publish.publisher import Publisher
from node.publish.reread import Rereader
from node.serve import cors, dicomweb, soap
from node.serve.authenticate import Authenticator, Gate, ListenerKind
from node.serve.context import ServeContext
from node.serve.patients import PatientsOf
from node.serve.release import Release
from node.serve.systems import SystemsGate

log = get_logger("node")

TIDY_EVERY_S = 6 * 3600.0
LOOK_EVERY_S = 0.2  # whether the region has suspended this node: what leaves is cut then
PRELOAD = (
    "crosslight.standards.dicom.file.header",
    "crosslight.standards.dicom.pixels.render",
    "crosslight.standards.dicom.pixels.transcode",
)


class NodeApp:
    """One node, a region's member or alone (D18). ``start`` and ``stop`` are its whole life; several fit into one process.

    Args:
        folder: The node's, with ``node.toml`` and ``region``.
        config: What the file says.
        seams: The world outside; it is this node's alone, and its workers end with the node. None: the real one.
    """

    publisher: Publisher
    link: Link | NoLink
    renewal: Renewal | CertificateWatch

    def __init__(self, folder: Path, config: NodeConfig, seams: Seams | None = None) -> None:
        self.folder, self.config = folder, config
        self.seams = seams or system_seams(workers=Workers(threads=8, children=1, preload=PRELOAD))
        self.clock, self.ids, self.files, self.workers = self.seams.clock, self.seams.ids, self.seams.files, self.seams.workers
        self.lock = FolderLock(folder)
        self.state = standing(folder, config, self.files)
        self._tasks: list[asyncio.Task[None]] = []
        self._listeners: list[Listener] = []

    # --- life ------------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Databases, archive, publisher, listeners, link: in this order, so that nothing is announced that is not there."""
        self.lock.acquire()
        for what, todo in warnings_of(self.config):
            log.warning(what, detail=todo)
        self.db = self.seams.databases.embedded(self.folder / "node.db")
        self.audit_db = self.seams.databases.embedded(self.folder / "audit.db")
        self.audit = AuditLog(self.audit_db, self.clock)
        await self.audit.open()
        self._make_archive()
        await self.archive.open()
        await self._make_publication()
        await self.publisher.open()
        self.rereader = Rereader(
            self.archive, self.publisher.store, lambda: self.archive.rules, self.clock, on_begin=self.publisher.unpark
        )
        self._check_authority()
        self.state.on_change(self._region_changed)
        self._serve = self._make_serve()
        self._serve.open()
        await self._listen()
        if self.config.dimse.enabled:
            self.dimse: DimseListener | None = self._make_dimse()
            await self.dimse.start()
        self.publisher.start()
        self.rereader.start()
        self.link.start()
        if not (self.config.listen.open and isinstance(self.renewal, Renewal)):
            self.renewal.start()
        self._tasks = [
            asyncio.create_task(self.workers.warm()),
            asyncio.create_task(self._tidy()),
            asyncio.create_task(self._follow_link()),
        ]

    async def stop(self) -> None:
        """Stop taking in, finish, close. Safe after a start that failed half way."""
        for task in self._tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, CrosslightError):
                await task
        for name in ("dimse", "renewal", "rereader", "link"):
            part = getattr(self, name, None)
            if part is not None:
                await part.stop()
        for listener in self._listeners:
            await listener.stop()
        if (serve := getattr(self, "_serve", None)) is not None:
            await serve.release.close()
        for name in ("publisher", "archive", "workers", "db", "audit_db"):
            part = getattr(self, name, None)
            if part is not None:
                await part.close()
        self.lock.release()

    # --- parts -----------------------------------------------------------------------------------------------------

    @property
    def code(self) -> str:
        """Organisation code."""
        return self.state.code

    @property
    def endpoints(self) -> Endpoints:
        """Where this node's faces are, as others reach them."""
        listen = self.config.listen
        scheme = "http" if listen.open else "https"
        base = f"{scheme}://{listen.public_host}:{listen.people_port}"
        systems = f"{scheme}://{listen.public_host}:{listen.systems_port}"
        dimse = self.config.dimse
        return Endpoints(
            base=base,
            systems=systems,
            dicomweb=f"{systems}/dicomweb",
            rad69=f"{systems}{soap.RAD69}",
            xds_repository=f"{systems}{soap.REPOSITORY}",
            aet=(dimse.ae_title or self.code)[:16] if dimse.enabled else "",
            dimse=f"{listen.public_host}:{dimse.port}" if dimse.enabled else "",
        )

    def _make_archive(self) -> None:
        self.archive = Archive(
            self.db, self.folder / "archive", self.files, self.clock, self.ids, self.workers, self.config.archive
        )
        self._set_rules()

    def _set_rules(self) -> None:
        self.archive.rules = record_rules(self.config, self.state)

    def _region_changed(self) -> None:
        """The region agreed to another patient authority, or to one less, or says other national numbers."""
        self._set_rules()
        self._check_authority()
        self.rereader.look()

    def _check_authority(self) -> None:
        why = not_agreed(self.config, self.state)
        if why:
            log.error("nothing is published", reason=why)
        self.publisher.hold("authority", why)

    async def _make_publication(self) -> None:
        """Link, certificate's care and publisher."""
        rooms = (self.config.publish, self.db, self.archive, self.workers, self.clock, self.ids)
        if isinstance(self.state, Alone):
            self.link, self.renewal = NoLink(), CertificateWatch(self.state, self.clock)
            secret = await own_secret(self.db, self.ids)
            self.publisher = build_foreign_publisher(*rooms, state=self.state, secret=secret, endpoints=self.endpoints)
            return
        link = Link(
            self.state, self.config.region, self.clock, self.ids,
            endpoints=self.endpoints,
            hello=lambda: self.publisher.hello(),
            status=self.status,
            on_welcome=self._welcome,
            on_reconcile=lambda why: self.publisher.on_reconcile(why),
            open_mode=self.config.listen.open,
            software=f"crosslight {__version__}",
        )  # fmt: skip
        self.link, self.renewal = link, Renewal(self.state, link, self.clock, self.ids)
        self.publisher = build_publisher(
            *rooms, self.files, state=self.state, link=link, endpoints=self.endpoints, open_mode=self.config.listen.open
        )

    async def _welcome(self, grant: Grant) -> None:
        await self.publisher.on_welcome(grant)
        self.publisher.link_up()

    def _make_serve(self) -> ServeContext:
        release = Release(
            self.audit,
            suspended=lambda: self.link.status.suspended is not None or self.state.suspended(self.code),
            skew_s=lambda: self.link.status.skew_ms / 1000 if self.link.status.connected else None,
            patients_of=PatientsOf(self.archive),
            max_skew_s=self.config.serve.max_clock_skew_s,
        )
        return ServeContext(
            archive=self.archive,
            release=release,
            workers=self.workers,
            ids=self.ids,
            spool=self.folder / "spool",
            config=self.config.serve,
            retrieve_location_uid=lambda: self.state.member.retrieve_location_uid,
            repository_unique_id=lambda: self.state.member.repository_unique_id,
        )

    def _make_dimse(self) -> DimseListener:
        config = self.config.dimse
        return DimseListener(
            config,
            all_services(self.archive, config),
            Callers(config, self.code, anybody=self.config.listen.open),
            Accounts(self.audit, self.ids, self.archive.patients),
            self.workers,
            base=self.folder,
        )

    async def _listen(self) -> None:
        listen = self.config.listen
        gate = self._gate()
        credentials = None if listen.open else self.state.credentials
        ports: tuple[tuple[ListenerKind, int], ...] = (("people", listen.people_port), ("systems", listen.systems_port))
        for kind, port in ports:
            tls = credentials.server(mutual=kind == "systems") if credentials is not None else None
            app = self._web(kind, gate)
            self._listeners.append(self.seams.http.listener(app, listen.host, port, tls, name=kind))
        for listener in self._listeners:
            await listener.start()

    def _gate(self) -> Gate:
        state = self.state
        if isinstance(state, Alone):
            return SystemsGate(open_mode=self.config.listen.open)
        verifier = TokenVerifier(state.region.home_community_id, self.clock, state.jwks)
        state.on_change(lambda: verifier.replace_keys(state.jwks))
        return Authenticator(
            verifier,
            code=lambda: self.code,
            home_community_id=lambda: state.region.home_community_id,
            open_mode=self.config.listen.open,
        )

    def _web(self, kind: ListenerKind, gate: Gate) -> web.Application:
        renderers = soap.renderers(ErrorRenderers(), sender_400=self.config.serve.soap_sender_faults_400)
        app = web.Application(
            middlewares=[problems(renderers, self.ids, credentials=self._credentials_from(kind)), gate.middleware(kind)],
            client_max_size=1 << 20,
        )
        app.add_routes(dicomweb.routes(self._serve))
        cors.install(app, self._serve)
        app.add_routes(health.routes(self.ready, self.gauges))
        if kind == "systems" or self.config.listen.open:
            app.add_routes(soap.routes(self._serve, self.publisher))
        return app

    def _credentials_from(self, kind: ListenerKind) -> str:
        """What a caller without credentials is told."""
        if isinstance(self.state, Alone):
            return "Nobody issues access tokens for this node; systems come with a client certificate to its systems listener."
        if kind == "people":
            return "The region's operator issues bearer tokens (crosslight-registry token)."
        return "The region's operator issues client certificates (crosslight-registry system)."

    # --- while it runs ---------------------------------------------------------------------------------------------

    async def _tidy(self) -> None:
        while True:
            await self.clock.sleep(TIDY_EVERY_S)
            try:
                await self.archive.tidy()
            except Exception:
                log.exception("tidying failed")

    async def _follow_link(self) -> None:
        suspended = False
        seen: SeenLink | None = None
        while True:
            await self.clock.sleep(LOOK_EVERY_S)
            if (current := SeenLink.of(self.link.status)) != seen and not isinstance(self.state, Alone):
                seen = current
                with suppress(OSError):  # only `status` reads it
                    write_seen(self.folder, seen, self.files)
            now = self.link.status.suspended is not None
            if now:
                self._serve.release.cut()  # each time: what was let go just before is on its way by now
            if now != suspended:
                suspended = now
                if now:
                    self.publisher.suspend(self.link.status.suspended or "suspended")
                else:
                    self.publisher.resume()

    # --- what others are told --------------------------------------------------------------------------------------

    async def status(self) -> NodeStatus:
        """For heartbeats."""
        published, archived = await self.publisher.status(), await self.archive.status()
        return NodeStatus(
            epoch=published.epoch,
            acked_n=published.acked_n,
            waiting=published.waiting,
            parked=published.parked,
            quarantined=archived.quarantined,
            filling=published.filling,
            indexed_from=published.indexed_from,
            census=published.census,
            census_at=self.clock.now(),
            concern=await self.publisher.concern(published),
        )

    async def ready(self) -> tuple[bool, dict[str, Any]]:
        """Whether images are taken in and given out now; the link is told (None: there is no such thing), not required.

        A clock that is off beyond the limit stops every retrieve (D22), so the node is not ready.
        """
        published, archived = await self.publisher.status(), await self.archive.status()
        link = self.link.status
        skew_s, right = link.skew_ms / 1000, self._clock_right()
        return archived.accepting and right, {
            "code": self.code,
            "version": __version__,
            "accepting": archived.accepting,
            "linked": None if isinstance(self.state, Alone) else link.connected,
            "suspended": link.suspended is not None,
            "waiting": published.waiting,
            "parked": published.parked,
            "quarantined": archived.quarantined,
            "held_up": published.held_up,
            "clock": "ok" if right else f"wrong by {skew_s:+.0f} s: images are not given out",
        }

    def _clock_right(self) -> bool:
        """Whether this clock agrees with the registry's within the limit; without a link nobody can say."""
        return not self.link.status.connected or abs(self.link.status.skew_ms) <= self.config.serve.max_clock_skew_s * 1000

    async def gauges(self) -> list[Gauge]:
        """Metrics."""
        published, archived = await self.publisher.status(), await self.archive.status()
        unread, _ = await self.publisher.store.unread_numbers(0)
        found = [
            Gauge("crosslight_node_studies", "Studies held.", archived.studies),
            Gauge("crosslight_node_instances", "Instances held and visible.", archived.instances),
            Gauge("crosslight_node_instances_hidden", "Instances hidden by rejection notes.", archived.hidden),
            Gauge("crosslight_node_object_bytes", "Bytes of objects.", archived.object_bytes),
            Gauge("crosslight_node_free_bytes", "Bytes free on the archive's disk.", archived.free_bytes),
            Gauge("crosslight_node_quarantined", "Objects in quarantine.", archived.quarantined),
            Gauge("crosslight_node_waiting", "Studies waiting to be acknowledged by the registry.", published.waiting),
            Gauge("crosslight_node_parked", "Studies refused for good; an operator is needed.", published.parked),
            Gauge("crosslight_node_numbers_unreadable", "Studies whose patient has a national number that is none.", unread),
        ]
        if not isinstance(self.state, Alone):
            link = self.link.status
            found += [
                Gauge("crosslight_node_linked", "1 while linked to the registry.", float(link.connected)),
                Gauge("crosslight_node_clock_skew_seconds", "This clock minus the registry's.", link.skew_ms / 1000),
            ]
        if not self.config.listen.open:
            left = (self.state.credentials.expires() - self.clock.now()).total_seconds()
            found.append(Gauge("crosslight_node_certificate_seconds", "Life left of the node's certificate.", left))
        if (dimse := getattr(self, "dimse", None)) is not None:
            objects: dict[tuple[str, ...], float] = {(k,): float(v) for k, v in dimse.objects.items()}
            found.append(Total("crosslight_node_dimse_objects", "Objects by C-STORE outcome.", objects, ("outcome",)))
        return found
