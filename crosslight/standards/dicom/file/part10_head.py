"""What stands before the data set in a Part 10 file: preamble, prefix and file meta (PS3.10 7.1). Pure."""

from __future__ import annotations

import struct

from crosslight.standards.dicom.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION


def part10_head(sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str) -> bytes:
    """Preamble, prefix and file meta for a data set that came without."""
    elements = (
        (0x0002, _padded(sop_class_uid), b"UI"),
        (0x0003, _padded(sop_instance_uid), b"UI"),
        (0x0010, _padded(transfer_syntax_uid), b"UI"),
        (0x0012, _padded(IMPLEMENTATION_CLASS_UID), b"UI"),
        (0x0013, IMPLEMENTATION_VERSION.encode("ascii"), b"SH"),
    )
    body = struct.pack("<HH2sHI", 2, 1, b"OB", 0, 2) + b"\0\1"
    body += b"".join(
        struct.pack("<HH2sH", 2, number, vr, len(value)) + value for number, value, vr in elements
    )
    return b"\0" * 128 + b"DICM" + struct.pack("<HH2sHI", 2, 0, b"UL", 4, len(body)) + body


def _padded(uid: str) -> bytes:
    text = uid.encode("ascii", "replace")[:64]
    return text + b"\0" * (len(text) % 2)
