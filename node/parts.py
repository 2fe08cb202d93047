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
from crosslight.runtime.clock import Clock
from crosslight.runtime.db import EmbeddedDb
from crosslight.runtime.outside_certificate import OutsideCertificate, outside_certificate
from crosslight.runtime.refusals import Refusals
from crosslight.runtime.seams import Seams
from crosslight.runtime.shares import Shares
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.membership import Endpoints
from node.archive.archive import Archive
from node.config import ListenConfig, NodeConfig
from node.dimse.accounts import Accounts
from node.dimse.callers import Callers
from node.dimse.listener import DimseListener
from node.dimse.services import all_services
from node.holdings import Holdings
from node.membership.membership import Connection, Membership
from node.membership.model import EpochGrant, HelloFacts, NodeStatus
from node.publish.build import build_publisher
from node.publish.publisher import Publisher
from node.publish.reread import Rereader
from node.serve import soap
from node.serve.authenticate import Gate
from node.serve.context import ServeContext
from node.serve.patients import PatientsOf
from node.serve.release import Policy, Release, no_policy


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What every part stands on."""

    seams: Seams
    folder: Path
    config: NodeConfig
    membership: Membership
    db: EmbeddedDb
    audit: AuditLog
    refusals: Refusals
    people_certificate: OutsideCertificate | None = None  # of an outside authority, where there is one

    @property
    def open_mode(self) -> bool:
        """Whether there is neither TLS nor authentication."""
        return self.config.listen.open

    @property
    def endpoints(self) -> Endpoints:
        """Where this node's faces are, as others reach them."""
        return endpoints(self.config, self.membership.code)


@dataclass(frozen=True, slots=True, kw_only=True)
class PublicationParts:
    """What tells the registry, and what the node says on its link."""

    connection: Connection
    publisher: Publisher
    voice: Voice


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All of a node."""

    ground: Ground
    archive: Archive
    publication: PublicationParts
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


def make_ground(
    seams: Seams, folder: Path, config: NodeConfig, membership: Membership, db: EmbeddedDb, audit: AuditLog
) -> Ground:
    """What every part stands on."""
    return Ground(
        seams=seams,
        folder=folder,
        config=config,
        membership=membership,
        db=db,
        audit=audit,
        refusals=Refusals(audit, seams.clock, seams.ids, config.refusals),
        people_certificate=people_certificate(folder, config.listen, seams.clock),
    )


def people_certificate(folder: Path, listen: ListenConfig, clock: Clock) -> OutsideCertificate | None:
    """The people's certificate of an outside authority, where the configuration names one."""
    if listen.open:
        return None
    return outside_certificate(folder, listen.people_certificate, listen.people_key, clock)


def make_archive(
    seams: Seams, folder: Path, config: NodeConfig, membership: Membership | None, db: EmbeddedDb
) -> Archive:
    """What is held, read by the rules of configuration and region."""
    archive = Archive(
        db, folder / "archive", seams.files, seams.clock, seams.ids, seams.workers, config.archive
    )
    archive.rules = rules_of(config, membership)
    return archive


def rules_of(config: NodeConfig, membership: Membership | None) -> RecordRules:
    """How records of studies are made; ``membership`` is None before the node has joined a region."""
    if membership is None:
        return config.archive.rules()
    return config.archive.rules(membership.member, membership.region)


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

    async def welcomed(self, grant: EpochGrant) -> None:
        """An epoch was granted, and the link is up."""
        await self._publisher.on_welcome(grant)
        self._publisher.link_up()

    async def reconcile(self, why: str) -> None:
        """A comparison is wanted."""
        await self._publisher.on_reconcile(why)


async def make_publication(ground: Ground, archive: Archive) -> PublicationParts:
    """What tells the registry."""
    membership, at = ground.membership, ground.endpoints
    connection = membership.connection(at, ground.seams, f"crosslight {__version__}")
    publisher = await build_publisher(
        ground.config.publish,
        ground.db,
        archive,
        ground.seams,
        membership=membership,
        roads=connection.roads,
        endpoints=at,
    )
    return PublicationParts(
        connection=connection, publisher=publisher, voice=Voice(ground, archive, publisher)
    )


def make_rereader(ground: Ground, archive: Archive, publisher: Publisher) -> Rereader:
    """Makes records anew when the rules have changed."""
    return Rereader(
        archive, publisher.store, lambda: archive.rules, ground.seams.clock, on_begin=publisher.unpark
    )


def make_serve(
    ground: Ground, holdings: Holdings, connection: Connection, policy: Policy = no_policy
) -> ServeContext:
    """What is given out, and who decides that; ``policy`` is the trust's own rule."""
    membership, config = ground.membership, ground.config.serve
    release = Release(
        ground.audit,
        policy=policy,
        code=lambda: membership.code,
        suspended=lambda: connection.status.suspended is not None or membership.suspended,
        skew_s=lambda: connection.status.skew_ms / 1000 if connection.status.connected else None,
        patients_of=PatientsOf(holdings),
        max_skew_s=config.max_clock_skew_s,
        sending=Shares("retrieves", config.sending()),
    )
    return ServeContext(
        holdings=holdings,
        release=release,
        workers=ground.seams.workers,
        ids=ground.seams.ids,
        files=ground.seams.files,
        spool=ground.folder / "spool",
        config=config,
        retrieve_location_uid=lambda: membership.member.retrieve_location_uid,
        repository_unique_id=lambda: membership.member.repository_unique_id,
        send_stall_s=ground.config.connections.send_stall_s,
    )


def make_gate(ground: Ground) -> Gate:
    """Who may ask."""
    return ground.membership.gate(ground.seams.clock)


def make_dimse(ground: Ground, archive: Archive) -> DimseListener | None:
    """What comes in by DICOM; None where nothing may."""
    config, seams = ground.config.dimse, ground.seams
    if not config.enabled:
        return None
    return DimseListener(
        config,
        all_services(archive, config),
        Callers(config, ground.membership.code, anybody=ground.open_mode),
        Accounts(ground.audit, seams.ids, archive.patients, ground.refusals.note),
        seams.workers,
        base=ground.folder,
        certified=ground.membership.certified(seams.clock),
    )
