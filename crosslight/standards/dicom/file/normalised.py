"""An object as other software reads it with ease.

The same elements without what was noted (``verdict.py``), and lengths for all sequences, so that a reader
can pass over those it does not need.

For decoders only, in memory: what is kept and given out stays as it was received. Every sequence is closed
once, every element has a VR that PS3.5 knows, none stands twice, and compressed Pixel Data has its delimiter.
"""

from __future__ import annotations

import struct

from crosslight.standards.dicom.file.gate import examine
from crosslight.standards.dicom.file.limits import Limits
from crosslight.standards.dicom.file.syntaxes import IMPLICIT_LE
from crosslight.standards.dicom.file.verdict import Note
from crosslight.standards.dicom.file.vr import LONG_VRS, PIXEL_DATA, settled_vr
from crosslight.standards.dicom.file.walk import Parsed
from crosslight.standards.dicom.file.walker import UNDEFINED, Buffer, Element, Item

#: What other readers stumble over. The rest is in the file meta, behind the data set, or in values.
STUMBLES: frozenset[Note] = frozenset({"delimiters", "vr", "doubled", "open-pixels"})


def tidied(data: Buffer, limits: Limits, *, sequences: bool = True) -> tuple[bytes, int]:
    """A Part 10 file of the same data set without what was noted.

    And how much later Pixel Data begins in ``data``.

    Args:
        data: The file.
        limits: Of the walk.
        sequences: Whether they are wanted.

    Raises:
        Refused: as :func:`~crosslight.standards.dicom.gate.examine`.
    """
    parsed = examine(data, limits=limits)
    if parsed.inflated:
        return bytes(data[:]), 0
    writer = _Writer(parsed)
    writer.item(
        parsed.elements if sequences else [e for e in parsed.elements if e[4] is None or e[0] == PIXEL_DATA]
    )
    return bytes(writer.out), parsed.by_tag[PIXEL_DATA][2] - writer.pixels_at if writer.pixels_at else 0


class _Writer:
    def __init__(self, parsed: Parsed) -> None:
        self.parsed, self.out = parsed, bytearray(parsed.data[: parsed.dataset_offset])
        self.pixels_at = 0
        self.signed = parsed.number(0x00280103) == 1
        self.implicit = parsed.transfer_syntax_uid == IMPLICIT_LE
        order = "<" if parsed.little else ">"
        self.tag = struct.Struct(order + "HH").pack
        self.u16 = struct.Struct(order + "H").pack
        self.u32 = struct.Struct(order + "I").pack

    def item(self, elements: Item) -> None:
        """Elements of a data set or an item."""
        for element in elements:
            self._element(element)

    def _element(self, element: Element) -> None:
        tag, vr, offset, length, items = element
        value = self.parsed.data[offset : offset + length] if items is None or tag == PIXEL_DATA else b""
        if items is None or tag == PIXEL_DATA:
            self._head(tag, settled_vr(vr, signed=self.signed), UNDEFINED if items is not None else length)
            self.pixels_at = len(self.out) if tag == PIXEL_DATA else self.pixels_at
            self.out += value
            if items is not None:
                self._delimiter(0xE0DD)
        else:
            self._head(tag, "SQ", 0)
            start = len(self.out)
            for item in self.parsed.items_of(items):
                self._delimiter(0xE000)
                within = len(self.out)
                self.item(item)
                self._measured(within)
            self._measured(start)

    def _measured(self, start: int) -> None:
        """Set the length that stands before ``start`` to what has been written since.

        Readers may then pass over it.
        """
        self.out[start - 4 : start] = self.u32(len(self.out) - start)

    def _head(self, tag: int, vr: str, length: int) -> None:
        self.out += self.tag(tag >> 16, tag & 0xFFFF)
        coded = vr.encode("ascii")
        if self.implicit:
            self.out += self.u32(length)
        elif coded in LONG_VRS:
            self.out += coded + b"\0\0" + self.u32(length)
        elif length > 0xFFFF:  # of an implicit item within UN
            self.out += b"UN\0\0" + self.u32(length)
        else:
            self.out += coded + self.u16(length)

    def _delimiter(self, number: int) -> None:
        self.out += self.tag(0xFFFE, number) + self.u32(0)
