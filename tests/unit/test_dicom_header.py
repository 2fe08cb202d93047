"""Our header reader against pydicom over every object that pydicom ships, and text in every character set."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import dicom_objects as make
import pydicom
import pydicom.data
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from crosslight.standards.dicom.file import gate, header
from crosslight.standards.dicom.file.charset import charset, decode
from crosslight.standards.dicom.file.metadata import attributes_of

_ROOT = Path(str(pydicom.data.__file__)).parent
FILES = sorted(path for path in _ROOT.rglob("*") if path.is_file() and path.suffix != ".py")
_INDEX = {
    *header.STUDY_TAGS,
    *header.SERIES_TAGS,
    *header.INSTANCE_TAGS,
    "00080061",
    "00281050",
    "00281051",
    "0040A043",
    "0040A375",
}


def _by_pydicom(data: bytes) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, _ = header.read_with_pydicom(data)
    return {tag: _plain(body) for tag, body in found.items() if tag in _INDEX}


def _plain(body: Any) -> Any:
    """Without differences that DICOM does not know: padding of values among several, '' for an empty one."""
    if isinstance(body, dict):
        return {k: _plain(v) for k, v in body.items() if not (k == "Value" and not v)}
    if isinstance(body, list):
        return [_plain(v) for v in body]
    if isinstance(body, str):
        return body.strip(" \0") or None
    return body


def test_every_index_attribute_equals_pydicoms() -> None:
    compared = 0
    for path in FILES:
        data = path.read_bytes()
        try:
            parsed = gate.examine(data)
        except gate.Refused:
            continue
        if path.name == "badVR.dcm":  # a number of frames that is none: pydicom drops it
            continue
        ours = {tag: _plain(body) for tag, body in attributes_of(parsed).items() if tag in _INDEX}
        assert ours == _by_pydicom(data), path.name
        compared += 1
    assert compared >= 140, "most of pydicom's own objects pass the gate"


def test_header_of_a_slice() -> None:
    found = header.read(gate.examine(make.part10(make.image(3))))
    assert (found.study_uid, found.series_uid, found.sop_uid) == (
        make.STUDY,
        f"{make.STUDY}.1",
        f"{make.STUDY}.1.3",
    )
    assert (found.number, found.frames, found.modality, found.title) == ("3", 1, "CT", None)
    assert b"7FE00010" not in found.metadata, "no pixels in metadata"


def test_fallback_reader_gives_the_same_header() -> None:
    data = make.part10(make.image(3, PatientName="Müller^Jörg", SpecificCharacterSet="ISO_IR 100"))
    ours = header.read(gate.examine(data))
    theirs = header.from_attributes(*header.read_with_pydicom(data))
    assert (theirs.study, theirs.series, theirs.sop_uid) == (ours.study, ours.series, ours.sop_uid)


NAMES = {
    ("",): "Adams^John Robert Quincy^^Rev.^B.A. M.Div.",
    ("ISO_IR 100",): "Buc^Jérôme",
    ("ISO_IR 101",): "Wałęsa^Lech",
    ("ISO_IR 109",): "Ĝis^Ŝanco",
    ("ISO_IR 110",): "Ķirsis^Ēriks",
    ("ISO_IR 126",): "Διονυσιος",
    ("ISO_IR 127",): "قباني^لنزار",
    ("ISO_IR 138",): "שרון^דבורה",
    ("ISO_IR 144",): "Люкceмбypг",
    ("ISO_IR 148",): "Çavuşoğlu^İnan",
    ("ISO_IR 166",): "ประเสริฐ^สมชาย",
    ("ISO_IR 13",): "ﾔﾏﾀﾞ^ﾀﾛｳ",
    ("ISO_IR 192",): "Wang^XiaoDong=王^小东=",
    ("GB18030",): "Wang^XiaoDong=王^小东=",
    ("GBK",): "Wang^XiaoDong=王^小东=",
    ("", "ISO 2022 IR 87"): "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ("", "ISO 2022 IR 149"): "Hong^Gildong=洪^吉洞=홍^길동",
    ("ISO 2022 IR 13", "ISO 2022 IR 87"): "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ("ISO 2022 IR 100", "ISO 2022 IR 144", "ISO 2022 IR 126"): "Buc^Jérôme=Люкc^Διο",
}


@pytest.mark.parametrize("terms", NAMES, ids=lambda terms: "+".join(t or "default" for t in terms))
def test_names_in_every_character_set(terms: tuple[str, ...]) -> None:
    name = NAMES[terms]
    made = make.image(PatientName=name)
    made.SpecificCharacterSet = list(terms) if len(terms) > 1 else terms[0]
    found = header.read(gate.examine(make.part10(made)))
    assert header.first_text(found.study, "00100010") == name.rstrip("=")


#: PS3.5 H, I, J, K: the encoded examples of the standard itself.
ENCODED = [
    (
        ("", "ISO 2022 IR 87"),
        b"Yamada^Tarou=\x1b$B;3ED\x1b(B^\x1b$BB@O:\x1b(B=\x1b$B$d$^$@\x1b(B^\x1b$B$?$m$&\x1b(B",
        "Yamada^Tarou=山田^太郎=やまだ^たろう",
    ),
    (
        ("ISO 2022 IR 13", "ISO 2022 IR 87"),
        b"\xd4\xcf\xc0\xde^\xc0\xdb\xb3=\x1b$B;3ED\x1b(J^\x1b$BB@O:\x1b(J=\x1b$B$d$^$@\x1b(J^\x1b$B$?$m$&\x1b(J",
        "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう",
    ),
    (
        ("", "ISO 2022 IR 149"),
        b"Hong^Gildong=\x1b$)C\xfb\xf3^\x1b$)C\xd1\xce\xd4\xd7=\x1b$)C\xc8\xab^\x1b$)C\xb1\xe6\xb5\xbf",
        "Hong^Gildong=洪^吉洞=홍^길동",
    ),
    (
        ("", "ISO 2022 IR 58"),
        b"Zhang^XiaoDong=\x1b$)A\xd5\xc5^\x1b$)A\xd0\xa1\xb6\xab=",
        "Zhang^XiaoDong=张^小东=",
    ),
    (("GB18030",), b"Wang^XiaoDong=\xcd\xf5^\xd0\xa1\xb6\xab=", "Wang^XiaoDong=王^小东="),
]


@pytest.mark.parametrize(("terms", "data", "text"), ENCODED, ids=["H.3.1", "H.3.2", "I.2", "K.2", "J.3"])
def test_the_standards_own_examples(terms: tuple[str, ...], data: bytes, text: str) -> None:
    assert decode(data, charset(terms), delimiters=b"\\^=") == text


def test_backslash_inside_a_multibyte_character_is_no_separator() -> None:
    text = b"\x81\x5c".decode("gb18030")
    made = make.image(StudyDescription=text, SpecificCharacterSet="GB18030")
    found = header.read(gate.examine(make.part10(made)))
    assert header.first_text(found.study, "00081030") == text


def test_text_that_no_character_set_explains_is_never_an_error() -> None:
    assert decode(b"Caf\xe9", charset(("",))) == "Café"
    assert decode("Café".encode(), charset(("NO SUCH SET",))) == "Café"
    assert "\ufffd" in decode(b"\x80\xff\xff", charset(("ISO_IR 192",)))


def test_values_that_are_no_numbers_stay_text() -> None:
    data = (
        make.IDENTITY
        + make.element(0x00281050, "DS", b"1e9999 x")
        + make.element(0x00280008, "IS", b"999999999999")
    )
    data += make.element(0x00280030, "DS", b"0.5\\  ")
    found = attributes_of(gate.examine(make.raw_part10(data)))
    assert found["00281050"]["Value"] == ["1e9999 x"]
    assert found["00280030"]["Value"] == [0.5, None]


def test_big_values_are_left_out_and_small_binary_is_inline() -> None:
    data = (
        make.IDENTITY + make.element(0x00420011, "OB", bytes(2000)) + make.element(0x00291010, "OB", b"\1\2")
    )
    found = attributes_of(gate.examine(make.raw_part10(data)))
    assert "00420011" not in found
    assert found["00291010"] == {"vr": "OB", "InlineBinary": "AQI="}


def test_character_set_of_an_item_overrides() -> None:
    inner = Dataset()
    inner.SpecificCharacterSet, inner.PatientID = "ISO_IR 144", "Ж1"
    made = make.image(SpecificCharacterSet="ISO_IR 100", PatientName="Buc^Jérôme")
    made.OtherPatientIDsSequence = Sequence([inner])
    found = header.read(gate.examine(make.part10(made)))
    (item,) = header.items(found.study, "00101002")
    assert header.first_text(item, "00100020") == "Ж1"
    assert header.first_text(found.study, "00100010") == "Buc^Jérôme"


@pytest.mark.parametrize("code", ["113001", "113037", "113038", "113039", "113030", "113000"])
def test_key_object_titles(code: str) -> None:
    rejected = make.image(5)
    found = header.read(gate.examine(make.part10(make.note(code, [rejected]))))
    assert found.is_manifest == (code == "113030")
    assert found.rejection == (code if code in header.REJECTION_TITLES else "")
    assert found.references == ((make.STUDY, f"{make.STUDY}.1", f"{make.STUDY}.1.5"),)
