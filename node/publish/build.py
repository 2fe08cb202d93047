"""Puts the parts of publication together for a node: to the registry it has joined, or to a foreign one (D18)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from crosslight.runtime.clock import Ids
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.mllp import MllpClient
from crosslight.runtime.seams import Seams
from crosslight.runtime.soap.client import SoapClient
from crosslight.runtime.tls import Identity as TlsIdentity
from crosslight.standards.ids import Identifier
from crosslight.standards.membership import Endpoints
from crosslight.standards.problem import ConfigError
from crosslight.standards.study import Patient
from node.holdings import Holdings
from node.membership.independent import Alone
from node.membership.joined import RegionState
from node.membership.link import Link
from node.publish.config import PublishConfig
from node.publish.grpc_road import GrpcRoad
from node.publish.model import Identity
from node.publish.outbox_store import OutboxStore
from node.publish.publisher import Comparer, Publisher
from node.publish.revise import Retrieval
from node.publish.road import Road
from node.publish.soap_road import SoapRoad
from node.publish.store import PublishStore
from node.publish.xds_wire import XdsWire

DESTINATION = "region"  # of the outbox: the registry joined
FOREIGN = "xds"  # of the outbox: a foreign registry
REGISTRY_PATH = "/xds/registry"  # of our registry's SOAP transactions, below its systems listener


def destination(config: PublishConfig) -> str:
    """The outbox's name for the registry that this node publishes to."""
    return FOREIGN if config.kind == "xds" else DESTINATION


def build_publisher(
    config: PublishConfig,
    db: SqliteDb,
    holdings: Holdings,
    seams: Seams,
    *,
    state: RegionState,
    link: Link,
    endpoints: Endpoints,
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
        session = seams.http.client(tls, read_timeout_s=config.timeout_s)
        host, port = host_port(state.registry.mllp, "the registry's MLLP address")
        mllp = MllpClient(host, port, tls=tls, ack_timeout_s=config.timeout_s)
        closers += [mllp.close, session.close]
        wire = XdsWire(
            SoapClient(session, seams.ids, seams.workers), lambda: state.registry.systems + REGISTRY_PATH, mllp,
            seams.clock, seams.ids, identity, timeout_s=config.timeout_s,
        )  # fmt: skip
        road = SoapRoad(wire, identity, rows, own_authority, parallel=config.parallel)
    return Publisher(
        PublishStore(db, seams.ids, [DESTINATION]), rows, holdings, seams, config,
        identity=identity,
        retrieval=Retrieval(ae_title=endpoints.aet or state.code[:16], url=endpoints.dicomweb if config.retrieve_url else ""),
        road=road,
        comparer=grpc_road,
        hello_again=link.certificate_changed,
        closers=closers,
    )  # fmt: skip


async def own_secret(db: SqliteDb, ids: Ids) -> bytes:
    """The secret of derived ids that a node without a region made for itself; made at the first call."""
    store = PublishStore(db, ids, [FOREIGN])
    await store.open()
    return (await store.node()).secret


def build_foreign_publisher(
    config: PublishConfig,
    db: SqliteDb,
    holdings: Holdings,
    seams: Seams,
    *,
    state: Alone,
    secret: bytes,
    endpoints: Endpoints,
) -> Publisher:
    """The publisher of a node whose registry is not ours: no joining, own epochs, SOAP and MLLP only (D18).

    Args:
        secret: Of the derived ids, from :func:`own_secret`.

    Raises:
        ConfigError: for what ``[publish.xds]`` lacks.
    """
    foreign = config.xds

    def identity() -> Identity:
        return Identity(source=state.source, secret=secret)

    host, port = host_port(foreign.mllp, "publish.xds.mllp")
    tls = state.client_tls()
    session = seams.http.client(tls, read_timeout_s=config.timeout_s)
    mllp = MllpClient(host, port, tls=tls, ack_timeout_s=config.timeout_s)
    rows = OutboxStore(db, FOREIGN)
    wire = XdsWire(
        SoapClient(session, seams.ids, seams.workers),
        lambda: foreign.registry_url,
        mllp,
        seams.clock,
        seams.ids,
        identity,
        timeout_s=config.timeout_s,
    )
    road = SoapRoad(wire, identity, rows, in_authority(foreign.patient_authority), parallel=config.parallel)
    comparer: Comparer = road
    return Publisher(
        PublishStore(db, seams.ids, [FOREIGN]), rows, holdings, seams, config,
        identity=identity,
        retrieval=Retrieval(ae_title=endpoints.aet or state.code[:16], url=""),
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
