"""Tolerated objects: what decoders are given, text, frames, and data sets without file meta."""

from __future__ import annotations

from io import BytesIO

import dicom_objects as make
import pydicom
import pytest
from dicom_objects import IDENTITY, element
from dicom_objects import raw_part10 as file
from tolerated_objects import (
    MAKER,
    NATIVE,
    TOLERATED,
    _pixels,
)

from crosslight.standards.dicom.file import bare_data_set as bare
from crosslight.standards.dicom.file import gate
from crosslight.standards.dicom.file.charset import charset, decode
from crosslight.standards.dicom.file.metadata import attributes_of
from crosslight.standards.dicom.file.normalised import STUMBLES, tidied
from crosslight.standards.dicom.pixels.frames import find_frames

FRAME = b"\xff\xd8ab\xff\xd9"


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
