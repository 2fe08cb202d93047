"""A gigabyte through a tunnel that is cut every five seconds: every byte comes, and few come twice."""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from aiohttp import StreamReader
from closed_region import Closed, closed_region
from cutting_proxy import CuttingProxy
from node_serving import ct, part10
from ports import free_ports
from scenario_processes import ROOT
from whole_region import FILES, HOST, PACE, until

from benchmarks.sender import send
from crosslight.runtime.seams import system_seams
from crosslight.runtime.tunnel.mux import WINDOW_BYTES
from crosslight.standards.dicom.file.gate import read_meta
from node.setup import init_node, join_region

CODE, STUDY, IMAGES, SIDE = "RTK", "1.2.7", 8, 8192  # 128 MiB each
PARTS = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
CUT_EVERY_S, BYTES_PER_S = 5.0, 45e6  # so that it lasts for four cuts at least
pytestmark = pytest.mark.timeout(900)


def _command(folder: Path, *words: str) -> list[str]:
    return [sys.executable, "-m", "node", "--dir", str(folder), *words]


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT)}


@dataclass(frozen=True, slots=True)
class Sent:
    """What the node was sent: how long each file is, and their digests."""

    length: int
    digests: set[bytes]


async def _send(port: int) -> Sent:
    """A modality sends a study; one object is held at a time."""
    lengths, digests = set(), set()
    for number in range(1, IMAGES + 1):
        pixels = os.urandom(2 * SIDE * SIDE)
        image = ct(STUDY, f"{STUDY}.1", f"{STUDY}.1.{number}", side=SIDE, number=number, PixelData=pixels)
        data = part10(image)
        await send(HOST, port, CODE, [data], 1)
        lengths.add(len(data) - _dataset_at(data))
        digests.add(hashlib.sha256(memoryview(data)[_dataset_at(data) :]).digest())
    (length,) = lengths
    return Sent(length, digests)


def _dataset_at(data: bytes) -> int:
    """Where the data set begins: the file meta is made anew by whoever receives."""
    return read_meta(data)[1]


@asynccontextmanager
async def _member(region: Closed, folder: Path, proxy: CuttingProxy) -> AsyncIterator[Sent]:
    """A node's process, that the region reaches through the proxy alone, with the study."""
    people, systems, dimse = free_ports(3)
    listen = {"host": HOST, "public_host": HOST, "people_port": people, "systems_port": systems}
    values = {
        "listen": listen,
        "dimse": {"host": HOST, "port": dimse, "ae_title": CODE, "callers": [{"ae_title": "STORESCU"}]},
        "archive": {"min_free_bytes": 0},
        "publish": dict(PACE),
        "region": {"heartbeat_s": 0.5, "reconnect_min_s": 0.05, "reconnect_max_s": 0.5, "reach": "tunnel"},
    }
    init_node(folder, FILES, values)
    invitation = await region.registry.members.invite(CODE, region.base, name=CODE, hosts=(HOST,))
    state = await join_region(folder, invitation, system_seams())
    state.registry = replace(state.registry, grpc=proxy.address)
    state.save()
    try:
        with (folder / "log").open("wb") as log:
            process = await asyncio.create_subprocess_exec(
                *_command(folder, "serve"), env=_environment(), stdout=log, stderr=subprocess.STDOUT
            )
        try:
            await until(lambda: _has_a_tunnel(region), 60)
            yield await _send(dimse)
        finally:
            with suppress(ProcessLookupError):
                process.terminate()
            await process.wait()
    finally:
        shutil.rmtree(folder)  # not left to whoever cleans up some day


async def _has_a_tunnel(region: Closed) -> bool:
    member = region.registry.members.by_code(CODE)
    return member is not None and region.registry.parts.retrieves.tunnels.has(member.id)


async def _listed(region: Closed) -> bool:
    url = f"{region.base}/dicomweb/studies?StudyInstanceUID={STUDY}&includefield=00201208"
    async with region.http.get(url) as answer:
        rows = await answer.json(content_type=None) if answer.status == 200 else []
    return bool(rows) and rows[0]["00201208"]["Value"] == [IMAGES]


async def test_a_gigabyte_comes_whole_though_the_link_is_cut_every_five_seconds(tmp_path: Path) -> None:
    async with (
        CuttingProxy(bytes_per_s=BYTES_PER_S) as proxy,
        closed_region(tmp_path, (), through=proxy) as region,
        _member(region, tmp_path / CODE, proxy) as sent,
    ):
        await until(lambda: _listed(region), 120)
        member = region.registry.members.active(CODE)
        tunnels = region.registry.parts.retrieves.tunnels
        passed, cuts, length = proxy.passed_bytes, 0, 0

        async def cut() -> None:
            nonlocal cuts
            while True:
                await asyncio.sleep(CUT_EVERY_S)
                proxy.cut()
                cuts += 1

        found = set()
        async with region.http.get(f"{region.base}/dicomweb/studies/{STUDY}", headers=PARTS) as answer:
            assert answer.status == 200
            cutting = asyncio.create_task(cut())
            try:
                for _ in range(IMAGES):
                    head = await answer.content.readuntil(b"\r\n\r\n")
                    assert head.startswith((b"--", b"\r\n--"))
                    meta = await _meta(answer.content)
                    left, digest = sent.length, hashlib.sha256()
                    length += len(head) + meta + left
                    while left:
                        piece = await answer.content.read(min(left, 1 << 20))
                        assert piece, "the answer ended early"
                        left -= len(piece)
                        digest.update(piece)
                    found.add(digest.digest())
                assert (await answer.content.read()).startswith(b"\r\n--")
            finally:
                cutting.cancel()
        assert found == sent.digests
        assert length > 1 << 30
        assert cuts >= 4
        carrier = tunnels.carrier(member.id)
        assert carrier is not None
        assert carrier.mux.received_bytes < length * 1.01 + (1 << 20), "TLS, and what was asked before"
        # of what was sent nothing came twice but what was on its way when it was cut
        assert proxy.passed_bytes - passed < length * 1.01 + (cuts + 1) * WINDOW_BYTES


async def _meta(content: StreamReader) -> int:
    """Read a file to where its data set begins (PS3.10 7.1); how much that was."""
    begun = await content.readexactly(144)
    group_length = int.from_bytes(begun[140:144], "little")
    await content.readexactly(group_length)
    return 144 + group_length
