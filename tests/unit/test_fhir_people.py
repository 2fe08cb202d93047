"""Persons, the directory, outcomes and the capability statement as FHIR."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.endpoint import Endpoint
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir.resources.R4B.organization import Organization
from fhir.resources.R4B.patient import Patient as PatientModel
from fhir_mapping_examples import (
    NUMBER,
    REGION_FACTS,
    RTK,
    RTK_FACTS,
    SYSTEMS,
    ct,
    holding,
    person,
    record_facts,
)
from registry_samples import NHS, REGION, nhs, patient

from crosslight.standards.fhir.bundle import entry, joined, outcome_entry, searchset
from crosslight.standards.fhir.capability import capability_statement
from crosslight.standards.fhir.directory import (
    member_endpoint,
    organization,
    region_endpoint,
    region_organization,
)
from crosslight.standards.fhir.facts import PersonFacts, RecordFacts
from crosslight.standards.fhir.imaging_study import imaging_study
from crosslight.standards.fhir.outcome import Issue, error_outcome, operation_outcome
from crosslight.standards.fhir.people import human_names
from crosslight.standards.fhir.people import patient as patient_resource
from crosslight.standards.fhir.terms import (
    EXT_DIFFERS,
    NHS_VERIFICATION,
)
from crosslight.standards.fhir.wire import dumps
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Invalid, MemberUnreachable
from crosslight.standards.records import changed
from crosslight.standards.study import PersonName
from registry.fhir.table import SPECS

# --- people -------------------------------------------------------------------------------------------------


def test_patient_shows_every_record_and_says_when_they_differ() -> None:
    first, second = ct(), ct(8)
    other = replace(patient(RTK, "H2", number=NUMBER, family="Bakker", traced=True), birth_date="19610204")
    facts = person(record_facts(first), record_facts(changed(second, patient=other)))
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
    links = {"self": "https://r/fhir/ImagingStudy"}
    bundle = searchset(joined([study_entry]), told, links=links, total=1)
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
