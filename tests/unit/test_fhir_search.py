"""The search grammar and what each parameter means."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fhir_facts import facts_of
from hypothesis import given
from hypothesis import strategies as st
from registry_samples import NHS, REGION, member, nhs, patient, study

from crosslight.runtime.clock import SystemIds
from crosslight.standards.fhir.match import StudyMatcher, string_is
from crosslight.standards.fhir.search import (
    Grammar,
    ReferenceValue,
    SearchRequest,
    StringValue,
    TokenValue,
    escape,
    parse_read,
    parse_search,
    split_escaped,
    unescape,
)
from crosslight.standards.fhir.terms import Systems
from crosslight.standards.fhir.times import DateValue, parse_date
from crosslight.standards.fhir.wire import Rendered
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Invalid, TooLarge
from crosslight.standards.study import StudyRecord, StudyTime
from registry.ask.question import ByObject, ByPatient, ByPopulation
from registry.fhir.cache import RenderCache
from registry.fhir.paging import PageTokens
from registry.fhir.plan import Misunderstood, StudyPlanner, is_closed, is_sensitive, patient_selector
from registry.fhir.table import IMAGING_STUDY, PATIENT
from registry.identity.model import NameTest

GRAMMAR = Grammar(zone="Europe/London", base="https://r.example/fhir", default_count=50, max_count=200)
SYSTEMS = Systems(REGION)
RTK = member("RTK", 3)
NUMBER = nhs(1)
NHS_SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"


def search(*pairs: tuple[str, str], lenient: bool = False) -> SearchRequest:
    return parse_search(IMAGING_STUDY, pairs, replace(GRAMMAR, lenient=lenient))


def planner() -> StudyPlanner:
    return StudyPlanner(
        SYSTEMS, lambda text: text.upper() if text.upper() in ("RTK", "RA2", "MEMBER-3") else None
    )


def ct(**changes: Any) -> StudyRecord:
    return replace(study(patient(RTK, "H1", number=NUMBER), 7, modality="CT"), **changes)


def holds(record: StudyRecord, *pairs: tuple[str, str], updated: datetime | None = None) -> bool:
    facts, region = facts_of(record, RTK, NUMBER)
    facts = replace(facts, updated=updated or facts.updated)
    return StudyMatcher(region, SYSTEMS).matches(facts, search(*pairs).criteria)


# --- grammar ------------------------------------------------------------------------------------------------

_characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
awkward = st.text(st.one_of(st.sampled_from(",|$\\:=&+ é漢"), _characters), max_size=30)


@given(awkward)
def test_escaping_round_trips(text: str) -> None:
    assert unescape(escape(text)) == text


@given(st.lists(awkward, min_size=1, max_size=5))
def test_or_lists_split_where_they_were_joined(texts: list[str]) -> None:
    assert [unescape(part) for part in split_escaped(",".join(escape(t) for t in texts), ",")] == texts


@given(awkward, awkward.filter(bool))
def test_tokens_survive(system: str, code: str) -> None:
    (criterion,) = search(("accession", f"{escape(system)}|{escape(code)}")).criteria
    assert criterion.values == (TokenValue(system, code),)


@given(st.text(max_size=80), st.text(max_size=80))
def test_any_parameter_is_read_or_refused(name: str, value: str) -> None:
    for lenient in (False, True):
        try:
            search((name, value), lenient=lenient)
        except (Invalid, TooLarge):
            pass


def test_token_forms() -> None:
    assert search(("accession", r"a\,b\|c,|x,s|,y")).criteria[0].values == (
        TokenValue(None, "a,b|c"),
        TokenValue("", "x"),
        TokenValue("s", ""),
        TokenValue(None, "y"),
    )


@pytest.mark.parametrize(
    "name",
    [
        "patient.identifier",
        "patient:identifier",
        "subject.identifier",
        "subject:identifier",
        "subject:Patient.identifier",
        "patient:Patient.identifier",
    ],
)
def test_patients_by_identifier_in_every_spelling(name: str) -> None:
    (criterion,) = search((name, f"{NHS_SYSTEM}|{NUMBER}")).criteria
    assert criterion.by_identifier
    assert criterion.values == (TokenValue(NHS_SYSTEM, NUMBER),)


@pytest.mark.parametrize("value", ["p1", "Patient/p1", "https://r.example/fhir/Patient/p1"])
def test_references(value: str) -> None:
    (criterion,) = search(("patient", value)).criteria
    (reference,) = criterion.values
    assert isinstance(reference, ReferenceValue)
    assert reference.id == "p1"
    assert search(("subject:Patient", value)).criteria[0].values == (reference,)


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("colour", "red", "colour"),
        ("modality:above", "CT", "modality:above"),
        ("patient.name", "x", "patient.name"),
        ("patient", "Group/1", "patient"),
        ("patient", "https://elsewhere.example/fhir/Patient/1", "patient"),
        ("started", "ge01/02/2024", "started"),
        ("started", "2024-13-01", "started"),
        ("started", "ge", "started"),
        ("_sort", "modality", "_sort"),
        ("_count", "-1", "_count"),
        ("_include", "ImagingStudy:basedon", "_include=ImagingStudy:basedon"),
        ("_summary", "most", "_summary=most"),
        ("modality:missing", "maybe", "modality"),
        ("modality", ",", "modality"),
        ("identifier", "a\0b", "identifier"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(name: str, value: str, where: str) -> None:
    with pytest.raises(Invalid) as caught:
        search((name, value))
    assert caught.value.where == where


@pytest.mark.parametrize(
    "name", ["patient", "subject", "patient.identifier", "patient:identifier", "subject:Patient.identifier"]
)
def test_whom_it_is_about_is_never_left_open(name: str) -> None:
    """``?patient.identifier=`` must not answer with everybody's studies."""
    with pytest.raises(Invalid) as caught:
        search((name, ""))
    assert caught.value.where == name
    assert search(("modality", "")).criteria == ()


def test_lenient_says_what_it_left_out() -> None:
    found = search(("colour", "red"), ("modality", "CT"), ("_sort", "colour"), lenient=True)
    assert found.ignored == ("colour", "_sort=colour")
    assert [c.name for c in found.criteria] == ["modality"]
    assert found.sort == ("-started",)
    assert found.pairs == (("modality", "CT"), ("_sort", "colour"))


def test_controls() -> None:
    found = search(
        ("_count", "500"),
        ("_sort", "started"),
        ("_elements", "status, modality"),
        ("_include", "ImagingStudy:patient"),
    )
    assert (found.count, found.sort, found.elements, found.includes) == (
        200,
        ("started",),
        ("status", "modality"),
        ("ImagingStudy:patient",),
    )
    assert search(("_count", "0")).summary == "count"
    assert search(("modality", "")).criteria == ()
    with pytest.raises(TooLarge):
        search(*[("modality", "CT")] * 65)
    with pytest.raises(TooLarge):
        search(("modality", ",".join(["CT"] * 101)))


@pytest.mark.parametrize(
    ("value", "keys"),
    [
        ("-started,_id", ("-started", "_id")),
        ("-started,-_lastUpdated", ("-started", "-_lastUpdated")),
        ("_id", ("_id",)),
        ("-_id", ("-_id",)),
        ("_lastUpdated", ("_lastUpdated",)),
        ("started,started", ("started",)),
        ("", ("-started",)),
        ("started,", ("started",)),
    ],
)
def test_sort_is_a_list_of_known_keys(value: str, keys: tuple[str, ...]) -> None:
    assert search(("_sort", value)).sort == keys


@pytest.mark.parametrize("value", ["colour", "started,colour", "--started", "started:x", "-"])
def test_an_unknown_key_of_sort_is_refused(value: str) -> None:
    with pytest.raises(Invalid) as caught:
        search(("_sort", value))
    assert caught.value.where == "_sort"


@pytest.mark.parametrize(
    ("value", "includes"),
    [
        ("ImagingStudy:patient:Patient", ("ImagingStudy:patient",)),
        ("ImagingStudy:patient", ("ImagingStudy:patient",)),
        ("ImagingStudy:subject:Patient", ("ImagingStudy:subject",)),
        ("ImagingStudy:endpoint:Endpoint", ("ImagingStudy:endpoint",)),
        ("ImagingStudy:custodian:Organization", ("ImagingStudy:custodian",)),
        ("ImagingStudy:patient:Group", None),
        ("ImagingStudy:patient:", ("ImagingStudy:patient",)),
        ("ImagingStudy:patient:Patient:x", None),
        ("*", None),
        ("ImagingStudy:endpoint:Patient", None),
        ("Patient:patient:Patient", None),
    ],
)
def test_the_type_of_an_include_must_fit(value: str, includes: tuple[str, ...] | None) -> None:
    if includes is None:
        with pytest.raises(Invalid):
            search(("_include", value))
        return
    assert search(("_include", value)).includes == includes


def test_how_a_total_is_counted_is_noted_and_not_used() -> None:
    found = search(("_totalMethod", "count"), ("modality", "CT"))
    assert (found.noted, found.ignored, [c.name for c in found.criteria]) == (
        ("_totalMethod",),
        (),
        ["modality"],
    )


def test_summary_text_stands_alone() -> None:
    assert search(("_summary", "text")).summary == "text"
    for other in (("_include", "ImagingStudy:patient"), ("_elements", "status")):
        with pytest.raises(Invalid) as caught:
            search(("_summary", "text"), other)
        assert caught.value.where == "_summary"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("bogus", "1"),
        ("_count", "1"),
        ("_summary", "count"),
        ("_include", "ImagingStudy:patient"),
        ("status", "available"),
        ("_sort", "_id"),
        ("bogus", ""),
        ("_summary", "most"),
        ("_pretty", "yes"),
    ],
)
def test_a_read_refuses_what_it_does_not_apply(name: str, value: str) -> None:
    with pytest.raises(Invalid) as caught:
        parse_read(IMAGING_STUDY, [(name, value)])
    assert caught.value.where.startswith(name)


@given(st.sampled_from(["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb"]), st.integers(-2, 2))
def test_prefixes_of_a_moment(prefix: Any, after_ms: int) -> None:
    """A value to the millisecond against what changed so many milliseconds after it."""
    changed = datetime(2026, 5, 10, 12, 0, 0, 500_000, tzinfo=UTC) + timedelta(milliseconds=after_ms)
    expected = {
        "eq": after_ms == 0,
        "ne": after_ms != 0,
        "gt": after_ms > 0,
        "sa": after_ms > 0,
        "lt": after_ms < 0,
        "eb": after_ms < 0,
        "ge": after_ms >= 0,
        "le": after_ms <= 0,
    }
    assert (
        holds(ct(), ("_lastUpdated", f"{prefix}2026-05-10T12:00:00.500Z"), updated=changed)
        is expected[prefix]
    )


# --- dates --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "low", "high"),
    [
        ("2024", "2024-01-01T00:00", "2025-01-01T00:00"),
        ("2024-07", "2024-06-30T23:00", "2024-07-31T23:00"),  # London in summer
        ("2024-12", "2024-12-01T00:00", "2025-01-01T00:00"),
        ("2024-03-31", "2024-03-31T00:00", "2024-03-31T23:00"),  # a day of 23 hours
        ("2024-10-27", "2024-10-26T23:00", "2024-10-28T00:00"),  # of 25
        ("2024-10-27T01:30", "2024-10-27T00:30", "2024-10-27T01:31"),  # both readings
        ("2024-07-01T12:00:05", "2024-07-01T11:00:05", "2024-07-01T11:00:06"),
        ("2024-07-01T12:00Z", "2024-07-01T12:00", "2024-07-01T12:01"),
        ("2024-07-01T12:00:00 05:30", "2024-07-01T06:30", "2024-07-01T06:30:01"),
    ],
)
def test_partial_dates_are_local_intervals(text: str, low: str, high: str) -> None:
    found = parse_date(text, "Europe/London", "started")
    assert (found.low, found.high) == (
        datetime.fromisoformat(low + "+00:00"),
        datetime.fromisoformat(high + "+00:00"),
    )


DAY = (datetime(2024, 5, 10, tzinfo=UTC), datetime(2024, 5, 11, tzinfo=UTC))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("eq2024-05-10T00:00:00Z", False),
        ("2024-05", True),
        ("ne2024-05", False),
        ("ne2024-04", True),
        ("gt2024-05-09", True),
        ("gt2024-05-10T12:00:00Z", True),
        ("gt2024-05-11", False),
        ("ge2024-05-12", False),
        ("lt2024-05-10T12:00:00Z", True),
        ("lt2024-05-09", False),
        ("le2024-05", True),
        ("le2024-04", False),
        ("sa2024-05-08", True),
        ("sa2024-05-10", False),
        ("eb2024-05-12", True),
        ("eb2024-05-10", False),
        ("ap2024-05-11", True),
        ("ap2024-06-01", False),
    ],
)
def test_prefixes(value: str, expected: bool) -> None:
    assert parse_date(value, "UTC", "started").matches(DAY) is expected


moments = st.datetimes(datetime(1990, 1, 1), datetime(2035, 1, 1), timezones=st.just(UTC))
intervals = st.tuples(moments, moments).map(lambda pair: (min(pair), max(pair)))


@given(intervals, intervals, st.sampled_from(["eq", "ne", "gt", "lt", "ge", "le", "sa", "eb", "ap"]))
def test_what_matches_lies_within_the_bounds_given_to_the_index(ours: Any, target: Any, prefix: Any) -> None:
    value = DateValue(prefix, *ours)
    low, high = value.bounds()
    if value.matches(target):
        assert low is None or target[1] >= low
        assert high is None or target[0] <= high


@given(st.text("0123456789-T:.Z+ egltsabpn", max_size=30))
def test_any_date_text_is_read_or_refused(text: str) -> None:
    try:
        found = parse_date(text, "Europe/London", "started")
    except Invalid:
        return
    assert found.low < found.high


# --- meaning ------------------------------------------------------------------------------------------------


def test_identifier_forms() -> None:
    record = ct()
    uid, accession = record.study_uid, record.accessions[0]
    for value in (
        uid,
        f"urn:oid:{uid}",
        f"urn:dicom:uid|urn:oid:{uid}",
        f"urn:dicom:uid|{uid}",
        accession.value,
        f"urn:oid:{accession.authority}|{accession.value}",
        "urn:dicom:uid|",
    ):
        assert holds(record, ("identifier", value)), value
    for value in (
        "1.2.3",
        f"urn:oid:1.2.3|{accession.value}",
        f"|{accession.value}",
        f"urn:dicom:uid|{accession.value}",
    ):
        assert not holds(record, ("identifier", value)), value


def test_patient_criteria_and_repeats_are_and() -> None:
    record = ct()
    assert holds(record, ("patient.identifier", NUMBER), ("patient.identifier", "H1"))
    assert holds(record, ("patient.identifier", f"{NHS_SYSTEM}|{NUMBER[:3]} {NUMBER[3:6]} {NUMBER[6:]}"))
    assert not holds(record, ("patient.identifier", NUMBER), ("patient.identifier", "H2"))
    assert holds(record, ("patient.identifier", f"H2,{NUMBER}"))
    assert not holds(record, ("patient.identifier", f"{NHS_SYSTEM}|H1"))


def test_modality_status_series_and_texts() -> None:
    record = ct(description="Thörax  with Contrast")
    assert holds(record, ("modality", "ct"))
    assert holds(record, ("modality", "http://dicom.nema.org/resources/ontology/DCM|CT"))
    assert not holds(record, ("modality", "http://loinc.org|CT"))
    assert holds(record, ("modality:not", "MR"))
    assert not holds(record, ("modality:not", "MR,CT"))
    assert holds(record, ("status", "available"))
    assert not holds(record, ("status", "registered"))
    assert holds(record, ("series", record.series[0].series_uid))
    assert holds(record, ("description", "thorax with"))
    assert not holds(record, ("description", "contrast"))
    assert holds(record, ("description:contains", "CONTRAST"))
    assert holds(record, ("description:exact", "Thörax  with Contrast"))
    assert not holds(record, ("description:exact", "thörax with contrast"))
    for site in (
        "chest",
        "|CHEST",
        "816094009",
        "http://snomed.info/sct|816094009",
        "http://snomed.info/sct|",
        "ABDOMEN,CHEST",
    ):
        assert holds(record, ("bodysite", site)), site
    for site in ("abdomen", "818981001", "http://snomed.info/sct|CHEST", "|816094009"):
        assert not holds(record, ("bodysite", site)), site
    assert holds(record, ("custodian", "rtk"))
    assert holds(record, ("custodian", "Organization/member-3"))
    assert not holds(record, ("custodian", "RA2"))
    assert holds(record, ("endpoint", "Endpoint/member-3-wado"))
    assert not holds(record, ("endpoint", "Endpoint/member-4-wado"))


def test_missing() -> None:
    record = ct(description="", time=StudyTime())
    assert holds(
        record, ("description:missing", "true"), ("started:missing", "true"), ("modality:missing", "false")
    )
    assert not holds(record, ("accession:missing", "true"))


def test_a_date_never_hides_an_undated_study() -> None:
    assert holds(ct(time=StudyTime()), ("started", "2024"))
    assert not holds(ct(time=StudyTime(date="20230101")), ("started", "2024"))


@pytest.mark.parametrize(
    ("asked", "modifier", "text", "found"),
    [
        ("ecole  normale", "", "  ÉCOLE\tnormale ", True),
        ("thorax/abdomen", "", "Thorax, Abdomen", True),
        ("abdomen", "", "Thorax, Abdomen", False),
        ("abdomen", "contains", "Thorax, Abdomen", True),
        ("-", "", "Thorax", False),
        ("thorax", "exact", "Thorax", False),
    ],
)
def test_text_is_compared_without_case_accents_and_punctuation(
    asked: str, modifier: str, text: str, found: bool
) -> None:
    assert string_is(StringValue(asked), text, modifier) is found


# --- planning -----------------------------------------------------------------------------------------------


def test_patient_comes_first_and_the_index_narrows() -> None:
    plan = planner().plan(
        search(
            ("patient.identifier", f"{NHS_SYSTEM}|{NUMBER}"),
            ("modality", "ct,mr"),
            ("started", "ge2024"),
            ("started", "lt2025"),
            ("status", "available"),
            ("custodian", "rtk"),
        )
    )
    assert plan.bounded
    assert isinstance(plan.question, ByPatient)
    assert plan.question.patient.identifiers == (Identifier(NUMBER, NHS),)
    narrow = plan.question.filter
    assert (narrow.modalities, narrow.members, narrow.progress) == (("CT", "MR"), ("RTK",), ("complete",))
    assert narrow.started == (datetime(2024, 1, 1, tzinfo=UTC), datetime(2025, 1, 1, tzinfo=UTC))


def test_objects() -> None:
    plan = planner().plan(search(("identifier", "urn:dicom:uid|urn:oid:1.2.3,RA1,4.5")))
    assert plan.question == ByObject(
        study_uids=("1.2.3", "4.5"), accessions=(Identifier("RA1"), Identifier("4.5"))
    )
    assert planner().plan(search(("_id", "a,b"))).question == ByObject(fhir_ids=("a", "b"))
    assert planner().plan(search(("accession", "urn:oid:1.2|A1"))).question == ByObject(
        accessions=(Identifier("A1", "1.2"),)
    )
    with pytest.raises(Invalid, match="is not a UID"):
        planner().plan(search(("study-instance-uid", "abc")))


def test_population_is_only_what_the_index_can_bound() -> None:
    plan = planner().plan(
        search(
            ("modality", "CT"), ("_count", "20"), ("_lastUpdated", "ge2024-01-01"), ("_sort", "-_lastUpdated")
        ),
        "c1",
    )
    assert not plan.bounded
    assert isinstance(plan.question, ByPopulation)
    assert (plan.question.limit, plan.question.cursor, plan.question.order) == (20, "c1", "updated")
    for pair in (
        ("bodysite", "CHEST"),
        ("modality:not", "CT"),
        ("_sort", "_id"),
        ("_sort", "started,_id"),
        ("_summary", "count"),
        ("started:missing", "true"),
    ):
        with pytest.raises(Invalid) as caught:
            planner().plan(search(pair))
        assert caught.value.fhir_code == "too-costly"


@pytest.mark.parametrize(
    ("pairs", "order", "ascending"),
    [
        ([("_lastUpdated", "ge2024-01-01")], "updated", True),
        (
            [("_lastUpdated", "ge2024-01-01"), ("_lastUpdated", "lt2024-02-01"), ("modality", "CT")],
            "updated",
            True,
        ),
        ([("_lastUpdated", "ge2024-01-01"), ("_sort", "-started")], "started", False),
        ([("_lastUpdated", "ge2024-01-01"), ("started", "ge2024-01-01")], "started", False),
        ([("_lastUpdated", "lt2024-01-01")], "started", False),
        ([("modality", "CT")], "started", False),
    ],
)
def test_what_changed_since_is_read_in_that_order_unless_another_is_asked_for(
    pairs: list[tuple[str, str]], order: str, ascending: bool
) -> None:
    question = planner().plan(search(*pairs)).question
    assert isinstance(question, ByPopulation)
    assert (question.order, question.ascending) == (order, ascending)


def test_an_endpoint_is_its_member_and_the_gateways_is_everybodys() -> None:
    for value, members in (
        ("Endpoint/member-3-wado", ("MEMBER-3",)),
        ("region-wado", ()),
        ("member-3-wado,region-wado", ()),
    ):
        question = planner().plan(search(("endpoint", value))).question
        assert isinstance(question, ByPopulation)
        assert question.filter.members == members, value
    with pytest.raises(Invalid):
        planner().plan(search(("endpoint:missing", "false")))


def test_an_unknown_numbering_system_is_refused_not_answered_empty() -> None:
    with pytest.raises(Misunderstood) as caught:
        planner().plan(search(("patient.identifier", f"https://fhir.nhs.uk/Id/nhs-nubmer|{NUMBER}")))
    assert caught.value.where == "patient"
    assert NUMBER not in caught.value.misread.text


@pytest.mark.parametrize(
    ("name", "value", "where"),
    [
        ("custodian", "ZZZ", "custodian"), ("custodian", "https://wrong.example|RTK", "custodian"),
        ("endpoint", "Endpoint/member-9-wado", "endpoint"), ("patient", NUMBER, "patient"),
        ("patient.identifier", f"https%3A%2F%2Ffhir.nhs.uk%2FId%2Fnhs-number%7C{NUMBER}", "patient"),
        ("accession", "http://wrong|A1", "accession"),
    ],
)  # fmt: skip
def test_what_nothing_here_is_called_is_not_understood(name: str, value: str, where: str) -> None:
    pairs = [(name, value)] if name in ("patient", "accession") else [("patient", "p1"), (name, value)]
    with pytest.raises(Misunderstood) as caught:
        planner().plan(search(*(pairs if name != "patient.identifier" else [(name, value)])))
    assert caught.value.where == where


@pytest.mark.parametrize(
    ("pairs", "closed"),
    [
        ((), True),
        ((("modality", "MR"),), True),
        ((("modality", "MRI"),), False),
        ((("modality", "mr,CT"),), True),
        ((("started", "ge2020"), ("status", "available"), ("custodian", "RTK")), True),
        ((("status", "final"),), False),
        ((("description", "chest"),), False),
        ((("bodysite:not", "CHEST"),), False),
        ((("accession", "A1"),), False),
        ((("modality", "http://snomed.info/sct|MR"),), False),
        ((("subject", "p2"),), False),
    ],
)
def test_only_what_has_a_meaning_of_its_own_can_be_found_absent(
    pairs: tuple[tuple[str, str], ...], closed: bool
) -> None:
    asked = search(("patient", "p1"), *pairs)
    assert is_closed(asked, planner().plan(asked).decided) is closed


@pytest.mark.parametrize(
    ("pairs", "code"),
    [
        ([("family", "Smith")], "too-costly"),
        ([("birthdate", "1961-02-03")], "too-costly"),
        ([], "too-costly"),
        ([("gender", "female")], "too-costly"),
        ([("family", "Smith"), ("birthdate", "1961-02")], "not-supported"),
        ([("family", "Smith"), ("birthdate", "ge1961-02-03")], "not-supported"),
        ([("family", "Smith,Jones"), ("birthdate", "1961-02-03")], "not-supported"),
    ],
)
def test_people_are_never_listed(pairs: list[tuple[str, str]], code: str) -> None:
    with pytest.raises(Invalid) as caught:
        patient_selector(parse_search(PATIENT, pairs, GRAMMAR), planner())
    assert caught.value.fhir_code == code


def test_people_by_name_and_birth_date() -> None:
    asked = [("family", "O'Neil"), ("given", "Ann"), ("birthdate", "1961-02-03")]
    found, decided = patient_selector(parse_search(PATIENT, asked, GRAMMAR), planner())
    assert found.names == (NameTest("family", "O'Neil"), NameTest("given", "Ann"))
    assert (found.family, found.birth_date, decided) == ("", "19610203", ())
    found, _ = patient_selector(
        parse_search(PATIENT, [("family:exact", "O'Neil"), asked[2]], GRAMMAR), planner()
    )
    assert found.family == "O'Neil", "a whole name is found by the index"


# --- pages --------------------------------------------------------------------------------------------------


class _Stopped:
    def __init__(self) -> None:
        self.moment = datetime(2026, 1, 1, tzinfo=UTC)

    def now(self) -> datetime:
        return self.moment

    def monotonic_s(self) -> float:
        return 0.0

    async def sleep(self, seconds: float) -> None:
        raise AssertionError


def test_rendered_resources_are_kept_within_bounds() -> None:
    made: list[str] = []
    cache = RenderCache(250)

    def get(key: str) -> bytes:
        def make() -> Rendered:
            made.append(key)
            return Rendered("ImagingStudy", key, "1", bytes(100))

        return cache.get(key, make).data

    for key in ("a", "b", "a", "c", "a", "b"):
        assert len(get(key)) == 100
    assert made == ["a", "b", "c", "b"]  # b was the least recently used when c came


def test_page_tokens_hide_bind_and_end() -> None:
    clock = _Stopped()
    tokens = PageTokens(b"secret", clock, SystemIds(), 60)
    pairs = (("patient.identifier", NUMBER),)
    assert is_sensitive(pairs)
    token = tokens.make("ImagingStudy", pairs, [0, 1, "x"], subject="dr")
    assert NUMBER not in token
    assert tokens.read(token, resource="ImagingStudy", subject="dr").pairs == pairs
    other = PageTokens(b"other", clock, SystemIds(), 60)
    for reader, resource, subject in (
        (tokens, "Patient", "dr"),
        (tokens, "ImagingStudy", "mr"),
        (other, "ImagingStudy", "dr"),
    ):
        with pytest.raises(Invalid):
            reader.read(token, resource=resource, subject=subject)
    with pytest.raises(Invalid):
        tokens.read(token[:-4] + "AAAA", resource="ImagingStudy", subject="dr")
    with pytest.raises(Invalid):
        tokens.read("ö", resource="ImagingStudy", subject="dr")
    clock.moment = datetime(2026, 1, 1, 0, 2, tzinfo=UTC)
    with pytest.raises(Invalid):
        tokens.read(token, resource="ImagingStudy", subject="dr")
