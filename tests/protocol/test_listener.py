"""The HTTP listener's connections: bounded for each address, idle ones give way, stalled readers are cut."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

from aiohttp import web

from crosslight.runtime.listener import STALL_BYTES, ConnectionsConfig, Listener, Stall, queued

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
ASK = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(request: web.Request) -> web.Response:
    return web.Response(text="hello")


class Endless:
    """A body without end, and how it ended."""

    def __init__(self) -> None:
        self.begun, self.ended = asyncio.Event(), asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        try:
            while True:
                await response.write(bytes(1 << 16))
                self.begun.set()
        finally:
            self.ended.set()


@asynccontextmanager
async def listening(
    config: ConnectionsConfig, handler: Callable[..., object] = hello
) -> AsyncIterator[tuple[Listener, Callable[..., Awaitable[Streams]]]]:
    app = web.Application()
    app.router.add_get("/", handler)  # type: ignore[arg-type]  # a handler, whatever it returns
    listener, open_ones = Listener(app, "127.0.0.1", 0, config=config), list[asyncio.StreamWriter]()
    listener.shutdown_s = 0.1
    await listener.start()

    async def connect(address: str = "127.0.0.1") -> Streams:
        streams = await asyncio.open_connection("127.0.0.1", listener.port, local_addr=(address, 0))
        open_ones.append(streams[1])
        return streams

    try:
        yield listener, connect
    finally:
        for writer in open_ones:
            writer.close()
        await listener.stop()


async def answered(streams: Streams) -> bytes:
    reader, writer = streams
    writer.write(ASK)
    return await asyncio.wait_for(reader.readuntil(b"hello"), 10)


async def test_idle_connections_of_one_address_shut_nobody_out() -> None:
    config = ConnectionsConfig(most=16, per_address=12)
    async with listening(config) as (listener, connect):
        idle = [await connect("127.0.0.2") for _ in range(40)]
        other = await connect("127.0.0.3")  # another's
        assert await answered(other) == await answered(other)
        beside = await connect("127.0.0.2")  # and one of the same address
        assert b"200 OK" in await answered(beside)
        assert await asyncio.wait_for(idle[0][0].read(), 10) == b""  # the oldest gave way
        assert (listener.places.of("127.0.0.2"), listener.places.of("127.0.0.3")) == (12, 1)


async def test_a_connection_without_a_place_is_told_that_it_is_busy() -> None:
    endless = Endless()
    async with listening(ConnectionsConfig(most=16, per_address=1), endless.handle) as (_, connect):
        _, writer = await connect("127.0.0.2")
        writer.write(ASK)
        await asyncio.wait_for(endless.begun.wait(), 10)
        reader, _ = await connect("127.0.0.2")
        told = await asyncio.wait_for(reader.read(), 10)
        assert told.startswith(b"HTTP/1.1 429 Busy\r\n")
        assert b"Retry-After: 5\r\n" in told
        assert b"busy with yours" in told


async def test_a_reader_that_stalls_is_cut() -> None:
    endless = Endless()
    config = ConnectionsConfig(send_stall_s=0.5)
    async with listening(config, endless.handle) as (listener, connect):
        reader, writer = await connect()
        writer.write(ASK)
        await reader.readexactly(1000)
        await asyncio.wait_for(endless.ended.wait(), 20)
        assert len(listener.places) == 0


async def test_what_the_other_end_takes_is_seen_while_the_kernel_still_holds_much() -> None:
    """So a slow reader is told from one that has stalled."""
    with (
        socket.create_server(("127.0.0.1", 0)) as door,
        socket.create_connection(door.getsockname()) as there,
    ):
        ours, _ = door.accept()
        with ours:
            ours.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    ours.send(bytes(1 << 20))
            full = queued(ours)
            assert full > 1 << 16
            async with asyncio.timeout(10):
                while queued(ours) > full - STALL_BYTES:
                    there.recv(1 << 16)
                    await asyncio.sleep(0)
        assert queued(ours) == 0  # closed: cannot be told


def test_how_long_a_stall_lasts() -> None:
    now = [0.0]
    stall = Stall(10.0, lambda: now[0])
    assert not stall.lasts(0)
    now[0] = 9.9
    assert not stall.lasts(STALL_BYTES - 1)  # next to nothing
    now[0] = 10.0
    assert stall.lasts(STALL_BYTES - 1)
    assert not stall.lasts(STALL_BYTES)
    now[0] = 19.0
    assert not stall.lasts(STALL_BYTES)
    now[0] = 20.0
    assert stall.lasts(STALL_BYTES)
