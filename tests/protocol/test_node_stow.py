"""STOW-RS at a node: each instance its own fate, and nothing that breaks a request breaks the node."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import dicom_objects as make
import node_serving
import orjson
import pydicom
import pytest
from aiohttp import ClientError
from node_serving import Served, ct, part10, related, serving
from PIL import Image
from pydicom.encaps import encapsulate
from pydicom.uid import ImplicitVRLittleEndian, JPEGBaseline8Bit

from crosslight.standards.dicom.web.multipart import PartBegin, PartData, RelatedReader, boundary_of
from crosslight.standards.problem import StorageError
from node.archive.config import ArchiveConfig
from node.serve.config import ServeConfig
from node.serve.frames import layout_of

DICOM = "application/dicom"


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


async def post(
    node: Served, body: Any, content_type: str, path: str = "/studies", **headers: str
) -> tuple[int, dict[str, Any]]:
    sent = {"Content-Type": content_type, **headers}
    async with node.session.post(f"{node.url}/dicomweb{path}", data=body, headers=sent) as response:
        return response.status, orjson.loads(await response.read())


def parts(headers: Mapping[str, str], body: bytes) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    reader = RelatedReader(boundary_of(headers["Content-Type"]))
    for event in reader.feed(body):
        if isinstance(event, PartBegin):
            found.append((event.headers["content-type"], b""))
        elif isinstance(event, PartData):
            found[-1] = (found[-1][0], found[-1][1] + event.data)
    return found


async def stow(node: Served, *files: bytes, path: str = "/studies") -> tuple[int, dict[str, Any]]:
    return await post(node, *related((DICOM, data) for data in files), path=path)


def stored(answer: dict[str, Any]) -> list[str]:
    return [item["00081155"]["Value"][0] for item in answer.get("00081199", {}).get("Value", [])]


def failed(answer: dict[str, Any]) -> dict[str, int]:
    return {
        item["00081155"]["Value"][0]: item["00081197"]["Value"][0]
        for item in answer.get("00081198", {}).get("Value", [])
    }


def others(answer: dict[str, Any]) -> list[int]:
    return [item["00081197"]["Value"][0] for item in answer.get("0008119A", {}).get("Value", [])]


async def test_all_stored(node: Served) -> None:
    files = [part10(ct(sop=f"1.2.1.1.{i}", number=i)) for i in range(1, 13)]
    status, answer = await stow(node, *files)
    assert (status, stored(answer)) == (200, [f"1.2.1.1.{i}" for i in range(1, 13)])
    assert answer["00081190"]["Value"] == [f"{node.url}/dicomweb/studies/1.2.1"]
    item = answer["00081199"]["Value"][0]
    assert item["00081150"]["Value"] == ["1.2.840.10008.5.1.4.1.1.2"]
    async with node.session.get(item["00081190"]["Value"][0], headers={"Accept": DICOM}) as response:
        assert await response.read() == files[0]
    assert (
        pydicom.Dataset.from_json(answer).ReferencedSOPSequence[11].ReferencedSOPInstanceUID == "1.2.1.1.12"
    )
    # again: no harm
    assert await stow(node, files[0]) == (200, {**answer, "00081199": {"vr": "SQ", "Value": [item]}})
    acts = await node.acts(limit=10)
    assert [(act.action, act.text) for act in acts if act.action == "store"][-1] == (
        "store",
        "ok 12 stored, 12 in all",
    )


async def test_some_stored(node: Served) -> None:
    cut = part10(ct(sop="1.2.1.1.2"))[:-100]
    status, answer = await stow(node, part10(ct()), cut, b"no dicom at all" * 20, part10(ct(sop="1.2.1.1.3")))
    assert (status, stored(answer)) == (202, ["1.2.1.1.1", "1.2.1.1.3"])
    assert failed(answer) == {"1.2.1.1.2": 0xC000}
    assert others(answer) == [0xC000]
    assert len(await node.archive.objects("1.2.1")) == 2


async def test_none_stored(node: Served) -> None:
    status, answer = await stow(node, b"x" * 300, b"")
    assert (status, stored(answer), len(others(answer))) == (409, [], 2)


async def test_a_conflicting_instance(node: Served) -> None:
    await node.add(part10(ct()))
    status, answer = await stow(node, part10(ct(StudyDescription="another")))
    assert (status, stored(answer), list(failed(answer))) == (409, [], ["1.2.1.1.1"])


async def test_the_study_of_the_url_binds(node: Served) -> None:
    status, answer = await stow(
        node, part10(ct()), part10(ct(study="1.2.2", sop="1.2.2.1")), path="/studies/1.2.1"
    )
    assert (status, stored(answer), failed(answer)) == (202, ["1.2.1.1.1"], {"1.2.2.1": 0xA900})
    assert await node.archive.objects("1.2.2") == []
    assert (await node.archive.status()).quarantined == 0, "it is no bad object, but another study's"
    assert (await stow(node, b"x" * 200, path="/studies/1.2.1"))[0] == 409


async def test_the_disk_is_full(tmp_path: Path) -> None:
    async with serving(tmp_path, archive_config=ArchiveConfig(min_free_bytes=1 << 60)) as node:
        status, answer = await stow(node, part10(ct()))
        assert (status, stored(answer)) == (507, [])
        assert [*failed(answer).values(), *others(answer)] == [0xA700]


async def test_single_part(node: Served) -> None:
    assert stored((await post(node, part10(ct()), DICOM))[1]) == ["1.2.1.1.1"]


async def test_a_part_that_begins_with_its_file_meta_is_stored(node: Served) -> None:
    whole = part10(ct())
    assert stored((await stow(node, whole[132:]))[1]) == ["1.2.1.1.1"]
    async with node.session.get(
        f"{node.url}/dicomweb/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1", headers={"Accept": DICOM}
    ) as got:
        assert await got.read() == whole
    assert failed((await stow(node, part10(ct(sop="1.2.1.1.2"))[132:-9]))[1]) == {"1.2.1.1.2": 0xC000}


async def test_an_empty_line_before_the_delimiter_and_folded_heads(node: Served) -> None:
    """The object is given out without what followed it, in every form."""
    file = part10(ct())
    for tail in (b"\r\n", b"\0", bytes(512), b"\xfe\xff\xdd\xe0\0\0\0\0"):
        body = (
            b"--b\r\nContent-Type: application/dicom;\r\n\ttransfer-syntax=1.2.840.10008.1.2.1\r\n\r\n"
            + file
            + tail
            + b"\r\n--b--\r\n"
        )
        status, answer = await post(node, body, 'multipart/related; type="application/dicom"; boundary=b')
        assert (status, stored(answer)) == (200, ["1.2.1.1.1"])
    instance = f"{node.url}/dicomweb/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1"
    async with node.session.get(instance, headers={"Accept": DICOM}) as response:
        assert await response.read() == file
    for path, accept in (
        ("/frames/1", "*/*"),
        ("/rendered", "image/png"),
        ("/metadata", "application/dicom+json"),
    ):
        async with node.session.get(instance + path, headers={"Accept": accept}) as response:
            assert response.status == 200, path


async def test_a_padded_object_is_re_encoded_without_its_padding(node: Served) -> None:
    ds = ct()
    ds.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
    buffer = BytesIO()
    pydicom.dcmwrite(buffer, ds, implicit_vr=True, little_endian=True, enforce_file_format=True)
    assert (await stow(node, buffer.getvalue() + bytes(33)))[0] == 200
    url = f"{node.url}/dicomweb/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1"
    async with node.session.get(
        url, headers={"Accept": f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.1"}
    ) as response:
        made = pydicom.dcmread(BytesIO(await response.read()))
    assert made.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.1"
    assert made.PixelData == ds.PixelData


@pytest.mark.parametrize("kind", ["double", "new VR", "closed twice", "open JPEG", "JPEG with an empty end"])
async def test_what_is_tolerated_is_given_in_every_form(node: Served, kind: str) -> None:
    ds = ct(side=16)
    jpeg = BytesIO()
    Image.new("L", (16, 16), 100).save(jpeg, "JPEG")
    if "JPEG" in kind:
        ds.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        ds.BitsAllocated = ds.BitsStored = 8
        ds.HighBit, ds.NumberOfFrames = 7, 2
        ds.PixelData = encapsulate([jpeg.getvalue()] * 2)
    plain = part10(ds)
    at = plain.index(b"\xe0\x7f\x10\0")
    odd = {
        "double": plain[:at] + make.element(0x00290010, "LO", b"TEST") * 2 + plain[at:],
        "new VR": plain[:at] + make.element(0x00291010, "UV", b"ABCD").replace(b"UV", b"ZZ") + plain[at:],
        "closed twice": (
            plain[:at] + make.element(0x00400275, "SQ", make.item(b"")) + make.SEQUENCE_END + plain[at:]
        ),
        "open JPEG": plain.removesuffix(make.SEQUENCE_END),
        "JPEG with an empty end": plain.removesuffix(make.SEQUENCE_END) + make.item(b"") + make.SEQUENCE_END,
    }[kind]
    assert odd != plain
    forms = {
        "/rendered": "image/png",
        "/frames/1": 'multipart/related; type="application/octet-stream"; transfer-syntax=*',
        **({"": f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.1"} if "JPEG" in kind else {}),
    }
    url = f"{node.url}/dicomweb/studies/1.2.1/series/1.2.1.1/instances/"
    given: dict[str, list[bytes]] = {form: [] for form in forms}
    for sop, data in (("1.2.1.1.1", plain), ("1.2.1.1.2", odd.replace(b"1.2.1.1.1\0", b"1.2.1.1.2\0"))):
        assert (await stow(node, data))[0] == 200
        for form, accept in forms.items():
            async with node.session.get(url + sop + form, headers={"Accept": accept}) as response:
                body = await response.read()
                assert response.status == 200, (form, body)
            if form == "/frames/1":
                ((_, body),) = parts(response.headers, body)
            given[form].append(pydicom.dcmread(BytesIO(body)).PixelData if not form else body)
        async with node.session.get(url + sop, headers={"Accept": f"{DICOM}; transfer-syntax=*"}) as response:
            assert await response.read() == data, "as it came"
    assert all(first == second for first, second in given.values())


async def test_other_parts_fail_alone(node: Served) -> None:
    parts = [("text/plain", b"hello"), (f"{DICOM}; transfer-syntax=1.2.840.10008.1.2.1", part10(ct()))]
    status, answer = await post(node, *related(parts))
    assert (status, stored(answer), others(answer)) == (202, ["1.2.1.1.1"], [0xC000])


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        (b"", 'multipart/related; type="application/dicom"; boundary=b', 400),
        (b"--b--\r\n", 'multipart/related; type="application/dicom"; boundary=b', 400),
        (
            b"--b\nContent-Type: application/dicom\n\nxx\n--b--\n",
            'multipart/related; type="application/dicom"; boundary=b',
            400,
        ),
        (b"whatever", 'multipart/related; type="application/dicom"', 400),
        (b"{}", "application/json", 415),
        (b"--b\r\n\r\n[]\r\n--b--", 'multipart/related; type="application/dicom+json"; boundary=b', 415),
        (b"x", "", 400),
    ],
)
async def test_what_is_no_request(node: Served, body: bytes, content_type: str, status: int) -> None:
    found, problem = await post(node, body, content_type)
    assert (found, problem["kind"]) == (status, "UnsupportedMediaType" if status == 415 else "Malformed")


async def test_a_request_that_breaks_off_keeps_what_came(node: Served) -> None:
    body, content_type = related([(DICOM, part10(ct())), (DICOM, part10(ct(sop="1.2.1.1.2")))])
    status, answer = await post(node, body[:-300], content_type)
    assert (status, stored(answer), others(answer)) == (400, ["1.2.1.1.1"], [0xC000])
    assert len(await node.archive.objects("1.2.1")) == 1


async def test_a_client_that_hangs_up_leaves_nothing_behind(node: Served, tmp_path: Path) -> None:
    async def dying() -> AsyncIterator[bytes]:
        body, _ = related([(DICOM, part10(ct(side=512)))])
        yield body[:300_000]
        raise RuntimeError("hung up")

    with pytest.raises((ClientError, RuntimeError)):
        await post(node, dying(), related([])[1])
    status, _ = await stow(node, part10(ct(sop="1.2.1.1.9")))
    assert status == 200
    async with asyncio.timeout(10):
        while True:
            if not [
                path
                for path in (tmp_path / "archive" / "tmp").rglob("*")
                if path.is_file() and path.name != "lock"
            ]:
                break
            await asyncio.sleep(0.01)


async def test_bounds(tmp_path: Path) -> None:
    config = ServeConfig(max_stow_bytes=1 << 20, max_instance_bytes=1 << 20, max_stow_parts=3)
    async with serving(tmp_path, config=config) as node:
        # said by Content-Length, before a byte is read
        assert (await stow(node, part10(ct(side=800))))[0] == 413

        async def chunked() -> AsyncIterator[bytes]:
            body, _ = related([(DICOM, part10(ct())), (DICOM, part10(ct(sop="1.2.1.1.2", side=800)))])
            for start in range(0, len(body), 100_000):
                yield body[start : start + 100_000]

        status, answer = await post(node, chunked(), related([])[1])
        assert (status, stored(answer)) == (413, ["1.2.1.1.1"])
        status, answer = await stow(node, *(part10(ct(sop=f"1.2.1.1.{i}")) for i in range(4, 9)))
        assert (status, len(stored(answer))) == (413, 3)
    config = ServeConfig(max_instance_bytes=1 << 20)
    async with serving(tmp_path / "two", config=config) as node:
        status, answer = await stow(
            node, part10(ct()), part10(ct(sop="1.2.1.1.2", side=800)), part10(ct(sop="1.2.1.1.3"))
        )
        assert (status, stored(answer), failed(answer)) == (
            202,
            ["1.2.1.1.1", "1.2.1.1.3"],
            {"1.2.1.1.2": 0xA700},
        )


async def test_every_sample_by_stow_is_the_sample(node: Served) -> None:
    """All of pydicom's files in one request: each that is called stored is there."""
    paths = node_serving.sample_files()
    status, answer = await stow(node, *(path.read_bytes() for path in paths))
    assert status == 202
    assert len(stored(answer)) > 30  # the others say the same UIDs again, or are refused by the gate
    for item in answer["00081199"]["Value"]:
        async with node.session.head(item["00081190"]["Value"][0], headers={"Accept": DICOM}) as response:
            assert response.status == 200
    native = 0
    for study in await node.archive.study_uids():
        for found in await node.archive.objects(study):
            if found.frame_bits:
                local, plain = await node.archive.open_object(found), replace(found, frame_bits=0)
                by_columns = await layout_of(node.serve, found, local, "t")
                assert by_columns == await layout_of(node.serve, plain, local, "t"), "as the metadata say"
                native += 1
    assert native > 5


async def test_the_audit_must_be_writable(node: Served) -> None:
    async def broken(entry: object) -> None:
        raise StorageError("no audit")

    async def broken_whole(entry: object, outcome: str) -> None:
        raise StorageError("no audit")

    node.audit.begin = broken  # type: ignore[method-assign]
    node.audit.whole = broken_whole  # type: ignore[method-assign]
    async with node.session.get(f"{node.url}/dicomweb/studies") as response:
        assert response.status == 503
    status, _ = await stow(node, part10(ct()))
    assert status == 503
    assert await node.archive.objects("1.2.1") == []
