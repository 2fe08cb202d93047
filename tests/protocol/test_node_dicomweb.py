"""A node's QIDO-RS and WADO-RS over loopback, on a real archive; dicomweb-client as an outsider."""

from __future__ import annotations

import asyncio
import gzip
import os
import tracemalloc
import warnings
from collections.abc import AsyncIterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import node_serving
import numpy as np
import orjson
import pydicom
import pytest
from archive_fixture import file_of
from dicomweb_client.api import DICOMwebClient
from node_serving import Served, ct, dataset_bytes, part10, related, serving
from PIL import Image
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from crosslight.runtime.clock import SystemIds
from crosslight.standards.dicom.web.multipart import PartBegin, PartData, RelatedReader, boundary_of
from node.holdings import Local, Received
from node.serve.config import ServeConfig
from node.serve.opened_objects import read_span
from node.serve.sendfile import _Pump

ELE, ILE = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2"
DICOM_PARTS = 'multipart/related; type="application/dicom"'
#: Of pydicom's files: truncated, of unknown VR, or with another UID in group 0002 than in the data set. The
#: gate refuses them.
NOT_CONTENT = {
    "MR_truncated.dcm", "SC_rgb_jpeg.dcm", "badVR.dcm", "rtdose.dcm", "rtdose_1frame.dcm", "rtdose_expb.dcm",
    "rtdose_expb_1frame.dcm", "rtplan.dcm", "rtplan_truncated.dcm",
}  # fmt: skip
ONE = "/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


async def get(
    node: Served, path: str, accept: str = "", **headers: str
) -> tuple[int, Mapping[str, str], bytes]:
    sent = {"Accept-Encoding": "identity", **({"Accept": accept} if accept else {}), **headers}
    async with node.session.get(f"{node.url}/dicomweb{path}", headers=sent) as response:
        body = await response.read()
        length = response.headers.get("Content-Length")
        assert length is None or int(length) == len(body)
        return response.status, response.headers, body


async def rows(node: Served, path: str) -> list[dict[str, Any]]:
    status, headers, body = await get(node, path, "application/dicom+json")
    assert (status, headers["Content-Type"]) == (200, "application/dicom+json"), body
    found: list[dict[str, Any]] = orjson.loads(body)
    return found


def parts(headers: Mapping[str, str], body: bytes) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    reader = RelatedReader(boundary_of(headers["Content-Type"]))
    for event in reader.feed(body):
        if isinstance(event, PartBegin):
            found.append((event.headers["content-type"], b""))
        elif isinstance(event, PartData):
            found[-1] = (found[-1][0], found[-1][1] + event.data)
    reader.close()
    return found


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


# --- retrieve -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [pytest.param(p, id=p.name) for p in node_serving.sample_files()])
async def test_the_data_set_comes_back_byte_for_byte(node: Served, path: Path) -> None:
    """Every transfer syntax of pydicom's files; the preamble is zeroed, group 0002 and the data set are as
    received (D23).
    """
    data = path.read_bytes()
    staged = node.archive.stage()
    staged.write(data)
    result = await node.archive.ingest_async(staged, Received(road="import", peer="test"))
    if result.state == "refused" or not await node.archive.objects(
        pydicom.dcmread(path, stop_before_pixels=True).StudyInstanceUID
    ):
        assert path.name in NOT_CONTENT, result  # and the others are let in
        return
    assert result.ref is not None
    ref = result.ref
    url = f"/studies/{ref.study_uid}/series/{ref.series_uid}/instances/{ref.sop_uid}"
    status, headers, single = await get(node, url, "application/dicom; transfer-syntax=*")
    assert (status, headers["Content-Type"]) == (
        200,
        f"application/dicom; transfer-syntax={ref.transfer_syntax_uid}",
    )
    assert single[:128] in (b"\0" * 128, data[:128])
    assert single[128:] == data[128:]
    for where in (url, url.rpartition("/instances")[0], f"/studies/{ref.study_uid}"):
        status, headers, body = await get(node, where, DICOM_PARTS)
        ((content_type, part),) = parts(headers, body)
        assert (status, content_type) == (
            200,
            f"application/dicom; transfer-syntax={ref.transfer_syntax_uid}",
        )
        assert dataset_bytes(part) == dataset_bytes(data)


async def test_a_preamble_is_zeroed_unless_it_is_tiff(node: Served) -> None:
    harmful, tiff = ct(), ct(sop="1.2.1.1.2")
    harmful.preamble, tiff.preamble = b"MZ" + b"\1" * 126, b"II*\0" + b"\1" * 124
    await node.add(part10(harmful), part10(tiff))
    assert (await get(node, ONE, "application/dicom"))[2][:132] == b"\0" * 128 + b"DICM"
    assert (await get(node, ONE[:-1] + "2", "application/dicom"))[2] == part10(tiff)


async def test_explicit_little_endian_when_it_is_asked_for(node: Served) -> None:
    files = {path.name: path for path in node_serving.sample_files()}
    await node.add(files["MR_small_implicit.dcm"].read_bytes(), files["SC_rgb_jpeg_gdcm.dcm"].read_bytes())
    before = pydicom.dcmread(files["MR_small_implicit.dcm"])
    series = f"/studies/{before.StudyInstanceUID}/series/{before.SeriesInstanceUID}"
    url = f"{series}/instances/{before.SOPInstanceUID}"
    status, headers, body = await get(node, url, f"application/dicom; transfer-syntax={ELE}")
    assert (status, headers["Content-Type"]) == (200, f"application/dicom; transfer-syntax={ELE}")
    after = pydicom.dcmread(BytesIO(body))
    assert after.file_meta.TransferSyntaxUID == ELE
    assert after.PixelData == before.PixelData
    video = pydicom.dcmread(files["SC_rgb_jpeg_gdcm.dcm"])
    video.SOPInstanceUID = video.file_meta.MediaStorageSOPInstanceUID = "1.2.9.9"
    video.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.102"  # MPEG-4: nothing here decodes it
    await node.add(part10(video))
    url = f"/studies/{video.StudyInstanceUID}/series/{video.SeriesInstanceUID}/instances/1.2.9.9"
    status, _, body = await get(node, url, f"{DICOM_PARTS}; transfer-syntax={ELE}")
    assert status == 406
    assert b"1.2.840.10008.1.2.4.102" in body
    assert list(node.serve.spool.iterdir()) == []


async def test_what_cannot_be_given_is_left_out_and_said(node: Served) -> None:
    """206 with a warning, when only some instances can be given in the syntax asked for."""
    await node.add(part10(ct()))
    odd = ct(sop="1.2.1.1.2")
    odd.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.57"
    odd.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8\xff\xd9"])
    odd["PixelData"].is_undefined_length = True
    await node.add(part10(odd))
    status, headers, body = await get(node, "/studies/1.2.1", f"{DICOM_PARTS}; transfer-syntax={ELE}")
    assert (status, len(parts(headers, body))) == (206, 1)
    assert "1 instances" in headers["Warning"]
    assert len(parts(*(await get(node, "/studies/1.2.1", DICOM_PARTS + "; transfer-syntax=*"))[1:])) == 2


async def test_metadata_is_what_pydicom_says(node: Served) -> None:
    await node.add(part10(ct()), part10(ct(sop="1.2.1.1.2", number=2)))
    for path, count in (("/studies/1.2.1", 2), ("/studies/1.2.1/series/1.2.1.1", 2), (ONE, 1)):
        found = await rows(node, path + "/metadata")
        assert len(found) == count
        expected = ct().to_json_dict()
        del expected["7FE00010"]
        assert {tag: body for tag, body in found[0].items() if tag in expected} == expected
    async with node.session.get(
        f"{node.url}/dicomweb/studies/1.2.1/metadata", headers={"Accept-Encoding": "gzip"}
    ) as response:
        assert len(await response.read()) < 4096  # too small to be worth it
        assert "Content-Encoding" not in response.headers
    await node.add(*(part10(ct(sop=f"1.2.1.1.{i}")) for i in range(3, 12)))
    async with node.session.get(
        f"{node.url}/dicomweb/studies/1.2.1/metadata", headers={"Accept-Encoding": "gzip"}
    ) as response:
        assert response.headers["Content-Encoding"] == "gzip"
        assert len(orjson.loads(gzip.decompress(await response.read()))) == 11


async def test_deleted_and_rejected_are_gone(node: Served) -> None:
    await node.add(part10(ct()))
    await node.archive.delete("1.2.1", "test")
    for path in (
        "/studies/1.2.1",
        "/studies/1.2.1/metadata",
        ONE,
        ONE + "/frames/1",
        ONE + "/rendered",
        "/studies/1.2.1/thumbnail",
    ):
        assert (await get(node, path))[0] == 410, path
    assert await rows(node, "/studies") == []
    await node.archive.restore("1.2.1")
    assert (await get(node, ONE))[0] == 200


@pytest.mark.parametrize("title", ["113001", "113037", "113038", "113039"])
async def test_what_a_rejection_note_names_is_gone(node: Served, title: str) -> None:
    await node.add(part10(ct()), part10(ct(sop="1.2.1.1.2")))
    concept, sop, series, study = (pydicom.Dataset() for _ in range(4))
    concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = title, "DCM", "Rejected"
    sop.ReferencedSOPClassUID, sop.ReferencedSOPInstanceUID = ct().SOPClassUID, "1.2.1.1.1"
    series.SeriesInstanceUID, series.ReferencedSOPSequence = "1.2.1.1", [sop]
    study.StudyInstanceUID, study.ReferencedSeriesSequence = "1.2.1", [series]
    note = ct(
        series="1.2.1.9",
        sop="1.2.1.9.1",
        Modality="KO",
        SOPClassUID="1.2.840.10008.5.1.4.1.1.88.59",
        ConceptNameCodeSequence=[concept],
        CurrentRequestedProcedureEvidenceSequence=[study],
    )
    note.file_meta.MediaStorageSOPClassUID = note.SOPClassUID
    del note.PixelData, note.Rows, note.Columns
    body, content_type = related([("application/dicom", part10(note))])
    async with node.session.post(
        f"{node.url}/dicomweb/studies", data=body, headers={"Content-Type": content_type}
    ) as response:
        assert response.status == 200
    for path in (
        ONE,
        ONE + "/metadata",
        ONE + "/frames/1",
        ONE + "/rendered",
        "/studies/1.2.1/series/1.2.1.9",
    ):
        assert (await get(node, path))[0] in ((404, 410) if "1.2.1.9" in path else (410,)), path
    assert len(await rows(node, "/studies/1.2.1/instances")) == 1


async def test_a_file_that_is_gone_is_said_or_cuts_the_connection(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    await node.add(part10(ct()), part10(ct(sop="1.2.1.1.2", side=64)))
    (await file_of(node.archive, (await node.archive.objects("1.2.1"))[1])).unlink()
    status, _, body = await get(node, "/studies/1.2.1")
    assert (status, b"cannot be read" in body) == (
        503,
        True,
    ), "of a small study every file is looked at before the first byte"
    assert (await node.acts(study="1.2.1"))[0].text == "failed: StorageError"
    monkeypatch.setattr("node.serve.stream.NEAR_BYTES", 0)
    with pytest.raises(Exception, match=r"(?i)payload|closed|disconnected|reset"):
        await get(node, "/studies/1.2.1")
    assert (await node.audit.search(study="1.2.1"))[0].outcome.kind == "cut"


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


# --- frames and pictures ------------------------------------------------------------------------------------


async def test_frames_of_every_sample(node: Served) -> None:
    """Native frames equal the pixel data's slices, encapsulated ones the fragments; decoded ones what pydicom
    decodes.
    """
    checked = 0
    for path in node_serving.sample_files():
        if path.name == "badVR.dcm":  # its number of frames is none
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ds = pydicom.dcmread(path)
        staged = node.archive.stage()
        staged.write(path.read_bytes())
        result = await node.archive.ingest_async(staged, Received(road="import", peer="test"))
        if result.state != "stored" or result.ref is None or "PixelData" not in ds or not ds.get("Rows"):
            continue
        ref = result.ref
        url = f"/studies/{ref.study_uid}/series/{ref.series_uid}/instances/{ref.sop_uid}/frames/{ref.frames}"
        stored = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
        status, headers, body = await get(node, url, stored)
        assert status == 200, path.name
        ((content_type, frame),) = parts(headers, body)
        if ds.file_meta.TransferSyntaxUID.is_encapsulated:
            expected = list(pydicom.encaps.generate_frames(ds.PixelData, number_of_frames=ref.frames))[-1]
            assert (content_type, frame) == (
                f"application/octet-stream; transfer-syntax={ref.transfer_syntax_uid}",
                expected,
            )
        else:
            assert content_type == f"application/octet-stream; transfer-syntax={ELE}"
        status, headers, body = await get(node, url, f"application/octet-stream; transfer-syntax={ELE}")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pixels = pydicom.pixels.pixel_array(
                    ds, index=ref.frames - 1, raw=not ds.file_meta.TransferSyntaxUID.is_encapsulated
                )
        except Exception:
            assert status == 406, path.name
            continue
        assert status == 200, path.name
        if (
            ds.BitsAllocated >= 8
            and ds.PhotometricInterpretation != "YBR_FULL_422"
            and int(ds.get("PlanarConfiguration") or 0) == 0
        ):
            assert body == pixels.astype(pixels.dtype.newbyteorder("<")).tobytes(), path.name
        checked += 1
    assert checked > 25


async def test_several_frames_in_the_order_asked_for(node: Served) -> None:
    frames = [bytes([i]) * 512 for i in range(5)]
    await node.add(part10(ct(NumberOfFrames=5, PixelData=b"".join(frames))))
    status, headers, body = await get(node, ONE + "/frames/4,1,4")
    assert (status, [data for _, data in parts(headers, body)]) == (200, [frames[3], frames[0], frames[3]])
    status, headers, body = await get(node, ONE + "/frames/2", "application/octet-stream")
    assert (status, body) == (200, frames[1])


async def test_pictures(node: Served) -> None:
    await node.add(*(part10(ct(sop=f"1.2.1.1.{i}", number=i, side=32)) for i in (1, 2, 3)))
    await node.add(
        part10(
            ct(
                series="1.2.1.0",
                sop="1.2.1.0.1",
                Modality="SR",
                SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11",
                Rows=None,
                Columns=None,
            )
        )
    )
    for path, accept, kind, size in (
        (ONE + "/rendered", "", "JPEG", (32, 32)),
        (ONE + "/rendered", "*/*", "JPEG", (32, 32)),
        (ONE + "/rendered", "image/png", "PNG", (32, 32)),
        (
            ONE + "/rendered?viewport=64,64&window=100,200,linear&quality=50&accept=image/png",
            "image/jpeg",
            "PNG",
            (64, 64),
        ),
        (ONE + "/frames/1/rendered", "image/*", "JPEG", (32, 32)),
        (ONE + "/thumbnail", "", "JPEG", (160, 160)),
        (ONE + "/frames/1/thumbnail", "", "JPEG", (160, 160)),
        ("/studies/1.2.1/series/1.2.1.1/thumbnail?viewport=20,20", "image/png", "PNG", (20, 20)),
        ("/studies/1.2.1/thumbnail", "text/html, image/*, */*;q=0.8", "JPEG", (160, 160)),
    ):
        status, headers, body = await get(node, path, accept)
        assert status == 200, (path, body)
        image = Image.open(BytesIO(body))
        assert (image.format, image.size, headers["Content-Type"]) == (
            kind,
            size,
            f"image/{kind.lower()}",
        ), path
        assert "private" in headers["Cache-Control"]
    assert node.serve.pictures.size_bytes > 0
    assert (await get(node, "/studies/1.2.1/series/1.2.1.0/thumbnail"))[0] == 406


async def test_pictures_come_from_a_bounded_cache(tmp_path: Path) -> None:
    async with serving(tmp_path, config=ServeConfig(render_cache_bytes=20_000)) as node:
        await node.add(part10(ct(side=32)))
        for i in range(40):
            assert (await get(node, f"{ONE}/rendered?viewport={40 + i},{40 + i}"))[0] == 200
        assert 0 < node.serve.pictures.size_bytes <= 20_000


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


# --- size ---------------------------------------------------------------------------------------------------


ROADS = pytest.mark.parametrize("road", ["kernel", "chunks"])  # of a plain connection, and of one with TLS


def take(road: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if road == "chunks":
        monkeypatch.setattr("node.serve.stream.plain_socket", lambda transport: None)


@ROADS
async def test_a_large_study_streams_in_constant_memory(
    node: Served, road: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """200 MB in instances of 8 MB: what Python holds stays within a few megabytes, and the length is
    exact."""
    take(road, monkeypatch)
    pixels = np.random.default_rng(1).integers(0, 4096, (2048, 2048), "<u2").tobytes()
    count = 25
    for i in range(count):
        await node.add(
            part10(ct(sop=f"1.2.1.1.{i + 1}", Rows=2048, Columns=2048, PixelData=pixels, number=i))
        )
    total = 0
    tracemalloc.start()
    async with node.session.get(
        f"{node.url}/dicomweb/studies/1.2.1", headers={"Accept": DICOM_PARTS}
    ) as response:
        assert response.status == 200
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        async for chunk in response.content.iter_any():
            total += len(chunk)
        assert total == response.content_length
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert total > 200_000_000
    assert peak < 16 << 20, f"{peak >> 20} MiB"


@ROADS
async def test_a_slow_reader_is_waited_for(node: Served, road: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-pressure: nothing is read from disk for a client that does not read, and no thread waits for
    it."""
    take(road, monkeypatch)
    pixels = b"\1\0" * (2048 * 2048)
    await node.add(
        *(part10(ct(sop=f"1.2.1.1.{i}", Rows=2048, Columns=2048, PixelData=pixels)) for i in range(4))
    )
    reads: list[int] = []
    sendfile = os.sendfile

    def counting_read(span: Local) -> bytes:
        reads.append(span.length)
        return read_span(span)

    def counting_send(*args: int) -> int:
        reads.append(sendfile(*args))
        return reads[-1]

    monkeypatch.setattr("node.serve.stream.read_span", counting_read)
    monkeypatch.setattr(os, "sendfile", counting_send)
    async with node.session.get(f"{node.url}/dicomweb/studies/1.2.1") as response:
        seen = -1
        while seen != len(reads):  # until nothing moves any more
            seen = len(reads)
            await asyncio.sleep(0.3)
        assert sum(reads) < 16 << 20
        assert node.serve.workers._threads._work_queue.qsize() == 0
        assert await asyncio.wait_for(node.serve.workers.run(lambda: 1), 5) == 1
        assert len(await response.read()) == response.content_length
    assert sum(reads) > 32 << 20


@ROADS
async def test_a_client_that_goes_away_is_a_cut_off(
    node: Served, road: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    take(road, monkeypatch)
    pixels = b"\1\0" * (2048 * 2048)
    await node.add(
        *(part10(ct(sop=f"1.2.1.1.{i}", Rows=2048, Columns=2048, PixelData=pixels)) for i in range(6))
    )
    closed, loop = asyncio.Event(), asyncio.get_running_loop()
    close = _Pump.close

    def closing(pump: _Pump) -> None:
        close(pump)
        if pump._sock.fileno() == -1:  # else a thread is still at it, and closes it itself
            loop.call_soon_threadsafe(closed.set)

    monkeypatch.setattr(_Pump, "close", closing)
    async with node.session.get(f"{node.url}/dicomweb/studies/1.2.1") as response:
        assert len(await response.content.readexactly(1000)) == 1000
        response.close()
    if road == "kernel":
        await asyncio.wait_for(closed.wait(), 10)
    await asyncio.sleep(0.3)
    assert (await node.audit.search(study="1.2.1"))[0].outcome.kind == "cut"


@ROADS
async def test_both_roads_send_the_same(node: Served, road: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Little and near, and as what has to be read in a thread."""
    await node.add(*(part10(ct(sop=f"1.2.1.1.{i}", side=16 * i, number=i)) for i in range(1, 5)))
    monkeypatch.setattr(node.serve, "ids", _OneId())
    plain = (await get(node, "/studies/1.2.1", DICOM_PARTS))[2]
    take(road, monkeypatch)
    assert (await get(node, "/studies/1.2.1", DICOM_PARTS))[2] == plain
    monkeypatch.setattr("node.serve.stream.NEAR_BYTES", 0)
    assert (await get(node, "/studies/1.2.1", DICOM_PARTS))[2] == plain


class _OneId(SystemIds):
    """The same boundary each time."""

    def token_bytes(self, n: int) -> bytes:
        return bytes(n)


async def test_requests_sent_ahead_are_answered_in_their_order(node: Served) -> None:
    await node.add(*(part10(ct(sop=f"1.2.1.1.{i}", side=512, number=i)) for i in range(1, 4)))
    host, port = node.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    path = "/dicomweb/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.{}/frames/1"
    for number in (1, 2, 3, 1):
        writer.write(
            f"GET {path.format(number)} HTTP/1.1\r\nHost: x\r\n"
            "Accept: application/octet-stream\r\n\r\n".encode()
        )
    for _ in range(4):
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(2 * 512 * 512) == (np.arange(512 * 512, dtype="<u2") % 4096).tobytes()
    writer.close()
