"""A folder of files, read only, of a local or a mounted file system.

It is walked in the order of its keys, a page at a time, so that a walk goes on where it ended. Links are not
followed. Memory goes with the largest single folder, time with all of them: one ``scandir`` a folder and one
``lstat`` a file.
"""

from __future__ import annotations

import os
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator
from itertools import islice
from pathlib import Path
from typing import Final

from crosslight.runtime.workers import Workers
from crosslight.standards.problem import CrosslightError, Forbidden, NotFound, Unavailable
from node.sources.files.listing import Altered, FileEntry, FilePage

PAGE: Final = 1000
_CHUNK: Final = 1 << 18
_GONE: Final = (FileNotFoundError, NotADirectoryError)


class FolderFiles:
    """The files below one folder.

    Args:
        root: Where it is.
        workers: Threads: nothing here waits for a disk on the event loop.
        inodes: Whether a file's inode number is part of its version.
    """

    def __init__(self, root: Path, workers: Workers, *, inodes: bool = True) -> None:
        self._root, self._workers, self._inodes = os.fsencode(root), workers, inodes

    async def pages(self, after: bytes) -> AsyncIterator[FilePage]:
        """All files whose keys are greater than ``after``."""
        walk = _Walk(self._root, after, self._version)
        try:
            while page := await self._workers.run(walk.page):
                yield page
        finally:
            walk.close()

    async def read(self, entry: FileEntry, offset: int, length: int) -> bytes:
        """Bytes of a file."""
        return await self._workers.run(self._read, entry, offset, length)

    def _read(self, entry: FileEntry, offset: int, length: int) -> bytes:
        fd = self._opened(entry)
        try:
            return os.pread(fd, length, offset)
        except OSError as error:
            raise _as_ours(error) from None
        finally:
            os.close(fd)

    async def stream(self, entry: FileEntry) -> AsyncGenerator[bytes]:
        """All bytes of a file; what changes under way is said at the end."""
        fd = await self._workers.run(self._opened, entry)
        try:
            while data := await self._workers.run(_next, fd):
                yield data
            if self._version(os.fstat(fd)) != entry.version:
                raise Altered
        finally:
            os.close(fd)

    async def close(self) -> None:
        """Nothing is held open."""

    def _opened(self, entry: FileEntry) -> int:
        path = os.path.join(self._root, entry.key)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise _as_ours(error) from None
        if self._version(os.fstat(fd)) != entry.version:
            os.close(fd)
            raise Altered
        return fd

    def _version(self, info: os.stat_result) -> str:
        return f"{info.st_mtime_ns}:{info.st_size}:{info.st_ino if self._inodes else ''}"


def _next(fd: int) -> bytes:
    try:
        return os.read(fd, _CHUNK)
    except OSError as error:
        raise _as_ours(error) from None


def _as_ours(error: OSError) -> CrosslightError:
    if isinstance(error, _GONE):
        return NotFound("The file of this object is not there any more.")
    if isinstance(error, PermissionError):
        return Forbidden("The file of this object may not be read.", todo="Give the node's user the right.")
    return Unavailable("The folder cannot be read.", why=f"{error.strerror or type(error).__name__}.")


class _Walk:
    """One walk: each page in whatever thread comes."""

    def __init__(self, root: bytes, after: bytes, version: Callable[[os.stat_result], str]) -> None:
        self._root, self._after, self._version = root, after, version
        self._unread: list[bytes] = []
        self._identity: tuple[int, int] | None = None
        self._files = self._below(b"")

    def page(self) -> FilePage | None:
        """The next files; None where there are no more.

        Raises:
            Unavailable: the folder is not there, or another one is in its place.
        """
        self._same_folder()
        entries = list(islice(self._files, PAGE))
        self._same_folder()
        unread, self._unread = tuple(self._unread), []
        if not entries and not unread:
            return None
        last = max(entries[-1].key if entries else b"", *unread) if unread else entries[-1].key
        return FilePage(entries=entries, last=last, unread=unread)

    def close(self) -> None:
        self._files.close()

    def _same_folder(self) -> None:
        """What is not mounted now is not taken for empty."""
        try:
            info = os.stat(self._root)
        except OSError as error:
            why = f"{error.strerror or type(error).__name__}."
            raise Unavailable("The folder is not there.", why=why, todo="Mount it.") from None
        identity = (info.st_dev, info.st_ino)
        if self._identity not in (None, identity):
            raise Unavailable("Another folder is in its place.", todo="Look whether it is mounted.")
        self._identity = identity

    def _below(self, prefix: bytes) -> Generator[FileEntry]:
        """Files below a folder, in the order of their keys: a folder sorts as its name and a slash."""
        try:
            with os.scandir(os.path.join(self._root, prefix)) as found:
                listed = [(e.name + b"/" if e.is_dir(follow_symlinks=False) else e.name, e) for e in found]
        except _GONE:
            return
        except OSError as error:
            if not prefix or not isinstance(error, PermissionError):
                raise _as_ours(error) from None
            self._unread.append(prefix)
            return
        listed.sort(key=lambda named: named[0])
        for name, entry in listed:
            key = prefix + name
            if name.endswith(b"/"):
                if key > self._after or self._after.startswith(key):
                    yield from self._below(key)
            elif key > self._after and (known := self._entry(key, entry)) is not None:
                yield known

    def _entry(self, key: bytes, entry: os.DirEntry[bytes]) -> FileEntry | None:
        try:
            info = entry.stat(follow_symlinks=False)
        except _GONE:
            return None
        except OSError as error:
            raise _as_ours(error) from None
        if not stat.S_ISREG(info.st_mode):
            return None
        return FileEntry(key=key, version=self._version(info), size=info.st_size, modified_unix=info.st_mtime)
