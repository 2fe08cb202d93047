"""The template reader against the ordinary one: the same of every object, or nothing."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import dicom_objects as make
import node_serving
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from crosslight.standards.dicom.file import gate, header
from crosslight.standards.dicom.file.again import Template
from crosslight.standards.dicom.file.gate import Refused
from crosslight.standards.dicom.file.metadata import attributes_and_notes
from crosslight.standards.dicom.file.vr import PIXEL_DATA


def _whole(data: bytes) -> tuple[gate.Parsed, dict[str, Any], set[gate.Note]]:
    parsed = gate.examine(data)
    return parsed, *attributes_and_notes(parsed)


def _tried(read: Callable[[bytes], Any], data: bytes) -> Any:
    """What is read, or (reason, text) of the refusal."""
    try:
        return read(data)
    except Refused as refusal:
        return refusal.reason, str(refusal)


def _template(data: bytes) -> Template | None:
    return Template.of(*_whole(data))


def _slice(number: int, **attributes: Any) -> bytes:
    wanted: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 100",
        "ImagePositionPatient": [0, 0, 100 + number],
        "WindowCenter": "40",
        "SliceLocation": f"{100 + number}.5",
        "ContentTime": f"1015{number:02d}",
    }
    return make.part10(make.image(100 + number, **{**wanted, **attributes}))


def _agree(template: Template, data: bytes) -> bool:
    """Whether the template was enough; what it gives is then what the ordinary reader gives."""
    ordinary, known = _tried(_whole, data), _tried(template.again, data)
    if known is None:
        return False
    assert known == ordinary
    if len(known) == 2:
        return False  # refused, by both for the same reason
    assert list(known[1]) == list(ordinary[1]), "in the same order, so that the same bytes are kept"
    assert header.of(*known) == header.read(ordinary[0])
    return True


def test_slices_of_a_series_are_read_by_the_one_before() -> None:
    template = _template(_slice(1))
    assert template is not None
    for number in range(2, 60):
        assert _agree(template, _slice(number))


@pytest.mark.parametrize(
    "attributes",
    [
        {"PatientName": "Miller^Amy"},
        {"StudyDate": "20260302"},
        {"StudyInstanceUID": "1.2.826.0.1.3680043.10.1.2"},
        {"WindowCenter": "41"},
    ],
    ids=lambda a: next(iter(a)),
)
def test_plain_values_may_differ(attributes: dict[str, Any]) -> None:
    template = _template(_slice(1))
    assert template is not None
    assert _agree(template, _slice(2, **attributes))


@pytest.mark.parametrize(
    "attributes",
    [
        {"SpecificCharacterSet": "ISO_IR 144"},
        {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.4"},
        {"Rows": 4, "Columns": 16},
        {"PixelRepresentation": 1},
        {"PatientName": "Müller^Ann"},
        {"StudyDescription": "CT Thoräx"},
        {"StudyDescription": "CT"},
        {"InstanceCreatorUID": "1.2.3"},
    ],
    ids=lambda a: "-".join(f"{k}" for k in a),
)
def test_whatever_says_how_others_are_read_or_is_longer_is_read_whole(attributes: dict[str, Any]) -> None:
    template = _template(_slice(1))
    assert template is not None
    assert not _agree(template, _slice(2, **attributes))


def test_a_uid_that_is_none_is_refused_all_the_same() -> None:
    template = _template(_slice(1))
    assert template is not None
    broken = bytearray(_slice(2))
    broken[gate.examine(bytes(broken)).by_tag[0x0020000E][2]] = ord("x")
    with pytest.raises(Refused, match="Series Instance UID"):
        template.again(broken)
    assert not _agree(template, bytes(broken))


def test_nothing_of_the_pixels_is_kept() -> None:
    template = _template(_slice(1, Rows=64, Columns=64, PixelData=bytes(8192)))
    assert template is not None
    assert template._parsed.data == b""


@cache
def _samples() -> list[bytes]:
    """Objects of all kinds up to their pixels, as short as that allows; those that make a template."""
    files = [make.part10(make.image(1), s) for s in (ImplicitVRLittleEndian, ExplicitVRBigEndian)]
    files += [_slice(1), *(path.read_bytes() for path in node_serving.sample_files())]
    kept = []
    for data in files:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                if _template(data) is not None:
                    kept.append(data)
            except Refused:
                continue
    return kept


def test_every_sample_is_read_by_its_own_template_as_by_the_ordinary_reader() -> None:
    assert len(_samples()) > 10
    for data in _samples():
        template = _template(data)
        assert template is not None
        assert _agree(template, data)


@given(st.data())
def test_whatever_differs_the_template_gives_what_the_ordinary_reader_gives(data: st.DataObject) -> None:
    sample = data.draw(st.sampled_from(_samples()))
    parsed = gate.examine(sample)
    template = _template(sample)
    assert template is not None
    changed = bytearray(sample)
    elements = [e for e in parsed.elements if e[0] < PIXEL_DATA and e[3]]
    for _ in range(data.draw(st.integers(1, 4))):
        if data.draw(st.booleans()):  # within a value
            _, _, at, length, _ = data.draw(st.sampled_from(elements))
            place = at + data.draw(st.integers(0, length - 1))
        else:  # anywhere before the pixels, or among the first of them
            place = data.draw(st.integers(0, min(len(sample) - 1, parsed.by_tag[PIXEL_DATA][2] + 8)))
        changed[place] = data.draw(
            st.sampled_from([0, 32, 48, 57, 92, 94, 255, 0x1B, *b"AZ.^=\\", *range(256)])
        )
    _agree(template, bytes(changed))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_in_every_native_syntax(syntax: str) -> None:
    template = _template(make.part10(make.image(1), syntax))
    assert template is not None
    assert _agree(template, make.part10(make.image(2), syntax))
