"""Nobody takes the region's list of patients by a question that names none of them (finding M2, ADR 0037).

Over real TLS, at the registry and at a member: a clinician, an app with and without the grant, an exporter.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from attacked_region import APP, DOCTOR, STUDY, AttackedRegion, attacked

from crosslight.standards.access import Grants, Principal

EXPORTER = Principal(subject="auditor", roles=frozenset({"exporter"}))
GRANTED = replace(APP, subject="extract", grants=Grants(capabilities=frozenset({"find", "export"})))
#: At the registry; each names nobody, or counts through numbers.
NOBODY = (
    "fhir/ImagingStudy",
    "fhir/ImagingStudy?_count=100&_include=ImagingStudy:patient",
    "fhir/ImagingStudy?modality=CT&started=ge2000",
    "fhir/ImagingStudy?_lastUpdated=ge2020-01-01",
    "fhir/ImagingStudy?accession=" + ",".join(f"A{n}" for n in range(21)),
    "fhir/ImagingStudy?patient.identifier=" + ",".join(f"L{n}" for n in range(21)),
    "fhir/Patient?identifier=" + ",".join(f"L{n}" for n in range(21)),
    "dicomweb/studies",
    "dicomweb/studies?limit=500",
    "dicomweb/studies?StudyDate=20200101-&ModalitiesInStudy=CT",
    "dicomweb/series?Modality=CT",
    "dicomweb/studies?PatientID=*",
)
#: At a member, by QIDO-RS.
NOBODY_THERE = (
    "studies",
    "studies?limit=500",
    "studies?PatientID=9*",
    "studies?PatientName=A*",
    "series",
    "instances",
)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AttackedRegion]:
    async with attacked(tmp_path_factory.mktemp("export")) as one:
        for home in one.region.homes.values():
            await home.settled()
        yield one


pytestmark = pytest.mark.asyncio(loop_scope="module")


async def here(at: AttackedRegion, who: Principal, path: str) -> tuple[int, Any]:
    return await at.ask("GET", f"{at.region.registry.people_url}/{path}", at.issue(who))


async def there(at: AttackedRegion, who: Principal, path: str) -> tuple[int, Any]:
    token = await at.exchanged(at.issue(who))
    return await at.ask("GET", f"{at.region.homes['RTK'].app.endpoints.base}/dicomweb/{path}", token)


@pytest.mark.parametrize("path", NOBODY)
async def test_a_question_that_names_nobody_is_refused_and_says_what_to_add(
    at: AttackedRegion, path: str
) -> None:
    for who in (DOCTOR, APP):
        status, said = await here(at, who, path)
        assert status in (400, 403), said
        assert STUDY not in str(said)
        if status == 403:
            added = "patient.identifier" if path.startswith("fhir") else "PatientID"
            assert added in str(said), "in the words of the face"
        kind = "OperationOutcome" if path.startswith("fhir") else "status"
        assert kind in str(said)


@pytest.mark.parametrize("path", NOBODY_THERE)
async def test_a_member_lists_nobody_either(at: AttackedRegion, path: str) -> None:
    for who in (DOCTOR, APP):
        status, said = await there(at, who, path)
        assert (status, "PatientID" in str(said)) == (403, True), said


async def test_whom_a_question_names_is_answered(at: AttackedRegion) -> None:
    for who in (DOCTOR, APP):
        for path in ("fhir/ImagingStudy?patient.identifier=L-1", "dicomweb/studies?PatientID=L-1"):
            assert (await here(at, who, path))[0] == 200, path
        assert (await there(at, who, "studies?PatientID=L-1"))[0] == 200


async def test_those_who_may_are_answered_and_open_no_image(at: AttackedRegion) -> None:
    for who in (EXPORTER, GRANTED):
        for path in ("fhir/ImagingStudy?_count=100", "dicomweb/studies"):
            status, said = await here(at, who, path)
            assert (status, STUDY in str(said)) == (200, True), (who.subject, path, said)
        status, said = await there(at, who, "studies")
        assert (status, STUDY in str(said)) == (200, True), said
    url = f"{at.region.registry.people_url}/dicomweb/studies/{STUDY}"
    assert (await at.ask("GET", url, at.issue(EXPORTER)))[0] == 403
    assert (await there(at, EXPORTER, f"studies/{STUDY}"))[0] == 403


async def test_exports_are_audited_as_such_allowed_or_not(at: AttackedRegion) -> None:
    who = replace(DOCTOR, subject="curious")
    await here(at, who, "fhir/ImagingStudy")
    await here(at, replace(EXPORTER, subject="allowed"), "fhir/ImagingStudy")
    acts = await at.region.registry.parts.ground.audit.search()
    found = {a.who.subject: (a.action, a.decision) for a in acts if a.action == "export"}
    assert found["curious"] == ("export", "deny")
    assert found["allowed"] == ("export", "permit")


async def test_many_tries_are_an_alarm_in_metrics_and_health(at: AttackedRegion) -> None:
    base = at.region.registry.people_url
    for _ in range(10):
        await here(at, replace(DOCTOR, subject="hungry"), "dicomweb/studies")
    _, metrics = await at.ask("GET", f"{base}/metrics")
    assert b"crosslight_registry_export_alarm 1.0" in metrics
    assert b'crosslight_registry_exports_total{outcome="refused"}' in metrics
    _, health = await at.ask("GET", f"{base}/health/ready")
    assert health["exports"]["alarm"] is True
