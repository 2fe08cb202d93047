"""The link over real TLS: welcome, heartbeats, presence, suspension, renewal, the directory."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

import grpc
import grpc.aio
import pytest
from members_region import CLOCK, FAST, FILES, HOST, IDS, TestNode, TestRegistry, linked, registry, until
from ports import free_ports

from crosslight.pb import membership_pb2 as pb
from crosslight.pb import membership_pb2_grpc as pb_grpc
from crosslight.runtime.clock import SystemClock
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.signing import private_pem
from crosslight.runtime.tls import GATEWAY_NAME, Credentials, Identity
from crosslight.standards.census import Census, take_census
from crosslight.standards.concern import Concern, concern_of
from crosslight.standards.ids import Identifier
from node.membership.model import HelloFacts, NodeStatus
from node.membership.state import RegionState
from registry.link.server import MemberServer


async def test_link_comes_up_with_epoch_and_directory(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        state = await r.joined("RTK", tmp_path / "n")
        async with linked(TestNode(state)) as node:
            member = r.members.active("RTK")
            assert node.grants[0].epoch == member.epoch == 1
            assert not node.grants[0].reconcile
            assert node.grants[0].incarnation == r.index.incarnation
            assert [m.code for m in state.members] == ["RTK"]
            await until(lambda: r.members.presence(member.id).reachable)
            assert member.endpoints.base == "" or member.endpoints.base == "https://127.0.0.1:1"
            await until(lambda: r.members.active("RTK").endpoints.base == "https://127.0.0.1:1")
            await until(lambda: any(m.endpoints.base for m in state.members))


async def test_heartbeat_tells_waiting_and_census(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        state = await r.joined("RTK", tmp_path / "n")
        async with linked(TestNode(state)) as node:
            member = r.members.active("RTK").id
            taken = datetime(2026, 11, 22, 4, tzinfo=UTC)
            census = take_census([await r.publish("RTK", n) for n in (1, 2)])
            node.report = NodeStatus(
                waiting=3,
                parked=1,
                quarantined=2,
                indexed_from="20200102",
                census=census,
                census_at=taken,
            )
            await until(lambda: r.members.presence(member).census_equal is True)
            presence = r.members.presence(member)
            assert (presence.waiting, presence.parked, presence.quarantined) == (3, 1, 2)
            assert presence.indexed_from == "20200102"
            assert presence.census_at is not None
            assert abs((presence.census_at - taken).total_seconds()) < 2, "by our clock"
            assert abs(presence.skew_ms) < 2000


async def test_a_heartbeat_says_whom_unlisted_studies_concern_and_only_when_it_changed(
    tmp_path: Path,
) -> None:
    async with registry(tmp_path / "r") as r:
        state = await r.joined("RTK", tmp_path / "n")
        sent: list[bool] = []
        node = TestNode(state)
        async with linked(node):
            member = r.members.active("RTK").id
            board = r.members.board
            concerned, heard = board.concerned, board.heard
            board.concerned = lambda m, concern: (sent.append(True), concerned(m, concern))[1]  # type: ignore[method-assign]
            beats: list[str] = []
            board.heard = lambda m, token, report: (beats.append(report.concern), heard(m, token, report))[1]  # type: ignore[method-assign]
            await until(lambda: r.members.presence(member).reachable)
            assert r.members.presence(member).concern is None, "an older node says nothing"
            for known in (concern_of(state.member.secret, [Identifier("A1", "1.2")], []), Concern()):
                node.report = NodeStatus(waiting=1, concern=known)
                await until(lambda known=known: r.members.presence(member).concern == known)  # type: ignore[misc]
                before = len(beats)
                await until(lambda before=before: len(beats) > before + 2)  # type: ignore[misc]
            assert len(sent) == 2
        async with linked(TestNode(state)) as other:  # a new stream begins anew
            other.report = NodeStatus(waiting=1, concern=Concern(anybody_waiting=True))
            await until(lambda: r.members.presence(member).concern == Concern(anybody_waiting=True))


async def test_a_clock_that_is_wrong_is_presence_and_makes_no_census_fresh(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        state = await r.joined("RTK", tmp_path / "n")
        node = TestNode(state)
        node.link.clock = AheadClock(timedelta(seconds=90))
        taken = node.link.clock.now()
        node.report = NodeStatus(census=Census(), census_at=taken)
        async with linked(node):
            member = r.members.active("RTK").id
            await until(lambda: r.members.presence(member).clock_wrong)
            presence = r.members.presence(member)
            assert presence.reachable
            assert not presence.opens
            assert 89_000 < presence.skew_ms < 91_000
            await until(lambda: r.members.presence(member).census_at is not None)
            at = r.members.presence(member).census_at
            assert at is not None
            assert abs((taken - timedelta(seconds=90) - at).total_seconds()) < 2
            node.link.clock.ahead = timedelta()
            await until(lambda: r.members.presence(member).opens)


class AheadClock(SystemClock):
    """A clock that is ahead."""

    def __init__(self, ahead: timedelta) -> None:
        self.ahead = ahead

    def now(self) -> datetime:
        return super().now() + self.ahead


async def test_lasting_drift_orders_a_reconciliation(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        state = await r.joined("RTK", tmp_path / "n")
        node = TestNode(state)

        async def counting() -> NodeStatus:
            return NodeStatus(census=Census(studies=5, digest=b"y" * 32), census_at=CLOCK.now())

        node.status = counting  # type: ignore[method-assign]
        async with linked(node):
            await until(lambda: bool(node.reconciles))
            assert r.members.presence(r.members.active("RTK").id).census_equal is False


async def test_restored_node_gets_a_new_epoch_and_reconciles(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        state = await r.joined("RTK", tmp_path / "n")
        async with linked(TestNode(state)):
            await r.publish("RTK", 150)
        restored = TestNode(state, state_id="state-2")
        restored.facts = replace(
            restored.facts, epoch=1, acked_n=100, made_n=120, incarnation=r.index.incarnation
        )
        async with linked(restored):
            assert restored.grants[0].epoch == 2
            assert restored.grants[0].reconcile
            assert r.members.active("RTK").epoch == 2


async def test_lost_acknowledgement_keeps_the_epoch(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        state = await r.joined("RTK", tmp_path / "n")
        async with linked(TestNode(state)):
            await r.publish("RTK", 150)
        node = TestNode(state)
        node.facts = HelloFacts(
            epoch=1, acked_n=149, made_n=151, incarnation=r.index.incarnation, state_id="state-1"
        )
        async with linked(node):
            assert (node.grants[0].epoch, node.grants[0].reconcile) == (1, False)


async def test_suspension_closes_the_live_link_and_reaches_every_node(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        a, b = await r.joined("RTK", tmp_path / "a"), await r.joined("RA2", tmp_path / "b")
        async with linked(TestNode(a)) as node, linked(TestNode(b)):
            member = r.members.active("RTK").id
            other_process = r.service()  # as the command line does it: another process on the same database
            await other_process.open()
            await other_process.suspend("RTK", "lost a laptop")
            await until(lambda: not node.link.status.connected and node.link.status.suspended is not None)
            await until(lambda: b.suspended("RTK"))
            assert "lost a laptop" in str(node.link.status.suspended) or "suspended" in str(
                node.link.status.suspended
            )
            presence = r.members.presence(member)
            assert not presence.reachable
            assert presence.since is not None
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await node.renewal.renew()
            assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
            await other_process.readmit("RTK")
            await until(lambda: node.link.status.connected and node.link.status.suspended is None)


async def test_calls_under_way_are_cancelled_by_suspension(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        state = await r.joined("RTK", tmp_path / "n")
        await r.grpc.stop(0)
        started = asyncio.Event()

        class Slow(pb_grpc.MembershipServicer):
            async def Renew(self, request: pb.RenewRequest, context: object) -> pb.RenewReply:
                await r.servicer._callers.member(context)
                started.set()
                await asyncio.sleep(60)
                raise AssertionError

        r.grpc._servicer = Slow()  # type: ignore[assignment]
        await r.grpc.start()
        node = TestNode(state)
        await node.link._proof.renew()  # as before each stream
        call = asyncio.create_task(node.renewal.renew())
        await asyncio.wait_for(started.wait(), 5)
        await r.members.suspend("RTK", "test")
        with pytest.raises(grpc.aio.AioRpcError):
            await asyncio.wait_for(call, 5)
        await node.link.stop()


async def test_certificate_is_required(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        bundle = r.members.ca.bundle.read_bytes()
        options = [("grpc.ssl_target_name_override", "gateway.crosslight.internal")]
        credentials = grpc.ssl_channel_credentials(bundle)
        async with grpc.aio.secure_channel(f"127.0.0.1:{r.grpc_port}", credentials, options) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as refused:
                await pb_grpc.MembershipStub(channel).Renew(pb.RenewRequest(), timeout=5)  # type: ignore[no-untyped-call]
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_member_is_no_gateway(tmp_path: Path) -> None:
    """A node does not link to another member that poses as the registry."""
    async with registry(tmp_path / "r") as r:
        victim, rogue = await r.joined("RTK", tmp_path / "a"), await r.joined("RA2", tmp_path / "b")
        server = grpc.aio.server()
        port = server.add_secure_port("127.0.0.1:0", rogue.credentials.grpc_server())
        await server.start()
        victim.registry = replace(victim.registry, grpc=f"127.0.0.1:{port}")
        node = TestNode(victim)
        with pytest.raises(grpc.aio.AioRpcError):
            await node.renewal.renew()
        await node.link.stop()
        await server.stop(0)


async def test_renewal_without_restart(tmp_path: Path) -> None:
    """Certificates of seconds: the link lives on over several of them."""
    config = replace(FAST, certificate_days=6 / 86400)
    async with registry(tmp_path / "r", config) as r:
        state = await r.joined("RTK", tmp_path / "n")
        first = state.credentials.leaf()
        async with linked(TestNode(state)) as node:
            node.renewal.start()
            member = r.members.active("RTK").id
            begun, lost = {first.serial_number: first.not_valid_before_utc}, 0
            async with asyncio.timeout(60):
                while len(begun) < 3:
                    leaf = state.credentials.leaf()
                    begun[leaf.serial_number] = leaf.not_valid_before_utc
                    lost += not r.members.presence(member).reachable
                    await asyncio.sleep(0.02)
            apart = [later - earlier for earlier, later in pairwise(begun.values())]
            assert min(apart) >= timedelta(seconds=3), "at two thirds of the life of 6 s, not all the time"
            assert lost == 0  # the new stream begins before the old one ends
            assert node.link.status.connected


async def test_expired_certificate_is_refused(tmp_path: Path) -> None:
    config = replace(FAST, certificate_days=2 / 86400)
    async with registry(tmp_path / "r", config) as r:
        state = await r.joined("RTK", tmp_path / "n")
        member = r.members.active("RTK").id
        async with linked(TestNode(state)) as node:  # which does not renew
            await until(lambda: not node.link.status.connected)
            await until(lambda: not r.members.presence(member).reachable)
        late = TestNode(state)
        with pytest.raises(grpc.aio.AioRpcError):
            await late.renewal.renew()
        await late.link.stop()


async def test_registry_restart(tmp_path: Path) -> None:
    """The node finds it again by itself; who was unreachable stays so, since the same moment."""
    db = SqliteDb(tmp_path / "registry.sqlite")
    r = TestRegistry(tmp_path / "r", db=db)
    await r.start()
    a, b = await r.joined("RTK", tmp_path / "a"), await r.joined("RA2", tmp_path / "b")
    async with linked(TestNode(a)) as node:
        async with linked(TestNode(b)):
            gone = r.members.active("RA2").id
            await until(lambda: r.members.presence(gone).reachable)
        await until(lambda: not r.members.presence(gone).reachable)
        since = r.members.presence(gone).since
        await r.stop()
        await until(lambda: not node.link.status.connected)
        again = TestRegistry(tmp_path / "r", db=db)
        again.port, again.grpc_port = r.port, r.grpc_port
        await again.start()
        assert again.members.presence(gone).since == since
        assert not again.members.presence(gone).reachable
        await until(lambda: node.link.status.connected)
        assert again.members.presence(again.members.active("RTK").id).reachable
        await again.stop()
    await db.close()


async def test_open_mode_on_plain_links(tmp_path: Path) -> None:
    async with registry(tmp_path / "r", open_mode=True) as r:
        state = await r.joined("RTK", tmp_path / "n")
        async with linked(TestNode(state, open_mode=True)):
            member = r.members.active("RTK").id
            await until(lambda: r.members.presence(member).reachable)
            await r.members.suspend("RTK", "test")
            await until(lambda: not r.members.presence(member).reachable, 5)


async def test_node_starts_without_the_registry(tmp_path: Path) -> None:
    async with registry(tmp_path / "r") as r:
        state = await r.joined("RTK", tmp_path / "n")
        async with linked(TestNode(state)):
            assert state.directory is not None
    alone = RegionState(tmp_path / "n", FILES)
    assert alone.directory == state.directory
    assert alone.member == state.member
    assert alone.jwks["keys"]


async def test_a_gateway_is_known_by_its_identity(tmp_path: Path) -> None:
    """Not by its reserved name: whoever's certificate carries that name all the same is told nothing."""
    async with registry(tmp_path / "r") as r:
        state = await r.joined("RTK", tmp_path / "n")
        key = IDS.private_key()
        issued = r.members.ca.issue(
            key.public_key(),
            identity=Identity("member", "RYR", r.members.region.home_community_id),
            hosts=(HOST, GATEWAY_NAME),
            life=timedelta(hours=1),
            server=True,
            client=True,
        )
        pair = tmp_path / "forged.pem"
        pair.write_bytes(private_pem(key) + issued.chain_pem)
        (port,) = free_ports(1)
        forged = Credentials(pair, pair, r.members.ca.bundle)
        rogue = MemberServer(r.servicer, HOST, port, forged, link=r.ground.seams.link)
        await rogue.start()
        honest = state.registry
        state.registry = replace(honest, grpc=f"{HOST}:{port}")
        node = TestNode(state)
        assert await node.link._proof.renew() is False
        assert node.link._proof.peer == state.credentials.cert.read_bytes(), "nobody may be met"
        stub = pb_grpc.MembershipStub(node.link.channel())  # type: ignore[no-untyped-call]  # generated
        with pytest.raises(grpc.aio.AioRpcError) as told:
            await stub.Renew(pb.RenewRequest(), timeout=5)
        assert told.value.code() is grpc.StatusCode.UNAVAILABLE
        node.link._retire()
        state.registry = honest
        async with linked(node):
            assert state.credentials.cert.read_bytes() != node.link._proof.peer
        await rogue.stop()
