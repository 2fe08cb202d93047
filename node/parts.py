"""The parts of a node, each made here and nowhere else, from those before it.

The order::

    Ground            what every part stands on: seams, folder, configuration, databases, audit
    make_archive      what is held
    make_publication  what the region is told of it: link, care of the certificate, publisher
    make_serve        what is given out
    make_gate         who may ask
    make_dimse        what comes in by DICOM

``app.py`` makes all of them and gives them life; a command or a test makes those that it needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from crosslight import __version__
from crosslight.runtime.audit import AuditLog
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.seams import Seams
from crosslight.runtime.tokens import TokenVerifier
from crosslight.standards.membership import Endpoints
from node.archive.archive import Archive
from node.config import NodeConfig
from node.dimse.accounts import Accounts
from node.dimse.callers import Callers
from node.dimse.listener import DimseListener
from node.dimse.services import all_services
from node.membership.independent import Alone, CertificateWatch, NoLink
from node.membership.joined import RegionState
from node.membership.link import Link
from node.membership.model import Grant, HelloFacts, NodeStatus
from node.membership.renewal import Renewal
from node.membership.standing import Standing, record_rules
from node.publish.build import build_foreign_publisher, build_publisher, own_secret
from node.publish.publisher import Publisher
from node.publish.reread import Rereader
from node.serve import soap
from node.serve.authenticate import Authenticator, Gate
from node.serve.context import ServeContext
from node.serve.patients import PatientsOf
from node.serve.release import Release
from node.serve.systems import SystemsGate


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What every part stands on."""

    seams: Seams
    folder: Path
    config: NodeConfig
    state: Standing
    db: SqliteDb
    audit: AuditLog

    @property
    def open_mode(self) -> bool:
        """Whether there is neither TLS nor authentication."""
        return self.config.listen.open

    @property
    def endpoints(self) -> Endpoints:
        """Where this node's faces are, as others reach them."""
        return endpoints(self.config, self.state.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """What tells the region: alone before a foreign registry there is no link, and certificates are renewed by others."""

    link: Link | NoLink
    renewal: Renewal | CertificateWatch
    publisher: Publisher


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All of a node."""

    ground: Ground
    archive: Archive
    publication: Publication
    rereader: Rereader
    serve: ServeContext
    gate: Gate
    dimse: DimseListener | None = field(default=None)


def endpoints(config: NodeConfig, code: str) -> Endpoints:
    """Where the faces of the node ``code`` are, as others reach them."""
    listen, dimse = config.listen, config.dimse
    scheme = "http" if listen.open else "https"
    systems = f"{scheme}://{listen.public_host}:{listen.systems_port}"
    return Endpoints(
        base=f"{scheme}://{listen.public_host}:{listen.people_port}",
        systems=systems,
        dicomweb=f"{systems}/dicomweb",
        rad69=f"{systems}{soap.RAD69}",
        xds_repository=f"{systems}{soap.REPOSITORY}",
        aet=(dimse.ae_title or code)[:16] if dimse.enabled else "",
        dimse=f"{listen.public_host}:{dimse.port}" if dimse.enabled else "",
    )


def make_archive(seams: Seams, folder: Path, config: NodeConfig, state: Standing | None, db: SqliteDb) -> Archive:
    """What is held, read by the rules of configuration and region; ``state`` is None before the node has joined one."""
    archive = Archive(db, folder / "archive", seams.files, seams.clock, seams.ids, seams.workers, config.archive)
    if state is not None:
        archive.rules = record_rules(config, state)
    return archive


class Voice:
    """What the node says on its link: of its publisher and its archive."""

    def __init__(self, ground: Ground, archive: Archive, publisher: Publisher) -> None:
        self._clock, self._archive, self._publisher = ground.seams.clock, archive, publisher

    async def hello(self) -> HelloFacts:
        """What the publisher remembers."""
        return await self._publisher.hello()

    async def status(self) -> NodeStatus:
        """For a heartbeat."""
        published, archived = await self._publisher.status(), await self._archive.status()
        return NodeStatus(
            epoch=published.epoch,
            acked_n=published.acked_n,
            waiting=published.waiting,
            parked=published.parked,
            quarantined=archived.quarantined,
            filling=published.filling,
            indexed_from=published.indexed_from,
            census=published.census,
            census_at=self._clock.now(),
            concern=await self._publisher.concern(published),
        )

    async def welcomed(self, grant: Grant) -> None:
        """An epoch was granted, and the link is up."""
        await self._publisher.on_welcome(grant)
        self._publisher.link_up()

    async def reconcile(self, why: str) -> None:
        """A comparison is wanted."""
        await self._publisher.on_reconcile(why)


async def make_publication(ground: Ground, archive: Archive) -> Publication:
    """What tells the region."""
    seams, config, state = ground.seams, ground.config, ground.state
    rooms = (config.publish, ground.db, archive, seams)
    if isinstance(state, Alone):
        secret = await own_secret(ground.db, seams.ids)
        publisher = build_foreign_publisher(*rooms, state=state, secret=secret, endpoints=ground.endpoints)
        return Publication(link=NoLink(), renewal=CertificateWatch(state, seams.clock), publisher=publisher)
    link = Link(
        state, config.region, seams,
        endpoints=ground.endpoints, open_mode=ground.open_mode, software=f"crosslight {__version__}",
    )  # fmt: skip
    publisher = build_publisher(*rooms, state=state, link=link, endpoints=ground.endpoints, open_mode=ground.open_mode)
    link.speaker = Voice(ground, archive, publisher)
    return Publication(link=link, renewal=Renewal(state, link, seams.clock, seams.ids), publisher=publisher)


def make_rereader(ground: Ground, archive: Archive, publisher: Publisher) -> Rereader:
    """Makes records anew when the rules have changed."""
    return Rereader(archive, publisher.store, lambda: archive.rules, ground.seams.clock, on_begin=publisher.unpark)


def make_serve(ground: Ground, archive: Archive, link: Link | NoLink) -> ServeContext:
    """What is given out, and who decides that."""
    state, config = ground.state, ground.config.serve
    release = Release(
        ground.audit,
        suspended=lambda: link.status.suspended is not None or state.suspended(state.code),
        skew_s=lambda: link.status.skew_ms / 1000 if link.status.connected else None,
        patients_of=PatientsOf(archive),
        max_skew_s=config.max_clock_skew_s,
    )
    return ServeContext(
        holdings=archive,
        release=release,
        workers=ground.seams.workers,
        ids=ground.seams.ids,
        spool=ground.folder / "spool",
        config=config,
        retrieve_location_uid=lambda: state.member.retrieve_location_uid,
        repository_unique_id=lambda: state.member.repository_unique_id,
    )


def make_gate(ground: Ground) -> Gate:
    """Who may ask: by the region's tokens and certificates, or by those of the configured authority."""
    state = ground.state
    if isinstance(state, Alone):
        return SystemsGate(open_mode=ground.open_mode)
    return _members_gate(ground, state)


def _members_gate(ground: Ground, state: RegionState) -> Gate:
    verifier = TokenVerifier(state.region.home_community_id, ground.seams.clock, state.jwks)
    state.on_change(lambda: verifier.replace_keys(state.jwks))
    return Authenticator(
        verifier,
        code=lambda: state.code,
        home_community_id=lambda: state.region.home_community_id,
        open_mode=ground.open_mode,
    )


def make_dimse(ground: Ground, archive: Archive) -> DimseListener | None:
    """What comes in by DICOM; None where nothing may."""
    config, seams = ground.config.dimse, ground.seams
    if not config.enabled:
        return None
    return DimseListener(
        config,
        all_services(archive, config),
        Callers(config, ground.state.code, anybody=ground.open_mode),
        Accounts(ground.audit, seams.ids, archive.patients),
        seams.workers,
        base=ground.folder,
    )
