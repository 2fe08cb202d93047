"""The ingest gate: every row of security.md section 5, each refused for its own reason and in bounded
time."""

from __future__ import annotations

import random
import time
from contextlib import suppress

import dicom_objects as make
import pytest
from dicom_objects import IDENTITY, element, item
from dicom_objects import raw_part10 as file
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from crosslight.standards.dicom.file import gate
from crosslight.standards.dicom.file.gate import Refused
from crosslight.standards.dicom.file.header import read

GOOD = make.part10(make.image())
DEFLATED = str(DeflatedExplicitVRLittleEndian)


def _pixels(value: bytes, length: int | None = None, *, rows: int = 4) -> bytes:
    head = element(0x00280002, "US", b"\1\0") + element(0x00280010, "US", bytes([rows, 0]))
    head += element(0x00280011, "US", b"\4\0") + element(0x00280100, "US", b"\x08\0")
    return IDENTITY + head + element(0x7FE00010, "OW", value, length)


def _many_items(count: int) -> bytes:
    return IDENTITY + element(0x00400275, "SQ", item(b"") * count)


def _private(count: int) -> bytes:
    creator = element(0x00230010, "LO", b"TEST")
    return IDENTITY + creator + b"".join(element(0x00231000 + n, "UN", b"") for n in range(count % 0xEFFF))


HOSTILE: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not-dicom"),
    "random bytes": (random.Random(1).randbytes(4096), "not-dicom"),
    "no prefix": (GOOD[132:], "not-dicom"),
    "cut in meta": (GOOD[:200], "truncated"),
    "cut after meta": (GOOD[: len(GOOD) - len(make.data_set_of(GOOD))], "uid"),
    "cut 10 bytes before the end": (GOOD[:-10], "truncated"),
    "cut inside an element's head": (GOOD[: len(GOOD) - 128 - 7], "truncated"),
    "pixel data declares 4 GiB": (file(_pixels(bytes(16), 0xFFFFFFFE)), "truncated"),
    "pixel data undefined, native": (file(_pixels(bytes(64), 0xFFFFFFFF)), "pixel-data"),
    "encapsulated, cut off between frames": (
        file(IDENTITY + element(0x00280008, "IS", b"2 ") + make.encapsulated(b"ab", closed=False), make.JPEG),
        "truncated",
    ),
    "encapsulated, nothing in it": (
        file(IDENTITY + element(0x7FE00010, "OB", b"", 0xFFFFFFFF), make.JPEG),
        "delimiter",
    ),
    "encapsulated, fragment beyond the end": (
        file(IDENTITY + element(0x7FE00010, "OB", b"\xfe\xff\x00\xe0\xff\0\0\0", 0xFFFFFFFF), make.JPEG),
        "truncated",
    ),
    "encapsulated syntax, native data": (file(_pixels(bytes(16)), make.JPEG), "pixel-data"),
    "less pixel data than described": (file(_pixels(bytes(14))), "pixel-data"),
    "nested 33 deep, open": (file(IDENTITY + make.nested(33, open_ended=True)), "depth"),
    "nested 33 deep, defined": (file(IDENTITY + make.nested(33, open_ended=False)), "depth"),
    "nested 1000 deep, defined": (file(IDENTITY + make.nested(1000, open_ended=False)), "depth"),
    "sequence never closed": (file(IDENTITY + element(0x00400275, "SQ", item(b""), 0xFFFFFFFF)), "delimiter"),
    "item never closed": (
        file(IDENTITY + element(0x00400275, "SQ", b"\xfe\xff\x00\xe0\xff\xff\xff\xff", 0xFFFFFFFF)),
        "delimiter",
    ),
    "garbage in a sequence": (
        file(IDENTITY + element(0x00400275, "SQ", b"\x08\0\x18\0\0\0\0\0")),
        "delimiter",
    ),
    "a delimiter between elements": (
        file(IDENTITY + make.SEQUENCE_END + element(0x00400280, "ST", b"ab")),
        "delimiter",
    ),
    "elements after padding": (file(IDENTITY + bytes(64) + element(0x00400280, "ST", b"ab")), "vr"),
    "a million empty items in the index": (file(_many_items(1_000_000)), "elements"),
    "undefined length of a string": (file(IDENTITY + element(0x00400280, "UT", b"ab", 0xFFFFFFFF)), "length"),
    "unknown VR": (file(IDENTITY + element(0x00400254, "ZZ", b"ab")), "vr"),
    "path as SOP Instance UID": (
        file(
            IDENTITY.replace(make.uid("1.2.3.4"), b"../../e\0").replace(b"/1.2.3.4", b""), instance="../../e"
        ),
        "uid",
    ),
    "no study": (file(IDENTITY[:-30]), "uid"),
    "a UID of 65 characters": (make.part10(make.image(StudyInstanceUID="1." + "2" * 63)), "uid"),
    "unknown transfer syntax": (file(IDENTITY, "1.2.3.4.5"), "transfer-syntax"),
    "JPIP: pixels elsewhere": (file(IDENTITY, "1.2.840.10008.1.2.4.94"), "transfer-syntax"),
    "no transfer syntax": (
        bytes(128) + b"DICM" + element(0x00020002, "UI", make.uid(make.CT)) + IDENTITY,
        "meta",
    ),
    "SOP Instance UID twice": (file(IDENTITY + element(0x00080018, "UI", make.uid("9.9"))), "order"),
    "deflate bomb": (file(make.deflated(IDENTITY + bytes(50_000_000)), DEFLATED), "bomb"),
    "deflate cut off": (
        file(make.deflated(IDENTITY + random.Random(2).randbytes(5000))[:-50], DEFLATED),
        "truncated",
    ),
    "deflate broken": (file(b"\xff" * 100, DEFLATED), "unreadable"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_refused_with_its_reason_in_bounded_time(name: str) -> None:
    data, reason = HOSTILE[name]
    started = time.process_time()
    with pytest.raises(Refused) as refused:
        gate.examine(data)
    assert refused.value.reason == reason, str(refused.value)
    assert refused.value.what.endswith(".")
    assert time.process_time() - started < 10, "linear in the bytes"


def test_too_many_elements_wherever_they_are() -> None:
    limits = gate.Limits(max_elements=1000)
    flat = file(_private(1200))
    with pytest.raises(Refused) as refused:
        gate.examine(flat, limits=limits)
    assert refused.value.reason == "elements"
    some = b"".join(element(0x00231000 + n, "UN", b"") for n in range(300))
    deep = some
    for _ in range(5):
        deep = some + element(0x00990010, "SQ", item(deep))
    with pytest.raises(Refused) as refused:
        gate.examine(file(IDENTITY + deep), limits=limits)
    assert refused.value.reason == "elements"


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_accepted_in_every_native_syntax(syntax: str) -> None:
    parsed = gate.examine(make.part10(make.image(7), str(syntax)))
    assert parsed.text(0x00080018) == f"{make.STUDY}.1.7"
    assert gate.pixel_span(parsed)[1] == 128


def test_accepted_deflated_and_encapsulated() -> None:
    data_set = make.data_set_of(GOOD)
    parsed = gate.examine(file(make.deflated(data_set), DEFLATED, instance=f"{make.STUDY}.1.1"))
    assert parsed.inflated
    assert gate.pixel_span(parsed) == (0, 0), "not plain in the file"
    jpeg = gate.examine(file(IDENTITY + make.encapsulated(b"\xff\xd8", b"\xff\xd9"), make.JPEG))
    assert gate.pixel_span(jpeg) == (0, 0)


def test_depth_32_and_private_sequences_pass() -> None:
    gate.examine(file(IDENTITY + make.nested(32, open_ended=True)))
    hidden = item(b"\x10\0\x20\0\4\0\0\0ABCD")  # implicit inside UN of undefined length (PS3.5 6.2.2)
    gate.examine(file(IDENTITY + element(0x00991001, "UN", hidden + make.SEQUENCE_END, 0xFFFFFFFF)))


def test_executable_preamble_is_read_and_only_tiff_is_told() -> None:
    plain = gate.examine(file(IDENTITY, preamble=b"MZ" + bytes(126)))
    assert not plain.tiff_preamble
    assert gate.examine(file(IDENTITY, preamble=b"II*\0" + bytes(124))).tiff_preamble


def test_pixel_data_of_one_bit_and_subsampled_chroma() -> None:
    one_bit = make.image(BitsAllocated=1, BitsStored=1, HighBit=0, pixels=bytes(8))
    gate.examine(make.part10(one_bit))
    chroma = make.image(
        SamplesPerPixel=3,
        PhotometricInterpretation="YBR_FULL_422",
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PlanarConfiguration=0,
        pixels=bytes(128),
    )
    gate.examine(make.part10(chroma))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(132, len(GOOD) - 1), st.integers(0, 255)), min_size=1, max_size=12),
    st.integers(0, 400),
)
def test_mutations_are_read_or_refused_never_worse(changes: list[tuple[int, int]], cut: int) -> None:
    data = bytearray(GOOD)
    for position, value in changes:
        data[position] = value
    try:
        parsed = gate.examine(bytes(data[: len(data) - cut]))
    except Refused:
        return
    read(parsed)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=400), st.sampled_from(sorted(gate.TRANSFER_SYNTAXES)))
def test_random_data_sets_are_read_or_refused_never_worse(data_set: bytes, syntax: str) -> None:
    with suppress(Refused):
        assert gate.walk(data_set, syntax).transfer_syntax_uid == syntax
