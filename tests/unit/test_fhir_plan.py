"""FHIR searches: what a criterion means of a study, and what is asked of the index for it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from fhir_examples import GRAMMAR, NHS_SYSTEM, NUMBER, SYSTEMS, ct, holds, search
from registry_samples import NHS

from crosslight.runtime.clock import SystemIds
from crosslight.standards.fhir.match import string_is
from crosslight.standards.fhir.search import (
    StringValue,
    parse_search,
)
from crosslight.standards.fhir.wire import Rendered
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Invalid
from crosslight.standards.study import StudyTime
from registry.ask.question import ByObject, ByPatient, ByPopulation
from registry.fhir.cache import RenderCache
from registry.fhir.paging import PageTokens
from registry.fhir.plan import Misunderstood, StudyPlanner, is_closed, is_sensitive, patient_selector
from registry.fhir.table import PATIENT
from registry.identity.model import NameTest


def planner() -> StudyPlanner:
    return StudyPlanner(
        SYSTEMS, lambda text: text.upper() if text.upper() in ("RTK", "RA2", "MEMBER-3") else None
    )


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
