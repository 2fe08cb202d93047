"""What departs from the standard and is read all the same: each kind with its neighbours, and what it is
noted as.
"""

from __future__ import annotations

import struct

import dicom_objects as make
import pytest
from dicom_objects import IDENTITY, SEQUENCE_END, element, item
from dicom_objects import raw_part10 as file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
)
from tolerated_objects import (
    ITEM_END,
    MAKER,
    NATIVE,
    REFERENCE,
    TOLERATED,
    _pixels,
    _sequence,
)

from crosslight.standards.dicom.file import gate, header
from crosslight.standards.dicom.file.gate import Refused
from crosslight.standards.dicom.file.metadata import attributes_of
from crosslight.standards.dicom.file.verdict import MEANINGS, NOTES, notes_of_bits, notes_to_bits

AFTER = element(0x00400280, "ST", b"ab")
TAILS = {
    "one NUL": b"\0",
    "512 NUL": bytes(512),
    "a NUL and a line end": b"\0\r\n",
    "a line end": b"\r\n",
    "an empty line before a delimiter": b"\r\n\r\n",
    "blanks": b"   ",
    "Item Delimitation": ITEM_END,
    "Sequence Delimitation": SEQUENCE_END,
    "delimiters with padding": SEQUENCE_END + ITEM_END + bytes(3),
    "a delimiter with a length": b"\xfe\xff\xdd\xe0\xff\xff\xff\xff",
}


@pytest.mark.parametrize("name", TAILS)
@pytest.mark.parametrize("syntax", NATIVE)
def test_a_tail_is_none_of_the_data_set(name: str, syntax: str) -> None:
    whole = make.part10(make.image(1), NATIVE[syntax])
    parsed = gate.examine(whole + TAILS[name])
    assert (parsed.dataset_end, parsed.notes) == (len(whole), {"padding"})
    assert parsed.elements == gate.examine(whole).elements


@pytest.mark.parametrize("name", TAILS)
def test_elements_after_a_tail_are_refused(name: str) -> None:
    with pytest.raises(Refused):
        gate.examine(file(IDENTITY + TAILS[name] + AFTER))


def test_a_tail_is_looked_for_once() -> None:
    """Blanks that are read as elements of group 2020 do not make every one of them look through all that
    follows.
    """
    blanks = b" " * 0x2020 * 3_000
    with pytest.raises(Refused):
        gate.examine(file(IDENTITY + blanks + b"x" * 9))


def test_a_tail_after_a_deflated_data_set() -> None:
    syntax = str(DeflatedExplicitVRLittleEndian)
    deflated = make.deflated(IDENTITY + AFTER)
    deflated += b"\0" * (len(deflated) % 2)  # PS3.5 A.5: it belongs to the data set
    whole = file(deflated, syntax)
    assert gate.examine(whole).dataset_end == len(whole)
    padded = gate.examine(whole + bytes(7))
    assert (padded.dataset_end, padded.notes) == (len(whole), {"padding"})
    checksum = gate.examine(whole + b"\x12\x34\x56\x78")
    assert (checksum.dataset_end, checksum.notes) == (len(whole) + 4, set())


@pytest.mark.parametrize("name", TOLERATED)
def test_tolerated_and_noted(name: str) -> None:
    more, notes = TOLERATED[name]
    parsed = gate.examine(file(IDENTITY + more + AFTER))
    assert header.read(parsed).notes == notes
    assert parsed.text(0x00400280) == "ab", "what follows is read"


@pytest.mark.parametrize(
    "name", [name for name in TOLERATED if "items" in name or "closed" in name or "delimiter with" in name]
)
def test_sequences_that_are_read_keep_their_items(name: str) -> None:
    found = attributes_of(gate.examine(file(IDENTITY + TOLERATED[name][0])))
    sequence = found.get("00081140") or found["2001105F"]
    assert sequence["Value"] == [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]


def test_a_sequence_that_cannot_be_read_stays_as_it_is() -> None:
    found = attributes_of(gate.examine(file(IDENTITY + TOLERATED["UN at a sequence's tag, anything"][0])))
    assert found["00081140"] == {"vr": "UN", "InlineBinary": "AQIDBAUG"}


NOT_TOLERATED = {
    "an element twice with two values": (MAKER + element(0x00090010, "LO", b"REST"), "order"),
    "two sequences under one tag": (_sequence("SQ", item(REFERENCE)) + _sequence("SQ", item(b"")), "order"),
    "SQ that holds something else": (_sequence("SQ", b"\1\2\3\4\5\6\7\x08"), "delimiter"),
    "a delimiter in the midst of a sequence": (_sequence("SQ", SEQUENCE_END + item(REFERENCE)), "delimiter"),
    "no VR at all": (struct.pack("<HH4s", 9, 0x1010, b"\1\2\3\4"), "vr"),
    "a new VR with a short length": (MAKER + element(0x00091010, "ZZ", b"ABCD"), "vr"),
    "a delimiter in the midst of an item": (_sequence("SQ", item(ITEM_END + REFERENCE)), "delimiter"),
    "half of the Pixel Data": (_pixels(bytes(8)), "pixel-data"),
}


@pytest.mark.parametrize("name", NOT_TOLERATED)
def test_what_is_doubtful_is_refused(name: str) -> None:
    data, reason = NOT_TOLERATED[name]
    with pytest.raises(Refused) as refused:
        gate.examine(file(IDENTITY + data))
    assert refused.value.reason == reason


@pytest.mark.parametrize("tail", [b"", b"\0", bytes(20)])
def test_pixel_data_that_the_end_of_the_file_closes(tail: bytes) -> None:
    data = file(
        IDENTITY + make.encapsulated(b"\xff\xd8\xff\xd9", b"\xff\xd8\xff\xd9", closed=False), make.JPEG
    )
    parsed = gate.examine(data + tail)
    assert (parsed.dataset_end, parsed.notes) == (
        len(data),
        {"open-pixels"} | ({"padding"} if tail else set()),
    )
    two = file(
        IDENTITY + element(0x00280008, "IS", b"2 ") + make.encapsulated(b"ab", b"cd", closed=False), make.JPEG
    )
    assert gate.examine(two).open_fragments == 2
    with pytest.raises(Refused) as refused:
        gate.examine(two[:-10])
    assert refused.value.reason == "truncated", "a frame is missing"


def test_file_meta_of_another_object_is_noted_and_the_data_set_counts() -> None:
    for data in (file(IDENTITY, instance="1.2.3.5"), file(IDENTITY, sop_class=make.SR)):
        found = header.read(gate.examine(data))
        assert (found.sop_uid, found.sop_class_uid, found.notes) == ("1.2.3.4", make.CT, {"meta"})


def test_notes_at_rest_are_bits_that_never_move() -> None:
    assert NOTES == (
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
    )
    assert set(MEANINGS) == set(NOTES)
    for note in NOTES:
        assert notes_of_bits(notes_to_bits({note})) == (note,)
    assert notes_of_bits(notes_to_bits(NOTES) | 1 << 40) == NOTES
    assert notes_to_bits({"of a later version"}) == 0
