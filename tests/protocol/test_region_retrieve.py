"""Retrieval at the region's DICOMweb root over real nodes: WADO through the gateway, which holder gives it;
dicomweb-client as an outsider.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
from dicomweb_client.api import DICOMwebClient
from gateway_region import GatewayRegion, endpoints, gateway_region
from node_serving import ct, part10
from region_holders import DICOM_PARTS, NUMBER, rows, two_holders, value

from crosslight.standards.ids import Identifier
from crosslight.standards.membership import Endpoints

OCTET_PARTS = 'multipart/related; type="application/octet-stream"'


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[GatewayRegion]:
    async with gateway_region(tmp_path) as found:
        yield found


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
