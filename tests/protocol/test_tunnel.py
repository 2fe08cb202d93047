"""Images from a node that lets nothing in: through the tunnel on its link, as if they had come directly."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

import grpc
import grpc.aio
import pytest
from aiohttp import ClientError, ClientResponse
from callers import caller
from closed_region import CLINICIAN, Closed, closed_region
from cutting_proxy import CuttingProxy
from node_serving import ct, part10
from whole_region import until

from crosslight.pb import tunnel_pb2 as pb
from crosslight.pb import tunnel_pb2_grpc as pb_grpc
from crosslight.runtime.http import client_session
from crosslight.runtime.tls import client_context
from crosslight.runtime.tunnel.mux import Mux
from crosslight.standards.xds.wire import rad69
from crosslight.standards.xds.wire.retrieve import DocumentRequest
from node.membership.joined import RegionConnection
from registry.health import Health
from registry.members.model import Member

CODE = "RTK"
NOWHERE = "https://127.0.0.1:1"  # nobody listens there
PARTS = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
STUDY = "1.2.7"
ELE = "1.2.840.10008.1.2.1"  # Explicit VR Little Endian
SIDE = 1024  # pixels: 2 MiB an image


@pytest.fixture
async def proxy() -> AsyncIterator[CuttingProxy]:
    async with CuttingProxy() as found:
        yield found


@pytest.fixture
async def region(tmp_path: Path, proxy: CuttingProxy) -> AsyncIterator[Closed]:
    """One member, that can be reached through its link alone."""
    async with closed_region(tmp_path, (CODE,), nodes={"reach": "tunnel"}, through=proxy) as found:
        await found.says(CODE, systems=NOWHERE)
        await until(lambda: _tunnelled(found))
        yield found


async def _tunnelled(region: Closed) -> bool:
    return region.registry.parts.retrieves.tunnels.has(_member(region).id)


def _member(region: Closed) -> Member:
    found = region.registry.members.by_code(CODE)
    assert found is not None
    return found


def _ends(region: Closed) -> tuple[Mux, Mux]:
    """What the registry and the node have of the tunnel."""
    there = region.registry.parts.retrieves.tunnels.carrier(_member(region).id)
    connection = region.nodes[CODE].connection
    assert isinstance(connection, RegionConnection)
    assert connection.tunnel is not None
    here = connection.tunnel.carrier
    assert there is not None
    assert here is not None
    return there.mux, here.mux


async def _study(region: Closed, images: int) -> list[bytes]:
    """A study at the node; its files."""
    draw = Random(images)
    files = [
        ct(
            STUDY,
            f"{STUDY}.1",
            f"{STUDY}.1.{n}",
            side=SIDE,
            number=n,
            PixelData=draw.randbytes(2 * SIDE * SIDE),
        )
        for n in range(1, images + 1)
    ]
    await region.add(CODE, *files)
    return [part10(ds) for ds in files]


def _open(region: Closed) -> Any:
    return region.http.get(f"{region.base}/dicomweb/studies/{STUDY}", headers=PARTS)


async def _whole(region: Closed) -> bytes:
    async with _open(region) as response:
        body: bytes = await response.read()
        assert response.status == 200, body
    return body


def _holds(body: bytes, files: list[bytes]) -> bool:
    """Whether the parts of ``body`` are these files, each once."""
    return all(body.count(one) == 1 for one in files) and len(body) < sum(map(len, files)) + 1000 * len(files)


async def _retrieves(region: Closed) -> int:
    """Acts in the node's audit."""
    audit = region.nodes[CODE].parts.ground.audit
    await audit.settle()
    return sum(act.action == "retrieve" for act in await audit.search())


async def test_a_study_comes_through_the_tunnel_byte_for_byte(region: Closed) -> None:
    files = await _study(region, 3)
    assert _holds(await _whole(region), files)
    assert _ends(region)[0].received_bytes > sum(map(len, files))
    assert await _retrieves(region) == 1


async def test_a_node_without_an_address_is_called_all_the_same(region: Closed) -> None:
    """What it says of itself may be nothing that others could reach: loopback, or a name of nobody."""
    files = await _study(region, 1)
    assert (await region.says(CODE, systems="https://no.name.of.its.certificate")).systems == ""
    assert _holds(await _whole(region), files)
    reach = region.registry.parts.retrieves.reach
    assert all(reach.offers(_member(region), service) for service in ("dicomweb", "iti43", "rad69"))


async def test_rad69_comes_through_it_too(region: Closed) -> None:
    await _study(region, 2)
    member, reach = _member(region), region.registry.parts.retrieves.reach
    documents = tuple(DocumentRequest(member.retrieve_location_uid, f"{STUDY}.1.{n}") for n in (1, 2))
    series = rad69.SeriesRequest(f"{STUDY}.1", documents)
    asked = rad69.ImagingRequest((rad69.StudyRequest(STUDY, (series,)),), (ELE,))
    who = caller(CLINICIAN)
    token = reach.mint(who, member, studies=(STUDY,), patient="")
    body = rad69.render_imaging_request(asked)
    async with reach.stream(member, "rad69", body, token, correlation=who.correlation) as answer:
        sizes = [sum([len(piece) async for piece in part.chunks()]) async for part in answer.parts()]
    assert len(sizes) == 2
    assert all(size > 2 * SIDE * SIDE for size in sizes)
    assert _ends(region)[0].received_bytes > sum(sizes)


async def test_a_tunnel_that_is_cut_again_and_again_goes_on_where_it_was(
    region: Closed, proxy: CuttingProxy
) -> None:
    files = await _study(region, 12)
    size, cuts = sum(map(len, files)), 0
    body = bytearray()
    async with _open(region) as response:
        assert response.status == 200
        due = 1 << 20
        async for piece in response.content.iter_any():
            body += piece
            if len(body) >= due and len(body) < size - (2 << 20):
                due = len(body) + (2 << 20)
                proxy.cut()
                cuts += 1
    assert cuts >= 5
    assert _holds(bytes(body), files)
    registry, node = _ends(region)
    assert registry.received_bytes < len(body) * 1.01 + 100_000  # TLS, headers: nothing came twice
    assert await _retrieves(region) == 1  # and nothing was read, decided or audited twice
    # what was lost on its way is all that was sent again
    assert proxy.passed_bytes < len(body) + (cuts + 1) * (2 << 20)
    # what is left is of the connection that is kept open: the part of a window that is not worth a word
    assert await _within(lambda: not registry.held_bytes and node.held_bytes <= node.window // 4)


async def test_who_reads_slowly_holds_up_nobody_and_little_memory(region: Closed) -> None:
    files = await _study(region, 3)
    async with _open(region) as slow:
        first = await slow.content.readexactly(1 << 16)
        async with asyncio.timeout(60):
            bodies = await asyncio.gather(*(_whole(region) for _ in range(7)))
        assert all(_holds(body, files) for body in bodies)
        registry, node = _ends(region)
        window = registry.window
        # seven that flow and one that stands: each has at most a window on its way
        assert max(registry.most_held, node.most_held) <= 8 * window + 1_000_000
        assert await _within(lambda: registry.held_bytes <= window and node.held_bytes <= window)
        rest = await slow.content.read()
    assert _holds(first + rest, files)


async def _within(condition: Any, seconds: float = 20.0) -> bool:
    async def holds() -> bool:
        return bool(condition())

    await until(holds, seconds)
    return True


async def test_a_suspended_members_tunnel_is_cut_at_once(region: Closed) -> None:
    await _study(region, 12)

    async def drain(response: ClientResponse) -> None:
        async for _ in response.content.iter_any():
            pass

    async with _open(region) as response:
        await response.content.readexactly(1 << 16)
        await region.registry.members.suspend(CODE, "a test")
        with pytest.raises((ClientError, ConnectionError)):
            await asyncio.wait_for(drain(response), 10)
    carrier = region.registry.parts.retrieves.tunnels.carrier(_member(region).id)
    assert carrier is not None
    assert carrier.closed
    assert not len(carrier.mux)
    async with _open(region) as response:
        assert response.status in (403, 404, 502, 504), await response.read()


async def test_without_the_link_the_answer_names_the_member(region: Closed, proxy: CuttingProxy) -> None:
    await _study(region, 1)
    proxy.open = False
    proxy.cut()

    async def away() -> bool:
        return not region.registry.members.presence(_member(region).id).reachable

    await until(away)
    async with _open(region) as response:
        assert response.status == 504
        assert f"{CODE} Hospitals ({CODE})" in await response.text()
    proxy.open = True

    async def back() -> bool:
        return region.registry.members.presence(_member(region).id).reachable

    await until(back)
    await _whole(region)


async def test_a_tunnel_is_taken_on_the_links_own_connection_alone(region: Closed) -> None:
    """Somebody who has the node's key, and no link, gets no tunnel; nor does the node by another call."""
    credentials = region.nodes[CODE].membership.credentials
    address = f"127.0.0.1:{region.registry.config.listen.grpc_port}"
    options = [
        ("grpc.ssl_target_name_override", "gateway.crosslight.internal"),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    async with grpc.aio.secure_channel(address, credentials.grpc_channel(), options) as channel:
        stub: Any = pb_grpc.TunnelStub(channel)  # type: ignore[no-untyped-call]  # generated
        call = stub.Carry()
        await call.write(pb.TunnelFrame(greeting=Mux().greeting(b"")))
        assert await call.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert await _tunnelled(region)


async def test_what_comes_through_the_tunnel_has_to_show_the_gateways_certificate(region: Closed) -> None:
    await _study(region, 1)
    tunnels, credentials = region.registry.parts.retrieves.tunnels, region.nodes[CODE].membership.credentials
    url = f"https://{CODE}.invalid/dicomweb/studies/{STUDY}"
    nobody = client_context(credentials.ca)
    nobody.check_hostname = False
    member = client_context(credentials.ca, credentials.cert, credentials.key)
    member.check_hostname = False
    before = await _retrieves(region)
    async with client_session(nobody, dial=lambda: tunnels.dial(_member(region))) as session:
        with pytest.raises((ClientError, ConnectionError)):
            await session.get(url)
    async with client_session(member, dial=lambda: tunnels.dial(_member(region))) as session:
        # the release token of a retrieve is bound to the gateway's certificate
        reach = region.registry.parts.retrieves.reach
        token = reach.mint(caller(CLINICIAN), _member(region), studies=(STUDY,), patient="")
        async with session.get(url, headers={"Authorization": f"Bearer {token}"}) as response:
            assert response.status == 401, await response.read()
    assert await _retrieves(region) == before


async def test_a_node_that_can_be_reached_is_called_directly(tmp_path: Path) -> None:
    async with closed_region(tmp_path, (CODE,), nodes={"reach": "auto"}) as region:
        tunnels, member = region.registry.parts.retrieves.tunnels, _member(region)
        await until(lambda: _road(region, "direct"))
        await until(lambda: _tunnelled(region))
        files = await _study(region, 1)
        assert _holds(await _whole(region), files)
        assert _ends(region)[0].received_bytes == 0
        assert await _said(region) == 0.0
        # the firewall is closed: the next retrieve goes by the other road, the first one too
        await region.says(CODE, systems=NOWHERE)
        tunnels.tried(member.id, reached=True)
        assert _holds(await _whole(region), files)
        assert _ends(region)[0].received_bytes > sum(map(len, files))
        assert tunnels.road(member.id) == "tunnel"
        assert await _said(region) == 1.0


async def _said(region: Closed) -> float:
    """What the metrics say of the road to the member."""
    gauges = await Health(region.registry.parts).gauges()
    (tunnelled,) = (gauge.values for gauge in gauges if gauge.name == "crosslight_member_tunnelled")
    return tunnelled[CODE,]


async def _road(region: Closed, road: str) -> bool:
    return region.registry.members.presence(_member(region).id).reach == road
