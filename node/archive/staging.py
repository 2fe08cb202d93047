"""Incoming bytes on their way to an object: one file in the process's own folder under ``tmp/``.

A folder is locked while its process lives, so that the sweep at a start removes only what a dead process
left.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
from pathlib import Path
from typing import BinaryIO, Literal

from crosslight.runtime.clock import Ids
from crosslight.runtime.files import Files, private_folder
from crosslight.standards.dicom.file.part10_head import part10_head
from crosslight.standards.problem import OutOfSpace, StorageError, TooLarge
from node.holdings import ROADS, Received

_MEMORY_BYTES = 4 << 20
_LARGE = 4096
_MAX_PEER = 200


def file_meta(received: Received) -> bytes:
    """Preamble, prefix and file meta for a data set that came without (PS3.10 7.1)."""
    return part10_head(received.sop_class_uid, received.sop_instance_uid, received.transfer_syntax_uid)


def received_of(note: bytes) -> Received | None:
    """Where an object came from, by what its file says; None where that is nothing."""
    road, _, rest = note.decode("utf-8", "replace").partition(" ")
    unix, _, peer = rest.partition(" ")
    known = next((name for name in ROADS if name == road), None)
    try:
        return Received(road=known, peer=peer, unix=float(unix)) if known is not None else None
    except ValueError:
        return None


class Staged:
    """A file that is being received. ``write`` as bytes come, then hand it to ``ingest``; or ``discard``."""

    def __init__(
        self, path: Path, files: Files, max_bytes: int, *, mode: Literal["xb", "r+b"] = "xb"
    ) -> None:
        self.path = path
        self._files, self._max = files, max_bytes
        self._handle: BinaryIO | None = files.create(path) if mode == "xb" else files.reopen(path)
        self.size = path.stat().st_size if mode == "r+b" else 0
        self.dataset_offset = 0
        self._content: list[bytes | bytearray | memoryview] | None = [] if mode == "xb" else None
        self._digest: hashlib._Hash | None = None
        self._left = False

    def begin_dataset(self) -> None:
        """What is written from here on is the data set: hash it as it comes."""
        self.dataset_offset = self.size
        self._digest = hashlib.sha256()

    def dataset_sha256(self) -> bytes | None:
        """SHA-256 of the data set, where it was hashed on its way in."""
        return self._digest.digest() if self._digest is not None else None

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append.

        A buffer that is given must not be written to again: it is kept as it is until it has been read.

        Raises:
            TooLarge: over the largest object allowed.
            OutOfSpace: when the disk is full.
        """
        if self._handle is None:
            raise StorageError("This object was already closed.")
        self.size += len(data)
        if self.size > self._max:
            raise TooLarge("The object is too large.", why=f"Limit here: {self._max} bytes.")
        try:
            view = memoryview(data)
            while view:
                view = view[self._handle.write(view) :]
            if self._digest is not None:
                self._digest.update(data)
            self._keep_in_memory(data)
        except OSError as error:
            raise refused_by_disk(error) from error

    def _keep_in_memory(self, data: bytes | bytearray | memoryview) -> None:
        if self._content is not None:
            if self.size <= _MEMORY_BYTES:
                # a view costs more than a few bytes
                self._content.append(data if len(data) >= _LARGE else bytes(data))
            else:
                self._content = None

    def content(self) -> bytes | None:
        """All that was written, where it is small enough to be in memory still."""
        return b"".join(self._content) if self._content is not None else None

    def begin_writing(self) -> None:
        """All is here: let the disk begin."""
        self._files.begin_writing(self._opened())

    def note(self, received: Received, unix: float) -> bool:
        """Have the file say where it came from and when; False where the file system keeps no notes."""
        text = f"{received.road} {unix:.3f} {received.peer[:_MAX_PEER]}"
        try:
            return self._files.note(self._opened(), text.encode("utf-8", "replace"))
        except OSError as error:
            raise refused_by_disk(error) from error

    def place(self, final: Path) -> None:
        """Become the object ``final``, durably."""
        try:
            if not self._place(final):
                self._files.sync(self._opened())
                self._files.publish(self.path, final)
            self.close()
        except OSError as error:
            raise refused_by_disk(error) from error

    def _place(self, final: Path) -> bool:
        """Name the file by a second name, which never replaces a file.

        A file system without such names, or a taken one, needs a rename.
        """
        try:
            return self._files.place(self._opened(), self.path, final)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK, errno.ENOSYS):
                return False
            raise

    def sync(self) -> None:
        """Flush to the disk itself, and close."""
        try:
            self._files.sync(self._opened())
        except OSError as error:
            raise refused_by_disk(error) from error
        self.close()

    def _opened(self) -> BinaryIO:
        """The handle; opened again where the writer has closed it."""
        if self._handle is None:
            self._handle = self._files.reopen(self.path)
        return self._handle

    def close(self) -> None:
        """Nothing more comes; harmless to repeat, and not needed before ``ingest``."""
        if self._handle is not None:
            handle, self._handle = self._handle, None
            handle.close()

    def leave(self) -> None:
        """It is an object: keep its name here too, until its row is there. Nothing is thrown away now."""
        self._left = True

    def discard(self) -> None:
        """Throw away; harmless when the file has already become an object."""
        self.close()
        self._content = None
        if not self._left:
            self._files.remove(self.path)


def refused_by_disk(error: OSError) -> StorageError:
    """Our error for one of the disk's."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutOfSpace("The archive's disk is full.", todo="Try again later.")
    return StorageError(
        "The archive's disk refused.", why=errno.errorcode.get(error.errno or 0, "?"), todo="Try again later."
    )


class StageFolder:
    """``tmp/<random>/`` of this process."""

    def __init__(self, root: Path, files: Files, ids: Ids) -> None:
        self._root, self._files, self._ids = root, files, ids
        self._folder: Path | None = None
        self._lock: BinaryIO | None = None

    def open(self) -> None:
        """Make the folder."""
        private_folder(self._root)
        name = self._ids.uuid4().hex
        fresh = self._root / f".{name}"  # renamed once it is locked: nobody can sweep it before
        private_folder(fresh)
        self._lock = self._files.create(fresh / "lock")  # until close()
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._files.move(fresh, self._root / name)
        self._folder = self._root / name

    def left(self) -> list[Path]:
        """What processes that ended have left; :meth:`sweep` removes it."""
        return [
            entry
            for folder in self._folders()
            if not self._alive(folder)
            for entry in folder.iterdir()
            if entry.name != "lock"
        ]

    def sweep(self) -> int:
        """Remove the folders of dead processes; the number of files thrown away."""
        return sum(self._sweep(folder) for folder in self._folders())

    def _folders(self) -> list[Path]:
        return [
            f for f in self._root.iterdir() if f.is_dir() and f != self._folder and not f.name.startswith(".")
        ]

    def _sweep(self, folder: Path) -> int:
        if self._alive(folder):
            return 0
        count = sum(1 for entry in folder.iterdir() if entry.name != "lock")
        self._files.remove_folder(folder)
        return count

    def _alive(self, folder: Path) -> bool:
        try:
            with self._files.open(folder / "lock") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except FileNotFoundError:
            return False
        return False

    def alone(self) -> bool:
        """Whether no other process is putting objects into this archive now."""
        return not any(self._alive(folder) for folder in self._folders())

    def new(self, max_bytes: int) -> Staged:
        """A new file for one incoming object.

        Raises:
            StorageError: when it cannot be made, or the archive is closed.
        """
        if self._folder is None:
            raise StorageError("The archive is closed.")
        try:
            return Staged(self._folder / self._ids.uuid4().hex, self._files, max_bytes)
        except OSError as error:
            raise refused_by_disk(error) from error

    def fresh(self) -> Path:
        """A name in it that nobody has.

        Raises:
            StorageError: the archive is closed.
        """
        if self._folder is None:
            raise StorageError("The archive is closed.")
        return self._folder / self._ids.uuid4().hex

    def link(self, path: Path) -> Staged:
        """A file that is already here, under a second name: whatever becomes of that name, ``path`` stays."""
        if self._folder is None:
            raise StorageError("The archive is closed.")
        name = self._folder / self._ids.uuid4().hex
        self._files.link(path, name)
        return Staged(name, self._files, 0, mode="r+b")

    def close(self) -> None:
        """Remove the folder with whatever is still in it."""
        if self._folder is not None:
            self._files.remove_folder(self._folder)
            self._folder = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None
