"""Parts of what a node gives out: whoever lost a connection goes on where it broke, and can prove it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncIterator
from pathlib import Path

import orjson
import pydicom
import pytest
from dicomweb_answers import DICOM_PARTS, ONE, get, parts
from node_serving import Served, ct, part10, sample_files, serving

STUDY = "/studies/1.2.1"
ROADS = pytest.mark.parametrize("road", ["kernel", "chunks"])  # of a plain connection, and of one with TLS


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        await served.add(*(part10(ct(sop=f"1.2.1.1.{i}", number=i)) for i in range(1, 4)))
        yield served


@ROADS
@pytest.mark.parametrize(("path", "accept"), [(ONE, "application/dicom"), (STUDY, DICOM_PARTS)])
async def test_any_range_is_that_part_of_the_whole(
    node: Served, path: str, accept: str, road: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if road == "chunks":
        monkeypatch.setattr("node.serve.stream.plain_socket", lambda transport: None)
    status, headers, whole = await get(node, path, accept)
    assert (status, headers["Accept-Ranges"]) == (200, "bytes")
    assert headers["ETag"].startswith('"'), "If-Range needs a strong tag (RFC 9110 13.1.5)"
    size = len(whole)
    places = [0, 127, 128, 400, size // 2, size - 1]
    for first in places:
        for last in [at for at in places if at >= first]:
            sent = {"Range": f"bytes={first}-{last}", "If-Range": headers["ETag"]}
            status, part, body = await get(node, path, accept, **sent)
            assert (status, part["Content-Range"]) == (206, f"bytes {first}-{last}/{size}")
            assert body == whole[first : last + 1]
            assert (part["Content-Type"], part["ETag"]) == (headers["Content-Type"], headers["ETag"])
    for asked, expected in (("100-", whole[100:]), ("-100", whole[-100:]), (f"0-{size * 9}", whole)):
        status, _, body = await get(node, path, accept, Range=f"bytes={asked}")
        assert (status, body) == (206, expected)


@pytest.mark.parametrize(
    "sent",
    [
        {"Range": "bytes=0-9,20-29"},
        {"Range": "bytes=9-0"},
        {"Range": "lines=0-9"},
        {"Range": "bytes=0-9", "If-Range": '"another"'},
        {"Range": "bytes=0-9", "If-Range": "Tue, 01 Dec 2026 08:00:00 GMT"},
    ],
)
async def test_what_is_no_range_of_this_gives_the_whole(node: Served, sent: dict[str, str]) -> None:
    status, headers, whole = await get(node, STUDY, DICOM_PARTS, **sent)
    assert (status, len(parts(headers, whole))) == (200, 3)


async def test_a_range_after_the_end_is_refused_with_the_size(node: Served) -> None:
    size = len((await get(node, ONE, "application/dicom"))[2])
    status, headers, body = await get(node, ONE, "application/dicom", Range=f"bytes={size}-")
    assert (status, headers["Content-Range"]) == (416, f"bytes */{size}")
    assert f"There are {size} bytes." in orjson.loads(body)["detail"]


async def test_a_part_taken_before_the_study_changed_is_not_gone_on_with(node: Served) -> None:
    _, headers, _ = await get(node, STUDY, DICOM_PARTS)
    await node.add(part10(ct(sop="1.2.1.1.9", number=9)))
    sent = {"Range": "bytes=10-", "If-Range": headers["ETag"]}
    status, now, whole = await get(node, STUDY, DICOM_PARTS, **sent)
    assert (status, len(parts(now, whole))) == (200, 4)
    assert now["ETag"] != headers["ETag"]


async def test_the_digest_of_the_whole_comes_with_a_part_when_it_is_wanted(node: Served) -> None:
    whole = (await get(node, ONE, "application/dicom"))[2]
    sent = {"Range": "bytes=5-9", "Want-Repr-Digest": "sha-512=3, sha-256=10"}
    _, headers, _ = await get(node, ONE, "application/dicom", **sent)
    digest = base64.b64encode(hashlib.sha256(whole).digest()).decode()
    assert headers["Repr-Digest"] == f"sha-256=:{digest}:"
    for unwanted in ("", "sha-256=0", "md5=1"):
        _, headers, _ = await get(node, ONE, "application/dicom", **{"Want-Repr-Digest": unwanted})
        assert "Repr-Digest" not in headers


async def test_what_is_made_anew_for_each_who_asks_has_no_ranges(node: Served) -> None:
    """Re-encoding need not give the same bytes again, so nobody may put two halves of it together."""
    compressed = next(path for path in sample_files() if path.name == "JPEG2000.dcm")
    await node.add(compressed.read_bytes())
    study = pydicom.dcmread(compressed, specific_tags=["StudyInstanceUID"]).StudyInstanceUID
    accept = f"{DICOM_PARTS}; transfer-syntax=1.2.840.10008.1.2.1"
    status, headers, _ = await get(node, f"/studies/{study}", accept, Range="bytes=0-9")
    assert status == 200
    assert headers["ETag"].startswith('W/"')
    assert "Accept-Ranges" not in headers
