"""Data sets that are no Part 10 files.

Neither preamble nor file meta says how they are coded, their first elements do.

Old archives and ACR-NEMA exports write them. Nothing is guessed: what is taken for a data set begins with
ascending elements of group 0008 whose value representations (explicit) or lengths (implicit) are what PS3.6
gives those elements.
"""

from __future__ import annotations

import re
import struct

from crosslight.standards.dicom.file.syntaxes import EXPLICIT_BE, EXPLICIT_LE, IMPLICIT_LE
from crosslight.standards.dicom.file.vr import LONG_VRS, SHORT_VRS, dictionary_vr

HEAD_BYTES = 4096
_ELEMENTS = 3  # that must fit
_LONGEST = 1024  # bytes of a value in implicit encoding, where nothing else bears out a length
_NAME = re.compile(r"\.(dcm|dicom|dic|ima)\Z", re.IGNORECASE)


def transfer_syntax_of(head: bytes) -> str:
    """Explicit or Implicit VR Little Endian for the beginning of a data set in it; '' for anything else.

    Explicit VR Big Endian is told too, though such data sets are not read without their file meta.
    """
    for syntax in (EXPLICIT_LE, IMPLICIT_LE, EXPLICIT_BE):
        if _fits(head[:HEAD_BYTES], syntax):
            return syntax
    return ""


def looks_like_dicom(head: bytes, name: str) -> bool:
    """Whether a file that cannot be read seems to be meant as DICOM: by its first element, or its name."""
    return (
        head[:2] in (b"\x08\0", b"\0\x08", b"\2\0") or b"DICM" in head[:256] or _NAME.search(name) is not None
    )


def _fits(head: bytes, syntax: str) -> bool:
    order = ">" if syntax == EXPLICIT_BE else "<"
    explicit = syntax != IMPLICIT_LE
    pos = fitting = last = 0
    while pos + 12 <= len(head) and fitting < _ELEMENTS:
        group, number, coded, length = struct.unpack_from(order + "HH2sH", head, pos)
        tag = group << 16 | number
        vr = dictionary_vr(tag)
        if (not last and group != 0x0008) or tag <= last or group > 0x0010:
            return False
        pos += 8
        if not explicit:
            (length,) = struct.unpack_from("<I", head, pos - 4)
            if vr == "UN" or (vr != "SQ" and length > _LONGEST):
                return False
        elif coded in LONG_VRS:
            (length,) = struct.unpack_from(order + "I", head, pos)
            pos += 4
        elif coded not in SHORT_VRS:
            return False
        if explicit and vr not in ("UN", coded.decode("ascii")):
            return False
        last, fitting = tag, fitting + 1
        if length == 0xFFFFFFFF:
            break
        pos += length
    return fitting >= _ELEMENTS or (fitting > 0 and pos >= len(head))
