"""The last object of an association as a template: another that differs in plain values alone is not walked.

Slices of a series differ in a few values of equal length. Where each byte up to the pixels is the same but
within values of plain top-level elements, all offsets are those of the template, and only these values are
read anew; the gate's rules on content are applied as ever. Whatever else differs is read whole: nothing is
guessed (``tests/unit/test_dicom_again.py`` holds it against the ordinary reader).
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from crosslight.standards.dicom.file import gate
from crosslight.standards.dicom.file.gate import Buffer, Element, Note, Parsed
from crosslight.standards.dicom.file.metadata import TEXT_VRS, charset_of, values_again
from crosslight.standards.dicom.file.vr import NUMERIC, PIXEL_DATA

MAX_HEAD_BYTES = 1 << 16  # of a data set up to its pixels
_RUNS = re.compile(rb"[^\0]+").finditer
_PLAIN_VRS = frozenset(TEXT_VRS) | frozenset(NUMERIC)
#: Not plain: what says how others are to be read. Everything up to the character set, the SOP class, and the
#: description of the image (group 0028 below 1000).
_CHARSET, _SOP_CLASS = 0x00080005, 0x00080016
#: What the gate notes of content alone, and whatever it notes that bytes outside of plain values decide.
_NOTES_OF_CONTENT = frozenset({"meta", "empty-pixels", "padding", "doubled"})

Again = tuple[Parsed, dict[str, Any], set[Note]]


class Template:
    """What was read of an object, without its pixels."""

    def __init__(self, parsed: Parsed, attributes: dict[str, Any], notes: set[Note]) -> None:
        self._parsed, self._attributes, self._notes = replace(parsed, data=b""), attributes, notes
        self._size, self._start = len(parsed.data), parsed.dataset_offset
        self._pixels = parsed.by_tag[PIXEL_DATA][2]
        self._charset = charset_of(parsed)
        self._head = int.from_bytes(parsed.data[self._start : self._pixels], "little")
        self._plain = [element for element in parsed.elements if _is_plain(element, parsed.data)]
        self._begins = [element[2] - self._start for element in self._plain]

    @classmethod
    def of(cls, parsed: Parsed, attributes: dict[str, Any], notes: set[Note]) -> Template | None:
        """From an object that was read; None where another one has to be read whole anyway."""
        pixels = parsed.by_tag.get(PIXEL_DATA)
        ordered = all(a[0] < b[0] for a, b in zip(parsed.elements, parsed.elements[1:], strict=False))
        ends_with_pixels = (
            pixels is not None
            and pixels[4] is None
            and pixels[2] + pixels[3] == parsed.dataset_end == len(parsed.data)
        )
        if not ends_with_pixels or not ordered or parsed.inflated or _NOTES_OF_CONTENT & parsed.notes:
            return None
        if pixels is None or pixels[2] - parsed.dataset_offset > MAX_HEAD_BYTES:
            return None
        return cls(parsed, attributes, notes)

    def again(self, data: Buffer) -> Again | None:
        """The same of another object, as if it had been read whole; None where it must be.

        Raises:
            Refused: as :func:`gate.examine`, for what must not be kept.
        """
        if len(data) != self._size:
            return None
        meta, start = gate.read_meta(data)
        syntax = gate.meta_text(meta, gate.META_TRANSFER_SYNTAX)
        if start != self._start or syntax != self._parsed.transfer_syntax_uid:
            return None
        head = bytes(data[start : self._pixels])
        differing = (int.from_bytes(head, "little") ^ self._head).to_bytes(len(head), "little")
        places = set(self._places(differing))
        if -1 in places:
            return None
        elements = [self._plain[place] for place in sorted(places)]
        if not all(bytes(data[at : at + length]).isascii() for _, _, at, length, _ in elements):
            return None
        parsed = replace(self._parsed, data=data, meta=meta, tiff_preamble=gate.has_tiff_preamble(data))
        if notes := gate.check(parsed, meta):
            parsed = replace(parsed, notes=parsed.notes | notes)
        return parsed, {**self._attributes, **values_again(parsed, elements, self._charset)}, self._notes

    def _places(self, differing: bytes) -> Iterator[int]:
        """Which plain elements differ; -1 for whatever else does."""
        for run in _RUNS(differing):
            place = bisect_right(self._begins, run.start()) - 1
            if place >= 0 and run.end() > self._begins[place] + self._plain[place][3]:
                place = -1
            yield place


def _is_plain(element: Element, data: Buffer) -> bool:
    tag, vr, at, length, items = element
    return (
        tag > _CHARSET
        and tag != _SOP_CLASS
        and not 0x00280000 <= tag < 0x00281000
        and tag & 0xFFFF != 0
        and tag < PIXEL_DATA
        and vr in _PLAIN_VRS
        and items is None
        and length > 0
        and bytes(data[at : at + length]).isascii()
    )
