"""The digest of a data set in its file: what an object is known by; and files written in pieces."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import BinaryIO

CHUNK = 1 << 20


def digest_of(path: Path, offset: int, size: int | None = None) -> bytes:
    """SHA-256 of ``size`` bytes of a file from ``offset`` on; to its end when ``size`` is None."""
    digest = hashlib.sha256()
    left = path.stat().st_size if size is None else size
    with path.open("rb") as handle:
        handle.seek(offset)
        while chunk := handle.read(min(CHUNK, left)):
            digest.update(chunk)
            left -= len(chunk)
    return digest.digest()


def write_all(target: BinaryIO, data: bytes) -> None:
    """Write all of it to a file without a buffer, which may take a part at a time."""
    view = memoryview(data)
    while view:
        view = view[target.write(view) or 0 :]
