"""The region's DICOMweb root over real nodes: QIDO from the index, WADO through the gateway; dicomweb-client
as an outsider.
"""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, web
from dicomweb_client.api import DICOMwebClient
from gateway_region import GatewayRegion, endless_member, endpoints, gateway_region
from loopback import served
from node_serving import ct, part10
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from registry_samples import nhs

from crosslight.standards.ids import Identifier
from crosslight.standards.membership import Endpoints
from crosslight.standards.study import StudyTime
from registry.gateway.config import GatewayConfig

NUMBER = nhs(1)
OCTET_PARTS = 'multipart/related; type="application/octet-stream"'
DICOM_PARTS = 'multipart/related; type="application/dicom"'


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[GatewayRegion]:
    async with gateway_region(tmp_path) as found:
        yield found


async def rows(region: GatewayRegion, path: str, status: int = 200) -> Any:
    async with region.http.get(f"{region.base}/dicomweb{path}") as response:
        assert response.status == status, await response.read()
        assert response.headers["Crosslight-Coverage"] if status == 200 else True
        return await response.json(content_type=None)


def value(row: dict[str, Any], tag: str) -> Any:
    return row[tag].get("Value", [None])[0]


async def two_holders(region: GatewayRegion) -> None:
    """Study 1.2.1 at both, the same; 1.2.2 at RTK only."""
    for code in ("RA2", "RTK"):
        await region.add(code, ct(), national=NUMBER, local=f"L-{code}")
    await region.add(
        "RTK",
        ct("1.2.2", "1.2.2.1", "1.2.2.1.1", PatientID="L-RTK", Modality="MR"),
        ct("1.2.2", "1.2.2.1", "1.2.2.1.2", PatientID="L-RTK", Modality="MR", number=2),
        national=NUMBER,
    )


# --- search -------------------------------------------------------------------------------------------------


async def test_one_row_for_each_study_with_its_holders(region: GatewayRegion) -> None:
    await two_holders(region)
    found = {value(row, "0020000D"): row for row in await rows(region, f"/studies?PatientID={NUMBER}")}
    assert set(found) == {"1.2.1", "1.2.2"}
    one = found["1.2.1"]
    assert value(one, "00100020") == NUMBER
    assert value(one, "00100021") == "2.16.840.1.113883.2.1.4.1"
    others = {item["00100020"]["Value"][0] for item in one["00101002"]["Value"]}
    assert others == {"L-RA2", "L-RTK"}
    assert sorted(one["00080054"]["Value"]) == ["RA2", "RTK"]
    assert sorted(one["00091001"]["Value"]) == ["RA2", "RTK"]
    assert "RA2 Hospitals" in value(one, "00080080")
    assert value(one, "00080056") == "ONLINE"
    assert value(one, "00081190") == f"{region.base}/dicomweb/studies/1.2.1"
    assert value(one, "00081030") == "CT <head> & neck"
    assert one["00080061"]["Value"] == ["CT"]
    assert value(found["1.2.2"], "00201208") == 2


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("PatientID=L-RTK", 2),
        ("PatientID=L-RA2&IssuerOfPatientID=RA2", 2),
        ("PatientID=L-RA2&IssuerOfPatientID=RTK", 0),
        ("StudyInstanceUID=1.2.2", 1),
        ("AccessionNumber=A-1", 2),
        ("PatientID={n}&ModalitiesInStudy=MR", 1),
        ("PatientID={n}&StudyDate=20260101-", 2),
        ("PatientID={n}&StudyDate=20270101-", 0),
        ("PatientID={n}&StudyDescription=CT*neck", 2),
        ("PatientID={n}&StudyDescription=MR*", 0),
        ("PatientName=Smith^Ada&PatientBirthDate=19700101", 2),
        ("PatientName=Smith^B*&PatientBirthDate=19700101", 0),
        ("PatientName=smith&PatientBirthDate=19700101", 2),
        ("PatientName=Smith^ÁDA&PatientBirthDate=19700101", 2),
        ("PatientName=Smith^A&PatientBirthDate=19700101", 0),
        ("PatientName=Smith&PatientBirthDate=19700102", 0),
        ("PatientID={n}&PatientBirthDate=19700101", 2),
        ("PatientID={n}&PatientBirthDate=19700102", 0),
        ("PatientID={n}&PatientName=Smith", 0),
        ("PatientID={n}&PatientName=S*", 2),
        ("ModalitiesInStudy=CT", 1),
        ("", 2),
        ("limit=1", 1),
        ("limit=1&offset=1", 1),
        ("offset=2", 0),
        ("00100020={n}&StudyID=S1", 2),
    ],
)
async def test_searches(region: GatewayRegion, query: str, count: int) -> None:
    await two_holders(region)
    assert len(await rows(region, f"/studies?{query.format(n=NUMBER)}")) == count


@pytest.mark.parametrize(
    "query",
    [
        "PatientID=9*",
        "PatientName=Smith",
        "PatientName=^A&PatientBirthDate=19700101",
        "StudyTime=10",
        "Colour=red",
        "IssuerOfPatientID=nobody&PatientID=1",
        "offset=100000",
        "ReferringPhysicianName=X",
    ],
)
async def test_what_would_list_people_or_cannot_be_bounded_is_refused(
    region: GatewayRegion, query: str
) -> None:
    await rows(region, f"/studies?{query}", 400)


@pytest.mark.parametrize(
    ("path", "status", "word"),
    [
        ("/nothing", 404, "Here are"),
        ("/studies/1.2.2/bogus", 404, "Here are"),
        ("", 404, "Check"),
        ("/studies/1.2.9", 404, ""),
        ("/studies?AccessionNumber=*X*", 400, "AccessionNumber whole"),
        ("/studies?ReferringPhysicianName=X", 400, "Add PatientID"),
        ("/instances", 400, "StudyInstanceUID"),
        ("/studies?Colour=red", 400, "keyword"),
    ],
)
async def test_errors_have_one_shape(region: GatewayRegion, path: str, status: int, word: str) -> None:
    """That of a node: RFC 9457, with what to do."""
    async with region.http.get(f"{region.base}/dicomweb{path}") as response:
        assert (response.status, response.content_type) == (status, "application/problem+json")
        told = await response.json(content_type=None)
        assert response.headers["Cache-Control"] == "no-store"
    assert told["status"] == status
    assert told["title"]
    assert word in told["detail"]


async def test_dates_and_times_over_midnight(region: GatewayRegion) -> None:
    for at, (day, time) in enumerate(
        (("01", "0800"), ("01", "2300"), ("02", "0300"), ("02", "1500"), ("03", "0800"))
    ):
        ds = ct(
            f"1.2.{at}",
            f"1.2.{at}.1",
            f"1.2.{at}.1.1",
            StudyDate=f"202611{day}",
            StudyTime=time,
            PatientID="L-RTK",
        )
        await region.add("RTK", ds, national=NUMBER)
    for who in (f"PatientID={NUMBER}&", ""):  # of a patient, and through the whole region
        for query, count in (
            ("StudyDate=20261101-20261102&StudyTime=220000-060000", 2),
            ("StudyDate=20261101-20261103&StudyTime=1000-1200", 4),
            ("StudyDate=20261102-&StudyTime=1000-", 2),
            ("StudyDate=-20261101&StudyTime=-1200", 1),
        ):
            assert len(await rows(region, f"/studies?{who}{query}")) == count, (who, query)
        await rows(region, f"/studies?{who}StudyDate=20261101&StudyTime=220000-060000", 400)


async def test_what_only_a_holder_has_is_asked_of_it(region: GatewayRegion) -> None:
    request = Dataset()
    request.ScheduledProcedureStepID, request.RequestedProcedureID = "SPS1", "RP1"
    await region.add(
        "RTK", ct(PatientID="L-RTK", RequestAttributesSequence=Sequence([request])), national=NUMBER
    )
    await region.add("RTK", ct(series="1.2.1.2", sop="1.2.1.2.1", PatientID="L-RTK"), national=NUMBER)
    for root in ("/studies/1.2.1/series?", "/series?StudyInstanceUID=1.2.1&"):
        for key in ("RequestAttributesSequence.RequestedProcedureID=RP1", "00400275.00400009=SPS1"):
            (found,) = await rows(region, root + key)
            assert value(found, "0020000E") == "1.2.1.1"
            assert value(found, "00081190") == f"{region.base}/dicomweb/studies/1.2.1/series/1.2.1.1"
        assert await rows(region, root + "RequestAttributesSequence.RequestedProcedureID=other") == []
        assert await rows(region, root + "PerformedProcedureStepStartDate=20200101") == []
    refused = await rows(region, f"/series?PatientID={NUMBER}&PerformedProcedureStepStartDate=20200101", 400)
    assert "StudyInstanceUID" in refused["detail"]


async def test_what_narrows_nothing_is_ignored_with_a_warning(region: GatewayRegion) -> None:
    await two_holders(region)
    for path in (f"/studies?PatientID={NUMBER}", "/studies/1.2.2/series?", "/studies/1.2.2/instances?"):
        for query in ("emptyvaluematching=false", "_=1700000000", "charset=utf-8"):
            async with region.http.get(f"{region.base}/dicomweb{path}&{query}") as response:
                assert response.status == 200, (path, query)
                assert any(query.partition("=")[0] in text for text in response.headers.getall("Warning")), (
                    path,
                    query,
                )
    query = f"/studies?PatientID={NUMBER}&00090010=CROSSLIGHT%201.0&includefield=00091001,"
    for row in await rows(region, query):
        assert value(row, "00090010") == "CROSSLIGHT 1.0"
        assert row["00091001"]["Value"]


CACHED = [
    f"/studies?PatientID={NUMBER}", "/studies/1.2.2/series", "/studies/1.2.2/instances", "/studies/1.2.2",
    "/studies/1.2.2/metadata",
    "/studies/1.2.2/series/1.2.2.1", "/studies/1.2.2/series/1.2.2.1/instances/1.2.2.1.1/frames/1",
    "/studies/1.2.2/series/1.2.2.1/instances/1.2.2.1.1/rendered", "/studies/1.2.2/thumbnail",
]  # fmt: skip


@pytest.mark.parametrize("path", CACHED)
async def test_what_is_the_same_is_not_sent_again(region: GatewayRegion, path: str) -> None:
    """RFC 9110 13.1.2: the holder's validator passes through the region both ways."""
    await two_holders(region)
    address = f"{region.base}/dicomweb{path}"
    async with region.http.get(address) as response:
        assert response.status == 200
        tag, first = response.headers["ETag"], await response.read()
        assert response.headers["Cache-Control"] == "private, no-cache"
        assert "Authorization" in response.headers["Vary"]
    for sent, status in ((tag, 304), (f'"other", {tag}', 304), ('W/"other"', 200)):
        async with region.http.get(address, headers={"If-None-Match": sent}) as response:
            assert response.status == status, await response.read()
            assert response.headers["ETag"] == tag
            assert response.headers["Cache-Control"] == "private, no-cache"
            assert bool(await response.read()) is (status == 200)
    await region.add(
        "RTK",
        ct("1.2.2", "1.2.2.1", "1.2.2.1.3", PatientID="L-RTK", Modality="MR", number=3),
        national=NUMBER,
    )
    async with region.http.get(address, headers={"If-None-Match": tag}) as response:
        one = "instances/" in path  # what was added is no part of it
        assert (response.status == 304) is one or (await response.read()) != first


@pytest.mark.parametrize("path", ["/studies", "/studies/1.2.1/series", "/studies/1.2.1/instances"])
async def test_rows_come_as_the_json_that_is_asked_for(region: GatewayRegion, path: str) -> None:
    await two_holders(region)
    for accept in ("application/json", "application/dicom+json"):
        async with region.http.get(f"{region.base}/dicomweb{path}", headers={"Accept": accept}) as response:
            assert (response.status, response.content_type) == (200, accept)


async def test_what_nobody_counted_has_no_count(region: GatewayRegion) -> None:
    """D17: of a study that a foreign source registered only the entry is known."""
    await two_holders(region)
    bare = {"detail": "entry", "series": (), "n_series": 0, "n_instances": 0}
    await region.publish("RTK", replace((await region.held("RTK", "1.2.2")).record, **bare))  # type: ignore[arg-type]
    found = [
        row
        for row in await rows(region, f"/studies?PatientID={NUMBER}&includefield=all")
        if "Value" not in row["00201208"]
    ]
    assert [(row["00201206"], row["00201208"]) for row in found] == [({"vr": "IS"}, {"vr": "IS"})]


async def test_undated_studies_are_never_hidden(region: GatewayRegion) -> None:
    await two_holders(region)
    await region.publish("RTK", replace((await region.held("RTK", "1.2.2")).record, time=StudyTime()))
    assert len(await rows(region, f"/studies?PatientID={NUMBER}&StudyDate=20200101-20200102")) == 1


async def test_warning_only_when_degraded_and_availability_for_each_row(region: GatewayRegion) -> None:
    await two_holders(region)
    for code in ("RPC", "RXC", "RYR"):
        region.linked(code)
    address = f"{region.base}/dicomweb/studies?PatientID={NUMBER}"
    async with region.http.get(address, headers={"Origin": "https://viewer.example"}) as response:
        assert "Warning" not in response.headers
        assert "RTK;state=live" in response.headers["Crosslight-Coverage"]
        assert "Crosslight-Coverage" in response.headers["Access-Control-Expose-Headers"]
        assert "Warning" in response.headers["Access-Control-Expose-Headers"]
        assert response.headers["Access-Control-Allow-Origin"] == "https://viewer.example"
    region.down("RTK")
    async with region.http.get(address, headers={"Origin": "https://evil.example"}) as response:
        (warning,) = response.headers.getall("Warning")
        assert warning.startswith('299 crosslight "RTK RTK Hospitals')
        assert f"unreachable {region.since}" in warning
        assert "Access-Control-Allow-Origin" not in response.headers
        found = {value(row, "0020000D"): row for row in await response.json(content_type=None)}
    assert value(found["1.2.1"], "00080056") == "ONLINE"  # RA2 has it too
    assert value(found["1.2.2"], "00080056") == "UNAVAILABLE"
    async with region.http.get(f"{region.base}/dicomweb/studies?limit=1") as response:
        assert any("additional results" in w for w in response.headers.getall("Warning"))


async def test_series_from_the_index_and_instances_from_the_holder(region: GatewayRegion) -> None:
    await two_holders(region)
    (series,) = await rows(region, "/studies/1.2.2/series")
    assert value(series, "0020000E") == "1.2.2.1"
    assert value(series, "00201209") == 2
    assert value(series, "00081190") == f"{region.base}/dicomweb/studies/1.2.2/series/1.2.2.1"
    assert await rows(region, "/studies/1.2.2/series?Modality=CT") == []
    assert len(await rows(region, f"/series?PatientID={NUMBER}&Modality=MR")) == 1
    await rows(region, "/series", 400)
    instances = await rows(region, "/studies/1.2.2/instances")
    assert {value(i, "00080018") for i in instances} == {"1.2.2.1.1", "1.2.2.1.2"}
    assert value(instances[0], "00081190").startswith(
        f"{region.base}/dicomweb/studies/1.2.2/series/1.2.2.1/instances/1.2.2.1."
    )
    assert len(await rows(region, "/studies/1.2.2/series/1.2.2.1/instances?InstanceNumber=2")) == 1
    assert len(await rows(region, "/instances?StudyInstanceUID=1.2.2&limit=1")) == 1
    await rows(region, "/instances", 400)
    region.down("RTK")
    problem = await rows(region, "/studies/1.2.2/instances", 504)
    assert "RTK" in problem["where"]
    assert region.since in problem["title"]


# --- retrieve -----------------------------------------------------------------------------------------------


async def test_images_come_byte_for_byte_and_are_audited_at_both_ends(region: GatewayRegion) -> None:
    await two_holders(region)
    path = "/studies/1.2.2/series/1.2.2.1/instances/1.2.2.1.1"
    node = region.nodes["RTK"]
    async with region.http.get(
        f"{region.base}/dicomweb{path}", headers={"Accept": "application/dicom", "X-Correlation-Id": "corr-1"}
    ) as response:
        body = await response.read()
        assert response.status == 200
        assert response.content_type == "application/dicom"
        assert int(response.headers["Content-Length"]) == len(body)
        assert response.headers["Crosslight-Holder"] == "RTK"
        assert response.headers["X-Correlation-Id"] == "corr-1"
    sent = part10(ct("1.2.2", "1.2.2.1", "1.2.2.1.1", PatientID="L-RTK", Modality="MR"))
    assert body[-500:] == sent[-500:]
    (act,) = await node.audit.search(study="1.2.2")
    assert (act.correlation, act.who.subject, act.action) == ("corr-1", "dr.who", "retrieve")
    act = (await region.acts())[-1]
    assert (act.face, act.action) == ("dicomweb", "retrieve")


@pytest.mark.parametrize(
    ("tail", "accept", "kind"),
    [
        ("", DICOM_PARTS, "multipart/related"),
        ("/metadata", "application/dicom+json", "application/dicom+json"),
        ("/series/1.2.2.1", DICOM_PARTS, "multipart/related"),
        ("/series/1.2.2.1/metadata", "*/*", "application/dicom+json"),
        ("/series/1.2.2.1/instances/1.2.2.1.1/rendered", "image/jpeg", "image/jpeg"),
        ("/series/1.2.2.1/instances/1.2.2.1.1/thumbnail", "image/jpeg", "image/jpeg"),
        ("/series/1.2.2.1/instances/1.2.2.1.1/frames/1", OCTET_PARTS, "multipart/related"),
    ],
)
async def test_every_resource(region: GatewayRegion, tail: str, accept: str, kind: str) -> None:
    await two_holders(region)
    for root in ("", "/members/RTK"):
        address = f"{region.base}/dicomweb{root}/studies/1.2.2{tail}"
        async with region.http.get(address, headers={"Accept": accept}) as response:
            assert response.status == 200, await response.read()
            assert response.content_type == kind
            length = response.headers.get("Content-Length")
            body = await response.read()
            assert body
            assert length is None or int(length) == len(body)


async def test_instances_tell_where_they_lie_and_how_large_they_are(region: GatewayRegion) -> None:
    """What a viewer orders pictures by, and asks for their size by: from the holder, through the region."""
    placed = {
        "ImagePositionPatient": [1.5, -2, 30],
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelAspectRatio": [2, 1],
    }
    await region.add("RTK", ct("1.2.7", "1.2.7.1", "1.2.7.1.1", PatientID="L-RTK", **placed), national=NUMBER)
    address = f"{region.base}/dicomweb/studies/1.2.7/series/1.2.7.1/instances"
    query = {"includefield": ",".join(placed), "limit": "1000", "offset": "0"}
    async with region.http.get(
        address, params=query, headers={"Accept": "application/dicom+json"}
    ) as response:
        (row,) = await response.json(content_type=None)
    told = {tag: row[tag]["Value"] for tag in ("00200032", "00200037", "00280034")}
    assert told == {"00200032": [1.5, -2, 30], "00200037": [1, 0, 0, 0, 1, 0], "00280034": [2, 1]}
    assert row["00280010"]["Value"] == row["00280011"]["Value"]


async def test_a_picture_that_is_known_is_not_sent_again(region: GatewayRegion) -> None:
    await two_holders(region)
    address = f"{region.base}/dicomweb/studies/1.2.2/series/1.2.2.1/instances/1.2.2.1.1/rendered"
    async with region.http.get(address, headers={"Accept": "image/jpeg"}) as response:
        tag, body = response.headers["ETag"], await response.read()
        assert body
    asked = len(await region.acts())
    async with region.http.get(address, headers={"Accept": "image/jpeg", "If-None-Match": tag}) as response:
        assert (response.status, response.headers["ETag"], await response.read()) == (304, tag, b"")
        assert response.headers["Crosslight-Holder"] == "RTK"
    # the connection is good for more
    async with region.http.get(address, headers={"Accept": "image/jpeg"}) as response:
        assert await response.read() == body
    assert len(await region.acts()) == asked + 2, "asked and audited all the same"


async def test_status_and_refusals_pass(region: GatewayRegion) -> None:
    await two_holders(region)
    base = f"{region.base}/dicomweb/studies"
    for path, accept, status in (
        ("1.2.2/series/9.9", DICOM_PARTS, 404),
        ("1.2.2", "image/gif", 406),
        ("9.9.9", DICOM_PARTS, 404),
        ("abc", "*/*", 400),
        ("1.2.2/other", "*/*", 404),
        ("1.2.2/series/1.2.2.1/instances/..%2f..", "*/*", 404),
        ("1.2.2%20", "*/*", 400),
        ("1.2.2%20/series", "*/*", 400),
        ("1.2.2/series/1.2.2.1%00/instances", "*/*", 400),
        ("1.2.2/series/1.2.2.1%20/metadata", "*/*", 400),
        ("1.2.2/series/1.2.2.1/instances/1.2.2.1.1/frames/1%20", "*/*", 400),
        ("abc/series", "*/*", 400),
        ("1.2.2/series/abc/instances", "*/*", 400),
        ("1.2.2/series/x/metadata", "*/*", 400),
        ("1.2.2/series/1.2.2.1/instances/1.2.2.1.1/frames/x", "*/*", 400),
        ("1.2.2/series/1.2.2.1/instances/1.2.2.1.1/frames/1,,2", "*/*", 400),
    ):
        async with region.http.get(f"{base}/{path}", headers={"Accept": accept}) as response:
            assert response.status == status, (path, await response.read())
            assert response.content_type == "application/problem+json"
    await region.room.availability("RTK", "1.2.2", "Deprecated", 99)
    async with region.http.get(f"{base}/1.2.2") as response:
        assert response.status == 410
    async with region.http.post(base, data=b"x") as response:
        assert response.status == 501
        assert "own node" in (await response.json(content_type="application/problem+json"))["detail"]


async def test_another_holder_steps_in_before_the_first_byte(region: GatewayRegion) -> None:
    await two_holders(region)
    address = f"{region.base}/dicomweb/studies/1.2.1/metadata"
    holders = set()
    for stopped in ("", "RA2"):
        if stopped:
            await region.nodes[stopped].stop()  # presence has not noticed yet
        async with region.http.get(address) as response:
            assert response.status == 200
            holders.add(response.headers["Crosslight-Holder"])
    assert "RTK" in holders
    await region.nodes["RTK"].stop()
    async with region.http.get(address) as response:
        assert response.status == 504
        problem = await response.json(content_type="application/problem+json")
    assert sorted(problem["where"].split(",")) == ["RA2", "RTK"]
    assert (await region.acts())[-1].text == "failed: MemberUnreachable"


async def test_a_holder_that_lost_it_is_passed_over(region: GatewayRegion) -> None:
    await two_holders(region)
    await region.nodes["RA2"].archive.delete("1.2.1", "test")
    async with region.http.get(f"{region.base}/dicomweb/studies/1.2.1/metadata") as response:
        assert (response.status, response.headers["Crosslight-Holder"]) == (200, "RTK")
    await region.nodes["RTK"].archive.delete("1.2.1", "test")
    async with region.http.get(f"{region.base}/dicomweb/studies/1.2.1/metadata") as response:
        assert response.status == 410


async def test_a_conflicting_copy_is_never_given_in_place_of_another(region: GatewayRegion) -> None:
    await two_holders(region)
    # and now they differ
    await region.add("RTK", ct(sop="1.2.1.1.9", number=9), national=NUMBER, local="L-RTK")
    bare = f"{region.base}/dicomweb/studies/1.2.1"
    for stopped in ("", "RA2"):
        if stopped:
            await region.nodes[stopped].stop()
            region.down(stopped)
        async with region.http.get(bare) as response:
            assert response.status == 409, "whoever can be reached, nobody is the default"
            told = await response.json(content_type="application/problem+json")
        assert [choice["code"] for choice in told["choices"]] == ["RA2", "RTK"]
    for choice, status in zip(told["choices"], (504, 200), strict=True):
        async with region.http.get(choice["address"]) as response:
            assert response.status == status, choice


async def test_a_source_without_an_address_takes_nobodys_place(region: GatewayRegion) -> None:
    """Whoever registers a study's UID and has no images does not take them from everybody."""
    await two_holders(region)
    await region.add("RTK", ct(sop="1.2.1.1.9", number=9), national=NUMBER, local="L-RTK")
    region.directory.set(replace(region.member("RTK"), status="foreign", endpoints=Endpoints()))
    async with region.http.get(f"{region.base}/dicomweb/studies/1.2.1/metadata") as response:
        assert (response.status, response.headers["Crosslight-Holder"]) == (200, "RA2")


async def test_one_uid_of_two_patients_is_never_guessed(region: GatewayRegion) -> None:
    await region.add("RA2", ct(PatientID="L-A"))
    await region.add("RTK", ct(PatientID="L-B", PatientName="Other^Person"))
    async with region.http.get(f"{region.base}/dicomweb/studies/1.2.1/metadata") as response:
        assert response.status == 409
        assert "RA2, RTK" in (await response.json(content_type="application/problem+json"))["detail"]
    found = await rows(region, "/studies?StudyInstanceUID=1.2.1")
    assert {value(r, "00100010")["Alphabetic"] for r in found} == {"Smith^Ada", "Other^Person"}
    for row in found:
        async with region.http.get(value(row, "00081190") + "/metadata") as response:
            (instance,) = await response.json(content_type=None)
        assert value(instance, "00100010") == value(row, "00100010")


async def test_a_foreign_source_without_an_address_is_not_online(region: GatewayRegion) -> None:
    await two_holders(region)
    for status, known, expected in (
        ("foreign", True, "ONLINE"),
        ("foreign", False, "UNAVAILABLE"),
        ("active", True, "ONLINE"),
    ):
        rtk = region.member("RTK")
        addresses = endpoints(region.nodes["RTK"].url, "RTK") if known else Endpoints()
        region.directory.set(replace(rtk, status=status, endpoints=addresses))
        (row,) = await rows(region, "/studies?StudyInstanceUID=1.2.2")  # RTK's alone
        assert value(row, "00080056") == expected, (status, known)


async def test_a_suspended_member_is_not_asked(region: GatewayRegion) -> None:
    await two_holders(region)
    region.suspend("RTK")
    async with region.http.get(f"{region.base}/dicomweb/studies/1.2.2") as response:
        assert response.status == 504
        told = await response.json(content_type="application/problem+json")
        assert "is suspended" in told["title"]
        assert "operator" in told["detail"], "to try again later would be in vain"


async def test_a_source_that_gave_no_address_is_not_called_away(region: GatewayRegion) -> None:
    await two_holders(region)
    region.directory.set(replace(region.member("RTK"), status="foreign", endpoints=Endpoints()))
    async with region.http.get(f"{region.base}/dicomweb/studies/1.2.2") as response:
        assert response.status == 504
        told = await response.json(content_type="application/problem+json")
        assert "gave no address" in told["title"]
        assert "since" not in told["title"]
    assert await region.nodes["RTK"].audit.search(study="1.2.2") == []


# --- streams ------------------------------------------------------------------------------------------------


class Fountain:
    """A holder that sends as much as is asked for, and knows what became of it."""

    def __init__(self, total: int | None, *, length: bool) -> None:
        self.total, self.length = total, length
        self.sent, self.cut, self.begun = 0, asyncio.Event(), asyncio.Event()

    async def handle(self, request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": DICOM_PARTS + "; boundary=x"})
        if self.length and self.total is not None:
            response.content_length = self.total
        await response.prepare(request)
        chunk = bytes(1 << 16)
        try:
            while self.total is None or self.sent < self.total:
                await response.write(chunk)
                self.sent += len(chunk)
                self.begun.set()
        except (ConnectionError, asyncio.CancelledError):
            self.cut.set()
            raise
        return response


async def _study_at(region: GatewayRegion, code: str) -> None:
    await region.add(code, ct("1.2.7", "1.2.7.1", "1.2.7.1.1"))


async def test_a_large_study_passes_in_constant_memory_with_its_length(region: GatewayRegion) -> None:
    await _study_at(region, "RTK")
    total = 256 << 20
    fountain = Fountain(total, length=True)
    app = web.Application()
    app.router.add_get("/dicomweb/studies/1.2.7", fountain.handle)
    async with served(app) as url:
        with endless_member(region, "RTK", url):
            tracemalloc.start()
            try:
                async with region.http.get(f"{region.base}/dicomweb/studies/1.2.7") as response:
                    assert response.content_length == total
                    received = 0
                    async for piece in response.content.iter_any():
                        received += len(piece)
                peak = tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()
    assert received == total
    assert peak < 12 << 20, f"{peak} bytes held at once"


async def test_a_slow_reader_holds_the_holder_back_and_leaving_ends_it(region: GatewayRegion) -> None:
    await _study_at(region, "RTK")
    fountain = Fountain(None, length=False)
    app = web.Application()
    app.router.add_get("/dicomweb/studies/1.2.7", fountain.handle)
    async with served(app) as url:
        with endless_member(region, "RTK", url):
            async with region.http.get(f"{region.base}/dicomweb/studies/1.2.7") as response:
                await response.content.readexactly(1 << 16)
                before = -1
                while before != fountain.sent:  # until nothing moves any more
                    before = fountain.sent
                    await asyncio.sleep(0.2)
                assert fountain.sent < 64 << 20  # what sockets and buffers between hold, not a study
                response.close()
            await asyncio.wait_for(fountain.cut.wait(), 5)
    assert not (await region.acts())[-1].text.startswith("ok")


async def test_suspension_cuts_a_running_stream(region: GatewayRegion) -> None:
    await _study_at(region, "RTK")
    fountain = Fountain(None, length=False)
    app = web.Application()
    app.router.add_get("/dicomweb/studies/1.2.7", fountain.handle)
    async with served(app) as url:
        with endless_member(region, "RTK", url):
            async with region.http.get(f"{region.base}/dicomweb/studies/1.2.7") as response:
                await response.content.readexactly(1 << 16)
                region.suspend("RTK")

                async def drain() -> None:
                    async for _ in response.content.iter_any():
                        pass

                with pytest.raises((ClientError, ConnectionError)):  # an error, never a quiet end
                    await asyncio.wait_for(drain(), 5)
            await asyncio.wait_for(fountain.cut.wait(), 5)


async def test_a_broken_stream_never_ends_as_if_it_were_whole(region: GatewayRegion) -> None:
    await _study_at(region, "RTK")

    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"x" * 1000)
        assert request.transport is not None
        request.transport.abort()
        return response

    app = web.Application()
    app.router.add_get("/dicomweb/studies/1.2.7", broken)
    async with served(app) as url:
        with endless_member(region, "RTK", url):
            with pytest.raises(ClientError):
                async with region.http.get(f"{region.base}/dicomweb/studies/1.2.7") as response:
                    await response.read()


async def test_a_holder_that_hangs_is_given_up(tmp_path: Path) -> None:
    async with gateway_region(tmp_path, ("RTK",), config=GatewayConfig(answer_timeout_s=0.3)) as region:
        await _study_at(region, "RTK")

        async def hang(request: web.Request) -> web.StreamResponse:
            await asyncio.Event().wait()
            raise AssertionError

        app = web.Application()
        app.router.add_get("/dicomweb/studies/1.2.7", hang)
        async with served(app) as url:
            with endless_member(region, "RTK", url):
                async with region.http.get(f"{region.base}/dicomweb/studies/1.2.7") as response:
                    assert response.status == 504


# --- an outside client --------------------------------------------------------------------------------------


async def test_dicomweb_client(region: GatewayRegion) -> None:
    await two_holders(region)
    client = DICOMwebClient(f"{region.base}/dicomweb")
    run = asyncio.to_thread
    found = await run(partial(client.search_for_studies, search_filters={"PatientID": NUMBER}))
    assert {value(s, "0020000D") for s in found} == {"1.2.1", "1.2.2"}
    (series,) = await run(partial(client.search_for_series, "1.2.2"))
    assert value(series, "00080060") == "MR"
    assert len(await run(partial(client.search_for_instances, "1.2.2"))) == 2
    study = await run(partial(client.retrieve_study, "1.2.2"))
    assert sorted(str(ds.SOPInstanceUID) for ds in study) == ["1.2.2.1.1", "1.2.2.1.2"]
    metadata = await run(partial(client.retrieve_study_metadata, "1.2.2"))
    assert len(metadata) == 2
    assert Identifier(NUMBER) == Identifier(value(found[0], "00100020"))
