"""The FHIR face over HTTP: search, read, includes, formats, errors, people and the directory."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from fhir.resources.R4B.bundle import Bundle
from fhir.resources.R4B.capabilitystatement import CapabilityStatement
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir_region import NUMBER, QUERY, SYSTEM, FhirRegion, fhir_region, issues, resources

from crosslight.standards.membership import Endpoints

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def region(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[FhirRegion]:
    """For tests that only read."""
    async with fhir_region(tmp_path_factory.mktemp("region")) as made:
        yield made


@pytest_asyncio.fixture(loop_scope="module")
async def changing(tmp_path: Path) -> AsyncIterator[FhirRegion]:
    """For a test that changes what is held, or who is well."""
    async with fhir_region(tmp_path) as made:
        yield made


async def test_search_by_national_number(region: FhirRegion) -> None:
    bundle = await region.get("ImagingStudy", params=QUERY)
    Bundle.model_validate(bundle)
    found = resources(bundle)
    assert bundle["total"] == len(found) == 7
    assert [s["started"][:10] for s in found] == [f"2024-07-0{n}" for n in range(7, 0, -1)]
    assert all(
        e["fullUrl"].startswith(f"{region.base}/fhir/")
        for e in bundle["entry"]
        if e["search"]["mode"] == "match"
    )
    assert [(i["severity"], i["code"]) for i in issues(bundle)] == [("information", "informational")]
    act = (await region.acts())[-1]
    assert (act.action, act.text) == ("search", "ok 7 given")
    assert "ByPatient" in act.query


@pytest.mark.parametrize(
    "pairs",
    [
        {"patient:identifier": f"{SYSTEM}|{NUMBER}"},
        {"subject:Patient.identifier": NUMBER},
        {"patient": "{person}"},
        {"patient.identifier": "urn:oid:{authority}|H1"},
    ],
)
async def test_every_way_of_naming_the_patient_gives_the_same(
    region: FhirRegion, pairs: dict[str, str]
) -> None:
    expected = resources(await region.get("ImagingStudy", params=QUERY))
    person, authority = expected[0]["subject"]["reference"], region.room.member("RA2").authority
    asked = {name: value.format(person=person, authority=authority) for name, value in pairs.items()}
    assert resources(await region.get("ImagingStudy", params=asked)) == expected


async def test_post_search_is_the_same(region: FhirRegion) -> None:
    expected = resources(await region.get("ImagingStudy", params=QUERY))
    async with region.http.post(f"{region.base}/fhir/ImagingStudy/_search", data=QUERY) as response:
        assert response.status == 200
        assert resources(await response.json(content_type=None)) == expected
    async with region.http.post(f"{region.base}/fhir/ImagingStudy/_search", json=QUERY) as response:
        assert response.status == 415
        OperationOutcome.model_validate(await response.json(content_type=None))


async def test_criteria_narrow(region: FhirRegion) -> None:
    cases: list[tuple[dict[str, str], int]] = [
        ({"modality": "CT"}, 3),
        ({"modality:not": "CT"}, 4),
        ({"started": "ge2024-07-05"}, 3),
        ({"custodian": "RA2"}, 3),
        ({"started": "2024-07-02", "modality": "CT"}, 1),
        ({"status": "registered"}, 0),
    ]
    for extra, count in cases:
        bundle = await region.get("ImagingStudy", params={**QUERY, **extra})
        assert bundle["total"] == count, extra
    pairs = [*QUERY.items(), ("started", "ge2024-07-02"), ("started", "le2024-07-03")]
    assert (await region.get("ImagingStudy", params=pairs))["total"] == 2


async def test_includes_never_count(region: FhirRegion) -> None:
    params = [
        *QUERY.items(),
        ("_count", "3"),
        *[("_include", f"ImagingStudy:{x}") for x in ("patient", "endpoint", "custodian")],
    ]
    bundle = await region.get("ImagingStudy", params=params)
    Bundle.model_validate(bundle)
    assert len(resources(bundle)) == 3
    included = {f"{r['resourceType']}/{r['id']}" for r in resources(bundle, "include")}
    wanted = {s["subject"]["reference"] for s in resources(bundle)} | {
        e["reference"] for s in resources(bundle) for e in s["endpoint"]
    }
    assert wanted <= included
    assert sum(name.startswith("Organization/") for name in included) == 3


async def test_count_elements_and_total(region: FhirRegion) -> None:
    whole = resources(await region.get("ImagingStudy", params=QUERY))
    assert resources(await region.get("ImagingStudy", params={**QUERY, "_summary": "true"})) == whole
    bundle = await region.get("ImagingStudy", params={**QUERY, "_summary": "count"})
    assert bundle["total"] == 7
    assert resources(bundle) == []
    bundle = await region.get("ImagingStudy", params={**QUERY, "_elements": "modality"})
    one = resources(bundle)[0]
    assert set(one) == {"resourceType", "id", "meta", "status", "subject", "modality"}
    assert one["meta"]["tag"][0]["code"] == "SUBSETTED"


@pytest.mark.parametrize("kind", ["ImagingStudy", "Patient", "Endpoint", "Organization"])
async def test_a_read_applies_its_parameters_or_refuses_them(region: FhirRegion, kind: str) -> None:
    params = {"Patient": {"identifier": f"{SYSTEM}|{NUMBER}"}, "ImagingStudy": QUERY}.get(kind, {})
    whole = resources(await region.get(kind, params=params))[0]
    path = f"{kind}/{whole['id']}"
    assert await region.get(path, params={"_summary": "true", "_pretty": "true"}) == whole
    some = next(name for name in whole if name not in ("resourceType", "id", "meta"))
    cut = await region.get(path, params={"_elements": some})
    assert cut[some] == whole[some]
    assert cut["meta"]["tag"][0]["code"] == "SUBSETTED"
    assert set(cut) < set(whole)
    text = await region.get(path, params={"_summary": "text"})
    assert text["meta"]["tag"][0]["code"] == "SUBSETTED"
    assert set(text) <= set(cut) | {"status", "subject", "connectionType", "payloadType", "address"}
    searched = resources(await region.get(kind, params={**params, "_summary": "text"}))[0]
    assert searched == text, "search and read cut alike"
    for name, value in (("bogus", "1"), ("_summary", "count"), ("_include", "*"), ("_count", "1")):
        outcome = await region.get(path, 400, params={name: value})
        assert outcome["issue"][0]["location"] == [f"http.{name}"]


@pytest.mark.parametrize(
    ("path", "parameter"),
    [
        ("ImagingStudy?colour=red", "colour"),
        ("ImagingStudy?started=x", "started"),
        ("ImagingStudy?bodysite=CHEST", "bodysite"),
        ("ImagingStudy?patient.identifier=http://wrong|1", "patient"),
        ("Patient?family=Baker", "birthdate"),
        ("ImagingStudy?_page=abc", "_page"),
    ],
)
async def test_strict_errors_name_the_parameter(region: FhirRegion, path: str, parameter: str) -> None:
    outcome = await region.get(path, 400)
    OperationOutcome.model_validate(outcome)
    assert outcome["issue"][0]["location"] == [f"http.{parameter}"]
    assert "expression" not in outcome["issue"][0]
    assert outcome["issue"][0]["severity"] == "error"


async def test_lenient_says_what_was_not_used(region: FhirRegion) -> None:
    bundle = await region.get(
        "ImagingStudy", params={**QUERY, "colour": "red"}, headers={"Prefer": "handling=lenient"}
    )
    assert bundle["total"] == 7
    (ignored,) = [i for i in issues(bundle) if i["severity"] == "warning"]
    assert "colour" in ignored["details"]["text"]


async def test_formats(region: FhirRegion) -> None:
    for accept in (
        "*/*",
        "application/fhir+json",
        "application/json;q=0.9, text/html",
        "application/fhir+xml, */*;q=0.1",
        "application/fhir+json; fhirVersion=4.0",
    ):
        await region.get("ImagingStudy", params=QUERY, headers={"Accept": accept})
    for accept in ("application/fhir+xml", "text/html", "application/fhir+json; fhirVersion=5.0"):
        outcome = await region.get("ImagingStudy", 406, params=QUERY, headers={"Accept": accept})
        assert outcome["issue"][0]["code"] == "not-supported"
    await region.get("ImagingStudy", 406, params={**QUERY, "_format": "xml"})
    await region.get(
        "metadata", params={"_format": "application/fhir+json"}, headers={"Accept": "application/fhir+xml"}
    )


async def test_capability(region: FhirRegion) -> None:
    found = await region.get("metadata")
    CapabilityStatement.model_validate(found)
    assert found["fhirVersion"] == "4.0.1"
    assert found["implementation"]["url"] == f"{region.base}/fhir"


async def test_policy_refuses_before_a_byte(region: FhirRegion) -> None:
    outcome = await region.get("ImagingStudy", 403, params=QUERY, headers={"Authorization": "porter"})
    assert outcome["issue"][0]["code"] == "forbidden"


async def test_patient_search_and_read(region: FhirRegion) -> None:
    found: list[dict[str, Any]] = []
    for params in (
        {"identifier": f"{SYSTEM}|{NUMBER}"},
        {"family": "baker", "birthdate": "1961-02-03"},
        {"name": "Baker", "birthdate": "1961-02-03", "gender": "female"},
    ):
        bundle = await region.get("Patient", params=params)
        Bundle.model_validate(bundle)
        (one,) = found = resources(bundle)
        assert one["identifier"][0]["value"] == NUMBER
        assert sorted(i["value"] for i in one["identifier"][1:]) == ["H1", "H2", "H3"]
    assert await region.get(f"Patient/{found[0]['id']}") == found[0]
    await region.get("Patient/nobody", 404)
    for extra, count in (
        ({"gender": "male"}, 0),
        ({"birthdate": "1961-02-04"}, 0),
        ({"birthdate": "1961-02"}, 1),
        ({"given": "an"}, 1),
    ):
        assert len(resources(await region.get("Patient", params={"identifier": NUMBER, **extra}))) == count, (
            extra
        )


async def test_directory(changing: FhirRegion) -> None:
    bundle = await changing.get(
        "Organization", params={"identifier": "RTK", "_include": "Organization:endpoint"}
    )
    (trust,) = resources(bundle)
    assert trust["name"].startswith("RTK")
    assert {e["address"] for e in resources(bundle, "include")} == {
        f"{changing.base}/dicomweb",
        "https://rtk.example/dicomweb",
    }
    assert (await changing.get(f"Organization/{trust['id']}"))["id"] == trust["id"]
    bundle = await changing.get("Endpoint", params={"organization": f"Organization/{trust['id']}"})
    # where apps need no certificate
    assert [e["address"] for e in resources(bundle)] == ["https://rtk.example/dicomweb"]
    for chain in ("organization.identifier", "organization:identifier"):
        assert resources(await changing.get("Endpoint", params={chain: "RTK"})) == resources(bundle)
        assert resources(await changing.get("Endpoint", params={chain: "NOBODY"})) == []
    seen = []
    bundle = await changing.get("Organization", params={"_count": "4"})
    seen += resources(bundle)
    async with changing.http.get(
        next(link["url"] for link in bundle["link"] if link["relation"] == "next")
    ) as response:
        seen += resources(await response.json(content_type=None))
    assert len({o["id"] for o in seen}) == 6
    await changing.get("Endpoint/nothing", 404)
    rtk = changing.room.member("RTK")
    await changing.room.reached_at("RTK", Endpoints())  # one that lets nobody in: through the gateway
    assert (await changing.get(f"Endpoint/member-{rtk.id}-wado"))[
        "address"
    ] == f"{changing.base}/dicomweb/members/RTK"
