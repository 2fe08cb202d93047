"""A node's QIDO-RS over loopback, and what holds for every DICOMweb request; an outside client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import node_serving
import orjson
import pydicom
import pytest
from dicomweb_answers import DICOM_PARTS, ONE, get, rows
from dicomweb_client.api import DICOMwebClient
from node_serving import Served, ct, part10, serving
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from node.serve.config import ServeConfig


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


# --- search -------------------------------------------------------------------------------------------------


async def test_undated_studies_are_never_hidden(node: Served) -> None:
    """D22: one without a date, or with one that is none, matches any date and comes last."""
    await node.add(
        part10(ct()),
        part10(ct(study="1.2.2", series="1.2.2.1", sop="1.2.2.1.1", StudyDate="", StudyTime="")),
        part10(ct(study="1.2.3", series="1.2.3.1", sop="1.2.3.1.1", StudyDate="20261399")),
    )
    for path, dated in {
        "/studies?StudyDate=20260101-": ["1.2.1"],
        "/studies?StudyDate=19990101": [],
        "/studies?StudyDate=-19990101": [],
        "/studies?StudyDate=19990101&StudyTime=0100": [],
        "/studies?StudyDate=20260101-&PatientName=Smith*": ["1.2.1"],
        "/series?StudyDate=19990101": [],
    }.items():
        found = [row["0020000D"]["Value"][0] for row in await rows(node, path)]
        assert found[: len(dated)] == dated, path
        assert sorted(found[len(dated) :]) == ["1.2.2", "1.2.3"], path
    assert len(await rows(node, "/studies?StudyDate=19990101&PatientName=Nobody")) == 0


async def test_searches_at_every_nesting(node: Served) -> None:
    await node.add(
        part10(ct()),
        part10(ct(sop="1.2.1.1.2", number=2)),
        part10(ct(series="1.2.1.2", sop="1.2.1.2.1", Modality="SR")),
        part10(
            ct(
                study="1.2.2",
                series="1.2.2.1",
                sop="1.2.2.1.1",
                PatientName="O'Connor^Zoë",
                PatientID="L-2",
                StudyDate="20250101",
            )
        ),
    )
    expected = {
        "/studies": 2,
        "/studies?PatientName=smith*": 1,
        "/studies?PatientName=O'Connor^Zoë": 1,
        "/studies?PatientID=L-2": 1,
        "/studies?StudyDate=20260101-": 1,
        "/studies?ModalitiesInStudy=SR": 1,
        "/studies?ModalitiesInStudy=MR": 0,
        "/studies?StudyInstanceUID=1.2.1,1.2.2": 2,
        "/studies?limit=1": 1,
        "/studies?offset=1": 1,
        "/studies?limit=0": 0,
        "/series": 3,
        "/series?Modality=CT": 2,
        "/series?PatientID=L-1": 2,
        "/studies/1.2.1/series": 2,
        "/studies/1.2.1/series?Modality=SR": 1,
        "/instances": 4,
        "/instances?SOPInstanceUID=1.2.1.1.2": 1,
        "/studies/1.2.1/instances": 3,
        "/studies/1.2.1/series/1.2.1.1/instances": 2,
        "/studies/1.2.9/series": 0,
        "/studies/1.2.1/series/1.2.1.1/instances?InstanceNumber=2": 1,
        "/studies?00100020=L-1": 1,
        "/studies?accept=*/*": 2,
    }
    for path, count in expected.items():
        assert len(await rows(node, path)) == count, path
    study = next(row for row in await rows(node, "/studies") if row["0020000D"]["Value"] == ["1.2.1"])
    assert study["00201206"]["Value"] == [2]
    assert study["00201208"]["Value"] == [3]
    assert sorted(study["00080061"]["Value"]) == ["CT", "SR"]
    assert study["00081190"]["Value"] == [f"{node.url}/dicomweb/studies/1.2.1"]
    assert study["00081030"]["Value"] == ["CT <head> & neck"]
    instance = (await rows(node, "/studies/1.2.1/series/1.2.1.1/instances"))[0]
    assert instance["00081190"]["Value"] == [f"{node.url}/dicomweb{ONE}"]
    assert instance["00280010"]["Value"] == [16]
    assert "00100010" not in instance
    assert "00100010" in (await rows(node, "/instances"))[0]


async def test_more_than_the_limit_is_said(tmp_path: Path) -> None:
    async with serving(tmp_path, config=ServeConfig(max_search_results=2)) as node:
        await node.add(*(part10(ct(study=f"1.2.{i}", sop=f"1.2.{i}.1")) for i in range(3)))
        status, headers, body = await get(node, "/studies?fuzzymatching=true")
        assert (status, len(orjson.loads(body))) == (200, 2)
        assert headers["Warning"].startswith("299 ")
        async with node.session.get(f"{node.url}/dicomweb/studies?fuzzymatching=true") as response:
            texts = " ".join(response.headers.getall("Warning"))
        assert "fuzzymatching" in texts
        assert "exceeded the maximum" in texts
        status, headers, body = await get(node, "/studies?limit=1")
        assert (status, len(orjson.loads(body))) == (200, 1)
        assert "exceeded" not in headers["Warning"], "the limit was the caller's own"
        assert "additional results that can be requested" in headers["Warning"]
        assert "Warning" not in (await get(node, "/studies?limit=2&offset=1"))[1]


async def test_series_by_the_request_they_come_from(node: Served) -> None:
    request = Dataset()
    request.ScheduledProcedureStepID, request.RequestedProcedureID = "SPS1", "RP1"
    await node.add(
        part10(ct(RequestAttributesSequence=Sequence([request]))),
        part10(ct(series="1.2.1.2", sop="1.2.1.2.1")),
    )
    for query, count in (
        ("RequestAttributesSequence.RequestedProcedureID=RP1", 1),
        ("00400275.00400009=SPS1", 1),
        ("00400275.00400009=none", 0),
    ):
        for path in ("/studies/1.2.1/series", "/series", "/instances"):
            assert len(await rows(node, f"{path}?{query}")) == count


async def test_dates_and_times_over_midnight(node: Served) -> None:
    for at, (day, time) in enumerate(
        (("01", "0800"), ("01", "2300"), ("02", "0300"), ("02", "1500"), ("03", "0800"))
    ):
        step = {"PerformedProcedureStepStartDate": f"202611{day}", "PerformedProcedureStepStartTime": time}
        ds = ct(f"1.2.{at}", f"1.2.{at}.1", f"1.2.{at}.1.1", StudyDate=f"202611{day}", StudyTime=time, **step)
        await node.add(part10(ds))
    for path, begin in (
        ("/studies", "Study"),
        ("/series", "Study"),
        ("/series", "PerformedProcedureStepStart"),
    ):
        for days, times, count in (
            ("01-20261102", "22-06", 2),
            ("01-20261103", "10-12", 4),
            ("01-20261102", "20-16", 3),
        ):
            found = await rows(node, f"{path}?{begin}Date=202611{days}&{begin}Time={times}&limit=9")
            assert len(found) == count, (path, begin, days, times)


# --- every request ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "accept", "status", "word"),
    [
        ("/studies?Foo=1", "", 400, "Foo"),
        ("/studies?StudyDate=yesterday", "", 400, "StudyDate"),
        ("/studies?SeriesNumber=1", "", 400, "SeriesNumber"),
        ("/studies", "application/dicom+xml", 406, "Accept"),
        ("/studies/1.2.9", "", 404, "No such study"),
        ("/studies/1.2.9/metadata", "", 404, "No such study"),
        ("/studies/1.2.1/series/1.2.9", "", 404, "No such series"),
        ("/studies/1.2.9/series/1.2.1.1/instances/1.2.1.1.1", "", 404, "No such instance"),
        ("/studies/x", "", 400, "study"),
        (ONE + "/frames/2", "", 404, "frame 2"),
        (ONE + "/frames/0", "", 400, "frames"),
        (ONE + "/frames/1,x", "", 400, "frames"),
        (ONE + "/frames/1", 'multipart/related; type="image/jpeg"', 406, "Accept"),
        (ONE + "/rendered", "image/gif", 406, "image/png"),
        (ONE + "/rendered?window=1", "", 400, "window"),
        (ONE + "/rendered?rotate=90", "", 400, "rotate"),
        (ONE + "/frames/2/rendered", "", 404, "frame 2"),
        # two instances do not fit one part
        ("/studies/1.2.1", "application/dicom", 406, "multipart/related"),
        ("/studies/1.2.1", DICOM_PARTS + "; transfer-syntax=1.2.840.10008.1.2.4.50", 406, "transfer-syntax"),
        ("/nothing", "", 404, "nothing at this address"),
    ],
)
async def test_refusals(node: Served, path: str, accept: str, status: int, word: str) -> None:
    await node.add(part10(ct()), part10(ct(sop="1.2.1.1.2", number=2)))
    found, headers, body = await get(node, path, accept)
    assert (found, headers["Content-Type"]) == (status, "application/problem+json")
    assert word in body.decode()
    assert orjson.loads(body)["correlation"] == headers["X-Correlation-Id"]
    assert "Smith" not in body.decode()


@pytest.mark.parametrize(
    "path",
    [
        "/studies",
        "/studies/1.2.1/series",
        "/studies/1.2.1",
        "/studies/1.2.1/metadata",
        "/studies/1.2.1/series/1.2.1.1",
        ONE,
        f"{ONE}/metadata",
        f"{ONE}/frames/1",
        f"{ONE}/rendered",
        "/studies/1.2.1/thumbnail",
        f"{ONE}/frames/1/rendered",
    ],
)
async def test_what_is_the_same_is_not_sent_again(node: Served, path: str) -> None:
    await node.add(part10(ct()))
    status, headers, _ = await get(node, path)
    tag = headers["ETag"]
    assert (status, headers["Cache-Control"]) == (200, "private, no-cache")
    assert {"Authorization", "Accept"} <= {name.strip() for name in headers["Vary"].split(",")}
    for sent, expected in ((tag, 304), (tag.removeprefix("W/"), 304), ("*", 304), ('W/"x"', 200)):
        status, again, body = await get(node, path, **{"If-None-Match": sent})
        assert (status, again["ETag"], again["Cache-Control"]) == (expected, tag, "private, no-cache")
        assert bool(body) is (expected == 200)
    await node.add(part10(ct(sop="1.2.1.1.2", number=2)))
    status, headers, _ = await get(node, path, **{"If-None-Match": tag})
    assert (status == 304) is (ONE in path), "one more instance is no part of an instance"
    acts = await node.audit.search()
    assert sum(act.text.startswith("ok 0") for act in acts) >= 0 < len(acts), (
        "each is an act, also when nothing is sent"
    )


async def test_another_representation_has_another_tag(node: Served) -> None:
    await node.add(part10(ct()))
    tags = {
        (await get(node, ONE + tail, accept))[1]["ETag"]
        for tail, accept in (
            ("", ""),
            ("", "application/dicom"),
            ("/rendered", ""),
            ("/rendered?viewport=8,8", ""),
            ("/rendered", "image/png"),
            ("/frames/1", ""),
            ("/metadata", ""),
        )
    }
    assert len(tags) == 7


async def test_what_narrows_nothing_is_ignored_with_a_warning(node: Served) -> None:
    await node.add(part10(ct()))
    for tail, accept in (("/rendered", "image/jpeg"), ("", ""), ("/frames/1", ""), ("/metadata", "")):
        for query in ("iccprofile=no", "annotation=patient", "charset=utf-8", "_=17"):
            status, headers, _ = await get(node, f"{ONE}{tail}?{query}", accept)
            assert status == 200, (tail, query)
            assert query.partition("=")[0] in headers["Warning"]
    for query in (
        "emptyvaluematching=false",
        "_=17",
        "includefield=00091010",
        "includefield=PatientID,",
        "includefield=",
    ):
        status, headers, _ = await get(node, f"/studies?limit=1&{query}")
        assert status == 200, query
        assert ("Warning" in headers) is not query.startswith("includefield")
    for name in ("windwo", "Window", "VIEWPORT", "Quality"):
        status, _, body = await get(node, f"{ONE}/rendered?{name}=1,2,linear", "image/jpeg")
        assert status == 400, "it may be meant to change the picture"
        assert name.encode() in body
    for tail in ("", "/frames/1", "/metadata"):
        status, headers, _ = await get(node, f"{ONE}{tail}?colour=red")
        assert (status, "colour" in headers["Warning"]) == (
            200,
            True,
        ), "a retrieve names what it wants in its address"


async def test_head_and_options(node: Served) -> None:
    await node.add(part10(ct()))
    async with node.session.head(
        f"{node.url}/dicomweb{ONE}", headers={"Accept": "application/dicom"}
    ) as response:
        assert (response.status, response.headers["Content-Length"]) == (200, str(len(part10(ct()))))
    async with node.session.delete(f"{node.url}/dicomweb{ONE}") as response:
        assert response.status == 405
    async with node.session.options(
        f"{node.url}/dicomweb/studies", headers={"Origin": "https://viewer.example"}
    ) as response:
        assert "Access-Control-Allow-Origin" not in response.headers


async def test_cors_for_configured_origins_only(tmp_path: Path) -> None:
    config = ServeConfig(cors_origins=("https://viewer.example",))
    async with serving(tmp_path, config=config, open_mode=False) as node:
        asked = {"Origin": "https://viewer.example", "Access-Control-Request-Method": "GET"}
        async with node.session.options(f"{node.url}/dicomweb/studies", headers=asked) as response:
            assert response.status == 204
            assert response.headers["Access-Control-Allow-Origin"] == "https://viewer.example"
            assert "Authorization" in response.headers["Access-Control-Allow-Headers"]
        headers = node.access() | {"Origin": "https://viewer.example"}
        async with node.session.get(f"{node.url}/dicomweb/studies", headers=headers) as response:
            assert response.headers["Access-Control-Allow-Origin"] == "https://viewer.example"
            assert "Warning" in response.headers["Access-Control-Expose-Headers"]
        async with node.session.get(
            f"{node.url}/dicomweb/studies", headers=headers | {"Origin": "https://evil.example"}
        ) as response:
            assert "Access-Control-Allow-Origin" not in response.headers
        async with node.session.options(
            f"{node.url}/dicomweb/studies", headers=asked | {"Origin": "https://evil.example"}
        ) as response:
            assert "Access-Control-Allow-Origin" not in response.headers


# --- an outside client --------------------------------------------------------------------------------------


async def test_dicomweb_client_finds_retrieves_and_shows(node: Served) -> None:
    files = {path.name: path for path in node_serving.sample_files()}
    jpeg = pydicom.dcmread(files["SC_rgb_jpeg_dcmtk.dcm"])
    await node.add(
        part10(ct()), part10(ct(sop="1.2.1.1.2", number=2)), files["SC_rgb_jpeg_dcmtk.dcm"].read_bytes()
    )
    client = DICOMwebClient(url=f"{node.url}/dicomweb")
    run: Any = asyncio.to_thread
    found = await run(client.search_for_studies, search_filters={"PatientID": "L-1"})
    assert [row["0020000D"]["Value"] for row in found] == [["1.2.1"]]
    assert await run(client.search_for_studies, search_filters={"PatientID": "nobody"}) == []
    assert len(await run(client.search_for_series, "1.2.1")) == 1
    assert len(await run(client.search_for_instances, "1.2.1", "1.2.1.1")) == 2
    metadata = await run(client.retrieve_study_metadata, "1.2.1")
    assert pydicom.Dataset.from_json(metadata[0]).PatientName == "Smith^Ada"
    study = await run(client.retrieve_study, "1.2.1")
    assert sorted(ds.InstanceNumber for ds in study) == [1, 2]
    assert len(await run(client.retrieve_series, "1.2.1", "1.2.1.1")) == 2
    one = await run(client.retrieve_instance, "1.2.1", "1.2.1.1", "1.2.1.1.1")
    assert one.PixelData == ct().PixelData
    frames = await run(client.retrieve_instance_frames, "1.2.1", "1.2.1.1", "1.2.1.1.1", [1])
    assert frames == [ct().PixelData]
    uids = (jpeg.StudyInstanceUID, jpeg.SeriesInstanceUID, jpeg.SOPInstanceUID)
    compressed = await run(client.retrieve_instance_frames, *uids, [1], media_types=("image/jpeg",))
    assert compressed == list(pydicom.encaps.generate_frames(jpeg.PixelData, number_of_frames=1))
    picture = await run(
        client.retrieve_instance_rendered, "1.2.1", "1.2.1.1", "1.2.1.1.1", media_types=("image/png",)
    )
    assert picture.startswith(b"\x89PNG")
    await run(client.store_instances, [pydicom.dcmread(BytesIO(part10(ct(study="1.2.7", sop="1.2.7.1"))))])
    assert len(await node.archive.objects("1.2.7")) == 1
    # never read from a file: the client sends it without preamble and prefix
    made = ct(study="1.2.8", sop="1.2.8.1")
    made.preamble = None
    await run(client.store_instances, [made])
    assert await run(client.retrieve_instance, "1.2.8", "1.2.1.1", "1.2.8.1") == made
