"""A body that stops coming does not hold a connection for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from crosslight.runtime import http
from crosslight.runtime.clock import SystemIds
from crosslight.runtime.http import ErrorRenderers, problems, read_limited, timely_chunks


async def _whole(request: web.Request) -> web.Response:
    return web.Response(body=await read_limited(request, 1 << 20))


async def _in_chunks(request: web.Request) -> web.Response:
    return web.Response(text=str(sum([len(chunk) async for chunk in timely_chunks(request.content, 10)])))


@pytest.mark.parametrize(
    ("handler", "bound"), [(_whole, "STALL_S"), (_whole, "WHOLE_S"), (_in_chunks, "STALL_S")]
)
async def test_a_body_that_stops_coming_is_given_up(
    handler: Callable[[web.Request], Awaitable[web.Response]], bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http, bound, 0.05)
    app = web.Application(middlewares=[problems(ErrorRenderers(), SystemIds())])
    app.router.add_post("/", handler)
    async with TestServer(app) as server, asyncio.timeout(20):
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\n0123456789")
        assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
        writer.close()
        reader, writer = await asyncio.open_connection(server.host, server.port)
        writer.write(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n0123456789")
        assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
        writer.close()
