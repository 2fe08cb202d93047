"""No reference dangles: in a region with foreign sources every reference of every FHIR answer is read and
found (R4 2.3.0).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Any

import pytest
from callers import caller
from foreign_region import NUMBER, SYSTEM, ForeignRegion, foreign_region, manifest
from registry_samples import patient, published, study

from crosslight.runtime.db import Db
from crosslight.standards.ids import MemberId
from crosslight.standards.membership import Endpoints
from registry.intake.submission import Publish, Submission
from registry.members.model import Presence

SILENT, TELLING = "1.2.826.0.1.3680043.10.9999.77", "1.2.826.0.1.3680043.10.9999.78"
ADDRESS = "https://images.example/dicomweb"


@pytest.fixture
async def region(database: Db) -> AsyncIterator[ForeignRegion]:
    """A study at a node of ours, one at a foreign source that said no address, one at a source with a
    DICOMweb address.
    """
    async with foreign_region(database) as made:
        home = made.xds.directory.members[MemberId(1)]
        made.xds.directory.presences[home.id] = Presence(member=home.id, reachable=True)
        record = study(
            patient(home, "H1", number=NUMBER, family="Strange", given="Zoe", traced=True), 1, instances=2
        )
        act = Publish(publication=published(home, record, 1), digest=record.digest(), patient=record.patient)
        await made.xds.acceptor.accept(
            Submission(member=home, caller=caller(), acts=(act,), road="grpc", strict=False)
        )
        await made.register(manifest("silent", study_uid="1.2.3.1", repository=SILENT))
        await made.register(manifest("telling", study_uid="1.2.3.2", repository=TELLING))
        told = made.xds.directory.by_repository(TELLING)
        assert told is not None
        made.xds.directory.set(replace(told, endpoints=Endpoints(dicomweb=ADDRESS)))
        yield made


def _references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for part in value.values():
            yield from _references(part)
    elif isinstance(value, list):
        for part in value:
            yield from _references(part)


WHO = f"{SYSTEM}|{NUMBER}"
SEARCHES: tuple[tuple[str, dict[str, str]], ...] = (
    ("ImagingStudy", {"patient.identifier": WHO}),
    ("ImagingStudy", {"patient.identifier": WHO, "_include": "ImagingStudy:endpoint"}),
    ("ImagingStudy", {"patient.identifier": WHO, "_include": "ImagingStudy:custodian"}),
    ("ImagingStudy", {"patient.identifier": WHO, "_include": "ImagingStudy:patient"}),
    ("ImagingStudy", {}),
    ("Patient", {"identifier": WHO}),
    ("Endpoint", {}),
    ("Endpoint", {"_include": "Endpoint:organization"}),
    ("Organization", {}),
    ("Organization", {"_include": "Organization:endpoint"}),
)


async def test_every_reference_of_every_answer_is_read_and_found(region: ForeignRegion) -> None:
    seen: set[str] = set()
    pending: set[str] = set()
    for kind, params in SEARCHES:
        bundle = await region.get(f"fhir/{kind}", **params)
        resources = [e["resource"] for e in bundle["entry"] if e["search"]["mode"] != "outcome"]
        assert len(resources) >= 3 or kind == "Patient", (kind, params)
        pending |= {f"{one['resourceType']}/{one['id']}" for one in resources} | set(_references(resources))
    while pending:
        reference = pending.pop()
        seen.add(reference)
        resource = await region.get(f"fhir/{reference}")
        kind, key = reference.split("/")
        assert (resource["resourceType"], resource["id"]) == (kind, key)
        bundle = await region.get(f"fhir/{kind}", _id=key)
        found = [e["resource"]["id"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
        assert found == [key], f"{reference} is searched by its id"
        pending |= set(_references(resource)) - seen
    directory = region.xds.directory
    for oid in (SILENT, TELLING):
        member = directory.by_repository(oid)
        assert member is not None
        assert f"Organization/member-{member.id}" in seen


async def test_no_road_is_said_that_is_not_there(region: ForeignRegion) -> None:
    by_title = {study["description"]: study for study in await region.studies()}
    silent, telling = by_title["silent"], by_title["telling"]
    assert "endpoint" not in silent
    member = region.xds.directory.by_repository(TELLING)
    assert member is not None
    assert {one["reference"] for one in telling["endpoint"]} == {
        "Endpoint/region-wado",
        f"Endpoint/member-{member.id}-wado",
    }
    assert (await region.get(f"fhir/Endpoint/member-{member.id}-wado"))["address"] == ADDRESS
    missing = await region.studies(**{"endpoint:missing": "true"})
    assert [one["description"] for one in missing] == ["silent"]
    rows = {row["0020000D"]["Value"][0]: row for row in await region.rows()}
    assert "00081190" not in rows["1.2.3.1"], "no RetrieveURL"
    assert rows["1.2.3.1"]["00080056"]["Value"] == ["UNAVAILABLE"]
    assert rows["1.2.3.2"]["00081190"]["Value"][0].endswith("/dicomweb/studies/1.2.3.2")
    refused = await region.get("dicomweb/studies/1.2.3.1/metadata", 504)
    assert "gave no address" in str(refused)


async def test_a_foreign_custodian_is_found_by_what_it_shows(region: ForeignRegion) -> None:
    member = region.xds.directory.by_repository(SILENT)
    assert member is not None
    shown = await region.get(f"fhir/Organization/member-{member.id}")
    (identifier,) = shown["identifier"]
    assert "partOf" not in shown, "a source that registers here is no part of the region"
    found = await region.get("fhir/Organization", identifier=f"{identifier['system']}|{identifier['value']}")
    assert [e["resource"]["id"] for e in found["entry"] if e["search"]["mode"] == "match"] == [shown["id"]]
    for custodian in (
        f"{identifier['system']}|{identifier['value']}",
        identifier["value"],
        f"Organization/{shown['id']}",
        member.code,
    ):
        for who in ({"patient.identifier": WHO}, {}):
            bundle = await region.get("fhir/ImagingStudy", custodian=custodian, **who)
            studies = [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
            assert [one["description"] for one in studies] == ["silent"], (custodian, who)
    await region.get("fhir/ImagingStudy", 400, custodian="foreign-99")
