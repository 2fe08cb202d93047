"""Puts the parts of publication together for a node (D18).

It publishes to the registry it has joined, or to one that is not ours.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from crosslight.runtime.db import EmbeddedDb
from crosslight.runtime.mllp import MllpClient
from crosslight.runtime.proxies import host_and_port
from crosslight.runtime.seams import Seams
from crosslight.runtime.soap.client import SoapClient
from crosslight.standards.membership import Endpoints
from crosslight.standards.problem import ConfigError
from node.holdings import Holdings
from node.membership.membership import Membership
from node.membership.model import RegistryRoads
from node.publish.config import PublishConfig
from node.publish.grpc_road import GrpcRoad
from node.publish.model import PublisherIdentity
from node.publish.outbox_store import OutboxStore
from node.publish.publisher import Publisher
from node.publish.revise import Origin, Retrieval
from node.publish.road import Destination
from node.publish.soap_road import SoapRoad
from node.publish.store import PublishStore
from node.publish.xds_wire import XdsWire

DESTINATION = "region"  # of the outbox: the registry joined
FOREIGN = "xds"  # of the outbox: one that is not ours

Closers = Sequence[Callable[[], Awaitable[None]]]


def destination(config: PublishConfig) -> str:
    """The outbox's name for the registry that this node publishes to."""
    return FOREIGN if config.kind == "xds" else DESTINATION


async def build_publisher(
    config: PublishConfig,
    db: EmbeddedDb,
    holdings: Holdings,
    seams: Seams,
    *,
    membership: Membership,
    roads: RegistryRoads,
    endpoints: Endpoints,
) -> Publisher:
    """The publisher of a node.

    A registry of ours takes studies by gRPC or SOAP (``config.road``), another one by SOAP. Comparisons with
    ours go over gRPC on either road: the link is there always, and only our registry can say what it holds.
    Before another one the node grants itself epochs, and makes the secret of derived ids (D18).

    Raises:
        ConfigError: where the registry's addresses cannot be used.
    """
    name, feed = destination(config), roads.feed
    store, rows = PublishStore(db, seams.ids, [name]), OutboxStore(db, name)
    secret = membership.member.secret or await _own_secret(store)

    def identity() -> PublisherIdentity:
        return PublisherIdentity(source=membership.source, secret=secret)

    retrieval = Retrieval(
        ae_title=endpoints.aet or membership.code[:16],
        url=endpoints.dicomweb if config.retrieve_url and feed is not None else "",
    )
    origin = Origin(identity=identity, retrieval=retrieval)
    return Publisher(
        store, rows, holdings, seams, config, origin, _destination(config, seams, roads, rows, identity)
    )


def _destination(
    config: PublishConfig,
    seams: Seams,
    roads: RegistryRoads,
    rows: OutboxStore,
    identity: Callable[[], PublisherIdentity],
) -> Destination:
    feed = roads.feed
    if feed is None:
        soap, closers = _soap_road(config, seams, roads, rows, identity)
        return Destination(road=soap, comparer=soap, granted=False, closers=closers)
    grpc = GrpcRoad(feed.channel, metadata=feed.metadata, batch=config.batch, timeout_s=config.timeout_s)
    if config.road != "soap":
        return Destination(road=grpc, comparer=grpc, hello_again=feed.hello_again)
    soap, closers = _soap_road(config, seams, roads, rows, identity)
    return Destination(road=soap, comparer=grpc, hello_again=feed.hello_again, closers=closers)


async def _own_secret(store: PublishStore) -> bytes:
    """The secret of derived ids that a node without a region made for itself; made at the first call."""
    await store.open()
    return (await store.node()).secret


def _soap_road(
    config: PublishConfig,
    seams: Seams,
    roads: RegistryRoads,
    rows: OutboxStore,
    identity: Callable[[], PublisherIdentity],
) -> tuple[SoapRoad, Closers]:
    host, port = host_port(roads.mllp, roads.mllp_name)
    tls = roads.tls()
    proxy = roads.proxy(host_and_port(roads.url()))
    session = seams.http.client(tls, read_timeout_s=config.timeout_s, proxy=proxy)
    mllp = MllpClient(host, port, tls=tls, ack_timeout_s=config.timeout_s, proxy=roads.proxy(roads.mllp))
    soap = SoapClient(session, seams.ids, seams.workers)
    wire = XdsWire(soap, roads.url, mllp, seams.clock, seams.ids, identity, timeout_s=config.timeout_s)
    road = SoapRoad(wire, identity, rows, roads.patient, parallel=config.parallel)
    return road, (mllp.close, session.close)


def host_port(address: str, where: str) -> tuple[str, int]:
    """``host:port`` as its parts.

    Raises:
        ConfigError: for anything else.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal():
        raise ConfigError(f"{where} is not host:port.", where=where)
    return host.strip("[]"), int(port)
