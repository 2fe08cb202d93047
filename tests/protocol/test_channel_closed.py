"""A link that is given up while a call is on its way: gRPC then cancels whoever waits, which must end no loop
of the node.
"""

from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, cast

import grpc
import grpc.aio
import pytest
from publish_records import make_patient

from crosslight.pb import feed_pb2 as pb
from crosslight.pb import feed_pb2_grpc as pb_grpc
from crosslight.pb import membership_pb2_grpc as members_grpc
from crosslight.runtime.seams import system_seams
from crosslight.standards.ids import Version
from crosslight.standards.problem import Unavailable
from node.membership.config import RegionConfig
from node.membership.link import Link
from node.membership.renewal import Renewal
from node.publish.grpc_road import GrpcRoad
from node.publish.model import Acked, Delivery, Job
from node.publish.road import RoadDown

JOB = Job(
    study_uid="1.2.1",
    act=Delivery(kind="withdraw", version=Version(1, 1)),
    acked=None,
    unsettled=False,
    attempts=0,
)
HELD = Acked(
    version=Version(1, 1), digest="", sha1="a" * 40, status="Approved", patient=make_patient().local, chain=()
)


@dataclass
class Silent:
    """A registry that takes calls and never answers: stopped, or behind a network that swallows
    everything."""

    called: asyncio.Event

    async def _wait(self, request: Any, context: Any) -> Any:
        self.called.set()
        await asyncio.sleep(60)

    async def Compare(self, requests: Any, context: Any) -> AsyncIterator[pb.CompareReply]:
        self.called.set()
        await asyncio.sleep(60)
        yield pb.CompareReply()

    Publish = Renew = Link = _wait


@asynccontextmanager
async def _under_way(
    call: Callable[[grpc.aio.Channel], Awaitable[Any]],
) -> AsyncIterator[tuple[grpc.aio.Channel, Any]]:
    """``call`` as a task, once the registry has it, and its channel."""
    server, silent = grpc.aio.server(), Silent(asyncio.Event())
    add_feed: Any = pb_grpc.add_IndexFeedServicer_to_server
    add_members: Any = members_grpc.add_MembershipServicer_to_server
    add_feed(silent, server)
    add_members(silent, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        waiting = asyncio.ensure_future(call(channel))
        await asyncio.wait_for(silent.called.wait(), 10)
        yield channel, waiting
    await server.stop(0)


async def _given_up(call: Callable[[grpc.aio.Channel], Awaitable[Any]]) -> None:
    """``call``, whose channel is closed while it waits."""
    async with _under_way(call) as (channel, waiting):
        await channel.close(0.01)
        await waiting


async def _pages() -> AsyncIterator[list[tuple[str, Acked]]]:
    yield [("1.2.1", HELD)]


async def test_a_publication_on_its_way_finds_the_road_down() -> None:
    with pytest.raises(RoadDown):
        await _given_up(lambda channel: GrpcRoad(lambda: channel).deliver([JOB]))


async def test_a_comparison_under_way_finds_the_road_down() -> None:
    with pytest.raises(RoadDown):
        await _given_up(lambda channel: GrpcRoad(lambda: channel).compare(_pages()))


async def test_a_renewal_on_its_way_is_tried_again() -> None:
    def renew(channel: grpc.aio.Channel) -> Awaitable[None]:
        link = SimpleNamespace(channel=lambda: channel, metadata=(), open_mode=True)
        return Renewal(cast(Any, SimpleNamespace(code="RTK")), cast(Any, link), system_seams()).renew()

    with pytest.raises(Unavailable):
        await _given_up(renew)


async def test_who_is_told_to_stop_stops() -> None:
    async with _under_way(lambda channel: GrpcRoad(lambda: channel).deliver([JOB])) as (_, waiting):
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting


async def test_a_link_that_cannot_read_its_certificate_now_tries_again() -> None:
    link = Link(
        cast(Any, SimpleNamespace(code="RTK")),
        RegionConfig(),
        system_seams(),
        endpoints=cast(Any, None),
        open_mode=True,
    )
    tried, again = 0, asyncio.Event()

    def channel() -> grpc.aio.Channel:
        nonlocal tried
        tried += 1
        if tried == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        again.set()
        return grpc.aio.insecure_channel("127.0.0.1:9")

    link.channel = channel  # type: ignore[method-assign]
    link.start()
    await asyncio.wait_for(again.wait(), 10)
    await link.stop()
