"""One caller at its worst at each listener of a registry, over TLS, and another beside it who is served.

Callers are told apart by their address before they have shown a certificate or a token: here 127.0.0.2 is the
noisy one's, 127.0.0.3 the other's. See ``test_noisy_neighbours.py`` for what is asked of members and nodes.
"""

from __future__ import annotations

import asyncio
import re
import ssl
import threading
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast

import grpc.aio
import pytest
from aiohttp import ClientSession, CookieJar, TCPConnector
from closed_region import Closed, closed_region
from members_region import until

from crosslight.pb import feed_pb2 as pb
from crosslight.pb import feed_pb2_grpc as pb_grpc
from crosslight.pb import membership_pb2_grpc
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.mllp import MllpClient
from crosslight.runtime.seams import system_seams
from crosslight.runtime.tls import Identity, client_context
from crosslight.standards.hl7.ack import parse_ack
from crosslight.standards.hl7.adt import MessageHeader, feed_message, render_adt
from crosslight.standards.hl7.framing import frame
from crosslight.standards.ids import Identifier
from crosslight.standards.membership import Invitation
from crosslight.standards.study import Patient, PersonName
from node.membership.join import join

NOISY, QUIET = "127.0.0.2", "127.0.0.3"
ACCOUNT = {"user": "dr.amos", "password": "light-box", "name": "Dr A. Amos", "roles": ["clinician"]}


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[Closed]:
    more = {
        "access": {"demo": {"enabled": True, "accounts": [ACCOUNT]}, "signins_per_address": 10},
        "connections": {"most": 48, "per_address": 12},
        "hl7": {"connections": 8, "connections_per_sender": 4},
    }
    async with closed_region(tmp_path, ("RTK", "RYR"), more=more) as made:
        yield made


def trusting(region: Closed) -> ssl.SSLContext:
    return client_context(region.folder / "registry" / "ca" / "ca.pem")


def at(address: str, tls: ssl.SSLContext, **more: Any) -> ClientSession:
    """A caller at one of the addresses of this machine."""
    return ClientSession(connector=TCPConnector(ssl=tls, local_addr=(address, 0), limit=0), **more)


@asynccontextmanager
async def held_open(url: str, tls: ssl.SSLContext, count: int) -> AsyncIterator[list[asyncio.StreamReader]]:
    """Connections of the noisy one that say nothing."""
    host, port = url.removeprefix("https://").split(":")
    async with AsyncExitStack() as stack:
        readers = []
        for _ in range(count):
            reader, writer = await asyncio.open_connection(host, int(port), ssl=tls, local_addr=(NOISY, 0))
            stack.callback(writer.close)
            readers.append(reader)
        yield readers


async def test_people_are_served_beside_connections_that_say_nothing(region: Closed) -> None:
    tls, headers = trusting(region), {"Authorization": region.http.headers["Authorization"]}
    async with held_open(region.base, tls, 60) as noisy, at(QUIET, tls) as quiet:
        async with quiet.get(f"{region.base}/fhir/ImagingStudy?identifier=x", headers=headers) as answer:
            assert answer.status == 200
        async with at(NOISY, tls) as beside, beside.get(f"{region.base}/fhir/metadata") as answer:
            assert answer.status == 200  # nor is another at the same address shut out
        assert [reader.at_eof() for reader in noisy].count(False) <= 12


async def test_systems_are_served_beside_connections_that_say_nothing(region: Closed) -> None:
    registry, authority = region.registry, region.folder / "registry" / "ca" / "ca.pem"
    files = await registry.members.systems.issue("viewer", region.folder / "systems")
    tls, url = client_context(authority, files.cert, files.key), registry.addresses.systems
    async with held_open(url, tls, 60) as noisy, at(QUIET, tls) as quiet:
        async with quiet.get(f"{url}/fhir/metadata") as answer:
            assert answer.status == 200
        assert [reader.at_eof() for reader in noisy].count(False) <= 12


def message(region: Closed, code: str, control_id: str) -> bytes:
    """A patient of a member, as it feeds them."""
    member = region.registry.members.active(code)
    name, header = PersonName("Ng^Ada"), MessageHeader(control_id=control_id, time="20261122030000")
    patient = Patient(local=Identifier("p1", member.authority), name=name, birth_date="19500101")
    return render_adt(feed_message(patient, header, "A04"))


async def test_one_hl7_sender_leaves_others_their_connections(region: Closed) -> None:
    gateway = Identity("gateway", "", region.registry.members.region.home_community_id)
    port = int(region.registry.addresses.mllp.rpartition(":")[2])
    tls = {}
    for code in ("RTK", "RYR"):
        credentials = region.nodes[code].membership.credentials
        assert credentials is not None
        tls[code] = credentials.client(gateway)
    async with AsyncExitStack() as stack:
        for part in [b""] * 20 + [b"\x0bMSH|half of a message"] * 4:  # idle ones give way to each other
            _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls["RTK"])
            stack.callback(writer.close)
            writer.write(part)
        other = MllpClient("127.0.0.1", port, tls=tls["RYR"])
        stack.push_async_callback(other.close)
        assert parse_ack(await other.send(message(region, "RYR", "1"))).accepted

        async def fifth() -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls["RTK"])
            stack.callback(writer.close)
            writer.write(frame(message(region, "RTK", "2")))
            return await asyncio.wait_for(reader.read(), 20)

        while b"MSA|AR|2|" not in (told := await fifth()):
            pass  # one of the four is still unread: then the fifth was let in
        assert b"busy with yours" in told
        assert b"207" in told
        assert parse_ack(await other.send(message(region, "RYR", "3"))).accepted


async def test_one_members_feed_leaves_others_theirs(region: Closed, monkeypatch: pytest.MonkeyPatch) -> None:
    registry, seams, order = region.registry, system_seams(), list[str]()
    db, accepts = cast(SqliteDb, registry.parts.ground.db), list[str]()
    submit = db.submit_write

    def noted(name: str, fn: Any, *, lazy: bool = False) -> Any:
        """Of what is written beside (presence, say) nothing is counted."""
        accepts.extend([name] * (name == "accept"))
        return submit(name, fn, lazy=lazy)

    monkeypatch.setattr(db, "submit_write", noted)

    async def publish(stub: Any, code: str, n: int) -> None:
        act = pb.Act(study_uid=f"1.2.{n}", withdraw=pb.Withdraw(reason="test"))
        act.version.epoch, act.version.n = 1, 1_000_000 + n
        reply = await stub.Publish(pb.PublishRequest(acts=[act]))
        assert len(reply.results) == 1
        order.append(code)

    let_go = threading.Event()
    held = db.submit_write("held", lambda tx: let_go.wait(30))
    async with AsyncExitStack() as stack:
        stubs = {}
        for code in ("RTK", "RYR"):
            own = region.nodes[code].membership.credentials
            channel = seams.link.channel(registry.addresses.grpc, own, [])
            stack.push_async_callback(channel.close)
            stubs[code] = pb_grpc.IndexFeedStub(channel)  # type: ignore[no-untyped-call]  # generated
            await channel.channel_ready()
        noisy = [asyncio.ensure_future(publish(stubs["RTK"], "RTK", n)) for n in range(20)]
        await until(lambda: len(accepts) >= 2)  # as much as one member may have under way
        quiet = asyncio.ensure_future(publish(stubs["RYR"], "RYR", 99))
        await until(lambda: len(accepts) >= 3)
        let_go.set()
        await asyncio.gather(quiet, *noisy)
    await asyncio.wrap_future(held)
    assert order.index("RYR") <= 3, order


async def test_links_of_one_member_are_bounded_and_anothers_are_not_touched(region: Closed) -> None:
    registry, seams = region.registry, system_seams()
    channel = seams.link.channel(registry.addresses.grpc, region.nodes["RTK"].membership.credentials, [])
    stub = membership_pb2_grpc.MembershipStub(channel)  # type: ignore[no-untyped-call]  # generated
    silent = [stub.Link() for _ in range(8)]  # none says Hello
    codes = [asyncio.ensure_future(call.code()) for call in silent]
    done, _ = await asyncio.wait(codes, return_when=asyncio.FIRST_COMPLETED, timeout=20)
    assert {code.result() for code in done} == {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert registry.members.presence(registry.members.active("RYR").id).reachable
    for call in silent:
        call.cancel()
    await asyncio.gather(*codes, return_exceptions=True)
    await channel.close()


async def test_sign_ins_begun_at_one_address_leave_others_theirs(
    region: Closed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("registry.access.store.MAX_PENDING", 12)
    tls, jar = trusting(region), CookieJar(unsafe=True)
    async with at(NOISY, tls) as noisy, at(QUIET, tls, cookie_jar=jar) as quiet:
        for _ in range(30):
            async with noisy.get(f"{region.base}/signin", allow_redirects=False) as answer:
                assert answer.status == 303
        async with quiet.get(f"{region.base}/signin") as answer:
            ticket = re.search(r'name="ticket" value="([0-9a-f]+)"', await answer.text())
            assert ticket, answer.status
        for _ in range(30):
            async with noisy.get(f"{region.base}/signin") as answer:
                assert answer.status == 200
        form = {"ticket": ticket.group(1), "user": "dr.amos", "password": "light-box"}
        async with quiet.post(f"{region.base}/demo-idp/login", data=form) as answer:
            assert answer.status == 200
        assert any(cookie.key == "__Host-crosslight" for cookie in jar), [cookie.key for cookie in jar]


async def test_requests_to_join_of_one_address_leave_others_theirs(region: Closed, tmp_path: Path) -> None:
    registry, tls, ended = region.registry, trusting(region), asyncio.Event()

    async def drip() -> AsyncIterator[bytes]:
        yield b'{"secret": "'
        await ended.wait()

    async def ask(session: ClientSession) -> int:
        async with session.post(f"{region.base}/join", data=drip()) as answer:
            return answer.status

    async with at(NOISY, tls) as noisy:
        # 12 connections an address: two are at work, eight wait, two are told that it is busy with them
        asked = [asyncio.ensure_future(ask(noisy)) for _ in range(12)]
        done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED, timeout=20)
        assert {task.result() for task in done} == {429}
        invitation = Invitation.parse(await registry.members.invite("RXC", registry.people_url, name="RXC"))
        await join(invitation.text(), tmp_path / "joining", system_seams())
        assert registry.members.active("RXC").code == "RXC"
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
