"""Bytes from disk to a socket in bounded memory (D26): at most 4 MiB in flight, nothing held of a study."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Iterable, Iterator
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path

from aiohttp import hdrs, web

from crosslight.runtime.http import CORRELATION, CORRELATION_HEADER
from crosslight.runtime.log import get_logger
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import CrosslightError, StorageError
from node.archive.model import StoredObject

log = get_logger("serve")

CHUNK = 1 << 20
PREAMBLE = b"\0" * 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A Part 10 file that is going out: an object as stored, or re-encoded in the spool."""

    object: StoredObject
    path: Path
    size: int
    transfer_syntax: str
    zero_preamble: bool  # D23: unless it is TIFF


def stored(found: StoredObject) -> Source:
    """An object as it was received."""
    return Source(
        object=found,
        path=found.path,
        size=found.dataset_offset + found.ref.size_bytes,
        transfer_syntax=found.ref.transfer_syntax_uid,
        zero_preamble=not found.preamble_is_tiff,
    )


def read_at(path: Path, offset: int, length: int) -> bytes:
    """Bytes of a file.

    Raises:
        StorageError: when they are not there: the file is shorter than the index says, or gone.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(fd, length, offset)
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError("A stored object cannot be read.", why=type(error).__name__) from None
    if len(data) != length:
        raise StorageError("A stored object is shorter than it should be.", todo="Run verify.")
    return data


async def span(workers: Workers, path: Path, offset: int, length: int) -> AsyncGenerator[bytes]:
    """A span of a file in pieces of at most ``CHUNK``."""
    end = offset + length
    while offset < end:
        data = await workers.run(read_at, path, offset, min(CHUNK, end - offset))
        offset += len(data)
        yield data


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """A span of a file, with what goes before it."""

    path: Path | None = None  # None: only ``before``
    offset: int = 0
    length: int = 0
    before: bytes = b""
    zero: int = 0  # so many of the file's bytes are sent as zeros


def pieces_of(source: Source, before: bytes) -> Iterator[Piece]:
    """A file in pieces of at most ``CHUNK``, with ``before`` in front of it and its preamble zeroed where it should be."""
    offset = 0
    while offset < source.size or before:
        length = min(CHUNK, source.size - offset)
        zero = len(PREAMBLE) if source.zero_preamble and not offset and length >= len(PREAMBLE) else 0
        yield Piece(path=source.path, offset=offset, length=length, before=before, zero=zero)
        offset, before = offset + length, b""


def read_piece(piece: Piece) -> bytearray:
    """A piece in one buffer, read into its place.

    Raises:
        StorageError: as :func:`read_at`.
    """
    start = len(piece.before)
    data = bytearray(start + piece.length)
    data[:start] = piece.before
    if piece.path is not None and piece.length:
        with memoryview(data) as whole, whole[start:] as rest:
            read_into(piece.path, piece.offset, rest)
            rest[: piece.zero] = bytes(piece.zero)
    return data


def read_into(path: Path, offset: int, buffer: memoryview) -> None:
    """Fill ``buffer`` from a file; raises as :func:`read_at`."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            count = os.preadv(fd, [buffer], offset)
        finally:
            os.close(fd)
    except OSError as error:
        raise StorageError("A stored object cannot be read.", why=type(error).__name__) from None
    if count != len(buffer):
        raise StorageError("A stored object is shorter than it should be.", todo="Run verify.")


async def read_ahead(workers: Workers, pieces: Iterable[Piece]) -> AsyncGenerator[bytearray]:
    """Pieces in their order; the next is read while one is sent. Two are in memory at a time."""
    ahead: asyncio.Task[bytearray] | None = None
    try:
        for piece in pieces:
            now, ahead = ahead, asyncio.create_task(workers.run(read_piece, piece))
            if now is not None:
                yield await now
        if ahead is not None:
            yield await ahead
    finally:
        if ahead is not None and not ahead.done():
            ahead.cancel()
            with suppress(asyncio.CancelledError, CrosslightError):
                await ahead


async def chunks(workers: Workers, source: Source) -> AsyncGenerator[bytes]:
    """The file in pieces of at most ``CHUNK``, its preamble zeroed where it should be.

    Raises:
        StorageError: when the file is not as long as the index says.
    """
    first = True
    async with aclosing(span(workers, source.path, 0, source.size)) as pieces:
        async for data in pieces:
            if first and source.zero_preamble and len(data) >= len(PREAMBLE):
                yield PREAMBLE + data[len(PREAMBLE) :]
            else:
                yield data
            first = False


async def send(
    request: web.Request, response: web.StreamResponse, pieces: AsyncGenerator[bytes] | AsyncGenerator[bytearray]
) -> web.StreamResponse:
    """Send a body whose headers are decided.

    What fails from now on cuts the connection, so that nobody takes a part for the whole.
    """
    response.headers[CORRELATION_HEADER] = request.get(CORRELATION, "")
    response.headers.setdefault("X-Content-Type-Options", "nosniff")
    async with aclosing(pieces):
        await response.prepare(request)
        if request.method == hdrs.METH_HEAD:
            return response
        try:
            async for piece in pieces:
                await response.write(piece)
            await response.write_eof()
        except (ConnectionError, asyncio.CancelledError):
            raise
        except CrosslightError as error:
            log.error("an object could not be sent", reason=error.what, correlation=request.get(CORRELATION, ""))
            if request.transport is not None:
                request.transport.abort()
            raise ConnectionAbortedError("an object could not be sent") from error
    return response
