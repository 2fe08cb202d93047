"""The walk over one buffer, element by element.

What :func:`~crosslight.standards.dicom.file.walk.walk` sets out to do.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from mmap import mmap
from typing import NamedTuple, NoReturn

from crosslight.standards.dicom.file.limits import Limits
from crosslight.standards.dicom.file.syntaxes import ENCAPSULATED, EXPLICIT_BE
from crosslight.standards.dicom.file.trailing_bytes import ODD_GROUPS, Tail
from crosslight.standards.dicom.file.verdict import Note, Refused
from crosslight.standards.dicom.file.vr import (
    INDEX_SEQUENCES,
    LONG_VRS,
    PIXEL_DATA,
    SHORT_VRS,
    VR_TEXT,
    dictionary_vr,
)

Buffer = bytes | bytearray | memoryview | mmap
#: (tag, VR, offset of the value, length of the value, items). VR is as coded, or the dictionary's in implicit
#: encoding.
#: ``items`` is None for all but sequences; for encapsulated pixel data it is [] and the length covers the
#: fragments.
Element = tuple[int, str, int, int, "list[Item] | Aside | None"]
Item = list[Element]


class Aside(NamedTuple):
    """The items of a sequence that was walked and let go: where they are, and how they are coded."""

    start: int
    end: int  # of a sequence of undefined length: of what holds it
    implicit: bool
    undefined: bool


UNDEFINED = 0xFFFFFFFF
_ITEM, _ITEM_END, _SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
#: What stands for a VR that the writer did not know; as old writers coded it, with a length of 16 bits.
_NO_VR = frozenset({b"??", b"  ", b"--"})


class Walker:
    """The walk over one buffer; counts what is left of the limits."""

    odd_groups = ODD_GROUPS  # where an element stands that may be none, or the last: these cost a look

    def __init__(self, data: Buffer, transfer_syntax_uid: str, limits: Limits) -> None:
        self.data = data
        self.little = transfer_syntax_uid != EXPLICIT_BE
        self.encapsulated = transfer_syntax_uid in ENCAPSULATED
        self.limits = limits
        self.elements_left = limits.max_elements
        self.held = 0  # elements and items in memory
        self.letting_go = True  # whether sequences may be let go
        self.notes: set[Note] = set()
        self.open_fragments = -1
        self.tail = Tail(data)
        order = "<" if self.little else ">"
        self.explicit_head = struct.Struct(order + "HH2sH").unpack_from
        self.implicit_head = struct.Struct(order + "HHI").unpack_from
        self.u32 = struct.Struct(order + "I").unpack_from

    def dataset(
        self, pos: int, end: int, depth: int, *, implicit: bool, open_item: bool = False
    ) -> tuple[Item, int]:
        """Elements from ``pos`` to ``end``, or to the item delimiter of an ``open_item``.

        And where they end.
        """
        if depth > self.limits.max_depth:
            raise Refused(
                "depth", "Sequences are nested too deeply.", why=f"At most {self.limits.max_depth} levels."
            )
        try:
            return (self._implicit if implicit else self._explicit)(pos, end, depth, open_item)
        except struct.error:
            raise Refused("truncated", "The data set ends inside an element.") from None

    def _explicit(self, pos: int, end: int, depth: int, open_item: bool) -> tuple[Item, int]:
        data, head, u32, elements = self.data, self.explicit_head, self.u32, list[Element]()
        odd_groups = self.odd_groups
        last, counted, bound = end - 8, 0, self._bound()
        while pos <= last:
            group, number, coded, length = head(data, pos)
            tag = group << 16 | number
            if group in odd_groups and (after := self._end_before(tag, pos, end, depth, open_item)) >= 0:
                self._count(len(elements) - counted)
                return elements, after
            value = pos + 8
            if coded in LONG_VRS:
                length = u32(data, value)[0]
                value += 4
            elif coded not in SHORT_VRS:
                coded, length, value = self._unknown_vr(tag, coded, length, value)
            items: list[Item] | Aside | None = None
            if (
                coded == b"SQ"
                or length == UNDEFINED
                or (coded == b"UN" and length and dictionary_vr(tag) == "SQ")
            ):
                self._count(len(elements) - counted)
                counted = len(elements)
                items, length, pos = self._nested(tag, coded, value, length, end, depth)
                bound = counted + self._bound()
            else:
                pos = value + length
                if pos > end:
                    _beyond(tag)
            elements.append((tag, VR_TEXT[coded], value, length, items))
            if len(elements) > bound:
                self._too_many()
        self._count(len(elements) - counted)
        return elements, self._closed(pos, end, depth, open_item)

    def _implicit(self, pos: int, end: int, depth: int, open_item: bool) -> tuple[Item, int]:
        data, head, elements = self.data, self.implicit_head, list[Element]()
        odd_groups = self.odd_groups
        last, counted, bound = end - 8, 0, self._bound()
        while pos <= last:
            group, number, length = head(data, pos)
            tag = group << 16 | number
            if group in odd_groups and (after := self._end_before(tag, pos, end, depth, open_item)) >= 0:
                self._count(len(elements) - counted)
                return elements, after
            value = pos + 8
            vr = dictionary_vr(tag)
            items: list[Item] | Aside | None = None
            if vr == "SQ" or length == UNDEFINED:
                self._count(len(elements) - counted)
                counted = len(elements)
                items, length, pos = self._nested(
                    tag, b"SQ" if tag != PIXEL_DATA else b"OW", value, length, end, depth, True
                )
                bound = counted + self._bound()
                vr = "SQ" if tag != PIXEL_DATA else vr
            else:
                pos = value + length
                if pos > end:
                    _beyond(tag)
            elements.append((tag, vr, value, length, items))
            if len(elements) > bound:
                self._too_many()
        self._count(len(elements) - counted)
        return elements, self._closed(pos, end, depth, open_item)

    def _bound(self) -> int:
        return min(self.elements_left, self.limits.max_index_elements - self.held)

    def _count(self, elements: int) -> None:
        self.elements_left -= elements
        self.held += elements

    def _too_many(self) -> NoReturn:
        most = self.limits
        why = (
            f"At most {most.max_elements}, and {most.max_index_elements} of one level or in what the index is"
            " made of."
        )
        raise Refused("elements", "Too many elements.", why=why)

    # --- ends -----------------------------------------------------------------------------------------------

    def _end_before(self, tag: int, pos: int, end: int, depth: int, open_item: bool) -> int:
        """Where the data set or item ends that has no further element at ``pos``.

        -1 when an element stands there.
        """
        if not depth and self._tail(pos, end):
            return pos
        if tag >> 16 != 0xFFFE:
            return -1
        twice = not open_item and depth > 0 and pos + 8 == end  # its length ends the item there as well
        if tag != _ITEM_END or not (open_item or twice):
            raise Refused(
                "delimiter", "A delimiter stands where none belongs.", why="PS3.5 7.5.", where=f"{tag:08X}"
            )
        if twice or self.implicit_head(self.data, pos)[2]:
            self.notes.add("delimiters")
        return pos + 8

    def _closed(self, pos: int, end: int, depth: int, open_item: bool) -> int:
        if open_item:
            raise Refused("delimiter", "An item is never closed.", why="PS3.5 7.5.1.")
        if pos < end and (depth or not self._tail(pos, end)):
            raise Refused("truncated", "The data set ends inside an element.")
        return pos

    def _tail(self, pos: int, end: int) -> bool:
        """Whether only padding, line ends and delimiters are left of the file."""
        if not self.tail.begins(pos, end):
            return False
        self.notes.add("padding")
        return True

    def _passed_over(self, tag: int, pos: int, end: int, depth: int) -> int:
        """``pos``, or behind a delimiter there that closes once more what its length has closed."""
        if pos + 8 > end:
            return pos
        group, number, length = self.implicit_head(self.data, pos)
        if group << 16 | number != tag or length or (not depth and self.tail.begins(pos, end)):
            return pos
        self.notes.add("delimiters")
        return pos + 8

    # --- sequences ------------------------------------------------------------------------------------------

    def _unknown_vr(self, tag: int, coded: bytes, length: int, value: int) -> tuple[bytes, int, int]:
        """(UN, length, offset of the value): new VRs have a length of 32 bits (PS3.5 7.1.2)."""
        if coded in _NO_VR:
            self.notes.add("vr")
            return b"UN", length, value
        if not (coded.isalpha() and coded.isupper()) or length:
            raise Refused(
                "vr", "An element has no value representation.", why="PS3.5 6.2.", where=f"{tag:08X}"
            )
        self.notes.add("vr")
        return b"UN", self.u32(self.data, value)[0], value + 4

    def _nested(
        self, tag: int, coded: bytes, value: int, length: int, end: int, depth: int, implicit: bool = False
    ) -> tuple[list[Item] | Aside | None, int, int]:
        """The items of a sequence, the length of its value, and where the next element begins."""
        undefined = length == UNDEFINED
        if not undefined and value + length > end:
            _beyond(tag)
        if coded in (b"OB", b"OW") or (tag == PIXEL_DATA and coded == b"UN"):
            if tag != PIXEL_DATA or not self.encapsulated:
                raise Refused(
                    "pixel-data",
                    "Only encapsulated pixel data may have undefined length.",
                    where=f"{tag:08X}",
                )
            length, after = self._fragments(value, end, depth)
            return [], length, after
        if coded not in (b"SQ", b"UN"):
            raise Refused(
                "length", "Only a sequence may have undefined length.", why="PS3.5 7.1.1.", where=f"{tag:08X}"
            )
        stop = end if undefined else value + length
        letting_go = self.letting_go
        self.letting_go = letting_go and (depth > 0 or tag not in INDEX_SEQUENCES)
        items: list[Item] | Aside | None
        if coded == b"UN":
            items, after = self._of_unknown_vr(tag, value, stop, depth, undefined)
        else:
            items, after = self._items(value, stop, depth, implicit=implicit, undefined=undefined)
        self.letting_go = letting_go
        if undefined:
            return items, after - 8 - value, after
        return items, length, self._passed_over(_SEQUENCE_END, after, end, depth) if coded == b"SQ" else after

    def _of_unknown_vr(
        self, tag: int, value: int, stop: int, depth: int, undefined: bool
    ) -> tuple[list[Item] | Aside | None, int]:
        """UN of undefined length, or of a known sequence: implicit little endian.

        PS3.5 6.2.2 note 2, CP-246. Some writers put explicit items there, some anything at all, which its
        length passes over.
        """
        refusal: Refused | None = None
        for implicit in (True, False) if self.little else ():
            held_before, notes = self.held, set(self.notes)
            try:
                return self._items(value, stop, depth, implicit=implicit, undefined=undefined)
            except (Refused, struct.error) as error:
                refusal = refusal or (error if isinstance(error, Refused) else None)
                if isinstance(error, Refused) and error.reason in ("elements", "depth"):
                    raise
                self.held, self.notes = held_before, notes
        if undefined:
            raise refusal or Refused("vr", "A sequence of unknown VR cannot be read.", where=f"{tag:08X}")
        self.notes.add("unread-sequence")
        return None, stop

    def _items(
        self, pos: int, end: int, depth: int, *, implicit: bool, undefined: bool
    ) -> tuple[list[Item] | Aside, int]:
        """The items of a sequence and where they end; let go when too much is held."""
        start, held_before, items = pos, self.held, list[Item]()
        gone = False
        while (step := self._next_item(pos, end, depth, implicit=implicit, undefined=undefined)) is not None:
            item, pos = step
            if gone:
                self.held = held_before
                continue
            items.append(item)
            self.held += 1
            if self.letting_go and self.held > self.limits.max_held_elements:
                gone, self.held = True, held_before
                items.clear()
            elif self.held > self.limits.max_index_elements:
                self._too_many()
        after = self._after_items(pos, end, undefined)
        return Aside(start, end, implicit, undefined) if gone else items, after

    def each(self, pos: int, end: int, depth: int, *, implicit: bool, undefined: bool) -> Iterator[Item]:
        """The items of a sequence one after another, each forgotten before the next."""
        while (step := self._next_item(pos, end, depth, implicit=implicit, undefined=undefined)) is not None:
            yield step[0]
            self.held, pos = 0, step[1]

    def _next_item(
        self, pos: int, end: int, depth: int, *, implicit: bool, undefined: bool
    ) -> tuple[Item, int] | None:
        """The item at ``pos`` and where the next one begins; None when the sequence ends there."""
        if pos >= end:
            return None
        group, number, length = self.implicit_head(self.data, pos)
        tag = group << 16 | number
        if tag == _SEQUENCE_END and (undefined or pos + 8 == end):
            return None
        if tag != _ITEM:
            raise Refused(
                "delimiter",
                "A sequence holds something else than items.",
                why="PS3.5 7.5.",
                where=f"{tag:08X}",
            )
        pos += 8
        self.elements_left -= 1
        if self.elements_left < 0:
            self._too_many()
        if length == UNDEFINED:
            return self.dataset(pos, end, depth + 1, implicit=implicit, open_item=True)
        if pos + length > end:
            _beyond(tag)
        item, after = self.dataset(pos, pos + length, depth + 1, implicit=implicit)
        return item, self._passed_over(_ITEM_END, after, end, depth + 1)

    def _after_items(self, pos: int, end: int, undefined: bool) -> int:
        """Behind the delimiter of a sequence, or where its length ends it."""
        if pos >= end:
            if undefined:
                raise Refused("delimiter", "A sequence is never closed.", why="PS3.5 7.5.2.")
            return pos
        if not undefined or self.implicit_head(self.data, pos)[2]:
            self.notes.add("delimiters")
        return pos + 8

    def _fragments(self, pos: int, end: int, depth: int) -> tuple[int, int]:
        """Length of an encapsulated value's fragments, and where the next element begins (PS3.5 A.4)."""
        data, head, start = self.data, self.implicit_head, pos
        for count in range(self.limits.max_fragments):
            if pos + 8 > end or (data[pos] != 0xFE and self.tail.begins(pos, end)):
                if count and not depth and self.tail.begins(pos, end):
                    self.notes.add("open-pixels")
                    self.open_fragments = count - 1
                    return pos - start, pos
                break
            group, number, length = head(data, pos)
            pos += 8
            if group != 0xFFFE or number not in (0xE000, 0xE0DD):
                raise Refused(
                    "delimiter", "Something else than a fragment stands in the pixel data.", why="PS3.5 A.4."
                )
            if number == 0xE0DD:
                if length:
                    self.notes.add("delimiters")
                return pos - 8 - start, pos
            pos += length
            if length == UNDEFINED or pos > end:
                _beyond(PIXEL_DATA)
        else:
            raise Refused("items", "Too many fragments.", why=f"At most {self.limits.max_fragments}.")
        raise Refused("delimiter", "The pixel data is never closed.", why="PS3.5 A.4.", where="7FE00010")


def _beyond(tag: int) -> NoReturn:
    raise Refused(
        "truncated",
        "An element claims more bytes than there are.",
        why="The object was cut off.",
        where=f"{tag:08X}",
    )
