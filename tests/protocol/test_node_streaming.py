"""How a node's DICOMweb answers go out: in little memory, at the reader's pace, on both roads."""

from __future__ import annotations

import asyncio
import gzip
import os
import tracemalloc
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import orjson
import pytest
from aiohttp import ClientError
from dicomweb_answers import DICOM_PARTS, get
from node_serving import Served, ct, part10, serving

from crosslight.runtime.clock import SystemIds
from node.holdings import Local, StoredObject
from node.serve import retrieve
from node.serve.opened_objects import read_span
from node.serve.sendfile import _Pump


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    async with serving(tmp_path) as served:
        yield served


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


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_metadata_of_many_instances_goes_out_page_by_page(
    node: Served, monkeypatch: pytest.MonkeyPatch, coding: str
) -> None:
    await node.add(*(part10(ct(sop=f"1.2.1.1.{n}", number=n)) for n in range(1, 8)))
    _, headers, whole = await get(node, "/studies/1.2.1/metadata")
    monkeypatch.setattr(retrieve, "METADATA_PAGE", 3)
    asked: list[int] = []
    read = node.archive.metadata

    async def counted(objects: list[StoredObject], *, large: bool = True) -> list[bytes]:
        asked.append(len(objects))
        return await read(objects, large=large)

    monkeypatch.setattr(node.archive, "metadata", counted)
    status, paged, body = await get(node, "/studies/1.2.1/metadata", **{"Accept-Encoding": coding})
    body = gzip.decompress(body) if coding == "gzip" else body
    assert (status, body) == (200, whole)
    assert [row["00200013"]["Value"] for row in orjson.loads(body)] == [[n] for n in range(1, 8)]
    assert asked == [3, 3, 1], "no more than a page is in memory"
    assert paged["ETag"] == headers["ETag"]
    assert paged.get("Content-Encoding", "identity") == coding


async def test_an_instance_that_goes_while_metadata_is_sent_cuts_the_answer(
    node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody takes a part for the whole."""
    await node.add(*(part10(ct(sop=f"1.2.1.1.{n}", number=n)) for n in range(1, 5)))
    monkeypatch.setattr(retrieve, "METADATA_PAGE", 2)
    read = node.archive.metadata

    async def deleted_after_the_first(objects: list[StoredObject], *, large: bool = True) -> list[bytes]:
        rows = await read(objects, large=large)
        await node.archive.delete("1.2.1", "meanwhile")
        return rows

    monkeypatch.setattr(node.archive, "metadata", deleted_after_the_first)
    with pytest.raises(ClientError):
        await get(node, "/studies/1.2.1/metadata")
