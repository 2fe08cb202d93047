"""Objects that are going out, opened: as a file where something must seek in them, else in chunks."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from crosslight.runtime.workers import Workers
from crosslight.standards.problem import TooLarge
from node.holdings import Fetched, Local, Opened, Passed, StoredObject
from node.serve.context import ServeContext
from node.serve.sendfile import Piece, short, unreadable

CHUNK = 1 << 20
PREAMBLE = b"\0" * 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Rendition:
    """A Part 10 file that is going out: an object as it is held, or re-encoded in the spool."""

    object: StoredObject
    size: int | None  # None: known once it is opened
    transfer_syntax: str
    zero_preamble: bool = False  # D23: unless it is TIFF
    spooled: Local | None = None  # None: opened where it is held, when its turn comes


def stored(instance: StoredObject) -> Rendition:
    """An object as it was received."""
    return Rendition(
        object=instance,
        size=instance.size,
        transfer_syntax=instance.ref.transfer_syntax_uid,
        zero_preamble=not instance.preamble_is_tiff,
    )


async def opened_of(serve: ServeContext, source: Rendition) -> Opened:
    """The bytes of a rendition; whoever asks ends with :func:`let_go`."""
    return source.spooled if source.spooled is not None else await serve.holdings.open_object(source.object)


async def let_go(opened: Opened) -> None:
    """Close what :func:`opened_of` gave: a stream, or a file fetched for this."""
    if isinstance(opened, Passed):
        await opened.chunks.aclose()
    elif isinstance(opened, Fetched):
        opened.release()


@asynccontextmanager
async def on_disk(serve: ServeContext, stored: StoredObject) -> AsyncIterator[Local]:
    """An object as a file of this machine while the block lasts: whoever decodes must seek in it.

    Raises:
        TooLarge: one that comes from elsewhere is over ``max_instance_bytes``.
    """
    opened = await serve.holdings.open_object(stored)
    try:
        if isinstance(opened, Local):
            yield opened
        elif isinstance(opened, Fetched):
            yield opened.local
        elif opened.file is not None:
            yield await opened.file()
        else:
            target = serve.spool / f"{serve.ids.uuid4().hex}.spool"
            try:
                yield await _copied(serve, opened, target)
            finally:
                serve.files.remove(target)
    finally:
        await let_go(opened)


async def _copied(serve: ServeContext, passed: Passed, target: Path) -> Local:
    limit, size = serve.config.max_instance_bytes, 0
    with serve.files.create(target) as out:
        async for data in passed.chunks:
            size += len(data)
            if size > limit:
                raise TooLarge(
                    "The instance is too large to be read here.", why=f"Limit here: {limit} bytes."
                )
            try:
                await serve.workers.run(_write_all, out, data)
            except OSError as error:
                raise unreadable(error) from None
    if passed.length is not None and size != passed.length:
        raise short()
    return Local(str(target), 0, size)


def _write_all(out: BinaryIO, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[out.write(view) or 0 :]


def read_span(span: Local) -> bytes:
    """Bytes of a file.

    Raises:
        StorageError: when they are not there: the file is shorter than the index says, or gone.
    """
    try:
        fd = os.open(span.file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            data = os.pread(fd, span.length, span.offset)
        finally:
            os.close(fd)
    except OSError as error:
        raise unreadable(error) from None
    if len(data) != span.length:
        raise short()
    return data


def cut(local: Local) -> Iterator[Local]:
    """A span in pieces of at most ``CHUNK``."""
    for offset in range(0, local.length, CHUNK):
        yield local.part(offset, min(CHUNK, local.length - offset))


async def chunks(serve: ServeContext, source: Rendition) -> AsyncGenerator[bytes]:
    """The object in pieces, opened when the first is asked for; its preamble zeroed where it should be.

    Raises:
        StorageError: when it is not as long as was said.
    """
    opened = await opened_of(serve, source)
    try:
        async with aclosing(chunks_of(serve, source, opened)) as pieces:
            async for data in pieces:
                yield data
    finally:
        await let_go(opened)


async def sha256_of(serve: ServeContext, source: Rendition) -> bytes:
    """The digest of the file as it goes out; all of it is read.

    Raises:
        StorageError: as :func:`chunks`.
    """
    digest = hashlib.sha256()
    async with aclosing(chunks(serve, source)) as pieces:
        async for data in pieces:
            await serve.workers.run(digest.update, data)
    return digest.digest()


async def chunks_of(serve: ServeContext, source: Rendition, opened: Opened) -> AsyncGenerator[bytes]:
    """As :func:`chunks`, of one that is open."""
    zero, size = len(PREAMBLE) if source.zero_preamble else 0, 0
    async with aclosing(_raw(serve.workers, opened)) as pieces:
        async for data in pieces:
            size += len(data)
            if zero:
                start = min(zero, len(data))
                zero -= start
                yield PREAMBLE[:start] + data[start:]
            else:
                yield data
    sizes = {source.size, opened.length if isinstance(opened, Passed) else None} - {None}
    if sizes - {size}:
        raise short()


async def _raw(workers: Workers, opened: Opened) -> AsyncGenerator[bytes]:
    if isinstance(opened, Passed):
        async for data in opened.chunks:
            yield data
        return
    for span in cut(opened if isinstance(opened, Local) else opened.local):
        yield await workers.run(read_span, span)


def piece_of(before: bytes, source: Rendition, local: Local) -> Piece:
    """A file of this machine with ``before`` in front of it, its preamble zeroed where it should be."""
    skip = len(PREAMBLE) if source.zero_preamble and local.length >= len(PREAMBLE) else 0
    return Piece(
        before=before + PREAMBLE[:skip], span=local.part(skip, local.length - skip) if skip else local
    )
