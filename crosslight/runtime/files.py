"""The seam for files (D24): what makes, renames or removes them, and what makes that durable.

Nothing else calls ``os.fsync``.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

#: Whatever a service or a command writes is its own user's alone, and no umask makes it more: the folders'
#: modes are the first wall and these the second, which goes along when a folder is copied or packed.
PRIVATE_FILE, PRIVATE_FOLDER = 0o600, 0o700
NOTE = "user.crosslight"  # the extended attribute that holds a file's note


def private(path: str, flags: int) -> int:
    """For ``open(…, opener=private)``: a file that is made is 0600; one that is there keeps its mode."""
    return os.open(path, flags, PRIVATE_FILE)


def private_file(path: Path) -> None:
    """Make the file ``path``, empty and 0600, or set the mode of what is there.

    A file that exists is not opened: closing it would end the locks that SQLite holds on it in this process.
    """
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE_FILE))
    except FileExistsError:
        if stat.S_IMODE(path.stat().st_mode) & 0o077:
            os.chmod(path, PRIVATE_FILE)


def private_folder(path: Path) -> None:
    """Make ``path`` and those above it that are missing, each 0700; what is there keeps its mode."""
    for parent in reversed(path.parents):
        if not parent.exists():
            parent.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)
    path.mkdir(mode=PRIVATE_FOLDER, exist_ok=True)


@contextmanager
def one_at_a_time(folder: Path) -> Iterator[None]:
    """While inside, no other process is, of those that lock ``folder``.

    For keys that whoever comes first makes there: a service that starts, or a command beside it. The folder
    is made where it is missing.
    """
    private_folder(folder)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def keep_private(folder: Path) -> None:
    """Take ``folder`` and all below it from everybody but its owner; for what was copied with its modes."""
    for path in (folder, *folder.rglob("*")):
        if not path.is_symlink():
            os.chmod(path, PRIVATE_FOLDER if path.is_dir() else PRIVATE_FILE)


class Files(Protocol):
    """File operations. Whoever is given a handle closes it."""

    def create(self, path: Path) -> BinaryIO:
        """A new file, 0600, to be written without a buffer.

        Raises:
            FileExistsError: there is one of that name.
        """
        ...

    def reopen(self, path: Path) -> BinaryIO:
        """A file that is there, to be read and written without a buffer."""
        ...

    def open(self, path: Path) -> BinaryIO:
        """A file that is there, to be read."""
        ...

    def link(self, path: Path, name: Path) -> None:
        """Give the file ``path`` the further name ``name``; not durable yet."""
        ...

    def move(self, path: Path, name: Path) -> None:
        """Rename a file or folder; not durable yet."""
        ...

    def remove(self, path: Path) -> None:
        """Remove a file, if it is there."""
        ...

    def remove_folder(self, path: Path) -> None:
        """Remove a folder and what is in it, as far as that can be done."""
        ...

    def sync(self, handle: BinaryIO) -> None:
        """Flush ``handle`` to the disk itself."""
        ...

    def publish(self, tmp: Path, final: Path) -> None:
        """Rename ``tmp`` (already synced) to ``final`` and make the rename durable."""
        ...

    def sync_dir(self, path: Path) -> None:
        """Make the entries of a directory durable."""
        ...

    def begin_writing(self, handle: BinaryIO) -> None:
        """Let the disk begin with what was written to ``handle``, without waiting for it."""
        ...

    def drop_cached(self, handle: BinaryIO, offset: int) -> bool:
        """Let the file be read from the disk itself, not from the page cache; nothing is lost.

        Whether the cache held the byte at ``offset``; False where that cannot be told.
        """
        ...

    def note(self, handle: BinaryIO, note: bytes) -> bool:
        """Keep a short note with a file: durable with its bytes. False where the file system has none."""
        ...

    def noted(self, path: Path) -> bytes:
        """The note of a file, b'' where there is none."""
        ...

    def place(self, handle: BinaryIO, tmp: Path, final: Path) -> bool:
        """Give ``tmp`` the further name ``final`` and make bytes and name durable together.

        False when ``final`` is taken.

        One commit of the file system's journal where ``sync`` and ``publish`` need two. Until it returns
        ``final`` may hold a part after a power cut: only for names that nobody trusts before a database says
        so.
        """
        ...

    def write_atomic(self, path: Path, data: bytes) -> None:
        """Replace ``path`` by ``data``, 0600: a reader sees the old or the new bytes, never a part."""
        ...

    def free_bytes(self, path: Path) -> int:
        """Bytes an unprivileged process may still write on the file system of ``path``."""
        ...


class SystemFiles:
    """The real ones."""

    def create(self, path: Path) -> BinaryIO:
        return open(path, "xb", buffering=0, opener=private)

    def reopen(self, path: Path) -> BinaryIO:
        return open(path, "r+b", buffering=0)

    def open(self, path: Path) -> BinaryIO:
        return open(path, "rb")

    def link(self, path: Path, name: Path) -> None:
        os.link(path, name)

    def move(self, path: Path, name: Path) -> None:
        os.rename(path, name)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)

    def remove_folder(self, path: Path) -> None:
        shutil.rmtree(path, ignore_errors=True)

    def sync(self, handle: BinaryIO) -> None:
        handle.flush()
        os.fsync(handle.fileno())

    def publish(self, tmp: Path, final: Path) -> None:
        parent = final.parent
        fresh = not parent.exists()
        if fresh:
            private_folder(parent)
        os.rename(tmp, final)
        self._sync_parents(final, fresh=fresh)

    def begin_writing(self, handle: BinaryIO) -> None:
        if hasattr(os, "posix_fadvise"):  # starts the writing of dirty pages; drops none of them
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)

    def drop_cached(self, handle: BinaryIO, offset: int) -> bool:
        cached = False
        if hasattr(os, "preadv") and hasattr(os, "RWF_NOWAIT"):
            try:
                cached = os.preadv(handle.fileno(), [bytearray(1)], offset, os.RWF_NOWAIT) > 0
            except OSError:  # it would have to wait for the disk, or the file system cannot tell
                cached = False
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        return cached

    def note(self, handle: BinaryIO, note: bytes) -> bool:
        if not hasattr(os, "setxattr"):
            return False
        try:
            os.setxattr(handle.fileno(), NOTE, note)
        except OSError as error:
            if error.errno in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM):
                return False
            raise
        return True

    def noted(self, path: Path) -> bytes:
        try:
            return os.getxattr(path, NOTE) if hasattr(os, "getxattr") else b""
        except OSError:
            return b""

    def place(self, handle: BinaryIO, tmp: Path, final: Path) -> bool:
        parent = final.parent
        fresh = not parent.exists()
        if fresh:
            private_folder(parent)
        try:
            os.link(tmp, final)
        except FileExistsError:
            return False
        self.sync(handle)
        self._sync_parents(final, fresh=fresh)
        return True

    def _sync_parents(self, final: Path, *, fresh: bool) -> None:
        parent = final.parent
        self.sync_dir(parent)
        if fresh:
            self.sync_dir(parent.parent)
            self.sync_dir(parent.parent.parent)

    def sync_dir(self, path: Path) -> None:
        """Make the entries of a directory durable."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)

    def write_atomic(self, path: Path, data: bytes) -> None:
        tmp = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        fd = os.open(tmp, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
        with os.fdopen(fd, "wb") as handle:
            handle.write(data)
            self.sync(handle)
        os.rename(tmp, path)
        self.sync_dir(path.parent)

    def free_bytes(self, path: Path) -> int:
        return shutil.disk_usage(path).free
