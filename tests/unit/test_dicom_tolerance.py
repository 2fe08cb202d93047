"""What departs from the standard and is read all the same: each kind with its neighbours, and what it is
noted as.
"""

from __future__ import annotations

import struct
from io import BytesIO

import dicom_objects as make
import pydicom
import pytest
from dicom_objects import IDENTITY, SEQUENCE_END, element, item
from dicom_objects import raw_part10 as file
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from crosslight.standards.dicom.file import bare_data_set as bare
from crosslight.standards.dicom.file import gate, header
from crosslight.standards.dicom.file.charset import charset, decode
from crosslight.standards.dicom.file.gate import Refused
from crosslight.standards.dicom.file.metadata import attributes_of
from crosslight.standards.dicom.file.normalised import STUMBLES, tidied
from crosslight.standards.dicom.file.verdict import MEANINGS, NOTES, notes_of_bits, notes_to_bits
from crosslight.standards.dicom.pixels.frames import find_frames

ITEM_END = b"\xfe\xff\x0d\xe0\0\0\0\0"
REFERENCE = element(0x00081155, "UI", b"1.2.3\0")
IMPLICIT_REFERENCE = b"\x08\0\x55\x11\6\0\0\0" + b"1.2.3\0"
AFTER = element(0x00400280, "ST", b"ab")
FRAME = b"\xff\xd8ab\xff\xd9"
MAKER = element(0x00090010, "LO", b"TEST")


def _open_item(content: bytes, end: bytes = ITEM_END) -> bytes:
    return b"\xfe\xff\x00\xe0\xff\xff\xff\xff" + content + end


def _pixels(value: bytes, bits: int = 8) -> bytes:
    head = element(0x00280002, "US", b"\1\0") + element(0x00280010, "US", b"\4\0")
    return (
        head
        + element(0x00280011, "US", b"\4\0")
        + element(0x00280100, "US", bytes([bits, 0]))
        + element(0x7FE00010, "OW", value)
    )


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
NATIVE = {
    "explicit": str(ExplicitVRLittleEndian),
    "implicit": str(ImplicitVRLittleEndian),
    "big endian": str(ExplicitVRBigEndian),
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


def _sequence(vr: str, content: bytes, length: int | None = None) -> bytes:
    return element(0x00081140, vr, content, length)


#: name -> (elements after the identity, what it is noted as)
TOLERATED: dict[str, tuple[bytes, set[str]]] = {
    "SQ of defined length, closed inside it": (
        _sequence("SQ", item(REFERENCE) + SEQUENCE_END),
        {"delimiters"},
    ),
    "private SQ of defined length, closed inside it": (
        element(0x20010010, "LO", b"MAKE") + element(0x2001105F, "SQ", _open_item(REFERENCE) + SEQUENCE_END),
        {"delimiters"},
    ),
    "SQ of defined length, closed behind it": (
        _sequence("SQ", item(REFERENCE)) + SEQUENCE_END,
        {"delimiters"},
    ),
    "an item of defined length, closed behind it": (
        _sequence("SQ", item(REFERENCE) + ITEM_END),
        {"delimiters"},
    ),
    "an item of defined length, closed inside it": (
        _sequence("SQ", item(REFERENCE + ITEM_END)),
        {"delimiters"},
    ),
    "an item of an open sequence, closed inside it": (
        _sequence("SQ", item(REFERENCE + ITEM_END) + SEQUENCE_END, 0xFFFFFFFF),
        {"delimiters"},
    ),
    "an item with nothing but its delimiter": (_sequence("SQ", item(ITEM_END)), {"delimiters"}),
    "an item delimiter with a length": (
        _sequence(
            "SQ", _open_item(REFERENCE, b"\xfe\xff\x0d\xe0\xff\xff\xff\xff") + SEQUENCE_END, 0xFFFFFFFF
        ),
        {"delimiters"},
    ),
    "a sequence delimiter with a length": (
        _sequence("SQ", item(REFERENCE) + b"\xfe\xff\xdd\xe0\4\0\0\0", 0xFFFFFFFF),
        {"delimiters"},
    ),
    "UN at a sequence's tag, implicit items": (_sequence("UN", item(IMPLICIT_REFERENCE)), set()),
    "UN at a sequence's tag, explicit items": (_sequence("UN", item(REFERENCE)), set()),
    "UN of undefined length, explicit items": (
        _sequence("UN", item(REFERENCE) + SEQUENCE_END, 0xFFFFFFFF),
        set(),
    ),
    "UN at a sequence's tag, anything": (_sequence("UN", b"\1\2\3\4\5\6"), {"unread-sequence"}),
    "UN at a sequence's tag, half an item": (
        _sequence("UN", b"\xfe\xff\x00\xe0\x40\0\0\0ab"),
        {"unread-sequence"},
    ),
    "UN at a sequence's tag, within an item": (
        element(0x00081115, "SQ", item(_sequence("UN", b"\1\2\3\4"))),
        {"unread-sequence"},
    ),
    "a new VR": (MAKER + element(0x00091010, "UV", b"ABCD").replace(b"UV", b"ZZ"), {"vr"}),
    "a new VR within an item": (
        _sequence("SQ", item(element(0x00091010, "UV", b"ABCD").replace(b"UV", b"ZZ"))),
        {"vr"},
    ),
    "?? for a VR": (MAKER + element(0x00091010, "??", b"ABCD"), {"vr"}),
    "blanks for a VR": (MAKER + element(0x00091010, "  ", b"ABCD"), {"vr"}),
    "an equal element twice": (MAKER * 2, {"doubled"}),
    "an equal element three times": (MAKER * 3, {"doubled"}),
    "an equal sequence twice": (_sequence("SQ", item(REFERENCE)) * 2, {"doubled"}),
    "Pixel Data without a value": (_pixels(b""), {"empty-pixels"}),
    "several Patient IDs": (element(0x00100020, "LO", b"X\\1 "), {"patient-id"}),
    "undeclared Latin-1": (element(0x00100010, "PN", b"M\xfcller"), {"text"}),
    "undeclared UTF-8": (element(0x00100010, "PN", "Müller ".encode()), set()),
    "text that is not of its character set": (
        element(0x00080005, "CS", b"ISO_IR 192") + element(0x00100010, "PN", b"M\xfcller"),
        {"text"},
    ),
    "a character set that nobody knows": (
        element(0x00080005, "CS", b"ISO_IR 999") + element(0x00100010, "PN", "Müller ".encode()),
        {"text"},
    ),
    "a character set that nobody knows, for ASCII": (
        element(0x00080005, "CS", b"ISO_IR 999") + element(0x00100010, "PN", b"Muller"),
        set(),
    ),
    "a vendor's octets": (MAKER + element(0x00091010, "LO", b"\xff\xfe\xfd\xfc"), set()),
}


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


# --- what decoders are given --------------------------------------------------------------------------------


@pytest.mark.parametrize("held", [20_000, 0], ids=["held", "let go"])
@pytest.mark.parametrize("name", TOLERATED)
def test_tidied_it_says_the_same_and_pydicom_reads_it(name: str, held: int) -> None:
    image = _pixels(bytes(range(16))) if "Pixel" not in name else b""
    data = file(IDENTITY + TOLERATED[name][0] + image)
    made, moved = tidied(data, gate.Limits(max_held_elements=held))
    parsed = gate.examine(made)
    assert parsed.notes.isdisjoint(STUMBLES)
    assert attributes_of(parsed) == attributes_of(gate.examine(data))
    read = pydicom.dcmread(BytesIO(made))
    assert {int(tag) for tag in read.keys()} == set(parsed.by_tag)  # noqa: SIM118
    if image:
        assert read.PixelData == bytes(range(16))
        assert data[parsed.by_tag[0x7FE00010][2] + moved :] == bytes(range(16))


def test_tidied_pixel_data_has_its_delimiter_and_its_place_is_known() -> None:
    image = element(0x00280008, "IS", b"2 ")
    data = file(IDENTITY + MAKER * 2 + image + make.encapsulated(FRAME, FRAME, closed=False), make.JPEG)
    made, moved = tidied(data, gate.LIMITS)
    assert gate.examine(made).notes == set()
    spans = find_frames(BytesIO(made)).moved(moved).spans
    assert [data[at : at + length] for ((at, length),) in spans] == [FRAME, FRAME]


# --- text ---------------------------------------------------------------------------------------------------

SPELLINGS = [
    ("ISO-IR 101", "iso8859_2", "Wałęsa"),
    ("ISO_IR101", "iso8859_2", "Wałęsa"),
    ("ISO IR 101", "iso8859_2", "Wałęsa"),
    ("iso_ir_101", "iso8859_2", "Wałęsa"),
    ("ISO-IR 144", "iso8859_5", "Иванов"),
    ("ISO-IR 148", "iso8859_9", "Yıldız"),
    ("ISO-IR-192", "utf-8", "Wałęsa"),
    ("UTF-8", "utf-8", "山田"),
    ("UTF8", "utf-8", "山田"),
    ("ISO_IR 149", "euc_kr", "홍"),
    ("ISO 2022-IR 149", "euc_kr", "홍"),
    ("GB2312", "gb2312", "王"),
    ("GB_2312", "gb2312", "王"),
    ("GB-18030", "gb18030", "王"),
    ("ISO 8859-1", "latin_1", "Müller"),
    ("ISO8859-2", "iso8859_2", "Wałęsa"),
    ("ISO-8859-15", "iso8859_15", "Šimůnek€"[:1]),
    ("LATIN1", "latin_1", "Müller"),
    ("WINDOWS-1252", "cp1252", "Müller"),
    ("CP1250", "cp1250", "Wałęsa"),
    ("SHIFT_JIS", "shift_jis", "ﾔﾏﾀﾞ"),
    ("KS X 1001", "euc_kr", "홍"),
    ("BIG5", "big5", "王"),
    ("ISO_IR 166", "iso8859_11", "ก"),
]


@pytest.mark.parametrize(("term", "codec", "text"), SPELLINGS)
def test_character_sets_under_their_common_spellings(term: str, codec: str, text: str) -> None:
    assert decode(text.encode(codec), charset((term,))) == text


def test_leading_blanks_say_nothing_in_short_and_long_strings() -> None:
    data = (
        element(0x00080050, "SH", b"  A1  ")
        + element(0x00081030, "LO", b" Skull ")
        + element(0x00100020, "LO", b"  L1")
    )
    data += element(0x00400280, "ST", b"  kept") + element(0x00104000, "LT", b" kept ")
    found = attributes_of(gate.examine(file(IDENTITY + data)))
    got = {tag: found[tag]["Value"] for tag in ("00080050", "00081030", "00100020", "00400280", "00104000")}
    assert got == {
        "00080050": ["A1"],
        "00081030": ["Skull"],
        "00100020": ["L1"],
        "00400280": ["  kept"],
        "00104000": [" kept"],
    }


# --- frames -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("frames", "fragments", "each"),
    [
        (2, [FRAME, FRAME, b""], [1, 1]),
        (2, [FRAME, FRAME, b"", b""], [1, 1]),
        (1, [FRAME, b""], [1]),
        (2, [FRAME, b"", FRAME, b""], [1, 2]),
        (2, [FRAME[:2], FRAME[2:], FRAME[:2], FRAME[2:], b""], [2, 2]),
    ],
)
def test_empty_fragments_after_the_last_frame_are_none(
    frames: int, fragments: list[bytes], each: list[int]
) -> None:
    image = element(0x00280008, "IS", b"%d " % frames)
    found = find_frames(BytesIO(file(IDENTITY + image + make.encapsulated(*fragments), make.JPEG)))
    assert [len(spans) for spans in found.spans] == each


def test_frames_of_pixel_data_that_is_not_closed() -> None:
    image = element(0x00280008, "IS", b"2 ")
    found = find_frames(
        BytesIO(file(IDENTITY + image + make.encapsulated(FRAME, FRAME, closed=False), make.JPEG))
    )
    assert [length for ((_, length),) in found.spans] == [6, 6]


# --- data sets without file meta ----------------------------------------------------------------------------


@pytest.mark.parametrize("syntax", NATIVE)
def test_a_bare_data_set_is_told_by_its_first_elements(syntax: str) -> None:
    data_set = make.data_set_of(make.part10(make.image(1), NATIVE[syntax]))
    assert bare.transfer_syntax_of(data_set) == NATIVE[syntax]
    assert bare.transfer_syntax_of(data_set[:4096]) == NATIVE[syntax]
    assert bare.transfer_syntax_of(data_set[8:]) == "", "it begins in the midst of something"


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"x",
        b"[autorun]\r\nopen=viewer.exe",
        bytes(200),
        b"MZ\x90\0" * 40,
        b"\x08\0" * 80,
        b"\x89PNG\r\n\x1a\n" * 20,
    ],
)
def test_what_is_no_data_set_is_not_taken_for_one(head: bytes) -> None:
    assert bare.transfer_syntax_of(head) == ""


def test_what_seems_to_be_dicom() -> None:
    assert bare.looks_like_dicom(b"\x08\0\x05\0garbage", "IM1")
    assert bare.looks_like_dicom(b"", "empty.DCM")
    assert not bare.looks_like_dicom(b"hello", "README.TXT")
