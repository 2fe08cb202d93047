"""Identifiers of C-FIND, C-MOVE and C-GET: read, planned, answered, written; held against pydicom."""

from __future__ import annotations

from typing import Any

import dicom_objects as make
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.filebase import DicomBytesIO
from pydicom.filewriter import write_dataset

from crosslight.standards.dicom.file.syntaxes import EXPLICIT_LE, IMPLICIT_LE
from crosslight.standards.dicom.query.find import read_find
from crosslight.standards.dicom.query.identifier import read_identifier, write_identifier
from crosslight.standards.dicom.query.models import PATIENT_FIND, PATIENT_GET, agreed_to
from crosslight.standards.dicom.query.retrieve import read_retrieve
from crosslight.standards.dicom.web import json
from crosslight.standards.dicom.web.qido import matches
from crosslight.standards.problem import Invalid, Malformed


def encoded(made: Dataset, syntax: str = EXPLICIT_LE) -> bytes:
    sink = DicomBytesIO()
    sink.is_implicit_VR, sink.is_little_endian = syntax == IMPLICIT_LE, True
    write_dataset(sink, made)
    return bytes(sink.getvalue())


def decoded(data: bytes, syntax: str) -> Dataset:
    return make.parsed(data, syntax)


def asked(root: Any = "study", **keys: Any) -> Any:
    made = Dataset()
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    identifier, _ = read_identifier(encoded(made), EXPLICIT_LE)
    return read_find(identifier, root)


ROW = json.attributes(
    PatientName="Müller^Jürgen",
    PatientID="L1",
    PatientBirthDate="19700102",
    StudyInstanceUID="1.2.3",
    StudyDate="20260301",
    StudyTime="101500",
    StudyDescription="CT <Thorax> & \"more\" 'x' ^|~",
    ModalitiesInStudy=["CT", "SR"],
    NumberOfStudyRelatedInstances=12,
    InstanceAvailability="ONLINE",
    RequestAttributesSequence=[
        json.attributes(RequestedProcedureID="P1", ScheduledProcedureStepID="S1"),
    ],
)


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE])
def test_an_answer_has_each_key_that_was_asked_and_empty_what_is_not_known(syntax: str) -> None:
    sequence = Dataset()
    sequence.RequestedProcedureID = ""
    plan = asked(
        QueryRetrieveLevel="STUDY",
        PatientName="",
        StudyDescription="",
        StudyInstanceUID="",
        ModalitiesInStudy="",
        InstitutionalDepartmentName="",
        NumberOfStudyRelatedInstances="",
        RequestAttributesSequence=[sequence],
    )
    found = decoded(write_identifier(plan.answer(ROW, "RTK"), syntax), syntax)
    assert found.SpecificCharacterSet == "ISO_IR 192"
    assert str(found.PatientName) == "Müller^Jürgen"
    assert found.StudyDescription == "CT <Thorax> & \"more\" 'x' ^|~"
    assert list(found.ModalitiesInStudy) == ["CT", "SR"]
    assert found.NumberOfStudyRelatedInstances == 12
    assert found.InstitutionalDepartmentName == "", "asked, and not known"
    assert (found.QueryRetrieveLevel, found.RetrieveAETitle) == ("STUDY", "RTK")
    assert found.InstanceAvailability == "ONLINE"
    assert [list(item.keys()) for item in found.RequestAttributesSequence] == [[0x00401001]]
    assert "StudyDate" not in found, "was not asked"


def test_an_answer_is_in_the_questions_character_set_where_that_can_say_it() -> None:
    row = json.attributes(PatientName="Müller^Jürgen")
    latin = write_identifier(row, EXPLICIT_LE, "ISO_IR 100")
    assert b"M\xfcller" in latin
    assert decoded(latin, EXPLICIT_LE).SpecificCharacterSet == "ISO_IR 100"
    greek = write_identifier(row, EXPLICIT_LE, "ISO_IR 126")
    assert decoded(greek, EXPLICIT_LE).SpecificCharacterSet == "ISO_IR 192"
    plain = write_identifier(json.attributes(PatientName="Miller^Ann"), EXPLICIT_LE, "ISO_IR 100")
    assert "SpecificCharacterSet" not in decoded(plain, EXPLICIT_LE)


@pytest.mark.parametrize("syntax", [EXPLICIT_LE, IMPLICIT_LE])
@given(
    name=st.text(st.characters(exclude_characters="\\^=", exclude_categories=("C", "Z")), max_size=20),
    text=st.text(st.characters(exclude_characters="\\", exclude_categories=("C", "Z")), max_size=60),
    number=st.integers(-(2**31), 2**31 - 1),
)
def test_what_is_written_pydicom_and_we_read(syntax: str, name: str, text: str, number: int) -> None:
    row = json.attributes(PatientName=name, StudyDescription=text, InstanceNumber=number, Rows=512)
    data = write_identifier(row, syntax)
    found = decoded(data, syntax)
    assert (str(found.PatientName), str(found.StudyDescription or "")) == (name, text)
    assert (found.InstanceNumber, found.Rows) == (number, 512)
    again, _ = read_identifier(data, syntax)
    assert {tag: again[tag] for tag in row} == row


def test_japanese_by_code_extensions_is_read() -> None:
    made = Dataset()
    made.SpecificCharacterSet = ["", "ISO 2022 IR 87"]
    made.PatientName = "Yamada^Tarou=山田^太郎"
    made.QueryRetrieveLevel = "PATIENT"
    identifier, said = read_identifier(encoded(made), EXPLICIT_LE)
    plan = read_find(identifier, "patient")
    assert json.texts_of(identifier, "PatientName") == ["Yamada^Tarou=山田^太郎"]
    assert plan.query.matches[0].values == ("Yamada^Tarou=山田^太郎",)
    assert said == "\\ISO 2022 IR 87"


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        ({"PatientID": "L1"}, True),
        ({"PatientID": "L?"}, True),
        ({"PatientName": "m*"}, True),
        ({"PatientName": "MÜLLER^*"}, True),
        ({"StudyDate": "20260101-20260401"}, True),
        ({"StudyDate": "-20260228"}, False),
        ({"StudyInstanceUID": ["1.2.3", "1.2.4"]}, True),
        ({"ModalitiesInStudy": "SR"}, True),
        ({"ModalitiesInStudy": "MR"}, False),
        ({"PatientName": "*", "PatientID": "", "StudyDate": ""}, True),
    ],
)
def test_matching(keys: dict[str, Any], found: bool) -> None:
    if "ISO" not in keys and "PatientName" in keys:
        keys = {"SpecificCharacterSet": "ISO_IR 192", **keys}
    assert matches(asked(QueryRetrieveLevel="STUDY", **keys).query, ROW) is found


def test_date_and_time_are_one_moment_only_where_that_was_agreed() -> None:
    made = Dataset()
    made.QueryRetrieveLevel, made.StudyDate, made.StudyTime = "STUDY", "20260228-20260302", "180000-190000"
    identifier, _ = read_identifier(encoded(made), EXPLICIT_LE)
    assert not matches(read_find(identifier, "study").query, ROW), "ten o'clock is not between six and seven"
    assert matches(read_find(identifier, "study", moments=True).query, ROW), "the day between is"


def test_a_key_that_is_not_matched_is_named_and_never_dropped_in_silence() -> None:
    plan = asked(QueryRetrieveLevel="STUDY", Modality="CT", OperatorsName="X", PatientID="L1")
    assert set(plan.unmatched) == {"00080060", "00081070"}
    assert [match.keyword for match in plan.query.matches] == ["PatientID"]


@pytest.mark.parametrize(
    ("root", "level"), [("study", "PATIENT"), ("study", ""), ("patient", "WORKLIST"), ("study", "IMAGES")]
)
def test_a_level_that_the_model_does_not_have_is_refused(root: Any, level: str) -> None:
    with pytest.raises(Invalid, match="Level"):
        asked(root, QueryRetrieveLevel=level, PatientID="1")


def test_what_cannot_be_read_is_refused() -> None:
    for data in (b"\x08\0\x52\0CS\xff\xff", b"\xff" * 40, encoded(_deep(8))):
        with pytest.raises(Malformed):
            read_identifier(data, EXPLICIT_LE)
    with pytest.raises(Invalid):
        asked(QueryRetrieveLevel="STUDY", StudyDate="yesterday")


def _deep(levels: int) -> Dataset:
    made = Dataset()
    for _ in range(levels):
        outer = Dataset()
        outer.RequestAttributesSequence = [made]
        made = outer
    return made


def retrieved(root: Any = "study", **keys: Any) -> Any:
    made = Dataset()
    for keyword, value in keys.items():
        setattr(made, keyword, value)
    return read_retrieve(read_identifier(encoded(made), EXPLICIT_LE)[0], root)


def test_a_retrieve_names_unique_keys_and_no_patterns() -> None:
    wanted = retrieved(
        QueryRetrieveLevel="SERIES", StudyInstanceUID="1.2.3", SeriesInstanceUID=["1.4", "1.5"]
    )
    assert (wanted.studies, wanted.series, wanted.instances) == (("1.2.3",), ("1.4", "1.5"), ())
    assert retrieved("patient", QueryRetrieveLevel="PATIENT", PatientID="L*").patient_id == "L*", (
        "as it stands"
    )
    for keys in (
        {"QueryRetrieveLevel": "STUDY"},
        {"QueryRetrieveLevel": "SERIES", "StudyInstanceUID": "1.2.3"},
        {"QueryRetrieveLevel": "STUDY", "StudyInstanceUID": "1.2.*"},
    ):
        with pytest.raises(Invalid):
            retrieved(**keys)


def test_what_is_agreed_of_extended_negotiation() -> None:
    assert agreed_to(PATIENT_FIND, b"\1\1\1\1\1") == b"\1\1\0\0\0"
    assert agreed_to(PATIENT_FIND, b"\0\0\0") == b"\1\0\0"
    assert agreed_to(PATIENT_GET, b"\1\1") == b"\1\0"
    assert agreed_to(PATIENT_FIND, b"") == b""
