"""A small HTTP/1.1 client that costs little beside the servers it loads: prepared bytes out, whole bodies in, keep-alive."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

LIMIT = 1 << 20


def get(host: str, path: str, accept: str) -> bytes:
    """A GET as bytes."""
    return f"GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: {accept}\r\n\r\n".encode()


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
    first_byte_s: float = 0.0  # of the last answer


async def _body(reader: asyncio.StreamReader, fields: dict[bytes, bytes], keep: bool) -> tuple[bytes, int]:
    """The body, kept or only counted."""
    kept, total = bytearray(), 0

    async def take(n: int) -> None:
        nonlocal total
        total += n
        while n:
            piece = await reader.read(min(n, LIMIT))
            if not piece:
                raise BadAnswerError("the connection ended within a body")
            n -= len(piece)
            if keep:
                kept.extend(piece)

    if b"chunked" in fields.get(b"transfer-encoding", b""):
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            await take(size)
            await reader.readexactly(2)
        await reader.readuntil(b"\r\n")
    elif b"content-length" in fields:
        await take(int(fields[b"content-length"]))
    else:  # until the connection ends
        while piece := await reader.read(LIMIT):
            total += len(piece)
            if keep:
                kept.extend(piece)
    return bytes(kept), total


async def _client(
    host: str,
    port: int,
    requests: Iterator[bytes],
    until: float,
    loaded: Loaded,
    check: Callable[[bytes], bool] | None,
    keep: list[bytes] | None,
) -> None:
    reader, writer = await asyncio.open_connection(host, port, limit=LIMIT)
    try:
        for request in requests:
            if reader.at_eof():
                writer.close()
                reader, writer = await asyncio.open_connection(host, port, limit=LIMIT)
            started = time.perf_counter()
            if started > until:
                break
            writer.write(request)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            loaded.first_byte_s = time.perf_counter() - started
            status = int(head.split(b" ", 2)[1])
            fields = dict(line.split(b":", 1) for line in head.lower().split(b"\r\n")[1:] if b":" in line)
            body, size = await _body(reader, fields, keep=bool(check) or keep is not None or status >= 300)
            if status not in (200, 202) or (check is not None and not check(body)):
                raise BadAnswerError(f"{request[:160]!r}: status {status}: …{body[-600:]!r}")
            if keep is not None:
                keep.append(body)
            loaded.latencies.append(time.perf_counter() - started)
            loaded.count += 1
            loaded.received += size
    finally:
        writer.close()


async def load(
    host: str,
    port: int,
    requests: Iterable[bytes],
    *,
    clients: int = 1,
    seconds: float = float("inf"),
    check: Callable[[bytes], bool] | None = None,
    keep: list[bytes] | None = None,
) -> Loaded:
    """Send ``requests`` over ``clients`` connections, each waiting for its answer, until they or the seconds run out.

    Args:
        check: Whether a body is as it should be.
        keep: Where bodies go.

    Raises:
        BadAnswerError: for any other status than 200 or 202, and for a body that ``check`` refuses.
    """
    loaded, shared = Loaded(), iter(requests)
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_client(host, port, shared, until, loaded, check, keep) for _ in range(clients)))
    return loaded
