"""Objects of a folder or an object store on their way out: streamed, the same bytes as at the first time.

The version is held against what was listed before the first byte goes; the digest of the data set is noted by
the first who reads all of it, and held against by everyone after.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Protocol

from crosslight.standards.problem import Forbidden, NotFound, Unavailable
from node.holdings import Passed, StoredObject
from node.sources.files.listing import Altered, FileStore
from node.sources.files.rows import FileRow, FileRows, FileState


class _Hash(Protocol):
    def update(self, data: Any, /) -> None: ...
    def digest(self) -> bytes: ...


class FileGiver:
    """Gives out objects of one source."""

    def __init__(self, files: FileStore, rows: FileRows) -> None:
        self._files, self._rows = files, rows
        self.altered = False  # whether a file was not what it was: a listing is due

    async def open(self, stored: StoredObject) -> Passed:
        """The bytes of one object, as the file has them.

        Raises:
            Altered: the file is not what it was; it is read anew.
            Unavailable: it is gone, or its place cannot be reached.
        """
        row = await self._rows.holder(stored.ref.sop_uid)
        if row is None:
            raise Unavailable("The file of this object is not known any more.", todo="Search again.")
        if row.state == FileState.WAITS:
            raise Altered
        chunks = self._given(row)
        try:
            await anext(chunks)  # it is the version that was read; whatever becomes of it, it will be closed
        except (NotFound, Altered) as error:
            await self._anew(row)
            if isinstance(error, Altered):
                raise
            raise Unavailable("The file of this object is not there now.", why=error.what) from None
        except Forbidden as error:
            raise Unavailable("The file of this object cannot be read.", why=error.what) from None
        return Passed(chunks, row.entry.size)

    async def _given(self, row: FileRow) -> AsyncGenerator[bytes]:
        """Empty first, once the file is open; then its bytes."""
        seen, left = hashlib.sha256(), row.dataset_offset
        async with aclosing(self._files.stream(row.entry)) as chunks:
            first = await anext(chunks, b"")
            yield b""
            left = _feed(seen, first, left)
            yield first
            async for data in chunks:
                left = _feed(seen, data, left)
                yield data
        if not row.digest:
            await self._rows.note_digest(row, seen.digest())
        elif row.digest != seen.digest():
            await self._anew(row)
            raise Altered

    async def _anew(self, row: FileRow) -> None:
        self.altered = True
        await self._rows.read_anew(row)


async def digest_of(chunks: AsyncGenerator[bytes], dataset_offset: int) -> bytes:
    """SHA-256 of a file from an offset on.

    Raises:
        NotFound, Altered, Forbidden, Unavailable: as the file is read.
    """
    seen, left = hashlib.sha256(), dataset_offset
    async with aclosing(chunks):
        async for data in chunks:
            left = _feed(seen, data, left)
    return seen.digest()


def _feed(seen: _Hash, data: bytes, left: int) -> int:
    """Count ``data`` in but for the bytes that are ``left`` to pass over; how many are left then."""
    with memoryview(data) as view:
        seen.update(view[left:])
    return max(0, left - len(data))
