"""Whoever knows the Study Instance UID of a disputed study has nothing yet (finding M3, ADR 0037).

Over real TLS, through every face that takes such a name; after a search by the trust's own number it opens.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from attacked_region import DOCTOR, AttackedRegion, attacked
from node_serving import ct
from road_studies import NUMBER, with_number

THEIRS = "1.2.826.0.1.3680043.10.777.9"
pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def at(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[AttackedRegion]:
    """Two trusts' records claim one number, with two dates of birth."""
    async with attacked(tmp_path_factory.mktemp("disputed")) as one:
        for code, study, born in (("RTK", f"{THEIRS}.1", "19700101"), ("RXC", THEIRS, "19501231")):
            image = ct(study, f"{study}.1", f"{study}.1.1", PatientID=f"{code}-9", PatientBirthDate=born)
            await one.region.homes[code].add([with_number(image, NUMBER)])
            await one.region.homes[code].settled()  # whose record comes first holds the number
        for home in one.region.homes.values():
            await home.settled()
        yield one


WAYS = (
    f"dicomweb/studies?StudyInstanceUID={THEIRS}",
    f"dicomweb/studies/{THEIRS}/series",
    f"dicomweb/studies/{THEIRS}/metadata",
    f"dicomweb/studies/{THEIRS}",
    f"dicomweb/members/RXC/studies/{THEIRS}",
    f"fhir/ImagingStudy?identifier=urn:dicom:uid|urn:oid:{THEIRS}",
    f"fhir/ImagingStudy?study-instance-uid={THEIRS}",
)


async def shown(at: AttackedRegion, token: str, path: str) -> tuple[int, bool]:
    """The status, and whether anything of the study was given."""
    status, said = await at.ask("GET", f"{at.region.registry.people_url}/{path}", token)
    given = (b"DICM" in said or b"CT <head>" in said) if isinstance(said, bytes) else _given(said)
    return status, given


def _given(said: Any) -> bool:
    text = str(said)
    return any(part in text for part in (f"{THEIRS}.1", "RXC-9", "19501231", "CT <head>"))


async def test_its_uid_opens_it_for_nobody_and_a_search_opens_it_for_who_searched(at: AttackedRegion) -> None:
    knows, searches = (at.issue(replace(DOCTOR, subject=name)) for name in ("knows-the-uid", "searches"))
    for path in WAYS:
        status, given = await shown(at, knows, path)
        assert not given, path
        assert status in (200, 204, 404), path
        if "?" not in path and not path.endswith("/series"):
            assert status == 404, path
    authority = at.region.homes["RXC"].authority
    found = await shown(at, searches, f"fhir/ImagingStudy?patient.identifier=urn:oid:{authority}|RXC-9")
    assert found == (200, True)
    for path in WAYS:
        assert await shown(at, searches, path) == (200, True), path
        assert not (await shown(at, knows, path))[1], path


async def test_a_refusal_says_where_to_search(at: AttackedRegion) -> None:
    url = f"{at.region.registry.people_url}/dicomweb/studies/{THEIRS}"
    status, said = await at.ask("GET", url, at.issue(replace(DOCTOR, subject="asks")))
    assert (status, "RXC" in str(said)) == (404, True)


async def test_its_own_trust_opens_it_by_its_uid(at: AttackedRegion) -> None:
    own = at.issue(replace(DOCTOR, subject="own", organisation="RXC"))
    for path in WAYS:
        assert (await shown(at, own, path))[1], path
