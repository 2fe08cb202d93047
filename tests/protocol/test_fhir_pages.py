"""The FHIR face over HTTP: pages, their order and their links; an outside client follows them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlparse

import pytest
import pytest_asyncio
from fhir_region import NUMBER, QUERY, SYSTEM, FhirRegion, fhir_region, resources
from fhirpy import AsyncFHIRClient
from registry_samples import patient, study

from crosslight.standards.records import changed
from crosslight.standards.study import StudyTime

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


async def test_pages_are_whole_stable_and_hold_no_identifier(changing: FhirRegion) -> None:
    expected = [s["id"] for s in resources(await changing.get("ImagingStudy", params=QUERY))]
    seen: list[str] = []
    bundle = await changing.get("ImagingStudy", params={**QUERY, "_count": "2"})
    for page in range(4):
        assert bundle["total"] == 7 + (1 if page > 0 else 0)
        seen += [s["id"] for s in resources(bundle)]
        links = {link["relation"]: link["url"] for link in bundle["link"]}
        assert all(NUMBER not in url and "identifier" not in url for url in links.values())
        if page == 0:  # one that sorts before all comes in between: nothing is repeated or lost
            newest = study(patient(changing.room.member("RA2"), "H1", number=NUMBER), 50)
            await changing.publish(
                "RA2", changed(newest, time=StudyTime(date="20250101", time="120000", zone="+0000"))
            )
        if "next" not in links:
            break
        async with changing.http.get(links["next"]) as response:
            bundle = await response.json(content_type=None)
    assert seen == expected


async def test_a_page_link_is_the_askers_own(region: FhirRegion) -> None:
    bundle = await region.get("ImagingStudy", params={**QUERY, "_count": "2"}, headers={"Authorization": "a"})
    address = next(link["url"] for link in bundle["link"] if link["relation"] == "next")
    for headers, status in (({"Authorization": "a"}, 200), ({"Authorization": "b"}, 400)):
        async with region.http.get(address, headers=headers) as response:
            assert response.status == status
    async with region.http.get(address + "&modality=CT", headers={"Authorization": "a"}) as response:
        assert response.status == 400


async def test_region_wide_pages(region: FhirRegion) -> None:
    seen, params = [], {"_count": "3", "modality": "CT,MR"}
    bundle = await region.get("ImagingStudy", params=params)
    assert "total" not in bundle
    assert "modality=CT" in bundle["link"][0]["url"]  # nothing to hide here
    while True:
        seen += [s["id"] for s in resources(bundle)]
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        if not following:
            break
        async with region.http.get(following[0]) as response:
            bundle = await response.json(content_type=None)
    assert len(seen) == len(set(seen)) == 8


@pytest.mark.parametrize(
    "sort", ["-started,_id", "-started,-_lastUpdated", "_lastUpdated,-_id", "-_id", "started,_id"]
)
async def test_pages_in_the_order_of_several_keys(region: FhirRegion, sort: str) -> None:
    whole = resources(await region.get("ImagingStudy", params={**QUERY, "_sort": sort}))
    values = {
        "started": lambda s: s.get("started", "9"),
        "_id": lambda s: s["id"],
        "_lastUpdated": lambda s: s["meta"]["lastUpdated"],
    }
    ordered = whole
    for key in reversed(sort.split(",")):
        value, undated = (
            values[key.removeprefix("-")],
            [s for s in ordered if key.endswith("started") and "started" not in s],
        )
        ordered = (
            sorted((s for s in ordered if s not in undated), key=value, reverse=key.startswith("-")) + undated
        )
    assert [s["id"] for s in whole] == [s["id"] for s in ordered]
    seen, bundle = [], await region.get("ImagingStudy", params={**QUERY, "_sort": sort, "_count": "2"})
    while True:
        seen += resources(bundle)
        following = [link["url"] for link in bundle["link"] if link["relation"] == "next"]
        if not following:
            break
        async with region.http.get(following[0]) as response:
            bundle = await response.json(content_type=None)
    assert seen == whole


async def test_several_keys_have_no_index_over_the_region(region: FhirRegion) -> None:
    outcome = await region.get("ImagingStudy", 400, params={"_sort": "-started,_id"})
    assert (outcome["issue"][0]["code"], outcome["issue"][0]["location"]) == ("too-costly", ["http._sort"])


async def test_pages_in_the_order_of_ids(region: FhirRegion) -> None:
    """As FHIR-PYrate asks (``_sort=_id``); through the whole region no index has this order."""
    bundle = await region.get("ImagingStudy", params={**QUERY, "_sort": "_id", "_count": "3"})
    found = [r["id"] for r in resources(bundle)]
    while further := [link["url"] for link in bundle["link"] if link["relation"] == "next"]:
        async with region.http.get(further[0]) as response:
            bundle = await response.json(content_type=None)
        found += [r["id"] for r in resources(bundle)]
    assert found == sorted(set(found))
    assert len(found) == 7
    await region.get("ImagingStudy", 400, params={"modality": "CT", "_sort": "_id"})


async def test_undated_studies_match_and_come_last(changing: FhirRegion) -> None:
    code, record = changing.held[3]
    await changing.publish(code, changed(record, time=StudyTime()))
    for sort in ("-started", "started"):
        found = resources(
            await changing.get("ImagingStudy", params={**QUERY, "started": "ge2024-07-01", "_sort": sort})
        )
        assert len(found) == 7
        assert "started" not in found[-1]
        assert found[-1]["_started"]["extension"][0]["valueCode"] == "unknown"


async def test_fhirpy_follows_pages(region: FhirRegion) -> None:
    client = AsyncFHIRClient(f"{region.base}/fhir", authorization="Bearer x")
    search = client.resources("ImagingStudy").search(
        **{"patient.identifier": f"{SYSTEM}|{NUMBER}", "started__ge": "2024-07-02"}
    )
    found = await search.limit(2).fetch_all()
    assert sum(r.resource_type == "ImagingStudy" for r in found) == 6
    assert await search.count() == 6
    who = await client.resources("Patient").search(identifier=f"{SYSTEM}|{NUMBER}").first()
    assert who is not None
    again = await client.reference("Patient", who["id"]).to_resource()
    assert again["birthDate"] == "1961-02-03"


async def test_no_address_that_we_make_holds_a_number(region: FhirRegion) -> None:
    for path, params in (
        ("ImagingStudy", QUERY),
        ("Patient", {"identifier": NUMBER}),
        ("ImagingStudy", {"accession": "RA123"}),
    ):
        bundle = await region.get(path, params=params)
        for link in bundle["link"]:
            assert urlparse(link["url"]).query.startswith("_page=")
