"""Copies of objects that pass through, for a while: as long as one is kept, the instance is the same bytes.

Bounded in bytes and in age; what is being read is never removed. A copy is a file of this machine with its
SHA-256, in a folder that is emptied at each start.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from crosslight.runtime.clock import Ids
from crosslight.runtime.files import Files, private_folder
from node.holdings import Fetched, Local

Key = tuple[str, str]  # source, SOP Instance UID


@dataclass(slots=True, kw_only=True)
class Copy:
    """One of them."""

    path: Path
    size: int
    sha256: str
    since_s: float
    readers: int = 0
    dropped: bool = False


class Passing:
    """Keeps copies. Of several threads at once.

    Args:
        folder: Where; its content is not older than this process.
        files, ids, monotonic_s: Files, names, time.
        most_bytes: Most that is kept beside what is being read; 0 = nothing.
        longest_s: How long a copy is given out.
    """

    def __init__(
        self,
        folder: Path,
        files: Files,
        ids: Ids,
        monotonic_s: Callable[[], float],
        *,
        most_bytes: int,
        longest_s: float,
    ) -> None:
        self._folder, self._files, self._ids, self._monotonic_s = folder, files, ids, monotonic_s
        self._most_bytes, self._longest_s = most_bytes, longest_s
        self._lock = threading.Lock()
        self._kept: OrderedDict[Key, Copy] = OrderedDict()
        self._bytes = 0

    def open(self) -> None:
        """Make the folder, and empty it."""
        private_folder(self._folder)
        for path in self._folder.iterdir():
            self._files.remove(path)

    def new(self) -> Path:
        """A file for a copy that is on its way."""
        return self._folder / f"{self._ids.uuid4().hex}.dcm"

    def get(self, key: Key) -> Fetched | None:
        """A copy, if there is one that is not too old."""
        with self._lock:
            copy = self._kept.get(key)
            if copy is not None and self._monotonic_s() - copy.since_s > self._longest_s:
                self._drop(key)
                copy = None
            if copy is None:
                return None
            self._kept.move_to_end(key)
            return self._lent(copy)

    def digest(self, key: Key) -> str:
        """SHA-256 of the copy that is kept, in hex; '' where there is none."""
        with self._lock:
            copy = self._kept.get(key)
            return copy.sha256 if copy is not None else ""

    def add(self, key: Key, path: Path, size: int, sha256: str) -> Fetched:
        """A copy has come: open it for whoever asked, and keep it as far as there is room."""
        with self._lock:
            copy = Copy(path=path, size=size, sha256=sha256, since_s=self._monotonic_s())
            lent = self._lent(copy)
            self._drop(key)
            self._kept[key] = copy
            self._bytes += size
            while self._bytes > self._most_bytes and self._kept:
                self._drop(next(iter(self._kept)))
            return lent

    def _lent(self, copy: Copy) -> Fetched:
        copy.readers += 1
        return Fetched(Local(str(copy.path), 0, copy.size), lambda: self._let_go(copy))

    def _let_go(self, copy: Copy) -> None:
        with self._lock:
            copy.readers -= 1
            if copy.dropped and not copy.readers:
                self._files.remove(copy.path)

    def _drop(self, key: Key) -> None:
        copy = self._kept.pop(key, None)
        if copy is None:
            return
        self._bytes -= copy.size
        copy.dropped = True
        if not copy.readers:
            self._files.remove(copy.path)
