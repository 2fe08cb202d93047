"""The search grammar and what each parameter means."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fhir_examples import NHS_SYSTEM, NUMBER, ct, holds, search
from hypothesis import given
from hypothesis import strategies as st

from crosslight.standards.fhir.search import (
    ReferenceValue,
    TokenValue,
    escape,
    parse_read,
    split_escaped,
    unescape,
)
from crosslight.standards.fhir.times import DateValue, parse_date
from crosslight.standards.problem import Invalid, TooLarge
from registry.fhir.table import IMAGING_STUDY

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
