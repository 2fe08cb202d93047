"""Streams through the region's DICOMweb root: memory, slow readers, holders that hang or break off."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aiohttp import ClientError, web
from gateway_region import GatewayRegion, endless_member, gateway_region
from loopback import served
from node_serving import ct
from region_holders import DICOM_PARTS

from registry.gateway.config import GatewayConfig


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[GatewayRegion]:
    async with gateway_region(tmp_path) as found:
        yield found


class Fountain:
    """A holder that sends as much as is asked for, and knows what became of it."""

    def __init__(self, total: int | None, *, length: bool) -> None:
        self.total, self.length = total, length
        self.sent, self.cut, self.begun = 0, asyncio.Event(), asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": DICOM_PARTS + "; boundary=x"})
        if self.length and self.total is not None:
            response.content_length = self.total
        await response.prepare(request)
        chunk = bytes(1 << 16)
        try:
            while self.total is None or self.sent < self.total:
                await response.write(chunk)
                self.sent += len(chunk)
                self.begun.set()
        except (ConnectionError, asyncio.CancelledError):
            self.cut.set()
            raise
        return response


async def _study_at(region: GatewayRegion, code: str) -> None:
    await region.add(code, ct("1.2.7", "1.2.7.1", "1.2.7.1.1"))


async def test_a_large_study_passes_in_constant_memory_with_its_length(region: GatewayRegion) -> None:
    await _study_at(region, "RTK")
    total = 256 << 20
    fountain = Fountain(total, length=True)
    app = web.Application()
    app.router.add_get("/dicomweb/studies/1.2.7", fountain.handle)
    async with served(app) as url:
        with endless_member(region, "RTK", url):
            tracemalloc.start()
            try:
                async with region.http.get(f"{region.base}/dicomweb/studies/1.2.7") as response:
                    assert response.content_length == total
                    received = 0
                    async for piece in response.content.iter_any():
                        received += len(piece)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert received == total
    assert peak < 12 << 20, f"{peak} bytes held at once"


async def test_a_slow_reader_holds_the_holder_back_and_leaving_ends_it(region: GatewayRegion) -> None:
    await _study_at(region, "RTK")
    fountain = Fountain(None, length=False)
    app = web.Application()
    app.router.add_get("/dicomweb/studies/1.2.7", fountain.handle)
    async with served(app) as url:
        with endless_member(region, "RTK", url):
            async with region.http.get(f"{region.base}/dicomweb/studies/1.2.7") as response:
                await response.content.readexactly(1 << 16)
                before = -1
                while before != fountain.sent:  # until nothing moves any more
                    before = fountain.sent
                    await asyncio.sleep(0.2)
                assert fountain.sent < 64 << 20  # what sockets and buffers between hold, not a study
                response.close()
            await asyncio.wait_for(fountain.cut.wait(), 5)
    assert not (await region.acts())[-1].text.startswith("ok")


async def test_suspension_cuts_a_running_stream(region: GatewayRegion) -> None:
    await _study_at(region, "RTK")
    fountain = Fountain(None, length=False)
    app = web.Application()
    app.router.add_get("/dicomweb/studies/1.2.7", fountain.handle)
    async with served(app) as url:
        with endless_member(region, "RTK", url):
            async with region.http.get(f"{region.base}/dicomweb/studies/1.2.7") as response:
                await response.content.readexactly(1 << 16)
                region.suspend("RTK")

                async def drain() -> None:
                    async for _ in response.content.iter_any():
                        pass

                with pytest.raises((ClientError, ConnectionError)):  # an error, never a quiet end
                    await asyncio.wait_for(drain(), 5)
            await asyncio.wait_for(fountain.cut.wait(), 5)


async def test_a_broken_stream_never_ends_as_if_it_were_whole(region: GatewayRegion) -> None:
    await _study_at(region, "RTK")

    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x" * 1000)
        assert request.transport is not None
        request.transport.abort()
        return response

    app = web.Application()
    app.router.add_get("/dicomweb/studies/1.2.7", broken)
    async with served(app) as url:
        with endless_member(region, "RTK", url):
            with pytest.raises(ClientError):
                async with region.http.get(f"{region.base}/dicomweb/studies/1.2.7") as response:
                    await response.read()


async def test_a_holder_that_hangs_is_given_up(tmp_path: Path) -> None:
    async with gateway_region(tmp_path, ("RTK",), config=GatewayConfig(answer_timeout_s=0.3)) as region:
        await _study_at(region, "RTK")

        async def hang(request: web.Request) -> web.StreamResponse:
            await asyncio.Event().wait()
            raise AssertionError

        app = web.Application()
        app.router.add_get("/dicomweb/studies/1.2.7", hang)
        async with served(app) as url:
            with endless_member(region, "RTK", url):
                async with region.http.get(f"{region.base}/dicomweb/studies/1.2.7") as response:
                    assert response.status == 504
