"""The DICOM JSON model helpers, against pydicom's own reading of the model."""

from __future__ import annotations

import orjson
import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosslight.standards.dicom.web.json import (
    attribute,
    attributes,
    dumps,
    person_name,
    person_name_text,
    put,
    tag_of,
    text_of,
    texts_of,
    values_of,
)

ANY_SCRIPT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)
#: Text of one PN value: '=' parts groups, '\\' parts values, and trailing empty groups are no information.
NAMES = st.lists(
    st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="=\\"), max_size=20), max_size=3
).map(lambda groups: "=".join(groups).rstrip("="))


@given(st.lists(ANY_SCRIPT, min_size=1, max_size=3))
def test_text_goes_in_and_comes_out_exactly(values: list[str]) -> None:
    row = orjson.loads(dumps([attributes(StudyDescription=values)]))[0]
    while values and values[-1] == "":
        values.pop()
    assert texts_of(row, "StudyDescription") == values


@given(NAMES)
def test_names_go_in_and_come_out_exactly(name: str) -> None:
    assert person_name_text(person_name(name)) == name
    assert text_of(attributes(PatientName=name), "PatientName") == name


TEXTS = st.one_of(st.none(), st.text(max_size=8), st.sampled_from(["", "a\\b", '<&>"', "山", "\n", "\x00"]))
LISTED = st.one_of(TEXTS, st.lists(TEXTS, max_size=3), st.lists(TEXTS, max_size=3).map(tuple))
NUMBERS = st.one_of(st.none(), st.integers(0, 2**31), st.sampled_from(["", "0", " 7 ", "1.5", "x"]))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "StudyDescription": LISTED,
            "PatientName": LISTED,
            "ModalitiesInStudy": LISTED,
            "NumberOfStudyRelatedSeries": NUMBERS,
            "PatientWeight": NUMBERS,
            "RetrieveURL": TEXTS,
        },
    )
)
def test_many_at_once_are_as_each_alone_in_tag_order(said: dict[str, object]) -> None:
    alone = [
        attribute(keyword, value if isinstance(value, list | tuple) else [value])
        for keyword, value in said.items()
    ]
    assert dumps([attributes(**said)]) == dumps([dict(sorted(alone))])


def test_pydicom_reads_it() -> None:
    row = attributes(
        PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう",
        PatientID="<&>\"'",
        ModalitiesInStudy=["CT", "MR"],
        NumberOfStudyRelatedInstances="12",
        PatientWeight="70.5",
        FailedSOPSequence=[attributes(FailureReason=0x0110)],
        StudyDate="",
    )
    ds = pydicom.Dataset.from_json(orjson.loads(dumps([row]))[0])
    assert ds.PatientName == "Yamada^Tarou=山田^太郎=やまだ^たろう"
    assert (ds.PatientID, list(ds.ModalitiesInStudy), ds.NumberOfStudyRelatedInstances) == (
        "<&>\"'",
        ["CT", "MR"],
        12,
    )
    assert (ds.PatientWeight, ds.FailedSOPSequence[0].FailureReason, ds.StudyDate) == (70.5, 0x0110, "")


def test_shape_of_the_model() -> None:
    assert attribute("PatientID", ["a"]) == ("00100020", {"vr": "LO", "Value": ["a"]})
    assert attribute("PatientID", [""]) == ("00100020", {"vr": "LO"})
    assert attribute("ImageType", ["A", "", "C"]) == ("00080008", {"vr": "CS", "Value": ["A", None, "C"]})
    assert attribute("00091001", ["x"], vr="LO") == ("00091001", {"vr": "LO", "Value": ["x"]})
    assert attribute("SeriesNumber", ["no number"])[1] == {"vr": "IS", "Value": ["no number"]}
    assert list(attributes(StudyID="1", StudyDate="2")) == ["00080020", "00200010"]  # F.2.2: in tag order
    row = attributes(StudyID="1")
    put(row, "StudyID", "2", "3")
    assert values_of(row, "StudyID") == ["2", "3"]
    assert texts_of(row, "PatientName") == []
    with pytest.raises(KeyError):
        attribute("NoSuchKeyword", ["x"])


@pytest.mark.parametrize(
    ("name", "tag"), [("PatientID", "00100020"), ("0020000d", "0020000D"), ("Nope", None), ("00091001", None)]
)
def test_tags(name: str, tag: str | None) -> None:
    assert tag_of(name) == tag
