"""ImagingStudy, Patient, Endpoint, Organization from facts: proved by fhir.resources, exact in text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson
import pytest
from fhir.resources.R4B.imagingstudy import ImagingStudy
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
from hypothesis import given
from hypothesis import strategies as st
from registry_samples import NHS, REGION

from crosslight.standards.fhir.facts import RecordFacts
from crosslight.standards.fhir.imaging_study import imaging_study
from crosslight.standards.fhir.people import patient as patient_resource
from crosslight.standards.fhir.terms import (
    EXT_CONFLICT,
    EXT_CUSTODIAN,
)
from crosslight.standards.fhir.times import started
from crosslight.standards.fhir.wire import dumps
from crosslight.standards.ids import Identifier
from crosslight.standards.records import changed
from crosslight.standards.study import Coded, PersonName, SeriesRecord, StudyRecord, StudyTime


def made(record: StudyRecord, **changes: Any) -> dict[str, Any]:
    """The resource after its bytes, proved by the R4B model."""
    data = dumps(imaging_study(holding(record, **changes), REGION_FACTS, SYSTEMS))
    ImagingStudy.model_validate_json(data)
    found: dict[str, Any] = orjson.loads(data)
    return found


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
    found = made(changed(record, series=(changed(record.series[0], body_site=sent),)))
    assert found["series"][0].get("bodySite") == shown


def test_arriving_is_registered_and_secondary_is_not_in_the_headline() -> None:
    record = ct()
    sr = SeriesRecord(series_uid=record.study_uid + ".9", modality="SR", number="99", n_instances=1)
    record = changed(record.with_series((*record.series, sr), detail="full"), progress="arriving")
    found = made(record, conflict=True)
    assert found["status"] == "registered"
    assert [m["code"] for m in found["modality"]] == ["CT"]
    assert "SR" in [s["modality"]["code"] for s in found["series"]]
    assert {"url": EXT_CONFLICT, "valueBoolean": True} in found["extension"]


def test_entry_detail_claims_no_counts_and_withheld_person_shows_only_the_local_number() -> None:
    record = changed(ct(), series=(), n_series=0, n_instances=0, detail="entry")
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
    assert made(changed(ct(), time=StudyTime(date=date, time=time, zone=zone)))["started"] == expected


@pytest.mark.parametrize(
    ("date", "time", "zone"),
    [("20240101", "09", "+0000"), ("20240101", "120000", ""), ("20240101", "9x", "")],
)
def test_a_time_that_fhir_cannot_say_stays_beside_the_date(date: str, time: str, zone: str) -> None:
    found = made(changed(ct(), time=StudyTime(date=date, time=time, zone=zone)))
    assert found["started"] == "2024-01-01"
    assert found["_started"]["extension"][0]["valueString"] == time


@pytest.mark.parametrize("date", ["", "20241341", "yesterday", "2024"])
def test_undated_is_marked(date: str) -> None:
    found = made(changed(ct(), time=StudyTime(date=date, time="120000")))
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
    record = changed(
        record,
        description=description,
        accessions=(Identifier(accession, namespace=meaning),),
        institution=institution,
        procedure_codes=(Coded(code, "99LOCAL", meaning),),
        series=(changed(record.series[0], description=series),),
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
    record = changed(ct(), patient=replace(ct().patient, name=PersonName(f"{family}^{given_name}")))
    found = orjson.loads(dumps(patient_resource(person(record_facts(record)), SYSTEMS, incarnation="inc1")))
    assert found["name"][0]["family"] == family
    assert found["name"][0]["given"] == [given_name]


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=60))
def test_any_text_gives_a_valid_resource(anything: str) -> None:
    record = ct()
    record = changed(
        record,
        description=anything,
        referrer=anything,
        institution=anything,
        study_id=anything,
        procedure_codes=(Coded(anything, anything, anything),),
        body_sites=(anything,),
        series=(
            changed(
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
