"""A small HTTP/1.1 client that costs little beside the servers it loads: prepared bytes out, whole bodies in,
keep-alive.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

LIMIT = 1 << 20


def get(host: str, path: str, accept: str, token: str = "") -> bytes:
    """A GET as bytes, with a bearer token where one is given."""
    shown = f"Authorization: Bearer {token}\r\n" if token else ""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n{shown}\r\n".encode()


def post(host: str, path: str, content_type: str, body: bytes, accept: str = "*/*") -> bytes:
    """A POST as bytes."""
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\nContent-Type: {content_type}\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


class BadAnswerError(Exception):
    """A server under measurement did not do what it was asked; the run is worth nothing."""


@dataclass(slots=True)
class Loaded:
    """What a load did."""

    count: int = 0
    received: int = 0  # bytes of bodies
    latencies: list[float] = field(default_factory=list)
    ended: list[float] = field(default_factory=list)  # when each answer was there
    first_byte_s: float = 0.0  # of the last answer's body


class _Connection:
    """A socket read into one buffer that is made once: what arrives is counted where it lies, and copied only
    to be kept.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._buffer = bytearray(LIMIT)
        self._view = memoryview(self._buffer)
        self._start = self._end = 0  # what was received and not yet taken

    async def send(self, request: bytes) -> None:
        """Send a request, over a new connection where the old one has ended."""
        if self._socket is None or self._ended():
            self.close()
            self._socket = socket.create_connection(self._address)
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._start = self._end = 0
        await self._loop.sock_sendall(self._socket, request)

    def _ended(self) -> bool:
        try:
            return self._socket is None or not self._socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    async def _receive(self, room: memoryview) -> int:
        assert self._socket is not None
        return await self._loop.sock_recv_into(self._socket, room)

    async def _more(self) -> bool:
        """Receive something; False at the end of the connection."""
        if self._start == self._end:
            self._start = self._end = 0
        elif self._end == len(self._buffer):
            rest = bytes(self._view[self._start : self._end])
            if len(rest) == len(self._buffer):
                raise BadAnswerError("a line without end")
            self._start, self._end = 0, len(rest)
            self._view[: len(rest)] = rest
        got = await self._receive(self._view[self._end :])
        self._end += got
        return got > 0

    async def until(self, mark: bytes) -> bytes:
        """All up to ``mark``, which is taken too."""
        while (at := self._buffer.find(mark, self._start, self._end)) < 0:
            if not await self._more():
                raise BadAnswerError("the connection ended within an answer")
        data = bytes(self._view[self._start : at])
        self._start = at + len(mark)
        return data

    async def take(self, count: float, kept: bytearray | None) -> int:
        """``count`` bytes, or all until the end of the connection when that is infinite; how many."""
        total = 0
        while total < count:
            if self._start == self._end and not await self._more():
                if count < float("inf"):
                    raise BadAnswerError("the connection ended within a body")
                break
            size = int(min(self._end - self._start, count - total))
            if kept is not None:
                kept += self._view[self._start : self._start + size]
            self._start += size
            total += size
        return total

    async def begun(self) -> None:
        """Wait for the first byte of what comes next."""
        if self._start == self._end:
            await self._more()

    async def body(self, fields: dict[bytes, bytes], kept: bytearray | None) -> int:
        """The body, kept or only counted; its size."""
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            total = 0
            while size := int((await self.until(b"\r\n")).split(b";")[0], 16):
                total += await self.take(size, kept)
                await self.until(b"\r\n")
            await self.until(b"\r\n")
            return total
        return await self.take(float(fields.get(b"content-length", b"inf")), kept)


class _OverTls(_Connection):
    """The same over TLS, by asyncio's streams: it costs the client more, and the server what it costs it."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext) -> None:
        super().__init__(host, port)
        self._tls = tls
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, request: bytes) -> None:
        if self._streams is None or self._streams[0].at_eof():
            self.close()
            self._streams = await asyncio.open_connection(*self._address, ssl=self._tls, limit=LIMIT)
            self._start = self._end = 0
        self._streams[1].write(request)
        await self._streams[1].drain()

    async def _receive(self, room: memoryview) -> int:
        assert self._streams is not None
        data = await self._streams[0].read(len(room))
        room[: len(data)] = data
        return len(data)

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def _client(
    connection: _Connection,
    requests: Iterator[bytes],
    until: float,
    loaded: Loaded,
    check: Callable[[bytes], bool] | None,
    keep: list[bytes] | None,
) -> None:
    try:
        for request in requests:
            started = time.perf_counter()
            if started > until:
                break
            await connection.send(request)
            head = await connection.until(b"\r\n\r\n")
            status = int(head.split(b" ", 2)[1])
            fields = dict(line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:] if b":" in line)
            if fields.get(b"content-length", b"").strip() != b"0":
                await connection.begun()
            loaded.first_byte_s = time.perf_counter() - started
            kept = bytearray() if check or keep is not None or status >= 300 else None
            size = await connection.body(fields, kept)
            if status not in (200, 202) or (check is not None and not check(bytes(kept or b""))):
                raise BadAnswerError(f"{request[:160]!r}: status {status}: …{bytes(kept or b'')[-600:]!r}")
            if keep is not None:
                keep.append(bytes(kept or b""))
            loaded.ended.append(time.perf_counter())
            loaded.latencies.append(loaded.ended[-1] - started)
            loaded.count += 1
            loaded.received += size
    finally:
        connection.close()


async def load(
    host: str,
    port: int,
    requests: Iterable[bytes],
    *,
    clients: int = 1,
    seconds: float = float("inf"),
    check: Callable[[bytes], bool] | None = None,
    keep: list[bytes] | None = None,
    tls: ssl.SSLContext | None = None,
) -> Loaded:
    """Send ``requests`` over ``clients`` connections, each waiting for its answer, until they or the seconds
    run out.

    Args:
        check: Whether a body is as it should be.
        keep: Where bodies go.
        tls: Connections are over TLS.

    Raises:
        BadAnswerError: for any other status than 200 or 202, and for a body that ``check`` refuses.
    """
    loaded, shared = Loaded(), iter(requests)
    until = time.perf_counter() + seconds
    made = (_OverTls(host, port, tls) if tls else _Connection(host, port) for _ in range(clients))
    await asyncio.gather(*(_client(connection, shared, until, loaded, check, keep) for connection in made))
    return loaded
