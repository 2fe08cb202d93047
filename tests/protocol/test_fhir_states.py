"""The FHIR face over HTTP: what changes, is gone or away: caching, reads, completeness."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import pytest
import pytest_asyncio
from fhir.resources.R4B.operationoutcome import OperationOutcome
from fhir_region import NUMBER, QUERY, FhirRegion, fhir_region, issues, resources
from registry_samples import patient

from crosslight.standards.records import changed

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module")
async def changing(tmp_path: Path) -> AsyncIterator[FhirRegion]:
    """For a test that changes what is held, or who is well."""
    async with fhir_region(tmp_path) as made:
        yield made


async def test_read_etag_and_head(changing: FhirRegion) -> None:
    one = resources(await changing.get("ImagingStudy", params=QUERY))[0]
    address = f"{changing.base}/fhir/ImagingStudy/{one['id']}"
    async with changing.http.get(address) as response:
        assert response.status == 200
        assert await response.json(content_type=None) == one
        tag = response.headers["ETag"]
        assert tag == f'W/"{one["meta"]["versionId"]}"'
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert "Authorization" in response.headers["Vary"]
        assert response.content_type == "application/fhir+json"
    async with changing.http.get(address, headers={"If-None-Match": f'"x", {tag}'}) as response:
        assert response.status == 304
    async with changing.http.head(address) as response:
        assert response.status == 200
        assert int(response.headers["Content-Length"]) > 100
        assert await response.read() == b""
    assert "ByObject" in (await changing.acts())[-1].query
    code, record = changing.held[-1]  # the newest, which is listed first
    await changing.publish(code, changed(record, description="Described anew"))
    anew = await changing.get(f"ImagingStudy/{one['id']}")
    before, after = (found["meta"]["versionId"].rsplit(".", 2) for found in (one, anew))
    assert (before[0], int(before[1]) < int(after[1])) == (after[0], True)


async def test_search_etag_follows_states_not_times(changing: FhirRegion) -> None:
    async def tag() -> str:
        async with changing.http.get(f"{changing.base}/fhir/ImagingStudy", params=QUERY) as response:
            return response.headers["ETag"]

    first = await tag()
    async with changing.http.get(
        f"{changing.base}/fhir/ImagingStudy", params=QUERY, headers={"If-None-Match": first}
    ) as response:
        assert response.status == 304
        assert "RTK;state=live" in response.headers["Crosslight-Coverage"]
    changing.room.lost("RTK")
    down = await tag()
    assert down != first
    changing.room.clock.moment += timedelta(seconds=5)
    changing.room.said("RTK")
    assert await tag() == first
    changing.room.lost("RTK")  # since another moment
    assert await tag() == down


async def test_gone_and_missing(changing: FhirRegion) -> None:
    (code, sealed), (other, withdrawn) = changing.held[:2]
    ids = [await changing.id_of(record.study_uid) for record in (sealed, withdrawn)]
    assert (
        await changing.room.availability(code, sealed.study_uid, "Deprecated", changing.versions + 1)
        == "accepted"
    )
    outcome = await changing.get(f"ImagingStudy/{ids[0]}", 410)
    assert outcome["issue"][0]["code"] == "deleted"
    assert await changing.room.withdraw(other, withdrawn.study_uid, changing.versions + 1) == "accepted"
    await changing.get(f"ImagingStudy/{ids[1]}", 410)
    outcome = await changing.get("ImagingStudy/def", 404)
    OperationOutcome.model_validate(outcome)
    assert outcome["issue"][0]["code"] == "not-found"
    assert outcome["issue"][0]["expression"] == ["ImagingStudy.id"]
    assert "search" in outcome["issue"][0]["diagnostics"].casefold(), "what to do"
    assert len(resources(await changing.get("ImagingStudy", params=QUERY))) == 5
    nothing = (await changing.get("Observation", 404))["issue"][0]
    assert nothing["code"] == "not-found"
    assert "ImagingStudy" in nothing["diagnostics"], "what there is"
    assert "expression" not in nothing
    async with changing.http.delete(f"{changing.base}/fhir/ImagingStudy/def") as response:
        assert response.status == 405
        assert "GET" in response.headers["Allow"]
        OperationOutcome.model_validate(await response.json(content_type=None))


async def test_degraded_members_are_named(changing: FhirRegion) -> None:
    room = changing.room
    for code in ("RA2", "RYR"):  # a record of somebody else that gives the same number
        await room.feed(
            code,
            patient(
                room.member(code), "C1", number=NUMBER, family="Zed", given="Zoe", born="19990909", sex="M"
            ),
        )
    room.said("RA2", waiting=7)
    room.lost("RTK")
    since = room.clock.now().strftime("%Y-%m-%dT%H:%M:%S.000Z")
    asked = changing.http.get(
        f"{changing.base}/fhir/ImagingStudy", params=QUERY, headers={"Authorization": "RA2"}
    )
    async with asked as response:
        header = response.headers["Crosslight-Coverage"]
        bundle = await response.json(content_type=None)
    assert "RTK;state=unreachable;" in header
    assert "RA2;state=behind" in header
    told = issues(bundle)
    assert {i["severity"] for i in told} == {"warning"}
    texts = [i["details"]["text"] for i in told]
    assert any(
        t.startswith(f"RTK Hospitals NHS Foundation Trust (RTK) is unreachable since {since}") for t in texts
    )
    assert any("(RA2) is behind" in t and "7 waiting" in t for t in texts), texts
    assert sum("(RA2) in this answer is disputed" in t for t in texts) == 1, texts
    assert sum("(RYR), claims this number: compare name and date of birth." in t for t in texts) == 1
    assert len(resources(bundle)) == 7
    assert {i["code"] for i in told} == {"transient", "incomplete", "conflict"}


async def test_an_empty_list_says_what_it_proves(changing: FhirRegion) -> None:
    params = {**QUERY, "modality": "US"}
    texts = [i["details"]["text"] for i in issues(await changing.get("ImagingStudy", params=params))]
    assert any("Nothing matches, at any member" in t for t in texts)
    changing.room.said("RA2", census_equal=None, census_at="")
    texts = [i["details"]["text"] for i in issues(await changing.get("ImagingStudy", params=params))]
    assert any("does not prove that there is none" in t for t in texts)
