"""MLLP over real sockets: order, bounds, cutting off."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from crosslight.runtime.mllp import MllpClient, MllpLimits, MllpServer, Peer, Unanswered
from crosslight.standards.hl7.framing import frame
from crosslight.standards.problem import Malformed, Unavailable

Start = Callable[..., Awaitable[MllpServer]]


async def echo(message: bytes, peer: Peer) -> bytes:
    return b"ack:" + message


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    servers: list[MllpServer] = []

    async def make(handler: Callable[[bytes, Peer], Awaitable[bytes]] = echo, **limits: float) -> MllpServer:
        server = MllpServer(handler, "127.0.0.1", 0, limits=MllpLimits(**limits))  # type: ignore[arg-type]
        await server.start()
        servers.append(server)
        return server

    yield make
    for server in servers:
        await server.stop()


async def test_many_messages_on_one_connection(start: Start) -> None:
    server = await start()
    client = MllpClient("127.0.0.1", server.port)
    assert await asyncio.gather(*(client.send(b"%d" % i) for i in range(20))) == [
        b"ack:%d" % i for i in range(20)
    ]
    await client.close()


async def test_pipelined_messages_are_answered_in_order(start: Start) -> None:
    async def slow_first(message: bytes, peer: Peer) -> bytes:
        await asyncio.sleep(0.05 if message == b"0" else 0)
        return message

    server = await start(slow_first)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"".join(frame(b"%d" % i) for i in range(5)))
    expected = b"".join(frame(b"%d" % i) for i in range(5))
    assert await asyncio.wait_for(reader.readexactly(len(expected)), 5) == expected
    writer.close()


@pytest.mark.parametrize("data", [b"\x0b" + b"x" * 200, b"GET / HTTP/1.1\r\n\r\n"])
async def test_what_breaks_the_frame_or_the_bound_is_cut_off(start: Start, data: bytes) -> None:
    server = await start(max_message_bytes=100)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(data)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_a_slow_message_and_an_idle_connection_end(start: Start) -> None:
    server = await start(message_timeout_s=0.1, idle_timeout_s=30)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"\x0bhalf")
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
    server = await start(idle_timeout_s=0.1)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()


async def test_dripped_bytes_do_not_extend_a_message_for_ever(start: Start) -> None:
    server = await start(message_timeout_s=0.2, idle_timeout_s=30)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(b"\x0b")
    closed = asyncio.ensure_future(reader.read())
    for _ in range(100):
        if closed.done():
            break
        writer.write(b"x")
        await asyncio.wait([closed], timeout=0.02)
    assert closed.done()
    writer.close()


async def test_connections_are_bounded_and_can_be_cut(start: Start) -> None:
    begun, going = asyncio.Event(), asyncio.Event()

    async def slow(message: bytes, peer: Peer) -> bytes:
        if message == b"slow":
            begun.set()
            await going.wait()
        return b"ack:" + message

    server = await start(slow, max_connections=1)
    client = MllpClient("127.0.0.1", server.port)
    asked = asyncio.create_task(client.send(b"slow"))
    await begun.wait()
    other = MllpClient("127.0.0.1", server.port)
    with pytest.raises(Unanswered):
        await other.send(b"b")
    going.set()
    assert await asked == b"ack:slow"
    assert server.disconnect(lambda peer: peer.address == "127.0.0.1") == 1
    reader = client._streams[0] if client._streams else None
    assert reader is not None
    await asyncio.wait_for(reader.read(), 5)
    assert await client.send(b"c") == b"ack:c", "a client comes back on a connection of its own"
    await client.close()
    await other.close()


async def test_no_answer_and_no_server(start: Start) -> None:
    async def never(message: bytes, peer: Peer) -> bytes:
        await asyncio.sleep(30)
        return b""

    server = await start(never)
    client = MllpClient("127.0.0.1", server.port, ack_timeout_s=0.05)
    with pytest.raises(Unanswered):
        await client.send(b"a")
    await server.stop()
    with pytest.raises(Unavailable) as unreachable:
        await client.send(b"a")
    assert not isinstance(unreachable.value, Unanswered)
    await client.close()


async def test_an_answer_that_is_no_frame() -> None:
    async def http(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(http, "127.0.0.1", 0)
    client = MllpClient("127.0.0.1", server.sockets[0].getsockname()[1])
    with pytest.raises(Malformed):
        await client.send(b"a")
    await client.close()
    server.close()
