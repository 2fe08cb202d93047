"""The beginning of a Part 10 file as its header: up to Pixel Data, of which no byte is needed.

For files that lie elsewhere and are read by ranges. What stands behind Pixel Data (PS3.3 C.12.1.1.3's
signatures, padding) is no part of what is read. The bounds are those of a whole file (``walk.py``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from crosslight.standards.dicom.file.deflate import inflate
from crosslight.standards.dicom.file.gate import (
    META_SOP_CLASS,
    META_TRANSFER_SYNTAX,
    check,
    has_tiff_preamble,
    meta_text,
    missing_head,
    read_meta,
)
from crosslight.standards.dicom.file.limits import LIMITS, Limits
from crosslight.standards.dicom.file.syntaxes import DEFLATED_LE, IMPLICIT_LE, TRANSFER_SYNTAXES
from crosslight.standards.dicom.file.trailing_bytes import ODD_GROUPS
from crosslight.standards.dicom.file.verdict import Reason, Refused
from crosslight.standards.dicom.file.vr import LONG_VRS
from crosslight.standards.dicom.file.walk import Parsed, parsed_of
from crosslight.standards.dicom.file.walker import UNDEFINED, Element, Walker

FIRST_BYTES: Final = 1 << 16  # of a file, with which reading begins
#: Media Storage Directory (PS3.3 F): a file that says where others are.
DIRECTORY: Final = "1.2.840.10008.1.3.10"
_PIXEL_GROUP: Final = 0x7FE0
_PIXELS: Final = frozenset({0x7FE00008, 0x7FE00009, 0x7FE00010})  # float, double float, integer
_PIXEL_HEAD_BYTES: Final = 12
#: What a walk may say of bytes that are good so far and go on.
_CUT: Final[frozenset[Reason]] = frozenset({"truncated", "delimiter", "vr"})


def examine_head(head: bytes, size: int, *, limits: Limits = LIMITS) -> Parsed | None:
    """Walk and check the first bytes of a Part 10 file of ``size`` bytes; None: more of them are needed.

    Raises:
        Refused: with the reason, for anything that must not be kept as an object.
    """
    whole = len(head) >= size
    if missing_head(head):  # given out as it is, it would be no file
        raise Refused("not-dicom", "The file begins with its file meta.", why="PS3.10 7.1: no DICM prefix.")
    try:
        meta, offset = read_meta(head)
    except Refused as refusal:
        if whole or refusal.reason not in (*_CUT, "meta"):
            raise
        return None
    if offset >= len(head) and not whole:  # the file meta may go on
        return None
    syntax = meta_text(meta, META_TRANSFER_SYNTAX)
    if syntax not in TRANSFER_SYNTAXES:
        raise Refused("transfer-syntax", "This transfer syntax is not accepted here.", where=syntax[:64])
    if meta_text(meta, META_SOP_CLASS) == DIRECTORY:
        raise Refused("not-dicom", "This is a DICOMDIR, which is an index and holds no images.")
    data, start, deflated = head, offset, syntax == DEFLATED_LE
    try:
        if deflated:
            data, start = inflate(head, offset, limits)[0], 0
        walker = _HeadWalker(data, syntax, limits, partial=not whole and not deflated)
        elements, _ = walker.dataset(start, len(data), 0, implicit=syntax == IMPLICIT_LE)
    except Refused as refusal:
        if whole or refusal.reason not in _CUT:
            raise
        return None
    if walker.pixels_at >= 0:
        pixels = _pixels(walker, syntax, len(data) if deflated else size)
        if pixels is None:
            return None
        elements.append(pixels)
    elif walker.partial:
        return None
    read = replace(
        parsed_of(walker, syntax, elements),
        dataset_offset=offset,
        dataset_end=size,
        inflated=deflated,
        tiff_preamble=has_tiff_preamble(head),
        meta=meta,
    )
    return replace(read, notes=read.notes | check(read, meta))


def _pixels(walker: _HeadWalker, syntax: str, size: int) -> Element | None:
    """The element at which the walk ended, without its value; None: more bytes are needed to read it.

    Raises:
        Refused: the file is shorter than it says.
    """
    data, at = walker.data, walker.pixels_at
    if walker.partial and at + _PIXEL_HEAD_BYTES > len(data):
        return None
    group, number, coded, length = walker.explicit_head(data, at)
    value, vr = at + 8, "OW"
    if syntax == IMPLICIT_LE:
        (length,) = walker.u32(data, at + 4)
    elif coded in LONG_VRS:
        if value + 4 > len(data):
            raise Refused("truncated", "The data set ends inside an element.")
        (length,), value, vr = walker.u32(data, value), at + _PIXEL_HEAD_BYTES, coded.decode("ascii")
    undefined = length == UNDEFINED
    if value + (0 if undefined else length) > size:
        why = "The object was cut off, or is still being written."
        raise Refused("truncated", "Pixel data claims more bytes than there are.", why=why)
    tag = group << 16 | number
    return tag, vr, value, size - value if undefined else length, [] if undefined else None


class _HeadWalker(Walker):
    """Ends before Pixel Data, and takes the end of what is there for that of the file only where it is."""

    odd_groups = ODD_GROUPS | {_PIXEL_GROUP}

    def __init__(self, data: bytes, transfer_syntax_uid: str, limits: Limits, *, partial: bool) -> None:
        super().__init__(data, transfer_syntax_uid, limits)
        self.partial = partial
        self.pixels_at = -1

    def _end_before(self, tag: int, pos: int, end: int, depth: int, open_item: bool) -> int:
        if tag >> 16 != _PIXEL_GROUP:
            return super()._end_before(tag, pos, end, depth, open_item)
        if depth or tag not in _PIXELS:
            return -1
        self.pixels_at = pos
        return pos

    def _tail(self, pos: int, end: int) -> bool:
        if self.partial and self.tail.begins(pos, end):
            raise Refused("truncated", "The data set goes on.")
        return super()._tail(pos, end)
