"""One caller at its worst, and another beside it: who is served before the first one's queue is drained, and
never hears that something is busy or cannot be reached. Order is told by what has happened, never by a clock.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from aiohttp import web
from gateway_region import ASKING, GatewayRegion, endless_member, gateway_region
from loopback import served
from node_serving import ct

from crosslight.runtime.workers import Workers
from node.serve.sendfile import Piece, pour
from registry.gateway.config import GatewayConfig

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
    workers, (ours, theirs) = Workers(threads=1), socket.socketpair()
    ours.setblocking(False)
    try:
        with theirs, pytest.raises(ConnectionAbortedError):
            await pour(workers, ours, lambda: False, [Piece(before=bytes(16 << 20))], None, 0.3)
    finally:
        await workers.close()
