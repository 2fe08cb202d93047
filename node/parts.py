"""The parts of a node, each made here and nowhere else, from those before it.

The order::

    Ground            what every part stands on: seams, folder, configuration, databases, audit
    make_archive      what is held
    make_sources      what is held by others, and given out here
    make_publication  what the region is told of it: link, care of the certificate, publisher
    make_serve        what is given out
    make_gate         who may ask
    make_dimse        what comes in by DICOM
    make_announcer    what systems of the trust are told of what lies here
    make_continuity   what the region said of patients with an order here

``app.py`` makes all of them and gives them life; a command or a test makes those that it needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from crosslight import __version__
from crosslight.runtime.audit import AuditLog
from crosslight.runtime.clock import Clock
from crosslight.runtime.db import EmbeddedDb
from crosslight.runtime.object_store import check_bucket, opened_bucket
from crosslight.runtime.outside_certificate import OutsideCertificate, outside_certificate
from crosslight.runtime.refusals import Refusals
from crosslight.runtime.seams import Seams
from crosslight.runtime.shares import Shares
from crosslight.standards.dicom.record.rules import RecordRules
from crosslight.standards.membership import Endpoints
from crosslight.standards.problem import ConfigError
from node.announce.announcer import AnnouncedAs, Announcer
from node.announce.store import AnnounceStore
from node.archive.archive import Archive
from node.archive.bucket import Bucket
from node.archive.config import ObjectStoreConfig
from node.care import ArchiveCare
from node.commitment.store import CommitmentStore
from node.config import ListenConfig, NodeConfig
from node.continuity.continuity import Continuity
from node.dimse.accounts import Accounts
from node.dimse.callers import Callers
from node.dimse.listener import DimseListener
from node.dimse.on_loop import OnLoop
from node.dimse.outgoing import associate, peers_of
from node.dimse.services import giving_services, hearing_services, taking_services
from node.dimse.way_out import WayOut
from node.holdings import Holdings
from node.membership.membership import Connection, Membership
from node.membership.model import EpochGrant, HelloFacts, NodeStatus
from node.publish.build import build_publisher
from node.publish.publisher import Publisher
from node.publish.reread import Rereader
from node.serve import soap
from node.serve.authenticate import Gate
from node.serve.bandwidth import Bandwidth
from node.serve.context import ServeContext
from node.serve.patients import PatientsOf
from node.serve.release import Policy, Release, no_policy
from node.serve.sent_objects import SentObjects
from node.sources.sources import OwnTitle, Sources, senders


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
    care: ArchiveCare
    publication: PublicationParts
    rereader: Rereader
    sources: Sources
    serve: ServeContext
    gate: Gate
    dimse: DimseListener | None = field(default=None)
    continuity: Continuity | None = field(default=None)
    announcer: Announcer | None = field(default=None)


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
    """What is held, read by the rules of configuration and region.

    Raises:
        ConfigError: a retention rule waits for whom nothing can be sent to.
    """
    bucket = make_bucket(config.archive.object_store, folder)
    archive = Archive(
        db, folder / "archive", seams.files, seams.clock, seams.ids, seams.workers, config.archive, bucket
    )
    archive.rules = rules_of(config, membership)
    destinations = {there.ae_title.strip() for there in config.dimse.destinations}
    for rule in config.archive.retention:
        if rule.committed_to and rule.committed_to not in destinations:
            raise ConfigError(
                f"The retention rule {rule.name} waits for {rule.committed_to}, which is no destination.",
                todo="Name it in [[dimse.destinations]].",
                where="archive.retention.committed_to",
            )
    archive.retention.committed = CommitmentStore.committed_tx
    return archive


def make_bucket(config: ObjectStoreConfig, folder: Path) -> Bucket | None:
    """Where the archive's objects go once they are on the disk; None: nowhere.

    Raises:
        ConfigError: it cannot be used.
    """
    if not config.url:
        return None
    check_bucket(config, "archive.object_store")
    return Bucket(opened_bucket(config, folder, "archive.object_store"), config.url)


def make_sources(ground: Ground, archive: Archive) -> Sources:
    """The archives of others beside which this node stands; what they have becomes the archive's rows."""
    own = OwnTitle(
        config=ground.config.dimse, ae_title=Callers(ground.config.dimse, ground.membership.code).ae_title
    )
    sources = Sources(ground.config.sources, ground.folder, ground.db, archive.elsewhere, ground.seams, own)
    archive.elsewhere.behind = lambda: sources.behind
    return sources


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
        """For a heartbeat: what was answered a moment ago waits too (its row is there first, ADR 0051)."""
        archived = await self._archive.status()
        published = await self._publisher.status()
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
    bandwidth = Bandwidth(
        config.caps, config.while_storing_mbit_s, ground.seams.clock, lambda: membership.code
    )
    holdings.on_change(bandwidth.stored)
    return ServeContext(
        holdings=holdings,
        bandwidth=bandwidth,
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


def make_dimse(
    ground: Ground,
    archive: Archive,
    serve: ServeContext,
    sources: Sources,
    commitments: CommitmentStore,
) -> DimseListener | None:
    """What comes in by DICOM, and leaves by it; None where nothing may.

    What is expected of the ``sources`` does not enter the archive.
    """
    config, seams = ground.config.dimse, ground.seams
    config = replace(config, callers=(*config.callers, *senders(ground.config.sources)))
    if not config.enabled:
        return None
    callers = Callers(config, ground.membership.code, anybody=ground.open_mode)
    way_out = WayOut(
        on_loop=OnLoop(),
        holdings=archive,
        act=serve.release.device_act,
        rendering=SentObjects(serve),
    )
    peers = peers_of(config, ground.folder)
    return DimseListener(
        config,
        (
            *taking_services(archive, config, sources.expected),
            *hearing_services(way_out.on_loop, sources.notices, commitments),
            *giving_services(way_out, config, callers.ae_title, peers, seams.clock),
        ),
        callers,
        Accounts(ground.audit, seams.ids, archive.patients, ground.refusals.note),
        seams.workers,
        base=ground.folder,
        certified=ground.membership.certified(seams.clock),
    )


def make_announcer(ground: Ground, archive: Archive) -> Announcer | None:
    """What systems of the trust are told of what lies here; None where nobody is, or nobody could fetch it.

    Raises:
        ConfigError: a certificate cannot be read.
    """
    config, code = ground.config.dimse, ground.membership.code
    titles = {there.ae_title.strip() for there in config.destinations if there.notify}
    if not config.enabled or not titles:
        return None
    peers = [peer for title, peer in peers_of(config, ground.folder).items() if title in titles]
    own = Callers(config, code).ae_title
    return Announcer(
        AnnounceStore(ground.db),
        archive,
        ground.audit,
        ground.seams,
        AnnouncedAs(organisation=code, ae_title=own, quiet_s=config.notify_after_s),
        peers,
        partial(associate, calling=own),
    )


def make_continuity(ground: Ground, connection: Connection) -> Continuity | None:
    """What the region said of patients with an order here; None where that is not kept.

    Raises:
        ConfigError: nobody may send orders, or the registry is not ours.
    """
    if not ground.config.continuity.enabled:
        return None
    return Continuity(
        ground.config.continuity,
        ground.folder,
        ground.seams,
        ground.membership,
        connection.roads,
        secured=not ground.open_mode,
        noted=ground.refusals.note,
    )
