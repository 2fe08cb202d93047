"""Every FHIR answer of a running region, judged by HAPI's validator: base R4, the terminology that comes with
it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Protocol

import orjson
import pytest
import road_studies as studies
from road_studies import NUMBER, image
from whole_region import NHS_SYSTEM, Whole, until, whole_region

pytestmark = pytest.mark.timeout(1200)  # Maven may have everything to fetch

WHO = f"patient.identifier={NHS_SYSTEM}|{NUMBER}"
INCLUDES = "".join(f"&_include=ImagingStudy:{name}" for name in ("patient", "endpoint", "custodian"))

#: Path below /fhir and the HTTP status that it has.
QUESTIONS = [
    ("metadata", 200),
    (f"ImagingStudy?{WHO}", 200),
    (f"ImagingStudy?{WHO}{INCLUDES}", 200),
    (f"ImagingStudy?{WHO}&_count=2", 200),
    (f"ImagingStudy?{WHO}&_summary=count", 200),
    (f"ImagingStudy?{WHO}&_elements=started,series", 200),
    (f"ImagingStudy?{WHO}&modality=NM", 200),
    (f"ImagingStudy?patient.identifier={NHS_SYSTEM}|9990000018", 200),
    ("ImagingStudy?started=ge2020", 200),
    ("ImagingStudy?started=ge2020&_count=3", 200),
    ("ImagingStudy?_sort=-_lastUpdated", 200),
    ("ImagingStudy?_sort=_lastUpdated&_lastUpdated=ge2020&_lastUpdated=lt2100&_count=4", 200),
    (f"ImagingStudy?{WHO}&_summary=text", 200),
    (f"ImagingStudy?{WHO}&_sort=-started,_id&_include=ImagingStudy:patient:Patient", 200),
    (f"ImagingStudy?{WHO}&_count=0&_totalMethod=count", 200),
    ("ImagingStudy?identifier=urn:dicom:uid|urn:oid:1.2.9.1", 200),
    (f"Patient?identifier={NHS_SYSTEM}|{NUMBER}", 200),
    ("Endpoint?_include=Endpoint:organization", 200),
    ("Organization?_include=Organization:endpoint", 200),
    ("ImagingStudy?bogus=1", 400),
    ("ImagingStudy?_include=*", 400),
    ("ImagingStudy?started=never", 400),
    ("ImagingStudy?_sort=bogus", 400),
    ("Patient?name=Smith", 400),
    ("ImagingStudy/none", 404),
    ("ImagingStudy/none?bogus=1", 400),
    ("Nope", 404),
    ("Endpoint/none?_format=xml", 406),
]


class Validator(Protocol):
    """HAPI's."""

    def errors(self, resource: bytes) -> list[Any]:
        """What makes a resource no R4."""
        ...


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[Whole]:
    """Three trusts: two hold studies of every sort of one person, the third another person's under the same
    number.
    """
    here = [
        *studies.orders(),
        *studies.mixed_objects(),
        *studies.undated(),
        *studies.difficult(),
        *studies.empty(),
    ]
    async with whole_region(tmp_path, {"RTK": "grpc", "RXC": "soap", "RPC": "grpc"}) as whole:
        await whole.homes["RTK"].add(here)
        await whole.homes["RXC"].add([image(50, PatientID="X-1"), image(1, 1, 9, PatientID="X-1")])
        await whole.homes["RPC"].add(
            [image(60, PatientID="P-1", PatientName="Else^Someone", PatientBirthDate="19991231")]
        )
        for home in whole.homes.values():
            await home.settled()
        await whole.enriched("1.2.9.50")
        yield whole


async def _asked(region: Whole, path: str, status: int) -> bytes:
    async with region.http.get(f"{region.base}/fhir/{path}") as response:
        body = await response.read()
        assert response.status == status, (path, response.status, body)
        return body


def _resources(bundle: bytes) -> list[dict[str, Any]]:
    return [
        entry["resource"] for entry in orjson.loads(bundle)["entry"] if entry["search"]["mode"] != "outcome"
    ]


async def _degraded(region: Whole) -> bytes:
    """An answer once a member cannot be reached."""
    await region.homes["RPC"].app.connection.stop()
    path = f"ImagingStudy?{WHO}"

    async def told() -> bool:
        return b"unreachable" in await _asked(region, path, 200)

    await until(told, 60.0)
    return await _asked(region, path, 200)


async def test_every_answer_is_base_r4(region: Whole, fhir_validator: Validator) -> None:
    answers = {path: await _asked(region, path, status) for path, status in QUESTIONS}
    everything = answers[f"ImagingStudy?{WHO}{INCLUDES}"]
    assert b"is disputed" in everything or b"claims this number" in everything
    for resource in _resources(everything):
        path = f"{resource['resourceType']}/{resource['id']}"
        answers[path] = await _asked(region, path, 200)
    answers["degraded"] = await _degraded(region)
    kinds = {orjson.loads(answer)["resourceType"] for answer in answers.values()}
    wanted = {
        "Bundle",
        "OperationOutcome",
        "CapabilityStatement",
        "ImagingStudy",
        "Patient",
        "Endpoint",
        "Organization",
    }
    assert kinds == wanted
    told = [f"{path}: {one}" for path, answer in answers.items() for one in fhir_validator.errors(answer)]
    assert not told, "\n".join(told)


def test_the_validator_finds_what_is_wrong(fhir_validator: Validator) -> None:
    assert not fhir_validator.errors(b'{"resourceType":"Patient","gender":"male"}')
    assert fhir_validator.errors(b'{"resourceType":"Patient","gender":"none of these"}')
