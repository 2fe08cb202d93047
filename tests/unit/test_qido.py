"""The QIDO grammar and attribute matching."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crosslight.standards.dicom.web.json import Attributes, attribute, attributes
from crosslight.standards.dicom.web.matching import wildcard_matches
from crosslight.standards.dicom.web.qido import FUZZY_WARNING, MAX_PARAMETERS, QidoQuery, matches
from crosslight.standards.dicom.web.qido_attributes import Level
from crosslight.standards.problem import Invalid, TooLarge

ROW: Attributes = attributes(
    PatientName="Müller^Ada Jane^^Dr=山田^花子",
    PatientID="L-1,7",
    PatientBirthDate="19700229",
    StudyDate="20260102",
    StudyTime="101112.5",
    ModalitiesInStudy=["CT", "PR"],
    StudyInstanceUID="1.2.3",
    StudyDescription="CT head, 3*2?",
    AccessionNumber="A1",
    NumberOfStudyRelatedSeries=2,
)


def ask(*params: tuple[str, str], level: Level = "study") -> QidoQuery:
    return QidoQuery.parse(level, params)


@pytest.mark.parametrize(
    ("name", "value", "hit"),
    [
        ("PatientName", "MÜLLER^ADA JANE^^DR", True),
        ("PatientName", "Müller^Ada Jane^^Dr^", True),
        ("PatientName", "müll*", True),
        ("PatientName", "山田*", True),
        ("PatientName", "山田^花子", True),
        ("PatientName", "Ada*", False),
        ("PatientName", "M?ller*", True),
        ("PatientName", "", True),
        ("PatientName", "*", True),
        ("PatientID", "L-1,7", True),
        ("PatientID", "l-1,7", False),  # case counts outside names (PS3.4 C.2.2.2.1)
        ("00100020", "L-1*", True),
        ("StudyDate", "20260102", True),
        ("StudyDate", "20260101-20260131", True),
        ("StudyDate", "20260102-", True),
        ("StudyDate", "-20260101", False),
        ("StudyTime", "10", True),
        ("StudyTime", "1011", True),
        ("StudyTime", "101112.5", True),
        ("StudyTime", "101113", False),
        ("StudyTime", "0900-1011", True),
        ("StudyTime", "1012-", False),
        ("ModalitiesInStudy", "PR", True),
        ("ModalitiesInStudy", "MR,CT", True),
        ("ModalitiesInStudy", "MR\\US", False),
        ("ModalitiesInStudy", "C*", True),
        ("StudyInstanceUID", "1.2.3", True),
        ("StudyInstanceUID", "1.2.4,1.2.3", True),
        ("StudyInstanceUID", "1.2.4\\1.2.5", False),
        ("0020000d", "1.2.3", True),
        ("StudyDescription", "CT head, 3*", True),
        ("StudyDescription", "ct*", False),
        ("AccessionNumber", "A", False),
        ("PatientSex", "F", False),  # absent never matches a value
        ("PatientSex", "", True),
    ],
)
def test_matching(name: str, value: str, hit: bool) -> None:
    assert matches(ask((name, value)), ROW) is hit


@pytest.mark.parametrize(
    ("params", "where"),
    [
        ([("Foo", "1")], "Foo"),
        ([("0010002", "1")], "0010002"),
        ([("SeriesInstanceUID", "1.2")], "SeriesInstanceUID"),  # not a key of studies
        ([("PixelData", "1")], "PixelData"),
        ([("StudyDate", "2026")], "StudyDate"),
        ([("StudyDate", "20261301")], "StudyDate"),
        ([("StudyDate", "20260201-20260101")], "StudyDate"),
        ([("StudyDate", "-")], "StudyDate"),
        ([("StudyTime", "9")], "StudyTime"),
        ([("StudyInstanceUID", "1.2.x")], "StudyInstanceUID"),
        ([("StudyInstanceUID", ",")], "StudyInstanceUID"),
        ([("limit", "-1")], "limit"),
        ([("limit", "ten")], "limit"),
        ([("offset", "")], "offset"),
        ([("fuzzymatching", "maybe")], "fuzzymatching"),
        ([("includefield", "Nothing")], "includefield=Nothing"),
        ([("PatientID", "1"), ("PatientID", "2")], "PatientID"),
        ([("PatientID", "1"), ("00100020", "1")], "00100020"),
        ([("PatientID", "a\nb")], "PatientID"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(params: list[tuple[str, str]], where: str) -> None:
    with pytest.raises(Invalid) as caught:
        QidoQuery.parse("study", params)
    assert caught.value.where == where
    assert caught.value.http_status == 400


@pytest.mark.parametrize(
    # of 1st 08:00, 1st 23:00, 2nd 03:00, 2nd 15:00, 3rd 08:00, and the 2nd at no time
    ("day", "time", "expected"),
    [
        ("20261101-20261102", "220000-060000", "1st23 2nd03 2nd"),
        ("20261101-20261103", "100000-120000", "1st23 2nd03 2nd15 3rd08 2nd"),
        ("20261101-20261102", "200000-160000", "1st23 2nd03 2nd15 2nd"),
        ("20261101-", "23-", "1st23 2nd03 2nd15 3rd08 2nd"),
        ("-20261102", "-0300", "1st08 1st23 2nd03 2nd"),
        ("20261102-20261102", "0000-0259", "2nd"),
        ("20261102", "03", "2nd03"),
        ("20261101-", "-0900", "1st08 2nd03 3rd08"),
        ("20261101-20261103", "0800", "1st08 3rd08"),
        ("20261101-20261102", "", "1st08 1st23 2nd03 2nd15 2nd"),
        ("20261101-20261103", "0700-", "1st08 1st23 2nd15 3rd08"),
        ("2026.11.01-20261102", "22-06", None),
        ("20261102-20261101", "01-02", None),
        ("20261101-20261101", "22-06", None),
        ("20261101", "220000-060000", None),
        ("20261101-", "220000-060000", None),
        ("", "220000-060000", None),
    ],
)
@pytest.mark.parametrize(
    ("date_key", "time_key"),
    [
        ("StudyDate", "StudyTime"), ("00080020", "00080030"), ("SeriesDate", "SeriesTime"),
        ("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
    ],
)  # fmt: skip
def test_ranges_of_a_date_and_its_time_are_one(
    day: str, time: str, expected: str | None, date_key: str, time_key: str
) -> None:
    params = (("limit", "9"), (time_key, time), (date_key, day))
    if expected is None:
        with pytest.raises(Invalid):
            ask(*params, level="series")
        return
    query = ask(*params, level="series")
    moments = {
        "1st08": ("01", "0800"),
        "1st23": ("01", "230000"),
        "2nd03": ("02", "03"),
        "2nd15": ("02", "15:00:00"),
        "3rd08": ("03", "080000.5"),
        "2nd": ("02", ""),
    }
    found = []
    for name, (date, at) in moments.items():
        row = attributes(StudyDate="20261101") | attribute_pair(date_key, f"202611{date}", time_key, at)
        if matches(query, row):
            found.append(name)
    assert found == [name for name in moments if name in expected.split()]


def attribute_pair(date_key: str, date: str, time_key: str, time: str) -> Attributes:
    return dict(sorted((attribute(date_key, [date]), attribute(time_key, [time]))))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("emptyvaluematching", "false"),
        ("_", "1700000000"),
        ("_cache", "x"),
        ("charset", "utf-8"),
        ("iccprofile", "no"),
        ("annotation", "patient"),
        ("Charset", "utf-8"),
        ("multiplevaluematching", "true"),
    ],
)
def test_what_narrows_nothing_is_ignored_with_a_warning(name: str, value: str) -> None:
    query = ask((name, value), ("PatientID", "1"))
    assert [m.keyword for m in query.matches] == ["PatientID"]
    assert any(name in text for text in query.warnings)


@pytest.mark.parametrize(
    "name", ["patientid", "PatientsName", "orderby", "filter", "00091001", "-", "x_", "Sequence.PatientID"]
)
def test_what_may_be_a_misspelt_key_is_refused(name: str) -> None:
    with pytest.raises(Invalid) as caught:
        ask((name, "1"))
    assert caught.value.where == name


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        ("PatientID,", {"00100020"}),
        (",", set()),
        ("", set()),
        ("PatientID,,StudyID", {"00100020", "00200010"}),
        ("00091010", {"00091010", "00090010"}),
        ("0019100a,PatientID", {"0019100A", "00190010", "00100020"}),
    ],
)
def test_includefield_lists(value: str, tags: set[str]) -> None:
    assert ask(("includefield", value), ("00090010", "CROSSLIGHT 1.0")).include == tags


@pytest.mark.parametrize(
    "params", [("00090010", ""), ("00090010", "A\\B"), ("includefield", "00090001"), ("0008FF10", "x")]
)
def test_private_attributes_that_are_none(params: tuple[str, str]) -> None:
    with pytest.raises(Invalid):
        ask(params)


def test_request_attributes_of_a_series() -> None:
    item = attributes(ScheduledProcedureStepID="SPS1", RequestedProcedureID="RP1")
    row = attributes(StudyDate="20260102", RequestAttributesSequence=[item])
    for key, value, hit in (
        ("RequestAttributesSequence.RequestedProcedureID", "RP1", True),
        ("00400275.00400009", "SPS1", True),
        ("RequestAttributesSequence.ScheduledProcedureStepID", "RP1", False),
        ("00400275.00401001", "RP*", True),
    ):
        for level in ("series", "instance"):
            assert matches(ask((key, value), level=level), row) is hit  # type: ignore[arg-type]
        with pytest.raises(Invalid):
            ask((key, value), level="study")


def test_too_many_parameters() -> None:
    with pytest.raises(TooLarge):
        QidoQuery.parse("study", [("includefield", "all")] * (MAX_PARAMETERS + 1))


def test_paging_and_fuzzy() -> None:
    query = QidoQuery.parse(
        "study", [("limit", "9000"), ("offset", "20"), ("fuzzymatching", "true")], max_results=500
    )
    assert (query.limit, query.offset, query.warnings) == (500, 20, (FUZZY_WARNING,))
    assert QidoQuery.parse("study", [], max_results=7).limit == 7
    assert ask(("limit", "0")).limit == 0


def test_what_is_returned() -> None:
    row = ROW | attributes(InstitutionName="Elsewhere", StudyComments="x")
    assert "00321060" not in (ask().returned() or ())
    assert "00080080" not in ask().select(row)
    assert "00080080" in ask(("InstitutionName", "Elsewhere")).select(row)  # what is matched is returned
    assert "00080080" in ask(("includefield", "00080080,PatientComments")).select(row)
    assert ask(("includefield", "all")).select(row) == row
    both = ask(("includefield", "InstitutionName"), ("includefield", "PatientComments")).returned()
    assert both is not None
    assert {"00080080", "00104000"} <= both


def test_levels_bring_those_above_unless_inside_them() -> None:
    everywhere = QidoQuery.parse("series", [("PatientID", "x")]).returned()
    inside = QidoQuery.parse("series", []).within(StudyInstanceUID="1.2").returned()
    assert everywhere is not None
    assert inside is not None
    assert "00100010" in everywhere
    assert "00100010" not in inside
    assert "0020000E" in inside


def test_within_adds_to_what_the_url_says() -> None:
    query = ask(("StudyInstanceUID", "1.2.4")).within(StudyInstanceUID="1.2.3")
    assert not matches(query, ROW)
    assert ask().within(StudyInstanceUID="1.2.3", SeriesInstanceUID="").equal_to("StudyInstanceUID") == (
        "1.2.3",
    )


def test_helpers_for_stores() -> None:
    query = ask(
        ("PatientID", "L"), ("StudyDate", "20260101-"), ("PatientName", "Smith"), ("AccessionNumber", "A*")
    )
    assert query.equal_to("PatientID") == ("L",)
    assert query.equal_to("PatientName") is None
    assert query.equal_to("AccessionNumber") is None
    assert query.interval("StudyDate") == ("20260101", "")
    assert ask(("StudyDate", "20260101")).interval("StudyDate") == ("20260101", "20260101")
    assert ask().interval("StudyDate") is None


def test_fewer_keys_and_nested_ones() -> None:
    keys = ("PatientID", "OtherPatientIDsSequence.PatientID")
    query = QidoQuery.parse("study", [("OtherPatientIDsSequence.PatientID", "9")], keys=keys)
    row = attributes(OtherPatientIDsSequence=[attributes(PatientID="8"), attributes(PatientID="9")])
    assert matches(query, row)
    assert not matches(query, attributes(PatientID="9"))
    with pytest.raises(Invalid):
        QidoQuery.parse("study", [("PatientName", "x")], keys=keys)


def test_date_time_ranges() -> None:
    keys = ("AcquisitionDateTime",)
    row = attributes(AcquisitionDateTime="20260102101112.25+0100")
    for value, hit in (
        ("202601", True),
        ("20260102-20260103", True),
        ("20260103-", False),
        ("-20260102101112", True),
        ("20260102101112.26-", False),
        ("20260102000000+0100-20260103000000+0100", True),
    ):
        assert (
            matches(QidoQuery.parse("instance", [("AcquisitionDateTime", value)], keys=keys), row) is hit
        ), value


@given(st.text(st.sampled_from("ab*?"), max_size=12), st.text(st.sampled_from("ab"), max_size=12))
def test_wildcards_mean_what_a_slow_reading_says(pattern: str, text: str) -> None:
    def slow(p: str, t: str) -> bool:
        if not p:
            return not t
        if p[0] == "*":
            return slow(p[1:], t) or (bool(t) and slow(p, t[1:]))
        return bool(t) and p[0] in ("?", t[0]) and slow(p[1:], t[1:])

    assert wildcard_matches(pattern, text) is slow(pattern, text)


def test_hostile_wildcards_are_linear() -> None:
    assert not wildcard_matches("*a" * 4000 + "b", "a" * 8000)


@given(st.lists(st.tuples(st.text(max_size=20), st.text(max_size=40)), max_size=6))
def test_any_parameters_are_read_or_refused(params: list[tuple[str, str]]) -> None:
    try:
        query = QidoQuery.parse("instance", params)
    except (Invalid, TooLarge):
        return
    matches(query, ROW)
