"""Search at the region's DICOMweb root over real nodes: QIDO from the index, or from the holder that alone
knows.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from gateway_region import GatewayRegion, gateway_region
from node_serving import ct
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from region_holders import NUMBER, rows, two_holders, value

from crosslight.standards.records import changed
from crosslight.standards.study import StudyTime


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[GatewayRegion]:
    async with gateway_region(tmp_path) as found:
        yield found


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
    await region.publish("RTK", changed((await region.held("RTK", "1.2.2")).record, **bare))  # type: ignore[arg-type]
    found = [
        row
        for row in await rows(region, f"/studies?PatientID={NUMBER}&includefield=all")
        if "Value" not in row["00201208"]
    ]
    assert [(row["00201206"], row["00201208"]) for row in found] == [({"vr": "IS"}, {"vr": "IS"})]


async def test_undated_studies_are_never_hidden(region: GatewayRegion) -> None:
    await two_holders(region)
    await region.publish("RTK", changed((await region.held("RTK", "1.2.2")).record, time=StudyTime()))
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
