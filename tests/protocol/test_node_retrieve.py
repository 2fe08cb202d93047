"""A node's WADO-RS over loopback, on a real archive: data sets, metadata, frames and pictures."""

from __future__ import annotations

import gzip
import warnings
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path

import node_serving
import orjson
import pydicom
import pytest
from archive_fixture import file_of
from dicomweb_answers import DICOM_PARTS, ELE, ONE, get, parts, rows
from node_serving import Served, ct, dataset_bytes, part10, related, serving
from PIL import Image

from node.holdings import Received
from node.serve.config import ServeConfig

#: Of pydicom's files: truncated, of unknown VR, or with another UID in group 0002 than in the data set. The
#: gate refuses them.
NOT_CONTENT = {
    "MR_truncated.dcm", "SC_rgb_jpeg.dcm", "badVR.dcm", "rtdose.dcm", "rtdose_1frame.dcm", "rtdose_expb.dcm",
    "rtdose_expb_1frame.dcm", "rtplan.dcm", "rtplan_truncated.dcm",
}  # fmt: skip


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


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
