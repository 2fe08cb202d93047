"""A bounded walk over a DICOM data set (security.md 5, D27): every element once, in time linear in the bytes.

:func:`walk` returns a :class:`Parsed` tree of offsets, or raises :class:`Refused` with a reason. Nothing is decoded and no pixel
is touched. What passes has a transfer syntax on the list, every length inside the data, and bounded depth and counts. The rules
on content are in ``gate.py``.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from mmap import mmap
from typing import Literal, NoReturn

from crosslight.standards.dicom.limits import LIMITS, Limits
from crosslight.standards.dicom.vr import LONG_VRS, PIXEL_DATA, SHORT_VRS, dictionary_vr
from crosslight.standards.problem import Malformed
from crosslight.standards.study import whole_number

Buffer = bytes | bytearray | memoryview | mmap
#: (tag, VR, offset of the value, length of the value, items). VR is as coded, or the dictionary's in implicit encoding.
#: ``items`` is None for all but sequences; for encapsulated pixel data it is [] and the length covers the fragments.
Element = tuple[int, str, int, int, "list[Item] | None"]
Item = list[Element]

Reason = Literal[
    "not-dicom", "meta", "transfer-syntax", "truncated", "length", "delimiter", "vr", "depth", "elements", "items", "order",
    "uid", "meta-mismatch", "bomb", "pixel-data", "size", "unreadable", "sop-class", "conflict",
]  # fmt: skip

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
ENCAPSULATED_UNCOMPRESSED = "1.2.840.10008.1.2.1.98"
_MPEG = tuple(f"1.2.840.10008.1.2.4.{n}" for n in (100, 101, 102, 103, 104, 105, 106))
#: Encapsulated transfer syntaxes of PS3.6 Table A-1 whose pixel data is in the object itself.
ENCAPSULATED = frozenset({
    ENCAPSULATED_UNCOMPRESSED, "1.2.840.10008.1.2.5",
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 92, 93, 107, 108, 110, 111, 112, 201, 202, 203)),
    *_MPEG, *(f"{uid}.1" for uid in _MPEG),
})  # fmt: skip
NATIVE = frozenset({IMPLICIT_LE, EXPLICIT_LE, EXPLICIT_BE, DEFLATED_LE})
TRANSFER_SYNTAXES = NATIVE | ENCAPSULATED

UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD


class Refused(Malformed):
    """An object that the gate does not let in; ``reason`` is a word of :data:`Reason` for counters and quarantine."""

    def __init__(self, reason: Reason, what: str, *, why: str = "", where: str = "") -> None:
        super().__init__(what, why=why, where=where)
        self.reason: Reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A walked object. Offsets are into ``data``, which is the inflated data set for the deflated transfer syntax."""

    data: Buffer
    transfer_syntax_uid: str
    elements: Item
    by_tag: dict[int, Element]
    dataset_offset: int = 0  # in the file as received
    inflated: bool = False
    tiff_preamble: bool = False
    meta: dict[int, bytes] = field(default_factory=dict)

    @property
    def little(self) -> bool:
        """Whether numbers are little endian."""
        return self.transfer_syntax_uid != EXPLICIT_BE

    def raw(self, tag: int) -> bytes:
        """The bytes of a top-level value, b'' when absent."""
        found = self.by_tag.get(tag)
        return bytes(self.data[found[2] : found[2] + found[3]]) if found is not None and found[4] is None else b""

    def text(self, tag: int) -> str:
        """A top-level value as ASCII without padding."""
        return self.raw(tag).decode("ascii", "replace").strip(" \0")

    def number(self, tag: int, default: int = 0) -> int:
        """The first value of a top-level US or IS."""
        found = self.by_tag.get(tag)
        raw = self.raw(tag)
        if found is None or not raw:
            return default
        if found[1] == "IS":
            return whole_number(raw.split(b"\\")[0].decode("ascii", "replace").strip(" \0"), default)
        return int.from_bytes(raw[:2], "little" if self.little else "big")


class _Walker:
    """The walk over one buffer; counts what is left of the limits."""

    def __init__(self, data: Buffer, transfer_syntax_uid: str, limits: Limits) -> None:
        self.data = data
        self.little = transfer_syntax_uid != EXPLICIT_BE
        self.encapsulated = transfer_syntax_uid in ENCAPSULATED
        self.limits = limits
        self.elements_left = limits.max_elements
        self.items_left = limits.max_items
        order = "<" if self.little else ">"
        self.explicit_head = struct.Struct(order + "HH2sH").unpack_from
        self.implicit_head = struct.Struct(order + "HHI").unpack_from
        self.u32 = struct.Struct(order + "I").unpack_from

    def dataset(self, pos: int, end: int, depth: int, *, implicit: bool, open_item: bool = False) -> tuple[Item, int]:
        """Elements from ``pos`` to ``end``, or to the item delimiter of an ``open_item``; and where they end."""
        if depth > self.limits.max_depth:
            raise Refused("depth", "Sequences are nested too deeply.", why=f"At most {self.limits.max_depth} levels.")
        try:
            found, pos = (self._implicit if implicit else self._explicit)(pos, end, depth, open_item)
        except struct.error:
            raise Refused("truncated", "The data set ends inside an element.") from None
        return found, pos

    def _explicit(self, pos: int, end: int, depth: int, open_item: bool) -> tuple[Item, int]:
        data, head, u32, elements = self.data, self.explicit_head, self.u32, list[Element]()
        left = self.elements_left
        while pos < end:
            group, number, coded, length = head(data, pos)
            tag = group << 16 | number
            if group == 0xFFFE:
                self.elements_left = left - len(elements)
                return elements, self._end_of_item(tag, u32(data, pos + 4)[0], pos, open_item)
            value = pos + 8
            if coded in LONG_VRS:
                length = u32(data, value)[0]
                value += 4
            elif coded not in SHORT_VRS:
                raise Refused("vr", "An element has an unknown value representation.", why="PS3.5 6.2.", where=f"{tag:08X}")
            items = None
            if coded == b"SQ" or length == UNDEFINED or (coded == b"UN" and length and dictionary_vr(tag) == "SQ"):
                self.elements_left = left - len(elements)
                items, length, pos = self._nested(tag, coded, value, length, end, depth)
                left = self.elements_left + len(elements)
            else:
                pos = value + length
                if pos > end:
                    _beyond(tag)
            elements.append((tag, coded.decode("ascii"), value, length, items))
            if len(elements) > left:
                self._too_many()
        self.elements_left = left - len(elements)
        return elements, self._closed(pos, end, open_item)

    def _implicit(self, pos: int, end: int, depth: int, open_item: bool) -> tuple[Item, int]:
        data, head, elements = self.data, self.implicit_head, list[Element]()
        left = self.elements_left
        while pos < end:
            group, number, length = head(data, pos)
            tag = group << 16 | number
            if group == 0xFFFE:
                self.elements_left = left - len(elements)
                return elements, self._end_of_item(tag, length, pos, open_item)
            value = pos + 8
            vr = dictionary_vr(tag)
            items = None
            if vr == "SQ" or length == UNDEFINED:
                self.elements_left = left - len(elements)
                items, length, pos = self._nested(tag, b"SQ" if tag != PIXEL_DATA else b"OW", value, length, end, depth, True)
                left = self.elements_left + len(elements)
                vr = "SQ" if tag != PIXEL_DATA else vr
            else:
                pos = value + length
                if pos > end:
                    _beyond(tag)
            elements.append((tag, vr, value, length, items))
            if len(elements) > left:
                self._too_many()
        self.elements_left = left - len(elements)
        return elements, self._closed(pos, end, open_item)

    def _end_of_item(self, tag: int, length: int, pos: int, open_item: bool) -> int:
        if tag != _ITEM_END or not open_item or length:
            raise Refused("delimiter", "A delimiter stands where none belongs.", why="PS3.5 7.5.", where=f"{tag:08X}")
        return pos + 8

    def _closed(self, pos: int, end: int, open_item: bool) -> int:
        if open_item:
            raise Refused("delimiter", "An item is never closed.", why="PS3.5 7.5.1.")
        return pos

    def _too_many(self) -> NoReturn:
        raise Refused("elements", "Too many elements.", why=f"At most {self.limits.max_elements}.")

    def _nested(
        self, tag: int, coded: bytes, value: int, length: int, end: int, depth: int, implicit: bool = False
    ) -> tuple[list[Item], int, int]:
        """The items of a sequence, the length of its value, and where the next element begins."""
        if length != UNDEFINED and value + length > end:
            _beyond(tag)
        if coded in (b"OB", b"OW") or (tag == PIXEL_DATA and coded == b"UN"):
            if tag != PIXEL_DATA or not self.encapsulated:
                raise Refused("pixel-data", "Only encapsulated pixel data may have undefined length.", where=f"{tag:08X}")
            after = self._fragments(value, end)
            return [], after - 8 - value, after
        if coded not in (b"SQ", b"UN"):
            raise Refused("length", "Only a sequence may have undefined length.", why="PS3.5 7.1.1.", where=f"{tag:08X}")
        # UN of undefined length, or of a known sequence, is implicit little endian (PS3.5 6.2.2 note 2, CP-246)
        if coded == b"UN" and not implicit and not self.little:
            raise Refused("vr", "A sequence of unknown VR in a big endian data set.", where=f"{tag:08X}")
        implicit = implicit or coded == b"UN"
        stop = end if length == UNDEFINED else value + length
        items, after = self._items(value, stop, depth, implicit=implicit, open_sequence=length == UNDEFINED)
        return items, (after - 8 if length == UNDEFINED else after) - value, after

    def _items(self, pos: int, end: int, depth: int, *, implicit: bool, open_sequence: bool) -> tuple[list[Item], int]:
        items: list[Item] = []
        while pos < end:
            group, number, length = self.implicit_head(self.data, pos)
            tag = group << 16 | number
            pos += 8
            if tag == _SEQUENCE_END and open_sequence and not length:
                return items, pos
            if tag != _ITEM:
                raise Refused("delimiter", "A sequence holds something else than items.", why="PS3.5 7.5.", where=f"{tag:08X}")
            self.items_left -= 1
            if self.items_left < 0:
                raise Refused("items", "Too many items.", why=f"At most {self.limits.max_items}.")
            if length == UNDEFINED:
                item, pos = self.dataset(pos, end, depth + 1, implicit=implicit, open_item=True)
            else:
                if pos + length > end:
                    _beyond(tag)
                item, pos = self.dataset(pos, pos + length, depth + 1, implicit=implicit)
            items.append(item)
        if open_sequence:
            raise Refused("delimiter", "A sequence is never closed.", why="PS3.5 7.5.2.")
        return items, pos

    def _fragments(self, pos: int, end: int) -> int:
        """Where the fragments of encapsulated pixel data end (PS3.5 A.4)."""
        data, head = self.data, self.implicit_head
        for _ in range(self.limits.max_fragments):
            if pos + 8 > end:
                break
            group, number, length = head(data, pos)
            pos += 8
            if group != 0xFFFE or number not in (0xE000, 0xE0DD):
                raise Refused("delimiter", "Something else than a fragment stands in the pixel data.", why="PS3.5 A.4.")
            if number == 0xE0DD:
                return pos
            pos += length
            if length == UNDEFINED or pos > end:
                _beyond(PIXEL_DATA)
        else:
            raise Refused("items", "Too many fragments.", why=f"At most {self.limits.max_fragments}.")
        raise Refused("delimiter", "The pixel data is never closed.", why="PS3.5 A.4.", where="7FE00010")


def _beyond(tag: int) -> NoReturn:
    raise Refused("truncated", "An element claims more bytes than there are.", why="The object was cut off.", where=f"{tag:08X}")


def walk(data: Buffer, transfer_syntax_uid: str, *, offset: int = 0, limits: Limits = LIMITS) -> Parsed:
    """Walk the data set that begins at ``offset``, without the checks of its content.

    Raises:
        Refused: for what cannot be read, or is out of bounds.
    """
    if transfer_syntax_uid not in TRANSFER_SYNTAXES:
        raise Refused("transfer-syntax", "This transfer syntax is not accepted here.", where=transfer_syntax_uid[:64])
    start, inflated = offset, False
    if transfer_syntax_uid == DEFLATED_LE:
        data, start, inflated = inflate(data, offset, limits), 0, True
    walker = _Walker(data, transfer_syntax_uid, limits)
    end = len(data)
    elements, _ = walker.dataset(start, end, 0, implicit=transfer_syntax_uid == IMPLICIT_LE)
    by_tag = {element[0]: element for element in elements}
    if len(by_tag) != len(elements):
        raise Refused("order", "An element stands twice in the data set.", why="PS3.5 7.1.")
    return Parsed(
        data=data, transfer_syntax_uid=transfer_syntax_uid, elements=elements, by_tag=by_tag, dataset_offset=offset,
        inflated=inflated,
    )  # fmt: skip


def inflate(data: Buffer, offset: int, limits: Limits) -> bytes:
    """The deflated data set (PS3.5 A.5), inflated within bounds.

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
                raise Refused("bomb", "The deflated data set inflates too far.", why=f"At most {bound} bytes here.")
            parts.append(part)
    except zlib.error:
        raise Refused("unreadable", "The deflated data set is broken.", why="RFC 1951.") from None
    if not engine.eof:
        raise Refused("truncated", "The deflated data set was cut off.", why="RFC 1951.")
    return b"".join(parts)
