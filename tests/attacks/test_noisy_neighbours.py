"""One caller at its worst, and another beside it: who is served before the first one's queue is drained, and
never hears that something is busy or cannot be reached. Order is told by what has happened, never by a clock.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar, cast

import pytest
from aiohttp import ClientResponse, ClientSession, TCPConnector, web
from gateway_region import ASKING, GatewayRegion, endless_member, gateway_region
from loopback import served
from node_serving import LOCATION, Served, ct, part10, serving
from pydicom.uid import ExplicitVRLittleEndian

from crosslight.runtime.http import client_session
from crosslight.runtime.shares import Shares
from crosslight.runtime.workers import SystemWorkers
from crosslight.standards.access import Principal
from crosslight.standards.xds.wire import rad69
from crosslight.standards.xds.wire.rad69 import ImagingRequest, SeriesRequest, StudyRequest
from crosslight.standards.xds.wire.retrieve import DocumentRequest
from crosslight.standards.xds.wire.soap import render_envelope
from node.serve.config import ServeConfig
from node.serve.sendfile import Piece, pour
from registry.gateway.config import GatewayConfig

T = TypeVar("T")
NOISY, QUIET = {ASKING: "noisy"}, {ASKING: "quiet"}


async def until(condition: Callable[[], object | Awaitable[object]], within_s: float = 20.0) -> None:
    """Wait for something to be so."""
    async with asyncio.timeout(within_s):
        while True:
            found = condition()
            if await found if isinstance(found, Awaitable) else found:
                return
            await asyncio.sleep(0.01)


# --- registry: retrieves ------------------------------------------------------------------------------------


class Holder:
    """A member that sends one study for ever, and another at once."""

    def __init__(self) -> None:
        self.open = 0
        self.app = web.Application()
        self.app.router.add_get("/dicomweb/studies/1.2.7", self._endless)
        self.app.router.add_get("/dicomweb/studies/1.2.8", self._short)

    async def _endless(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/dicom"})
        await response.prepare(request)
        self.open += 1
        try:
            while True:
                await response.write(bytes(1 << 16))
        finally:
            self.open -= 1

    async def _short(self, request: web.Request) -> web.Response:
        return web.Response(body=b"picture", content_type="application/dicom")


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[GatewayRegion]:
    config = GatewayConfig(turn_timeout_s=2.0)
    async with gateway_region(tmp_path, ("RTK",), config=config) as found:
        await found.add("RTK", ct("1.2.7", "1.2.7.1", "1.2.7.1.1"))
        await found.add("RTK", ct("1.2.8", "1.2.8.1", "1.2.8.1.1"))
        yield found


async def test_stalled_readers_of_one_caller_do_not_take_a_trust_from_others(region: GatewayRegion) -> None:
    holder, config = Holder(), GatewayConfig()
    url = f"{region.base}/dicomweb/studies"
    async with served(holder.app) as there, AsyncExitStack() as stack:
        member = stack.enter_context(endless_member(region, "RTK", there))
        asked = [
            asyncio.ensure_future(region.http.get(f"{url}/1.2.7", headers=NOISY))
            for _ in range(config.connections_per_member - 4)
        ]
        queue = region.reach.lanes.of(member).queue
        await until(lambda: holder.open == config.connections_per_caller)
        await until(lambda: queue.waiting == len(asked) - config.connections_per_caller)
        answer = await stack.enter_async_context(region.http.get(f"{url}/1.2.8", headers=QUIET))
        assert (answer.status, await answer.read()) == (200, b"picture")
        # served beside the noisy one's queue, which is as long as it was
        assert (holder.open, queue.waiting) == (8, len(asked) - 8)
        late = await asyncio.gather(*asked)
        refused = [one for one in late if one.status != 200]
        assert {one.status for one in refused} == {429}
        assert len(refused) == len(asked) - 8
        told = await refused[0].json(content_type=None)
        assert "busy" in told["title"]
        assert "reached" not in str(told)
        assert refused[0].headers["Retry-After"] == "5"
        for one in late:
            one.close()
        await until(lambda: holder.open == queue.running == 0)


# --- readers that stall -------------------------------------------------------------------------------------


async def test_a_stalled_reader_of_a_plain_connection_is_cut() -> None:
    """There the kernel sends files, beside the connection's own buffer."""
    workers, (ours, theirs) = SystemWorkers(threads=1), socket.socketpair()
    ours.setblocking(False)
    try:
        with theirs, pytest.raises(ConnectionAbortedError):
            await pour(workers, ours, lambda: False, [Piece(before=bytes(16 << 20))], None, 0.3)
    finally:
        await workers.close()


# --- node ---------------------------------------------------------------------------------------------------


def person(name: str) -> Principal:
    """A clinician."""
    return Principal(subject=name, name=name, roles=frozenset({"clinician"}), organisation="RA2")


@contextmanager
def asking(count: int, ask: Callable[[int], Coroutine[Any, Any, T]]) -> Iterator[list[asyncio.Task[T]]]:
    """So many requests at once; what is still under way ends with the block."""
    tasks = [asyncio.create_task(ask(n)) for n in range(count)]
    try:
        yield tasks
    finally:
        for task in tasks:
            task.cancel()


def source(address: str) -> ClientSession:
    """A caller at one of the addresses of this machine: without credentials each is one of its own."""
    return ClientSession(connector=TCPConnector(local_addr=(address, 0), limit=0))


async def test_heavy_pictures_of_one_caller_do_not_hold_up_anothers(tmp_path: Path) -> None:
    async with serving(tmp_path, open_mode=False) as node:
        await node.add(part10(ct(side=1024)))
        url, order = f"{node.url}/dicomweb/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1", list[str]()

        async def picture(name: str, path: str) -> int:
            async with node.session.get(url + path, headers=node.access(person(name))) as answer:
                await answer.read()
                order.append(name)
                return answer.status

        heavy = "/rendered?viewport=8192,8192&window=40,{},linear"
        with asking(10, lambda n: picture("noisy", heavy.format(400 + n))) as noisy:
            await until(lambda: node.serve.decoding.queue.waiting == 9)
            assert await picture("quiet", "/thumbnail") == 200
            await asyncio.gather(*noisy)
        assert {task.result() for task in noisy} == {200}
        assert order.index("quiet") <= 1


@asynccontextmanager
async def large_studies(folder: Path, config: ServeConfig, **more: Any) -> AsyncIterator[Served]:
    """A study that no socket's buffers hold, and a small one."""
    async with serving(folder, config=config, **more) as node:
        for number in (1, 2, 3):
            await node.add(part10(ct("1.2.7", "1.2.7.1", f"1.2.7.1.{number}", side=2048, number=number)))
        await node.add(part10(ct("1.2.8", "1.2.8.1", "1.2.8.1.1")))
        yield node


async def test_stalled_retrieves_of_one_person_leave_others_theirs(tmp_path: Path) -> None:
    config = ServeConfig(retrieves=8, retrieves_per_caller=4, turn_timeout_s=1.0)
    async with large_studies(tmp_path, config, open_mode=False) as node, client_session(limit=0) as there:
        queue = cast(Shares, node.serve.release._sending).queue

        async def get(name: str, study: str) -> ClientResponse:
            return await there.get(f"{node.url}/dicomweb/studies/{study}", headers=node.access(person(name)))

        with asking(20, lambda _: get("noisy", "1.2.7")) as noisy:
            await until(lambda: (queue.running, queue.waiting) == (4, 16))
            answer = await get("quiet", "1.2.8")
            assert (answer.status, len(await answer.read()) > 500) == (200, True)
            assert (queue.running, queue.waiting) == (4, 16)
            refused = [one for one in await asyncio.gather(*noisy) if one.status != 200]
        assert {(one.status, one.headers["Retry-After"]) for one in refused} == {(429, "5")}
        assert "busy" in (await refused[0].json(content_type=None))["title"]


def imaging(study: str, *numbers: int) -> bytes:
    """A RAD-69 request for instances of a study."""
    series = f"{study}.1"
    documents = tuple(DocumentRequest(LOCATION, f"{series}.{number}") for number in numbers)
    asked = ImagingRequest(
        (StudyRequest(study, (SeriesRequest(series, documents),)),), (ExplicitVRLittleEndian,)
    )
    return render_envelope(rad69.ACTION_REQUEST, rad69.render_imaging_request(asked), message_id="urn:uuid:1")


async def test_stalled_retrieves_of_one_system_leave_others_theirs(tmp_path: Path) -> None:
    config = ServeConfig(retrieves=8, retrieves_per_caller=4, turn_timeout_s=1.0)
    async with large_studies(tmp_path, config, listener="systems") as node:
        queue = cast(Shares, node.serve.release._sending).queue

        async def ask(caller: ClientSession, body: bytes) -> ClientResponse:
            headers = {"Content-Type": "application/soap+xml; charset=utf-8"}
            return await caller.post(f"{node.url}/rad69", data=body, headers=headers)

        async with source("127.0.0.2") as noisy_one, source("127.0.0.3") as quiet_one:
            with asking(20, lambda _: ask(noisy_one, imaging("1.2.7", 1, 2, 3))) as noisy:
                await until(lambda: (queue.running, queue.waiting) == (4, 16))
                answer = await ask(quiet_one, imaging("1.2.8", 1))
                assert answer.status == 200
                assert b"ResponseStatusType:Success" in await answer.read()
                assert (queue.running, queue.waiting) == (4, 16)
                answers = await asyncio.gather(*noisy)
                small = [one for one in answers if (one.content_length or 0) < 10_000]
                assert len(small) == 16
                told = [await one.read() for one in small]
        assert all(b":Busy<" in body and b"busy with yours" in body for body in told)
        assert {one.headers["Retry-After"] for one in small} == {"5"}


async def test_dripping_stores_of_one_caller_leave_others_theirs(tmp_path: Path) -> None:
    config = ServeConfig(stores=8, stores_per_caller=4)
    async with serving(tmp_path, config=config) as node:
        queue, ended = node.serve.storing.queue, asyncio.Event()

        async def drip() -> AsyncIterator[bytes]:
            yield b"--x\r\nContent-Type: application/dicom\r\n\r\n"
            await ended.wait()

        async def store(caller: ClientSession, body: Any) -> ClientResponse:
            headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=x'}
            return await caller.post(f"{node.url}/dicomweb/studies", data=body, headers=headers)

        async with source("127.0.0.2") as noisy_one, source("127.0.0.3") as quiet_one:
            with asking(12, lambda _: store(noisy_one, drip())):
                await until(lambda: (queue.running, queue.waiting) == (4, 8))
                whole = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + part10(ct()) + b"\r\n--x--\r\n"
                assert (await store(quiet_one, whole)).status == 200
                assert (queue.running, queue.waiting) == (4, 8)
