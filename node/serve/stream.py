"""Bytes from disk to a socket in bounded memory (D26): at most 4 MiB in flight, nothing held of a study."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace

from aiohttp import hdrs, web
from aiohttp.http_writer import StreamWriter

from crosslight.runtime.http import CORRELATION, CORRELATION_HEADER
from crosslight.runtime.log import get_logger
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import CrosslightError
from node.archive.model import StoredObject
from node.serve.context import ServeContext
from node.serve.release import Act
from node.serve.sendfile import NEAR_BYTES, Piece, corked, in_memory, plain_socket, pour, short, unreadable

log = get_logger("serve")

CHUNK = 1 << 20
PREAMBLE = b"\0" * 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A Part 10 file that is going out: an object as stored, or re-encoded in the spool."""

    object: StoredObject
    file: str
    size: int
    transfer_syntax: str
    zero_preamble: bool  # D23: unless it is TIFF


def stored(found: StoredObject) -> Source:
    """An object as it was received."""
    return Source(
        object=found,
        file=found.file,
        size=found.end,
        transfer_syntax=found.ref.transfer_syntax_uid,
        zero_preamble=not found.preamble_is_tiff,
    )


def read_at(file: str, offset: int, length: int) -> bytes:
    """Bytes of a file.

    Raises:
        StorageError: when they are not there: the file is shorter than the index says, or gone.
    """
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(fd, length, offset)
        finally:
            os.close(fd)
    except OSError as error:
        raise unreadable(error) from None
    if len(data) != length:
        raise short()
    return data


async def span(workers: Workers, file: str, offset: int, length: int) -> AsyncGenerator[bytes]:
    """A span of a file in pieces of at most ``CHUNK``."""
    end = offset + length
    while offset < end:
        data = await workers.run(read_at, file, offset, min(CHUNK, end - offset))
        offset += len(data)
        yield data


def piece_of(source: Source, before: bytes = b"") -> Piece:
    """A file with ``before`` in front of it, its preamble zeroed where it should be."""
    skip = len(PREAMBLE) if source.zero_preamble and source.size >= len(PREAMBLE) else 0
    return Piece(file=source.file, offset=skip, length=source.size - skip, before=before + PREAMBLE[:skip])


def _spans(pieces: Iterable[Piece]) -> Iterator[bytes | tuple[str, int, int]]:
    for piece in pieces:
        if piece.before:
            yield piece.before
        if piece.file:
            end = piece.offset + piece.length
            for offset in range(piece.offset, end, CHUNK):
                yield piece.file, offset, min(CHUNK, end - offset)


async def _read_ahead(workers: Workers, pieces: Iterable[Piece]) -> AsyncGenerator[bytes]:
    """Pieces in their order, files in chunks; the next chunk is read while one is sent. Two are in memory at a time."""
    ready: deque[bytes | asyncio.Task[bytes]] = deque()
    reading = 0
    try:
        for found in _spans(pieces):
            if isinstance(found, bytes):
                ready.append(found)
                continue
            ready.append(asyncio.create_task(workers.run(read_at, *found)))
            reading += 1
            while reading == 2:
                first = ready.popleft()
                reading -= not isinstance(first, bytes)
                yield first if isinstance(first, bytes) else await first
        while ready:
            first = ready.popleft()
            yield first if isinstance(first, bytes) else await first
    finally:
        for left in ready:
            if isinstance(left, asyncio.Task) and not left.done():
                left.cancel()
                with suppress(asyncio.CancelledError, CrosslightError):
                    await left


async def _read_here(pieces: Iterable[Piece]) -> AsyncGenerator[bytes]:
    """As :func:`_read_ahead`, for what is in memory."""
    for found in _spans(pieces):
        yield found if isinstance(found, bytes) else read_at(*found)


async def chunks(workers: Workers, source: Source) -> AsyncGenerator[bytes]:
    """The file in pieces of at most ``CHUNK``, its preamble zeroed where it should be.

    Raises:
        StorageError: when the file is not as long as the index says.
    """
    first = True
    async with aclosing(span(workers, source.file, 0, source.size)) as pieces:
        async for data in pieces:
            if first and source.zero_preamble and len(data) >= len(PREAMBLE):
                yield PREAMBLE + data[len(PREAMBLE) :]
            else:
                yield data
            first = False


class Held(web.StreamResponse):
    """A response whose headers wait for the first bytes of its body: one packet less."""

    _send_headers_immediately = False

    def send_headers(self) -> None:
        """Wait no longer."""
        if isinstance(self._payload_writer, StreamWriter):
            self._payload_writer.send_headers()


@asynccontextmanager
async def _begun(request: web.Request, response: web.StreamResponse, act: Act) -> AsyncIterator[bool]:
    """A response whose headers are sent, once its act is committed; whether a body is wanted.

    What fails from now on cuts the connection, so that nobody takes a part for the whole.
    """
    response.headers[CORRELATION_HEADER] = request.get(CORRELATION, "")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    await act.committed()
    await response.prepare(request)
    try:
        wanted = request.method != hdrs.METH_HEAD
        yield wanted
        if wanted:
            await response.write_eof()
    except (ConnectionError, asyncio.CancelledError):
        raise
    except CrosslightError as error:
        log.error("an object could not be sent", reason=error.what, correlation=request.get(CORRELATION, ""))
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionAbortedError("an object could not be sent") from error


async def send(
    request: web.Request, response: web.StreamResponse, pieces: AsyncGenerator[bytes] | AsyncGenerator[bytearray], act: Act
) -> web.StreamResponse:
    """Send a body whose headers are decided, as it is made."""
    async with aclosing(pieces), _begun(request, response, act) as wanted:
        if wanted:
            async for piece in pieces:
                await response.write(piece)
    return response


async def send_pieces(
    serve: ServeContext, request: web.Request, response: Held, pieces: Sequence[Piece], act: Act
) -> web.StreamResponse:
    """Send spans of files, and what stands between them, as a body of exactly that length.

    The kernel moves the bytes on a plain connection; they go in bounded chunks over TLS (D26). What is little and in the page
    cache needs no thread.
    """
    size = sum(len(piece.before) + piece.length for piece in pieces)
    near = size <= NEAR_BYTES and in_memory(pieces)
    response.content_length = size
    async with _begun(request, response, act) as wanted:
        if not wanted or not size:
            return response
        first, rest = pieces[0].before, [replace(pieces[0], before=b""), *pieces[1:]]
        with corked(request.transport):
            if first:
                await response.write(first)  # together with the headers
            else:
                response.send_headers()
            sock = plain_socket(request.transport)
            if sock is not None and request.transport is not None:
                await pour(serve.workers, sock, request.transport.is_closing, rest, serve.near if near else None)
                return response
        async with aclosing(_read_here(rest) if near else _read_ahead(serve.workers, rest)) as chunked:
            async for chunk in chunked:
                await response.write(chunk)
    return response
