"""A bounded walk over a DICOM data set (security.md 5, D27): every element once, in time linear in the bytes.

:func:`walk` returns a :class:`Parsed` tree of offsets, or raises :class:`Refused` with a reason. Nothing is
decoded and no pixel is touched. What passes has a transfer syntax on the list, every length inside the data,
and bounded depth and counts. The rules on content are in ``gate.py``.

Memory is bounded apart from work: of an object with very many elements the large sequences are walked and let
go (:class:`Aside`), and walked again, an item at a time, by whoever reads them (:meth:`Parsed.items_of`).

What departs from the standard without making the content doubtful is read and noted (``verdict.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from crosslight.standards.dicom.file.deflate import inflate
from crosslight.standards.dicom.file.limits import LIMITS, Limits
from crosslight.standards.dicom.file.syntaxes import DEFLATED_LE, EXPLICIT_BE, IMPLICIT_LE, TRANSFER_SYNTAXES
from crosslight.standards.dicom.file.trailing_bytes import Tail
from crosslight.standards.dicom.file.verdict import Note, Refused
from crosslight.standards.dicom.file.walker import Aside, Buffer, Element, Item, Walker
from crosslight.standards.study import whole_number


@dataclass(frozen=True, slots=True, kw_only=True)
class Parsed:
    """A walked object.

    Offsets are into ``data``, which is the inflated data set for the deflated transfer syntax.
    """

    data: Buffer
    transfer_syntax_uid: str
    elements: Item
    by_tag: dict[int, Element]
    dataset_offset: int = 0  # in the file as received
    dataset_end: int = 0  # in the file as received; what follows is padding
    inflated: bool = False
    tiff_preamble: bool = False
    meta: dict[int, bytes] = field(default_factory=dict)
    notes: frozenset[Note] = frozenset()
    open_fragments: int = -1  # of Pixel Data that no delimiter closes; -1: it is closed
    limits: Limits = LIMITS

    @property
    def little(self) -> bool:
        """Whether numbers are little endian."""
        return self.transfer_syntax_uid != EXPLICIT_BE

    def items_of(self, items: list[Item] | Aside) -> Iterator[Item]:
        """The items of a sequence, one after another; those that were let go are walked again."""
        if not isinstance(items, Aside):
            yield from items
            return
        walker = Walker(self.data, self.transfer_syntax_uid, self.limits)
        yield from walker.each(items.start, items.end, 1, implicit=items.implicit, undefined=items.undefined)

    def raw(self, tag: int) -> bytes:
        """The bytes of a top-level value, b'' when absent."""
        element = self.by_tag.get(tag)
        if element is None or element[4] is not None:
            return b""
        return bytes(self.data[element[2] : element[2] + element[3]])

    def text(self, tag: int) -> str:
        """A top-level value as ASCII without padding."""
        return self.raw(tag).decode("ascii", "replace").strip(" \0")

    def number(self, tag: int, default: int = 0) -> int:
        """The first value of a top-level US or IS."""
        element = self.by_tag.get(tag)
        raw = self.raw(tag)
        if element is None or not raw:
            return default
        if element[1] == "IS":
            return whole_number(raw.split(b"\\")[0].decode("ascii", "replace").strip(" \0"), default)
        return int.from_bytes(raw[:2], "little" if self.little else "big")


def walk(data: Buffer, transfer_syntax_uid: str, *, offset: int = 0, limits: Limits = LIMITS) -> Parsed:
    """Walk the data set that begins at ``offset``, without the checks of its content.

    Raises:
        Refused: for what cannot be read, or is out of bounds.
    """
    if transfer_syntax_uid not in TRANSFER_SYNTAXES:
        raise Refused(
            "transfer-syntax", "This transfer syntax is not accepted here.", where=transfer_syntax_uid[:64]
        )
    start, inflated, end = offset, transfer_syntax_uid == DEFLATED_LE, len(data)
    notes: set[Note] = set()
    if inflated:
        whole, (data, deflated_end), start = data, inflate(data, offset, limits), 0
        # anything else, a checksum say, stays part of it
        if deflated_end < end and Tail(whole).begins(deflated_end, end):
            notes.add("padding")
            end = deflated_end
    walker = Walker(data, transfer_syntax_uid, limits)
    elements, after = walker.dataset(start, len(data), 0, implicit=transfer_syntax_uid == IMPLICIT_LE)
    return replace(
        parsed_of(walker, transfer_syntax_uid, elements, notes),
        dataset_offset=offset,
        dataset_end=end if inflated else after,
        inflated=inflated,
    )


def parsed_of(walker: Walker, transfer_syntax_uid: str, elements: Item, notes: Iterable[Note] = ()) -> Parsed:
    """What a walk has found, and noted.

    Raises:
        Refused: an element stands there twice, with two values.
    """
    doubled = set[Note]()
    by_tag = {element[0]: element for element in elements}
    if len(by_tag) != len(elements):
        elements, by_tag = _without_doubles(walker.data, elements)
        doubled.add("doubled")
    return Parsed(
        data=walker.data,
        transfer_syntax_uid=transfer_syntax_uid,
        elements=elements,
        by_tag=by_tag,
        notes=frozenset(doubled.union(notes, walker.notes)),
        open_fragments=walker.open_fragments,
        limits=walker.limits,
    )


def _without_doubles(data: Buffer, elements: Item) -> tuple[Item, dict[int, Element]]:
    """The first of each element, when those that stand there twice say the same."""
    first: dict[int, Element] = {}
    for element in elements:
        known = first.setdefault(element[0], element)
        if known is not element and (known[1], _value(data, known)) != (element[1], _value(data, element)):
            problem = "An element stands twice in the data set, with two values."
            raise Refused("order", problem, why="PS3.5 7.1.", where=f"{element[0]:08X}")
    return list(first.values()), first


def _value(data: Buffer, element: Element) -> bytes:
    return bytes(data[element[2] : element[2] + element[3]])
