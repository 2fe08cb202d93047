"""What the reader says of an object: why it was refused, or what was tolerated in it.

What was tolerated is a closed list, kept with the object.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal, get_args

from crosslight.standards.problem import Malformed

Reason = Literal[
    "not-dicom",
    "meta",
    "transfer-syntax",
    "truncated",
    "length",
    "delimiter",
    "vr",
    "depth",
    "elements",
    "items",
    "order",
    "uid",
    "meta-mismatch",
    "bomb",
    "pixel-data",
    "size",
    "unreadable",
    "sop-class",
    "conflict",
]

#: A departure from the standard that was read all the same. Its place in this list is its bit at rest: append
#: only.
Note = Literal[
    "padding",
    "delimiters",
    "unread-sequence",
    "vr",
    "doubled",
    "open-pixels",
    "empty-pixels",
    "meta",
    "text",
    "patient-id",
    "no-meta",
]
NOTES: tuple[Note, ...] = get_args(Note)
MEANINGS: Mapping[Note, str] = {
    "padding": (
        "Padding, line ends or delimiters follow the data set; they are kept in the file and not given out."
    ),
    "delimiters": "A sequence or an item is closed twice, or by a delimiter that has a length.",
    "unread-sequence": "A sequence without a value representation cannot be read; it is kept as it is.",
    "vr": "An element has a value representation that is not known here.",
    "doubled": "An element stands twice, with the same value.",
    "open-pixels": "Compressed Pixel Data ends with the file, not with its delimiter.",
    "empty-pixels": "Pixel Data has no value.",
    "meta": "File meta and data set name another SOP Class or Instance; the data set counts.",
    "text": (
        "Text is in a character set that is not known, not declared or not the declared one; it may read"
        " wrongly."
    ),
    "patient-id": "Patient ID has several values; none of them is taken.",
    "no-meta": "The file had no file meta; its transfer syntax was told by its first elements.",
}


class Refused(Malformed):
    """An object that the gate does not let in.

    ``reason`` is a word of :data:`Reason` for counters and quarantine.
    """

    def __init__(self, reason: Reason, what: str, *, why: str = "", where: str = "") -> None:
        super().__init__(what, why=why, where=where)
        self.reason: Reason = reason


def notes_to_bits(notes: Iterable[str]) -> int:
    """Notes as a number for a row; words that are not of the list are left out."""
    return sum(1 << NOTES.index(note) for note in set(notes) if note in MEANINGS)


def notes_of_bits(bits: int) -> tuple[Note, ...]:
    """The notes of a row, in their order; bits of a later version are left out."""
    return tuple(note for place, note in enumerate(NOTES) if bits >> place & 1)
