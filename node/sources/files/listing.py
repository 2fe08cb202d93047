"""What is asked of a place where files lie: pages of a listing in the order of keys, and bytes of a version.

A key is the file's path below the folder or the prefix, as octets. A version is what says that the bytes are
the same as before: it is compared, never understood.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from crosslight.standards.problem import Unavailable


class Altered(Unavailable):
    """The file is not the version that was asked for."""

    retry_after_s = 30

    def __init__(self) -> None:
        super().__init__(
            "The file of this object has changed since it was read.",
            why="It is read anew, so that what is said of it is right.",
            todo="Try again in a minute.",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class FileEntry:
    """A file as it is listed."""

    key: bytes
    version: str
    size: int  # bytes
    modified_unix: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FilePage:
    """Files that follow each other: there is none between them that is not named.

    Attributes:
        entries: In ascending order of their keys.
        last: All up to this key is listed.
        unread: Beginnings of keys below which nothing could be listed: nothing is known of what is there.
    """

    entries: list[FileEntry]
    last: bytes
    unread: tuple[bytes, ...] = ()


class FileStore(Protocol):
    """A folder, or the prefix of a bucket."""

    def pages(self, after: bytes) -> AsyncIterator[FilePage]:
        """All files whose keys are greater than ``after``.

        Raises:
            Unavailable: it cannot be listed; nothing is concluded from what did not come.
        """
        ...

    async def read(self, entry: FileEntry, offset: int, length: int) -> bytes:
        """Bytes of a file, fewer only at its end.

        Raises:
            NotFound: it is gone.
            Altered: it is another version.
            Forbidden: this file may not be read.
            Unavailable: the place cannot be reached.
        """
        ...

    def stream(self, entry: FileEntry) -> AsyncGenerator[bytes]:
        """All bytes of a file.

        Raises:
            NotFound, Altered, Forbidden, Unavailable: as :meth:`read`, and before the first byte where the
                file is not the version that was asked for.
        """
        ...

    async def close(self) -> None:
        """No more will be asked."""
        ...
