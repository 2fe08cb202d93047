"""The parts of a registry, each made here and nowhere else, from the floor beneath it.

The order of floors::

    open_ground    databases, audit                    ground
    make_members   who belongs to the region           members
    make_waists    every submission, every question    waists      (opened before the faces are made: they
    share its key) make_access    who may come in                     access
    make_retrieves members called: images, detail      retrieves
    make_faces     what answers                        faces

``app.py`` makes all of them and gives them life; a command or a test makes as many floors as it needs, and
may put another ``Directory`` in the place of the members.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from crosslight import __version__
from crosslight.runtime.audit import AuditLog
from crosslight.runtime.db import Db
from crosslight.runtime.outside_certificate import OutsideCertificate, outside_certificate
from crosslight.runtime.refusals import Refusals
from crosslight.runtime.seams import Seams
from crosslight.runtime.soap.endpoint import SoapEndpoint
from crosslight.runtime.soap.server import MAX_QUERY_BYTES, MAX_SUBMISSION_BYTES
from crosslight.runtime.tls import Identity
from crosslight.runtime.tokens import TokenSigner
from crosslight.runtime.waiting import Backoff, Subscribers
from crosslight.standards.region import Region
from crosslight.standards.xds.mapping.values import ValueSets, type_code
from registry.access.access import Access
from registry.ask.ask import Ask
from registry.ask.permit_store import PermitStore
from registry.ask.permits import Permits
from registry.config import RegistryConfig
from registry.dicomweb.face import DicomwebFace
from registry.enrich.completion import Completion
from registry.enrich.enricher import Enricher
from registry.fhir.face import FhirFace
from registry.gateway.forward import Gateway
from registry.gateway.unbroken import Unbroken
from registry.identity.store import IdentityStore
from registry.ihe import iti18, iti42, iti43, iti57, iti62, rad69
from registry.ihe.admission import Admission, Arriving
from registry.ihe.iti8 import AdtFeed
from registry.ihe.retrieve_merge import RetrieveMerge
from registry.index.change_follower import Follower
from registry.index.model import Change
from registry.index.store import IndexStore
from registry.intake.accept import Acceptor
from registry.intake.patients import PatientIntake
from registry.members.connections import LiveConnections
from registry.members.model import Directory, Member
from registry.members.service import MemberService
from registry.officer.decisions import IdentityDecisions
from registry.portal.face import Portal
from registry.portal.shell import PortalContext
from registry.reach.members import Reach
from registry.reach.prober import Prober
from registry.reach.sessions import MemberSessions
from registry.reach.tunnels import Tunnels

MemberTls = Callable[[Member], ssl.SSLContext | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """What every floor stands on."""

    seams: Seams
    config: RegistryConfig
    region: Region
    db: Db
    audit: AuditLog
    refusals: Refusals
    people_certificate: OutsideCertificate | None = None  # of an outside authority, where there is one

    @property
    def open_mode(self) -> bool:
        """Whether there is neither TLS nor sign-in."""
        return self.config.listen.open


@dataclass(frozen=True, slots=True, kw_only=True)
class Waists:
    """Index and persons, and the two ways to them. Neither is anything before :meth:`open`.

    Attributes:
        changed: Told of the changes of each commit.
        follower: Reads the change feed, and tells those that follow it.
    """

    index: IndexStore
    identity: IdentityStore
    ask: Ask
    acceptor: Acceptor
    patients: PatientIntake
    changed: Subscribers[Sequence[Change]]
    follower: Follower

    async def open(self) -> None:
        """Create or upgrade the tables; read what every process shares."""
        await self.identity.open()
        await self.index.open()
        await self.ask.permits.open()


@dataclass(frozen=True, slots=True, kw_only=True)
class Retrieves:
    """What calls members."""

    tunnels: Tunnels
    sessions: MemberSessions
    prober: Prober
    reach: Reach
    gateway: Gateway
    completion: Completion
    enricher: Enricher


@dataclass(frozen=True, slots=True, kw_only=True)
class Faces:
    """What answers."""

    fhir: FhirFace
    dicomweb: DicomwebFace
    portal: Portal
    registry: SoapEndpoint
    retrieve: SoapEndpoint
    adt: AdtFeed


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """All of a registry."""

    ground: Ground
    members: MemberService
    waists: Waists
    access: Access
    retrieves: Retrieves
    faces: Faces
    audit_db: Db = field(repr=False)
    audit_protected: bool


def make_ground(
    seams: Seams, config: RegistryConfig, db: Db, audit_db: Db, region: Region | None = None
) -> Ground:
    """What every floor stands on; the audit is not open yet. ``region``: if not the configuration's."""
    audit = AuditLog(audit_db, seams.clock)
    return Ground(
        seams=seams,
        config=config,
        region=region or config.region.region(),
        db=db,
        audit=audit,
        refusals=Refusals(audit, seams.clock, seams.ids, config.refusals),
    )


def people_certificate(ground: Ground, folder: Path) -> OutsideCertificate | None:
    """The people's certificate of an outside authority, where the configuration names one."""
    listen = ground.config.listen
    if listen.open:
        return None
    return outside_certificate(folder, listen.people_certificate, listen.people_key, ground.seams.clock)


def make_members(ground: Ground, folder: Path) -> MemberService:
    """Who belongs to the region; keys and certificates are in ``folder``."""
    config = ground.config
    return MemberService(
        ground.db,
        ground.seams,
        ground.region,
        folder,
        config.members,
        ground.audit,
        open_mode=ground.open_mode,
        public_host=config.listen.public_host,
    )


def make_waists(ground: Ground, directory: Directory) -> Waists:
    """Index, persons, and what stands before them."""
    db, clock, ids, region = ground.db, ground.seams.clock, ground.seams.ids, ground.region
    index = IndexStore(db, directory, clock, ids)
    identity = IdentityStore(
        db, region, ids, ground.config.identity.rules(), index.read.headers_of, index.moved
    )
    changed: Subscribers[Sequence[Change]] = Subscribers()
    permits = Permits(PermitStore(db), ground.config.ask, clock)
    ask = Ask(db, index, identity, directory, ground.audit, clock, region, permits)
    follower = Follower(index.changes, clock, ground.config.changes, identity.person_keys_tx)
    follower.tell(ask.glances.changed, ask.glances.forget)
    changed.add(lambda changes: follower.wake())
    return Waists(
        index=index,
        identity=identity,
        ask=ask,
        acceptor=Acceptor(db, index, identity, directory, clock, ids, region, on_change=changed),
        patients=PatientIntake(identity, ground.audit, directory, region, clock),
        changed=changed,
        follower=follower,
    )


def make_access(ground: Ground, folder: Path, people_url: str, members: MemberService) -> Access:
    """Sign-in, sessions, tokens."""
    seams, config = ground.seams, ground.config
    return Access(
        ground.db,
        folder,
        people_url,
        config.access,
        members,
        ground.audit,
        seams,
        name=config.portal.service_name,
    )


def member_tls(members: MemberService) -> MemberTls:
    """How a member is called.

    By mutual TLS that expects the member's own certificate, or plain where all is.
    """

    def tls(member: Member) -> ssl.SSLContext | None:
        if members.open_mode or members.own.gateway is None:
            return None
        if member.status == "foreign":  # known by its host name, under the region's authority
            return members.own.gateway.client()
        return members.own.gateway.client(Identity("member", member.code, members.region.home_community_id))

    return tls


def make_retrieves(
    ground: Ground,
    waists: Waists,
    directory: Directory,
    signer: TokenSigner,
    tls: MemberTls,
    live: LiveConnections,
) -> Retrieves:
    """What calls members. The enricher follows what changes in the index."""
    seams, config = ground.seams, ground.config
    tunnels = Tunnels(seams.clock, seams.ids, config.gateway, live)
    sessions = MemberSessions(
        config.gateway,
        seams.http,
        tls,
        signer.presenter,
        own_machine=ground.open_mode or config.members.loopback,
        tunnels=tunnels,
    )
    reach = Reach(directory, signer, sessions, config.gateway, seams.ids, live, seams.workers)
    completion = Completion(
        waists.index,
        waists.acceptor,
        reach,
        ground.audit,
        seams.workers,
        seams.ids,
        ground.region,
        config.enrich,
    )
    enricher = Enricher(waists.index, directory, completion, seams, config.enrich)
    waists.follower.tell(enricher.changed, enricher.members_changed)
    resumed = Backoff(0.25, 4.0, seams.draw, least=0.5)
    gateway = Gateway(reach, Unbroken(seams.clock, resumed, config.gateway.resume_s))
    return Retrieves(
        tunnels=tunnels,
        sessions=sessions,
        prober=Prober(directory, sessions, tunnels, config.gateway, seams.clock),
        reach=reach,
        gateway=gateway,
        completion=completion,
        enricher=enricher,
    )


def make_faces(
    ground: Ground, waists: Waists, retrieves: Retrieves, directory: Directory, foreign: Arriving
) -> Faces:
    """What answers. ``waists`` is open.

    Args:
        foreign: Whose a repository is that is no member's.
    """
    clock, ids, config, key = ground.seams.clock, ground.seams.ids, ground.config, waists.index.region_key
    return Faces(
        fhir=FhirFace(
            waists.ask,
            directory,
            key=key,
            seams=ground.seams,
            config=config.fhir,
            version=__version__,
            secured=not ground.open_mode,
        ),
        dicomweb=DicomwebFace(
            waists.ask, directory, retrieves.gateway, config.dicomweb, ground.seams.workers
        ),
        portal=Portal(
            PortalContext(
                ask=waists.ask,
                directory=directory,
                key=key,
                clock=clock,
                ids=ids,
                config=config.portal,
                open_mode=ground.open_mode,
                decisions=make_decisions(ground, waists, directory),
                workers=ground.seams.workers,
            )
        ),
        registry=make_registry(ground, waists, directory, foreign),
        retrieve=make_retrieve(ground, waists, retrieves.reach),
        adt=AdtFeed(
            waists.patients,
            directory,
            ground.region,
            clock,
            ids,
            open_mode=ground.open_mode,
            noted=ground.refusals.note,
        ),
    )


def make_decisions(ground: Ground, waists: Waists, directory: Directory) -> IdentityDecisions:
    """The identity officer's room."""
    seams = ground.seams
    return IdentityDecisions(ground.db, waists.identity, waists.index, directory, ground.audit, seams.clock)


def make_registry(ground: Ground, waists: Waists, directory: Directory, foreign: Arriving) -> SoapEndpoint:
    """ITI-18, 42, 57 and 62."""
    xds, region, ids = ground.config.xds, ground.region, ground.seams.ids
    admission = Admission(directory, foreign, ground.audit, waists.ask)
    own_types = frozenset(type_code(row.type_code).key for row in region.procedure_codes if row.type_code)
    values = ValueSets(check=xds.check_codes and not ground.open_mode, type_codes=own_types)
    transactions = (
        iti18.RegistryStoredQuery(
            waists.ask, region, warn=xds.warn, quiet=frozenset(xds.quiet_for), workers=ground.seams.workers
        ),
        iti42.RegisterDocumentSet(waists.acceptor, admission, ids, region, values),
        iti57.UpdateDocumentSet(waists.acceptor, admission),
        iti62.RemoveMetadata(waists.acceptor, admission),
    )
    return SoapEndpoint(transactions, max_bytes=MAX_SUBMISSION_BYTES, workers=ground.seams.workers)


def make_retrieve(ground: Ground, waists: Waists, reach: Reach) -> SoapEndpoint:
    """ITI-43 and RAD-69 for all members."""
    merge = RetrieveMerge(waists.ask, reach, ground.config.gateway.max_documents)
    transactions = iti43.RetrieveDocumentSet(merge), rad69.RetrieveImagingDocumentSet(merge)
    return SoapEndpoint(transactions, max_bytes=MAX_QUERY_BYTES, workers=ground.seams.workers)
