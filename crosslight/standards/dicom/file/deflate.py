"""The deflated transfer syntax (PS3.5 A.5): inflated within bounds, and where its bytes end in the file."""

from __future__ import annotations

import zlib
from mmap import mmap

from crosslight.standards.dicom.file.limits import Limits
from crosslight.standards.dicom.file.verdict import Refused


def inflate(data: bytes | bytearray | memoryview | mmap, offset: int, limits: Limits) -> tuple[bytes, int]:
    """The deflated data set at ``offset``, inflated within bounds.

    And where it ends, its padding to an even length included.

    Raises:
        Refused: for a bomb, or a stream that is broken or cut off.
    """
    size = len(data) - offset
    bound = min(limits.max_inflated_bytes, max(limits.free_inflated_bytes, limits.max_inflate_ratio * size))
    engine = zlib.decompressobj(-zlib.MAX_WBITS)
    parts, total, pos = [], 0, offset
    pending = b""
    try:
        while not engine.eof and (pos < len(data) or pending):
            if not pending:
                pending = bytes(data[pos : pos + (1 << 16)])
                pos += len(pending)
            part = engine.decompress(pending, 1 << 20)
            pending = engine.unconsumed_tail
            total += len(part)
            if total > bound:
                raise Refused(
                    "bomb", "The deflated data set inflates too far.", why=f"At most {bound} bytes here."
                )
            parts.append(part)
    except zlib.error:
        raise Refused("unreadable", "The deflated data set is broken.", why="RFC 1951.") from None
    if not engine.eof:
        raise Refused("truncated", "The deflated data set was cut off.", why="RFC 1951.")
    end = pos - len(engine.unused_data)
    if (end - offset) % 2 and bytes(data[end : end + 1]) == b"\0":
        end += 1
    return b"".join(parts), end
