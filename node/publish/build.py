"""Puts the parts of publication together for a node: to the registry it has joined, or to a foreign one (D18)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.files import Files
from crosslight.runtime.http import client_session
from crosslight.runtime.mllp import MllpClient
from crosslight.runtime.soap import SoapClient
from crosslight.runtime.tls import Identity as TlsIdentity
from crosslight.runtime.tls import client_context
from crosslight.runtime.workers import Workers
from crosslight.standards.ids import Identifier, Oid, is_uid
from crosslight.standards.problem import ConfigError
from crosslight.standards.study import Patient
from crosslight.standards.xds.publication import Source
from node.publish.config import ForeignRegistryConfig, PublishConfig
from node.publish.grpc_road import GrpcRoad
from node.publish.model import Identity
from node.publish.outbox_store import OutboxStore
from node.publish.publisher import Comparer, Publisher
from node.publish.revise import ArchivePort, Retrieval
from node.publish.road import Road
from node.publish.soap_road import SoapRoad
from node.publish.store import PublishStore
from node.publish.xds_wire import XdsWire
from node.region.link import Link
from node.region.model import Addresses
from node.region.state import RegionState

DESTINATION = "region"  # of the outbox: the registry joined
FOREIGN = "xds"  # of the outbox: a foreign registry
REGISTRY_PATH = "/xds/registry"  # of our registry's SOAP transactions, below its systems listener


def build_publisher(
    config: PublishConfig,
    db: SqliteDb,
    archive: ArchivePort,
    workers: Workers,
    clock: Clock,
    ids: Ids,
    files: Files,
    *,
    state: RegionState,
    link: Link,
    addresses: Addresses,
    open_mode: bool,
) -> Publisher:
    """The publisher of a node that has joined a region; ``config.road`` chooses how the index is fed.

    Comparisons go over gRPC on either road: the link is there always, and only our registry can say what it holds.
    """

    def identity() -> Identity:
        return Identity(source=state.source, secret=state.member.secret)

    rows = OutboxStore(db, DESTINATION)
    grpc_road = GrpcRoad(link.channel, metadata=link.metadata, batch=config.batch, timeout_s=config.timeout_s)
    closers: list[Callable[[], Awaitable[None]]] = []
    road: Road = grpc_road
    if config.road == "soap":
        expected = TlsIdentity("gateway", "", state.region.home_community_id)
        tls = None if open_mode else state.credentials.client(expected)
        session = client_session(tls, read_timeout_s=config.timeout_s)
        host, port = host_port(state.registry.mllp, "the registry's MLLP address")
        mllp = MllpClient(host, port, tls=tls, ack_timeout_s=config.timeout_s)
        closers += [mllp.close, session.close]
        wire = XdsWire(
            SoapClient(session, ids), lambda: state.registry.systems + REGISTRY_PATH, mllp, clock, ids, identity,
            timeout_s=config.timeout_s,
        )  # fmt: skip
        road = SoapRoad(wire, identity, rows, own_authority, parallel=config.parallel)
    return Publisher(
        PublishStore(db, ids, [DESTINATION]), rows, archive, workers, clock, ids, config,
        identity=identity,
        retrieval=Retrieval(ae_title=addresses.aet or state.code[:16], url=addresses.dicomweb if config.retrieve_url else ""),
        road=road,
        comparer=grpc_road,
        hello_again=link.certificate_changed,
        closers=closers,
    )  # fmt: skip


def build_foreign_publisher(
    config: PublishConfig,
    db: SqliteDb,
    archive: ArchivePort,
    workers: Workers,
    clock: Clock,
    ids: Ids,
    *,
    secret: bytes,
    addresses: Addresses,
) -> Publisher:
    """The publisher of a node whose registry is not ours: no joining, own epochs, SOAP and MLLP only (D18).

    Args:
        secret: Of the derived ids: ``PublishStore.node().secret``, which the node made for itself.

    Raises:
        ConfigError: for what ``[publish.xds]`` lacks.
    """
    foreign = config.xds
    check_foreign(foreign)
    source = Source(
        code=foreign.organisation_code,
        name=foreign.organisation_name or foreign.organisation_code,
        repository_unique_id=Oid(foreign.repository_unique_id),
        retrieve_location_uid=Oid(foreign.retrieve_location_uid),
        authority=Oid(foreign.member_authority),
    )

    def identity() -> Identity:
        return Identity(source=source, secret=secret)

    tls = None
    if foreign.ca:
        certificate, key = (Path(p) if p else None for p in (foreign.certificate, foreign.key))
        tls = client_context(Path(foreign.ca), certificate, key)
    session = client_session(tls, read_timeout_s=config.timeout_s)
    host, port = host_port(foreign.mllp, "publish.xds.mllp")
    mllp = MllpClient(host, port, tls=tls, ack_timeout_s=config.timeout_s)
    rows = OutboxStore(db, FOREIGN)
    wire = XdsWire(SoapClient(session, ids), lambda: foreign.registry_url, mllp, clock, ids, identity, timeout_s=config.timeout_s)
    road = SoapRoad(wire, identity, rows, in_authority(foreign.patient_authority), parallel=config.parallel)
    comparer: Comparer = road
    return Publisher(
        PublishStore(db, ids, [FOREIGN]), rows, archive, workers, clock, ids, config,
        identity=identity,
        retrieval=Retrieval(ae_title=addresses.aet or foreign.organisation_code[:16], url=""),
        road=road,
        comparer=comparer,
        granted=False,
        closers=[mllp.close, session.close],
    )  # fmt: skip


def own_authority(patient: Patient) -> Identifier:
    """At our registry every member's own authority is one of the affinity domain's (D4)."""
    return patient.local


def in_authority(authority: str) -> Callable[[Patient], Identifier | None]:
    """The patient's id in the one authority that a foreign registry knows; None where there is none, and the study waits."""

    def find(patient: Patient) -> Identifier | None:
        return next((i for i in (patient.local, *patient.others) if i.authority == authority), None)

    return find


def host_port(address: str, where: str) -> tuple[str, int]:
    """``host:port`` as its parts.

    Raises:
        ConfigError: for anything else.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"{where} is not host:port.", where=where)
    return host.strip("[]"), int(port)


def check_foreign(config: ForeignRegistryConfig) -> None:
    """Whether everything is there that a foreign registry needs.

    Raises:
        ConfigError: naming the key.
    """
    for name in ("patient_authority", "repository_unique_id", "retrieve_location_uid", "member_authority"):
        if not is_uid(getattr(config, name)):
            raise ConfigError(f"publish.xds.{name} must be an OID.", where=f"publish.xds.{name}")
    for name in ("registry_url", "mllp", "organisation_code"):
        if not getattr(config, name):
            raise ConfigError(f"publish.xds.{name} is missing.", where=f"publish.xds.{name}")
    if bool(config.certificate) != bool(config.key) or (config.certificate and not config.ca):
        raise ConfigError("publish.xds needs ca, certificate and key together.", where="publish.xds.certificate")
