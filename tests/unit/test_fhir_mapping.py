"""ImagingStudy, Patient, Endpoint, Organization from facts: proved by fhir.resources, exact in text."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.endpoint import Endpoint
from fhir.resources.R4B.imagingstudy import ImagingStudy
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.organization import Organization
from fhir.resources.R4B.patient import Patient as PatientModel
from fhir_facts import member_facts, region_facts
from hypothesis import given
from hypothesis import strategies as st
from registry_samples import NHS, REGION, member, nhs, patient, study

from crosslight.standards.fhir.bundle import entry, outcome_entry, searchset
from crosslight.standards.fhir.capability import capability_statement
from crosslight.standards.fhir.directory import (
    member_endpoint,
    organization,
    region_endpoint,
    region_organization,
)
from crosslight.standards.fhir.facts import HoldingFacts, PersonFacts, RecordFacts
from crosslight.standards.fhir.imaging_study import imaging_study
from crosslight.standards.fhir.outcome import Issue, error_outcome, operation_outcome
from crosslight.standards.fhir.people import human_names
from crosslight.standards.fhir.people import patient as patient_resource
from crosslight.standards.fhir.terms import (
    EXT_CONFLICT,
    EXT_CUSTODIAN,
    EXT_DIFFERS,
    NHS_VERIFICATION,
    Systems,
)
from crosslight.standards.fhir.times import started
from crosslight.standards.fhir.wire import dumps
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Invalid, MemberUnreachable
from crosslight.standards.study import Coded, PersonName, SeriesRecord, StudyRecord, StudyTime
from registry.fhir.table import SPECS

SYSTEMS = Systems(REGION)
REGION_FACTS = region_facts()
RTK = member("RTK", 3)
RTK_FACTS = member_facts(RTK)
NUMBER = nhs(1)


def person(*records: RecordFacts, number: str = NUMBER) -> PersonFacts:
    return PersonFacts(
        fhir_id="7b1f6a5e-0000-4000-8000-000000000001", domain_id=Identifier(number, NHS), records=records
    )


def record_facts(record: StudyRecord, *, national: bool = True) -> RecordFacts:
    numbers = (Identifier(NUMBER, NHS),) if national else ()
    return RecordFacts(
        patient=record.patient, member=RTK_FACTS, national=numbers, updated=datetime(2026, 1, 2, tzinfo=UTC)
    )


def holding(record: StudyRecord, **changes: Any) -> HoldingFacts:
    facts = HoldingFacts(
        fhir_id="a0b1c2d3-0000-8000-8000-000000000001",
        incarnation="inc1",
        revision=4,
        updated=datetime(2026, 1, 2, 3, tzinfo=UTC),
        record=record,
        member=RTK_FACTS,
        person=person(record_facts(record)),
    )
    return replace(facts, **changes)


def made(record: StudyRecord, **changes: Any) -> dict[str, Any]:
    """The resource after its bytes, proved by the R4B model."""
    data = dumps(imaging_study(holding(record, **changes), REGION_FACTS, SYSTEMS))
    ImagingStudy.model_validate_json(data)
    found: dict[str, Any] = orjson.loads(data)
    return found


def ct(seed: int = 7) -> StudyRecord:
    return study(patient(RTK, "H1", number=NUMBER), seed, modality="CT")


def test_study_says_what_is_held() -> None:
    record = ct()
    found = made(record)
    assert found["identifier"][0]["system"] == "urn:dicom:uid"
    assert found["identifier"][0]["value"] == f"urn:oid:{record.study_uid}"
    accession = found["identifier"][1]
    assert accession["value"] == record.accessions[0].value
    assert accession["system"] == f"urn:oid:{RTK.authority}"
    assert found["basedOn"][0]["identifier"]["value"] == record.accessions[0].value
    assert found["status"] == "available"
    assert [m["code"] for m in found["modality"]] == ["CT"]
    assert found["subject"]["reference"] == "Patient/7b1f6a5e-0000-4000-8000-000000000001"
    assert found["subject"]["identifier"]["value"] == NUMBER
    assert [e["reference"] for e in found["endpoint"]] == ["Endpoint/region-wado", "Endpoint/member-3-wado"]
    assert found["numberOfSeries"] == record.n_series == len(found["series"])
    assert found["numberOfInstances"] == record.n_instances
    assert all("instance" not in s for s in found["series"])
    assert [s["numberOfInstances"] for s in found["series"]] == [s.n_instances for s in record.series]
    custodian = next(e for e in found["extension"] if e["url"] == EXT_CUSTODIAN)["valueReference"]
    assert custodian["identifier"] == {"system": REGION.organisation_system, "value": "RTK"}
    assert found["meta"]["versionId"].startswith("inc1.4.")


@pytest.mark.parametrize(
    ("sent", "shown"),
    [
        ("CHEST", {"system": "http://snomed.info/sct", "code": "816094009", "display": "Chest"}),
        (" chest ", {"system": "http://snomed.info/sct", "code": "816094009", "display": "Chest"}),
        ("SOMEWHERE", {"code": "SOMEWHERE", "display": "SOMEWHERE"}),
        ("", None),
    ],
)
def test_body_sites_are_snomed_where_dicom_has_them_so(sent: str, shown: dict[str, str] | None) -> None:
    record = ct()
    found = made(replace(record, series=(replace(record.series[0], body_site=sent),)))
    assert found["series"][0].get("bodySite") == shown


def test_arriving_is_registered_and_secondary_is_not_in_the_headline() -> None:
    record = ct()
    sr = SeriesRecord(series_uid=record.study_uid + ".9", modality="SR", number="99", n_instances=1)
    record = replace(record.with_series((*record.series, sr), detail="full"), progress="arriving")
    found = made(record, conflict=True)
    assert found["status"] == "registered"
    assert [m["code"] for m in found["modality"]] == ["CT"]
    assert "SR" in [s["modality"]["code"] for s in found["series"]]
    assert {"url": EXT_CONFLICT, "valueBoolean": True} in found["extension"]


def test_entry_detail_claims_no_counts_and_withheld_person_shows_only_the_local_number() -> None:
    record = replace(ct(), series=(), n_series=0, n_instances=0, detail="entry")
    found = made(record, person=None)
    assert "numberOfSeries" not in found
    assert "reference" not in found["subject"]
    assert found["subject"]["identifier"] == {"system": f"urn:oid:{RTK.authority}", "value": "H1"}


def test_version_changes_with_what_is_shown_and_only_then() -> None:
    record = ct()
    one = made(record)["meta"]["versionId"]
    assert made(record)["meta"]["versionId"] == one
    renamed = replace(record.patient, name=PersonName("Other^Ann"))
    linked = person(RecordFacts(patient=renamed, member=RTK_FACTS, national=(Identifier(NUMBER, NHS),)))
    assert made(record, person=linked)["meta"]["versionId"] != one
    assert made(record, member=replace(RTK_FACTS, name="Renamed Trust"))["meta"]["versionId"] != one


@pytest.mark.parametrize(
    ("date", "time", "zone", "expected"),
    [
        ("20240701", "120000", "Europe/London", "2024-07-01T12:00:00+01:00"),
        ("20240101", "120000", "Europe/London", "2024-01-01T12:00:00+00:00"),
        ("20240101", "235959.123", "-0530", "2024-01-01T23:59:59.123-05:30"),
        # the clock goes back: the first reading
        ("20241027", "013000", "Europe/London", "2024-10-27T01:30:00+01:00"),
        ("20240331", "013000", "Europe/London", "2024-03-31T01:30:00+00:00"),  # skipped by the clock
        ("20240101", "0915", "+0000", "2024-01-01T09:15:00+00:00"),
        ("2024.01.01", "09:15:30", "+0000", "2024-01-01T09:15:30+00:00"),
        ("20240101", "", "Europe/London", "2024-01-01"),
        ("20240101", "235960", "+0000", "2024-01-01T23:59:59+00:00"),
    ],
)
def test_started_keeps_the_local_reading(date: str, time: str, zone: str, expected: str) -> None:
    assert started(StudyTime(date=date, time=time, zone=zone))["started"] == expected
    assert made(replace(ct(), time=StudyTime(date=date, time=time, zone=zone)))["started"] == expected


@pytest.mark.parametrize(
    ("date", "time", "zone"),
    [("20240101", "09", "+0000"), ("20240101", "120000", ""), ("20240101", "9x", "")],
)
def test_a_time_that_fhir_cannot_say_stays_beside_the_date(date: str, time: str, zone: str) -> None:
    found = made(replace(ct(), time=StudyTime(date=date, time=time, zone=zone)))
    assert found["started"] == "2024-01-01"
    assert found["_started"]["extension"][0]["valueString"] == time


@pytest.mark.parametrize("date", ["", "20241341", "yesterday", "2024"])
def test_undated_is_marked(date: str) -> None:
    found = made(replace(ct(), time=StudyTime(date=date, time="120000")))
    assert "started" not in found
    assert found["_started"]["extension"][0]["valueCode"] == "unknown"


# --- text ---------------------------------------------------------------------------------------------------

HARD = "<>&'\"\\^~|\n\r\té漢字אبж𝄞\u200f =,;$"
texts = st.text(
    st.one_of(st.sampled_from(HARD), st.characters(exclude_categories=("Cs", "Cc"))), min_size=1, max_size=40
)
components = texts.map(lambda t: t.replace("^", "").replace("=", "").strip()).filter(bool)


@given(description=texts, series=texts, meaning=texts, code=texts, accession=texts, institution=texts)
def test_text_is_exact(
    description: str, series: str, meaning: str, code: str, accession: str, institution: str
) -> None:
    record = ct()
    record = replace(
        record,
        description=description,
        accessions=(Identifier(accession, namespace=meaning),),
        institution=institution,
        procedure_codes=(Coded(code, "99LOCAL", meaning),),
        series=(replace(record.series[0], description=series),),
    )
    found = orjson.loads(dumps(imaging_study(holding(record), REGION_FACTS, SYSTEMS)))
    assert found.get("description", description) == description
    assert ("description" in found) == bool(description.strip())
    assert found["series"][0].get("description", series) == series
    if accession.strip():
        assert found["identifier"][1]["value"] == accession
        assert SYSTEMS.issuer(found["identifier"][1]["system"]) == ("", meaning)
    if meaning.strip():
        assert found["procedureCode"][0]["text"] == meaning
    if institution.strip():
        assert found["location"]["display"] == institution


@given(family=components, given_name=components)
def test_names_are_exact(family: str, given_name: str) -> None:
    record = replace(ct(), patient=replace(ct().patient, name=PersonName(f"{family}^{given_name}")))
    found = orjson.loads(dumps(patient_resource(person(record_facts(record)), SYSTEMS, incarnation="inc1")))
    assert found["name"][0]["family"] == family
    assert found["name"][0]["given"] == [given_name]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_gives_a_valid_resource(anything: str) -> None:
    record = ct()
    record = replace(
        record,
        description=anything,
        referrer=anything,
        institution=anything,
        study_id=anything,
        procedure_codes=(Coded(anything, anything, anything),),
        body_sites=(anything,),
        series=(
            replace(
                record.series[0],
                description=anything,
                number=anything,
                modality=anything,
                body_site=anything,
                laterality=anything,
            ),
        ),
        patient=replace(record.patient, name=PersonName(anything), birth_date=anything, sex=anything),
        time=StudyTime(date="20240101", time=anything, zone="+0000"),
    )
    made(record, person=person(record_facts(record)))
    PatientModel.model_validate_json(
        dumps(patient_resource(person(record_facts(record)), SYSTEMS, incarnation="i"))
    )


# --- people -------------------------------------------------------------------------------------------------


def test_patient_shows_every_record_and_says_when_they_differ() -> None:
    first, second = ct(), ct(8)
    other = replace(patient(RTK, "H2", number=NUMBER, family="Bakker", traced=True), birth_date="19610204")
    facts = person(record_facts(first), record_facts(replace(second, patient=other)))
    found = patient_resource(facts, SYSTEMS, incarnation="inc1")
    PatientModel.model_validate_json(dumps(found))
    assert {e["valueCode"] for e in found["extension"] if e["url"] == EXT_DIFFERS} == {"name", "birthDate"}
    assert [n["family"] for n in found["name"]] == ["Baker", "Bakker"]
    assert found["birthDate"] == "1961-02-03"
    national = found["identifier"][0]
    assert national["system"] == "https://fhir.nhs.uk/Id/nhs-number"
    status = national["extension"][0]
    assert status["url"] == NHS_VERIFICATION
    assert status["valueCodeableConcept"]["coding"][0]["code"] == "01"  # one record is traced
    assert [i["value"] for i in found["identifier"][1:]] == ["H1", "H2"]
    assert found["identifier"][1]["assigner"]["reference"] == "Organization/member-3"


def test_untraced_number_is_said_to_be_untraced_and_agreeing_records_do_not_differ() -> None:
    found = patient_resource(person(record_facts(ct()), record_facts(ct(9))), SYSTEMS, incarnation="inc1")
    assert "extension" not in found
    assert found["identifier"][0]["extension"][0]["valueCodeableConcept"]["coding"][0]["code"] == "02"


def test_person_without_national_number_has_the_regions_own() -> None:
    facts = PersonFacts(
        fhir_id="p1",
        domain_id=Identifier("R77", REGION.authority),
        records=(record_facts(ct(), national=False),),
    )
    found = patient_resource(facts, SYSTEMS, incarnation="inc1")
    PatientModel.model_validate_json(dumps(found))
    assert [(i["use"], i["value"]) for i in found["identifier"]] == [("secondary", "R77"), ("usual", "H1")]


def test_a_national_number_that_is_the_local_one_too_stands_once() -> None:
    who = patient(RTK, "L1", number=nhs(1))
    fed = replace(who, local=Identifier(nhs(1), NHS))
    record = RecordFacts(
        patient=fed,
        member=None,
        national=(Identifier(nhs(1), NHS),),
        updated=datetime(2026, 1, 2, tzinfo=UTC),
    )
    person = PersonFacts(fhir_id="a", domain_id=Identifier(nhs(1), NHS), records=(record,))
    shown = patient_resource(person, SYSTEMS, incarnation="i")["identifier"]
    assert [i["use"] for i in shown] == ["official"]


def test_name_groups_are_kept_apart() -> None:
    names = human_names(PersonName("Yamada^Tarou=山田^太郎=やまだ^たろう"))
    assert [n["family"] for n in names] == ["Yamada", "山田", "やまだ"]
    assert [n["extension"][0]["valueCode"] for n in names] == ["ABC", "IDE", "SYL"]
    assert human_names(PersonName("Doe^J^Q^Dr^Jr"))[0]["text"] == "Dr J Q Doe Jr"
    assert human_names(PersonName("^^=")) == []


# --- directory, outcomes, capability ------------------------------------------------------------------------


def test_a_foreign_source_has_no_organisation_code() -> None:
    """Its code is ours alone: it must not look like one of the region's directory."""
    foreign = replace(RTK_FACTS, code="foreign-6", repository_unique_id="1.2.3.4.99", foreign=True)
    found = organization(foreign, REGION_FACTS, incarnation="inc1")["identifier"]
    assert found == [{"use": "official", "system": "urn:ietf:rfc:3986", "value": "urn:oid:1.2.3.4.99"}]


def test_directory_resources() -> None:
    for down, state in (
        (RTK_FACTS, "active"),
        (replace(RTK_FACTS, reachable=False), "error"),
        (replace(RTK_FACTS, active=False), "suspended"),
    ):
        found = member_endpoint(down, incarnation="inc1")
        Endpoint.model_validate_json(dumps(found))
        assert found["status"] == state
        assert found["connectionType"]["code"] == "dicom-wado-rs"
        assert found["address"] == "https://rtk.example/dicomweb"
    gateway = region_endpoint(REGION_FACTS, incarnation="inc1")
    Endpoint.model_validate_json(dumps(gateway))
    assert gateway["address"] == "https://region.example/dicomweb"
    trust = organization(RTK_FACTS, REGION_FACTS, incarnation="inc1")
    Organization.model_validate_json(dumps(trust))
    assert trust["identifier"][0] == {"use": "official", "system": REGION.organisation_system, "value": "RTK"}
    Organization.model_validate_json(dumps(region_organization(REGION_FACTS, incarnation="inc1")))


def test_outcomes_and_bundle() -> None:
    error = error_outcome(
        Invalid("modality is wrong.", why="Because.", todo="Do.", where="modality"), correlation="c1"
    )
    OperationOutcome.model_validate_json(dumps(error))
    assert error["issue"][0]["location"] == ["http.modality"]
    assert error["issue"][0]["code"] == "invalid"
    down = error_outcome(MemberUnreachable("RTK cannot be reached.", where="RTK"), correlation="c1")
    assert down["issue"][0]["code"] == "timeout"
    assert "c1" in down["issue"][0]["diagnostics"]
    assert "location" not in down["issue"][0], "a member is no parameter"
    outcome = operation_outcome([Issue(severity="information", code="informational", text="All well.")])
    study_entry = entry(imaging_study(holding(ct()), REGION_FACTS, SYSTEMS), "https://r/fhir", "match")
    told = outcome_entry(outcome, "0123456789abcdef0123456789ABCDEF")
    bundle = searchset([study_entry, told], links={"self": "https://r/fhir/ImagingStudy"}, total=1)
    Bundle.model_validate_json(dumps(bundle))
    assert told.url == "urn:uuid:01234567-89ab-cdef-0123-456789abcdef"
    assert outcome_entry(outcome, "a caller's own").url.startswith("urn:uuid:")


@pytest.mark.parametrize(
    ("where", "expression", "location"),
    [
        ("ImagingStudy.id", ["ImagingStudy.id"], None),
        ("_include=*", None, ["http._include"]),
        ("patient.identifier", None, ["http.patient.identifier"]),
        ("birthdate", None, ["http.birthdate"]),
        ("Content-Type", None, ["http.Content-Type"]),
        ("/fhir/Nope", None, None),
        ("a name", None, None),
        ("", None, None),
        ("subject:Patient.identifier", None, ["http.subject:Patient.identifier"]),
    ],
)
def test_where_an_error_is(where: str, expression: list[str] | None, location: list[str] | None) -> None:
    """FHIRPath is into a resource; a parameter is a location (R4 OperationOutcome.issue)."""
    issue = error_outcome(Invalid("Wrong.", where=where))["issue"][0]
    assert (issue.get("expression"), issue.get("location")) == (expression, location)


def test_capability_comes_from_the_table() -> None:
    found = capability_statement(
        SPECS, name="Test", version="0.1.0", date="2026-01-01", base="https://r/fhir", secured=True
    )
    CapabilityStatement.model_validate_json(dumps(found))
    resources = {r["type"]: r for r in found["rest"][0]["resource"]}
    assert set(resources) == {spec.type for spec in SPECS}
    for spec in SPECS:
        names = {p["name"] for p in resources[spec.type]["searchParam"]}
        assert {p.name for p in spec.params} <= names
    assert "patient.identifier" in {p["name"] for p in resources["ImagingStudy"]["searchParam"]}
