"""Bytes from disk to a socket in bounded memory (D26): at most 4 MiB in flight, nothing held of a study."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator
from contextlib import aclosing
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


async def send(request: web.Request, response: web.StreamResponse, pieces: AsyncGenerator[bytes]) -> web.StreamResponse:
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
