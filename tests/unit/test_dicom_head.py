"""The beginning of a file against the whole of it: the same header, by as few bytes as hold it."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import dicom_objects as make
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian, ImplicitVRLittleEndian

from crosslight.standards.dicom.file import gate, header
from crosslight.standards.dicom.file.gate import Parsed, Refused
from crosslight.standards.dicom.file.head import examine_head
from crosslight.standards.dicom.file.header import Header
from crosslight.standards.dicom.file.vr import PIXEL_DATA

FILES = sorted((Path(pydicom.__file__).parent / "data" / "test_files").glob("*.dcm"))


def by_growing(data: bytes, first: int = 256) -> tuple[Parsed, int]:
    """What is read, and how many bytes that took."""
    taken = first
    while (parsed := examine_head(data[:taken], len(data))) is None:
        assert taken < len(data), "all is there, and more is asked for"
        taken = min(taken * 2, len(data))
    return parsed, min(taken, len(data))


def _same(data: bytes) -> int:
    whole = header.read(gate.examine(data))
    parsed, taken = by_growing(data)
    found = header.read(parsed)
    assert (found.study, found.series, found.references) == (whole.study, whole.series, whole.references)
    assert found.metadata == whole.metadata
    assert parsed.dataset_offset == gate.examine(data).dataset_offset
    return taken


@pytest.mark.parametrize(
    "syntax", ["1.2.840.10008.1.2.1", ImplicitVRLittleEndian, ExplicitVRBigEndian], ids=str
)
def test_pixels_are_not_asked_for(syntax: str) -> None:
    data = make.part10(make.image(1, Rows=512, Columns=512, pixels=b"\1\2" * (512 * 512)), syntax)
    assert _same(data) <= 2048 < len(data)


def test_whatever_is_cut_where_is_asked_for_again_and_never_taken_for_whole() -> None:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "a", "99L", "\0\0 \r\n"
    made = make.image(1, ImageComments="\r\n \r\n" * 4)
    made.ProcedureCodeSequence = Sequence([item, item])
    made["ProcedureCodeSequence"].is_undefined_length = True
    data = make.part10(made)
    whole, first = header.read(gate.examine(data)), 140
    read = [examine_head(data[:upto], len(data)) for upto in range(first, len(data) + 1)]
    assert read[-1] is not None
    found = [parsed for parsed in read if parsed is not None]
    assert all(header.read(parsed).metadata == whole.metadata for parsed in found)
    assert len(found) == 64 * 2 + 1, "none before the head of Pixel Data is there"


def test_what_is_deflated_is_read_whole() -> None:
    assert _same(make.part10(make.image(1), DeflatedExplicitVRLittleEndian)) > 0


def test_a_file_that_is_still_being_written_is_refused_as_cut_off() -> None:
    data = make.part10(make.image(1))
    with pytest.raises(Refused) as refusal:
        examine_head(data[:-1], len(data) - 1)
    assert refusal.value.reason == "truncated"
    with pytest.raises(Refused):  # the head alone says it too
        examine_head(data[:-100], len(data) - 1)


def test_of_a_float_image_no_pixel_is_asked_for() -> None:
    made = make.image(1)
    del made.PixelData
    made.FloatPixelData = bytes(4 * 64 * 64)
    data = make.part10(made)
    assert _same(data) < len(data)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "not-dicom"),
        (b"#!/bin/sh\n" * 200, "not-dicom"),
        (
            b"\0" * 128 + b"DICM" + b"\2\0\x10\0UI\x14\x001.2.840.10008.9.9.9\0" + b"\0" * 64,
            "transfer-syntax",
        ),
    ],
    ids=["empty", "text", "syntax"],
)
def test_what_is_no_object_is_said_by_its_first_bytes(data: bytes, reason: str) -> None:
    with pytest.raises(Refused) as refusal:
        examine_head(data[:256], len(data))
    assert refusal.value.reason == reason


def test_a_length_beyond_the_file_is_never_read_for() -> None:
    data = bytearray(make.part10(make.image(1)))
    at = data.index(b"\x10\0\x10\0PN") + 6
    data[at : at + 2] = struct.pack("<H", 0xFFFE)
    with pytest.raises(Refused) as refusal:
        examine_head(bytes(data), len(data))
    assert refusal.value.reason == "truncated"


def _tried(read: Callable[[bytes], Parsed], data: bytes) -> Header | str:
    try:
        return header.read(read(data))
    except Refused as refusal:
        return refusal.reason


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_real_files_read_alike(path: Path) -> None:
    data = path.read_bytes()
    whole, found = _tried(gate.examine, data), _tried(lambda data: by_growing(data)[0], data)
    if isinstance(whole, Header) and isinstance(found, Header):
        assert (found.study, found.series) == (whole.study, whole.series)
        assert found.metadata == whole.metadata or any(e.tag > PIXEL_DATA for e in pydicom.dcmread(path))
    elif isinstance(found, Header):  # what is wrong stands in the pixels, or behind them
        assert whole in ("truncated", "delimiter", "pixel-data")
    else:
        assert found == whole or found == "not-dicom", whole
