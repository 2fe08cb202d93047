"""FHIR and region QIDO over the real index, identity and ask, on both databases."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator

import pytest
from registry_faces import NUMBER, OTHER, SYSTEM, WHO, RegistryFaces, at, registry_faces
from registry_samples import grown, patient, study

from crosslight.runtime.db import Db
from crosslight.standards.ids import MemberId
from crosslight.standards.records import changed
from crosslight.standards.study import StudyTime
from registry.intake.submission import SetAvailability, Withdraw


@pytest.fixture
async def registry(database: Db) -> AsyncIterator[RegistryFaces]:
    async with registry_faces(database) as made:
        yield made


async def test_three_trusts_one_person_through_both_faces(registry: RegistryFaces) -> None:
    expected = set()
    for number, modality in ((1, "CT"), (2, "MR"), (3, "US")):
        home, record = at(registry, number, number, modality=modality)
        await registry.publish(home, record)
        expected.add(record.study_uid)
    await registry.publish(*at(registry, 4, 4, who=OTHER))
    assert await registry.uids() == expected
    rows = await registry.get("dicomweb/studies", params={"PatientID": NUMBER})
    assert {r["0020000D"]["Value"][0] for r in rows} == expected
    assert {r["00100020"]["Value"][0] for r in rows} == {NUMBER}
    (person,) = [
        e["resource"]
        for e in (await registry.get("fhir/Patient", params={"identifier": f"{SYSTEM}|{NUMBER}"}))["entry"]
        if e["search"]["mode"] == "match"
    ]
    assert {i["value"] for i in person["identifier"]} == {NUMBER, "H1", "H2", "H3"}
    by_id = await registry.get("fhir/ImagingStudy", params={"patient": person["id"]})
    assert by_id["total"] == 3
    named = await registry.get("fhir/Patient", params={"family": "baker", "birthdate": "1961-02-03"})
    assert person["id"] in {e["resource"]["id"] for e in named["entry"] if e["search"]["mode"] == "match"}
    await registry.ask.close()
    acts = await registry.audit.search()
    assert all(a.text.startswith("ok") for a in acts)
    assert len(await registry.audit.search(study=next(iter(expected)))) >= 3


async def test_criteria_on_the_real_index(registry: RegistryFaces) -> None:
    time = StudyTime(date="20240701", time="003000", zone="Europe/London", zone_source="site")
    home, record = at(registry, 1, 1, time=time, description="Thörax 100% <contrast>")
    await registry.publish(home, record)
    undated = at(registry, 2, 2, modality="MR", time=StudyTime())
    await registry.publish(*undated)
    both = {record.study_uid, undated[1].study_uid}
    assert await registry.uids(started="2024-07-01") == both  # the local day; the undated is never hidden
    assert await registry.uids(started="2024-06") == {undated[1].study_uid}
    assert await registry.uids(modality="CT") == {record.study_uid}
    assert await registry.uids(description="thorax") == {record.study_uid}
    assert await registry.uids(custodian="RPC") == {undated[1].study_uid}
    assert await registry.uids(_lastUpdated="ge2020") == both
    accession = record.accessions[0]
    for value in (accession.value, f"urn:oid:{accession.authority}|{accession.value}"):
        bundle = await registry.get("fhir/ImagingStudy", params={"accession": value})
        assert bundle["total"] == 1
    for value in (record.study_uid, f"urn:dicom:uid|urn:oid:{record.study_uid}"):
        assert (await registry.get("fhir/ImagingStudy", params={"identifier": value}))["total"] == 1
    region_wide = await registry.get(
        "fhir/ImagingStudy", params={"modality": "CT", "description": "thörax", "started": "2024-07-01"}
    )
    assert sum(e["search"]["mode"] == "match" for e in region_wide["entry"]) == 1
    assert (
        len(
            await registry.get(
                "dicomweb/studies", params={"StudyDate": "20240701", "ModalitiesInStudy": "CT"}
            )
        )
        == 1
    )


async def test_life_of_a_study(registry: RegistryFaces) -> None:
    home, record = at(registry, 1, 1)
    first = await registry.publish(home, changed(record, progress="arriving"))
    (shown,) = await registry.studies()
    assert shown["status"] == "registered"
    bigger = grown(record, 9)
    await registry.publish(home, bigger, replaces=first)
    (later,) = await registry.studies()
    assert (later["id"], later["status"]) == (shown["id"], "available")
    assert later["meta"]["versionId"] != shown["meta"]["versionId"]
    assert later["numberOfInstances"] == bigger.n_instances
    assert await registry.get(f"fhir/ImagingStudy/{shown['id']}") == later
    await registry.accept(
        home, SetAvailability(study_uid=record.study_uid, status="Deprecated", version=registry.version())
    )
    assert await registry.studies() == []
    await registry.get(f"fhir/ImagingStudy/{shown['id']}", 410)
    assert await registry.get("dicomweb/studies", params={"PatientID": NUMBER}) == []
    await registry.get(f"dicomweb/studies/{record.study_uid}", 410)
    await registry.accept(
        home, SetAvailability(study_uid=record.study_uid, status="Approved", version=registry.version())
    )
    assert len(await registry.studies()) == 1
    await registry.accept(home, Withdraw(study_uid=record.study_uid, version=registry.version()))
    await registry.get(f"fhir/ImagingStudy/{shown['id']}", 410)


async def test_a_disputed_record_is_told_and_not_shown(registry: RegistryFaces) -> None:
    for number in (1, 2):
        await registry.publish(*at(registry, number, number))
    home = registry.directory.members[MemberId(3)]
    claims = study(
        patient(home, "H9", number=NUMBER, born="19991231", family="Impostor"), 3, modality="CT", instances=1
    )
    await registry.publish(home, claims)
    bundle = await registry.get("fhir/ImagingStudy", params=WHO)
    assert bundle["total"] == 2
    (outcome,) = [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "outcome"]
    warnings = [i["details"]["text"] for i in outcome["issue"] if i["code"] == "conflict"]
    (warning,) = warnings
    assert warning.startswith(
        f"Another record, at {home.name} (RTK), claims this number: compare name and date of birth."
    )
    text = json.dumps(bundle)
    assert "Impostor" not in text
    assert claims.study_uid not in text
    own = await registry.get(
        "fhir/ImagingStudy", params={"patient.identifier": f"urn:oid:{home.authority}|H9"}
    )
    assert own["total"] == 1
    (outcome,) = [e["resource"] for e in own["entry"] if e["search"]["mode"] == "outcome"]
    (told,) = [i["details"]["text"] for i in outcome["issue"] if i["code"] == "conflict"]
    assert "in this answer is disputed" in told, (
        "it is here: that it is not part of this answer would be untrue"
    )
    people = await registry.get("fhir/Patient", params={"identifier": f"urn:oid:{home.authority}|H9"})
    (impostor,) = [e["resource"] for e in people["entry"] if e["search"]["mode"] == "match"]
    # it claims the number and does not hold it
    assert NUMBER not in {i["value"] for i in impostor["identifier"]}


async def test_the_same_study_at_two_trusts(registry: RegistryFaces) -> None:
    home, record = at(registry, 1, 1)
    other = registry.directory.members[MemberId(2)]
    await registry.publish(home, record)
    await registry.publish(other, changed(record, patient=patient(other, "H2", number=NUMBER)))
    found = await registry.studies()
    assert len(found) == 2
    assert len({s["id"] for s in found}) == 2
    (row,) = await registry.get("dicomweb/studies", params={"PatientID": NUMBER})
    assert sorted(row["00091001"]["Value"]) == ["RA2", "RPC"]
    (row,) = await registry.get("dicomweb/studies", params={"limit": "1"})
    assert sorted(row["00091001"]["Value"]) == ["RA2", "RPC"]
    series = await registry.get(f"dicomweb/studies/{record.study_uid}/series")
    assert {s["0020000E"]["Value"][0] for s in series} == {s.series_uid for s in record.series}
