"""Memory stays as it is while a study of 10,000 images streams, by each road, of real processes over TLS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import asynccontextmanager
from pathlib import Path

import orjson
import pytest
from aiohttp import ClientSession, TCPConnector
from ports import free_base

from benchmarks.objects import CtStudy
from benchmarks.peers import HOST, NODELAY, child
from benchmarks.retrieve import dcmtk
from benchmarks.sender import send
from crosslight.client.http import trusting
from simulations.layout import WORKSTATION_AET
from simulations.region import DemoRegion
from simulations.topology import read_topology

FEW, MANY = 1_000, 10_000
PARTS = 'multipart/related; type="application/dicom"; transfer-syntax=*'
CALLER = """
[[dimse.callers]]
ae_title = "STORESCU"
addresses = ["127.0.0.1"]
"""
pytestmark = pytest.mark.timeout(900)


class Study:
    """Images of one template under names of their own; 8 kB of pixels each."""

    def __init__(self, copy: int, images: int, code: str) -> None:
        template = CtStudy(1, code, size=64)
        self.images, self.uid = images, template.names(copy).study
        (first,), (name,) = template.copy(copy), template.names(copy).instances
        stem = name[:-5].encode()
        self.length = images * len(first)
        self.files = [first.replace(name.encode(), stem + b"%05d" % n) for n in range(images)]


class Region:
    """A registry and one member, as processes."""

    def __init__(self, made: DemoRegion) -> None:
        self.made, self.code = made, made.topology.codes[0]
        self.studies = [Study(1, FEW, self.code), Study(2, MANY, self.code)]

    def pids(self) -> list[int]:
        """The registry's and the node's, and of all below them."""
        found = {self.made.supervisor.child(name).pid for name in ("registry", self.code)}
        while more := {pid for pid in _processes() if _parent(pid) in found} - found:
            found |= more
        return sorted(found)

    def session(self, token: str) -> ClientSession:
        connector = TCPConnector(ssl=trusting(self.made.ca) or True)
        headers = {"Authorization": f"Bearer {token}", "Accept-Encoding": "identity"}
        return ClientSession(connector=connector, headers=headers)

    async def web(self, base: str, token: str, accept: str, more: str, study: Study) -> int:
        """Read a resource to its end, and say how long it is; of each image there is something."""
        url, length = f"{base}/dicomweb/studies/{study.uid}{more}", 0
        async with self.session(token) as session, session.get(url, headers={"Accept": accept}) as answer:
            assert answer.status == 200, await answer.text()
            async for piece in answer.content.iter_any():
                length += len(piece)
        assert length > 500 * study.images
        return length

    async def listed(self) -> None:
        """Wait until the region lists the whole of both."""
        async with self.session(self.made.tokens["clinician"]) as session, asyncio.timeout(120):
            for study in self.studies:
                url = f"{self.made.base}/dicomweb/studies?StudyInstanceUID={study.uid}&includefield=00201208"
                while True:
                    async with session.get(url) as answer:
                        rows = orjson.loads(await answer.read()) if answer.status == 200 else []
                    if rows and rows[0]["00201208"]["Value"] == [study.images]:
                        break
                    await asyncio.sleep(0.5)

    async def reached(self) -> None:
        """Wait until the region gets at the images again."""
        url, accept = f"{self.made.base}/dicomweb/studies/{self.studies[0].uid}", {"Accept": PARTS}
        async with self.session(self.made.tokens["clinician"]) as session, asyncio.timeout(60):
            while True:
                async with session.get(url, headers=accept) as answer:
                    await answer.read()
                    if answer.status == 200:
                        return
                await asyncio.sleep(0.5)

    async def program(self, name: str, *words: str) -> None:
        """One of DCMTK's, as the workstation."""
        ports = self.made.ports(self.code)
        aets = ("-aet", WORKSTATION_AET, "-aec", self.code)
        process = await asyncio.create_subprocess_exec(
            *(dcmtk(name), *words, *aets, HOST, str(ports.dimse)),
            env=NODELAY,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert await process.wait() == 0


def _processes() -> Iterable[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdecimal()]


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except OSError:
        return 0


def _peak_kib(pid: int) -> int:
    """The most that was resident since :func:`_forget_peak`."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def _forget_peak(pid: int) -> None:
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # proc(5)


async def _flat(region: Region, road: str, work: Callable[[Study], Awaitable[int]]) -> None:
    """The study of many images takes less memory more than the one of few than half of what streams by."""
    peaks, length = [], 0
    for study in region.studies:
        for pid in region.pids():
            _forget_peak(pid)
        length = await work(study)
        peaks.append({pid: _peak_kib(pid) for pid in region.pids()})
    before, after = peaks
    # of what was there before: a process that began meanwhile is none that grew
    grown = {pid: after[pid] - before[pid] for pid in before.keys() & after.keys()}
    assert sum(grown.values()) < length / 2048, f"{road}: {grown} KiB more, of {after}, for {length} bytes"


@asynccontextmanager
async def _region(folder: Path) -> AsyncIterator[Region]:
    made = DemoRegion(topology=read_topology(), data=folder, port_base=free_base(10, 10), restart_after_s=0)
    try:
        await made.make(lambda _: None)
        region = Region(made)
        _reach(region, "auto", "direct")
        path = made.node_folder(region.code) / "node.toml"
        path.write_text(path.read_text("utf-8") + CALLER, "utf-8")
        await made.start(region.code)
        await made.renew_tokens()
        yield region
    finally:
        await made.stop()


def _reach(region: Region, before: str, road: str) -> None:
    path = region.made.node_folder(region.code) / "node.toml"
    written = path.read_text("utf-8")
    changed = written.replace(f'# reach = "{before}"', f'reach = "{road}"').replace(
        f'\nreach = "{before}"', f'\nreach = "{road}"'
    )
    assert changed != written
    path.write_text(changed, "utf-8")


async def test_ten_thousand_images_take_no_more_memory_than_a_thousand(tmp_path: Path) -> None:
    async with _region(tmp_path / "region") as region:
        made, code = region.made, region.code
        ports = made.ports(code)

        async def store(study: Study) -> int:
            await send(HOST, ports.dimse, code, study.files, 4)
            return study.length

        async def get(study: Study) -> int:
            await region.program("getscu", "-S", "--ignore", *_keys(study))
            return study.length

        async def move(study: Study) -> int:
            await region.program("movescu", "-S", "-aem", WORKSTATION_AET, *_keys(study))
            return study.length

        def web(base: str, token: str, *how: str) -> Callable[[Study], Awaitable[int]]:
            accept, more = how or (PARTS, "")
            return lambda study: region.web(base, token, accept, more, study)

        metadata = ("application/dicom+json", "/metadata")
        await _flat(region, "C-STORE", store)
        await region.listed()
        node_token, token = made.node_tokens[code]["integrator"], made.tokens["clinician"]
        await _flat(region, "WADO-RS", web(made.node_base(code), node_token))
        await _flat(region, "metadata", web(made.node_base(code), node_token, *metadata))
        await _flat(region, "gateway", web(made.base, token))
        await _flat(region, "gateway, metadata", web(made.base, token, *metadata))
        await _flat(region, "C-GET", get)
        taking = [dcmtk("storescp"), "--ignore", "-aet", WORKSTATION_AET, str(ports.workstation)]
        async with child(taking, ports.workstation, tmp_path / "storescp", NODELAY):
            await _flat(region, "C-MOVE", move)
        _reach(region, "direct", "tunnel")
        made.kill(code)
        await made.start(code)
        await region.reached()
        await _flat(region, "tunnel", web(made.base, token))


def _keys(study: Study) -> tuple[str, ...]:
    return "-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={study.uid}"
