"""Bytes of objects to a socket in bounded memory (D26): at most 4 MiB in flight, nothing held of a study.

Objects are opened at their turn (``node/holdings.py``). Those on this machine go by :func:`send_spans`, which
the kernel helps; others pass through in chunks.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Iterator, Sequence
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial

from aiohttp import hdrs, web
from aiohttp.http_writer import StreamWriter

from crosslight.runtime.audit import Act
from crosslight.runtime.http import CORRELATION, CORRELATION_HEADER
from crosslight.runtime.log import get_logger
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import CrosslightError
from node.holdings import Fetched, Local, Passed
from node.serve.context import ServeContext
from node.serve.opened_objects import (
    Rendition,
    chunks,
    chunks_of,
    cut,
    let_go,
    opened_of,
    piece_of,
    read_span,
)
from node.serve.ranges import ByteRange, cut_pieces, range_of
from node.serve.sendfile import NEAR_BYTES, Piece, corked, in_memory, plain_socket, pour

log = get_logger("serve")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """Bytes, then an object."""

    before: bytes = b""
    source: Rendition | None = None


def _spans(pieces: Iterable[Piece]) -> Iterator[bytes | Local]:
    for piece in pieces:
        if piece.before:
            yield piece.before
        if piece.span is not None:
            yield from cut(piece.span)


async def _read_ahead(workers: Workers, pieces: Iterable[Piece]) -> AsyncGenerator[bytes]:
    """Pieces in their order, files in chunks; the next chunk is read while one is sent.

    Two are in memory at a time.
    """
    ready: deque[bytes | asyncio.Task[bytes]] = deque()
    reading = 0
    try:
        for item in _spans(pieces):
            if isinstance(item, bytes):
                ready.append(item)
                continue
            ready.append(asyncio.create_task(workers.run(read_span, item)))
            reading += 1
            while reading == 2:
                first = ready.popleft()
                reading -= not isinstance(first, bytes)
                yield first if isinstance(first, bytes) else await first
        while ready:
            first = ready.popleft()
            yield first if isinstance(first, bytes) else await first
    finally:
        for unsent in ready:
            if isinstance(unsent, asyncio.Task) and not unsent.done():
                unsent.cancel()
                with suppress(asyncio.CancelledError, CrosslightError):
                    await unsent


async def _read_here(pieces: Iterable[Piece]) -> AsyncGenerator[bytes]:
    """As :func:`_read_ahead`, for what is in memory."""
    for item in _spans(pieces):
        yield item if isinstance(item, bytes) else read_span(item)


class LateHeadersResponse(web.StreamResponse):
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
    await act.begin()
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
    serve: ServeContext,
    request: web.Request,
    response: web.StreamResponse,
    pieces: AsyncGenerator[bytes] | AsyncGenerator[bytearray],
    act: Act,
) -> web.StreamResponse:
    """Send a body whose headers are decided, as it is made and as fast as who asks may have it."""
    paced = serve.bandwidth.paced(serve.bandwidth.partner_of(request), pieces)
    async with aclosing(paced), _begun(request, response, act) as wanted:
        if wanted:
            async for piece in paced:
                await response.write(piece)
    return response


async def send_objects(
    serve: ServeContext,
    request: web.Request,
    response: LateHeadersResponse,
    parts: Sequence[Outgoing],
    act: Act,
) -> web.StreamResponse:
    """Send objects, and what stands between them; of an answer with a strong tag, the range asked for.

    By :func:`send_spans` where all of them lie on this machine. Of what comes from elsewhere one is open at a
    time. The first is opened before the headers, so that a holding that gives nothing now is an error and not
    a broken answer.

    Raises:
        RangeNotSatisfiable: there are no such bytes.
    """
    span = _asked_range(request, response, parts)
    pieces: list[Piece] = []
    for at, part in enumerate(parts):
        if part.source is None:
            pieces.append(Piece(before=part.before))
            continue
        opened = await opened_of(serve, part.source)
        if not isinstance(opened, Local):
            try:
                return await _send_passed(serve, request, response, parts, (at, opened), act, span)
            finally:
                await let_go(opened)
        pieces.append(piece_of(part.before, part.source, opened))
    if span is not None:
        pieces = list(cut_pieces(pieces, span))
    return await send_spans(serve, request, response, pieces, act)


def _asked_range(
    request: web.Request, response: web.StreamResponse, parts: Sequence[Outgoing]
) -> ByteRange | None:
    """The range that is sent, with its headers set; an answer without a strong tag has none."""
    sizes = [0 if part.source is None else part.source.size for part in parts]
    known = [size for size in sizes if size is not None]
    if not response.headers.get(hdrs.ETAG, "").startswith('"') or len(known) < len(sizes):
        return None
    response.headers[hdrs.ACCEPT_RANGES] = "bytes"
    span = range_of(request, response.headers, sum(known) + sum(len(part.before) for part in parts))
    if span is not None:
        response.set_status(206)
        response.headers[hdrs.CONTENT_RANGE] = span.content_range
    return span


async def _send_passed(
    serve: ServeContext,
    request: web.Request,
    response: LateHeadersResponse,
    parts: Sequence[Outgoing],
    first: tuple[int, Fetched | Passed],
    act: Act,
    span: ByteRange | None,
) -> web.StreamResponse:
    sizes = [0 if part.source is None else part.source.size for part in parts]
    if sizes[first[0]] is None:
        opened = first[1]
        sizes[first[0]] = opened.length if isinstance(opened, Passed) else opened.local.length
    known = [size for size in sizes if size is not None]
    if len(known) == len(sizes):
        response.content_length = sum(known) + sum(len(part.before) for part in parts)

    async def body() -> AsyncGenerator[bytes]:
        for at, part in enumerate(parts):
            if part.before:
                yield part.before
            if part.source is None:
                continue
            pieces = chunks_of(serve, part.source, first[1]) if at == first[0] else chunks(serve, part.source)
            async with aclosing(pieces):
                async for data in pieces:
                    yield data

    chunked = body()
    if span is not None:
        response.content_length = span.length
        chunked = _within(chunked, span)
    return await send(serve, request, response, chunked, act)


async def _within(chunks: AsyncGenerator[bytes], span: ByteRange) -> AsyncGenerator[bytes]:
    """What of ``chunks`` lies in ``span``: what comes from elsewhere comes from its beginning."""
    at = 0
    async with aclosing(chunks):
        async for data in chunks:
            if at + len(data) > span.first:
                yield data[max(0, span.first - at) : span.end - at]
            at += len(data)
            if at >= span.end:
                return


async def send_spans(
    serve: ServeContext,
    request: web.Request,
    response: LateHeadersResponse,
    pieces: Sequence[Piece],
    act: Act,
) -> web.StreamResponse:
    """Send spans of files of this machine, and what stands between them, as a body of exactly that length.

    The kernel moves the bytes on a plain connection; they go in bounded chunks over TLS (D26). What is little
    and in the page cache needs no thread.
    """
    size = sum(piece.size for piece in pieces)
    near = size <= NEAR_BYTES and in_memory(pieces)
    partner = serve.bandwidth.partner_of(request)
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
            if near:
                await serve.bandwidth.take_all(partner, size)
                partner = ""
            sock = plain_socket(request.transport)
            if sock is not None and request.transport is not None:
                await pour(
                    serve.workers,
                    sock,
                    request.transport.is_closing,
                    rest,
                    serve.near if near else None,
                    serve.send_stall_s,
                    partial(serve.bandwidth.take, partner) if partner else None,
                )
                return response
        read = _read_here(rest) if near else _read_ahead(serve.workers, rest)
        async with aclosing(serve.bandwidth.paced(partner, read)) as chunked:
            async for chunk in chunked:
                await response.write(chunk)
    return response
