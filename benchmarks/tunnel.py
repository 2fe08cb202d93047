"""A study through a member's tunnel beside one that is fetched directly: same registry, same images."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace

import orjson
from aiohttp import ClientSession, TCPConnector

from benchmarks.load import BadAnswerError
from benchmarks.meter import Result, Sample, interleaved, timed
from benchmarks.objects import CtStudy
from benchmarks.options import Options
from benchmarks.peers import HOST, free_ports
from benchmarks.report import Section, number, times
from crosslight.client.http import trusting
from simulations.people import make_patients
from simulations.region import DemoRegion
from simulations.topology import read_topology

ROADS = ("direct", "tunnel")
GOAL = 0.3
SLICES, FIRST = 40, 800_000
STUDY_MB = SLICES * 512 * 512 * 2 / 1e6
CLIENTS = (1, 8)
WAIT_S = 90.0


async def measure(options: Options) -> list[Section]:
    """Run it: its section of the report."""
    async with _running(options) as bench:
        results = {}
        for clients in CLIENTS:
            name = f"WADO-RS of a study over 20 MB through the registry, {clients} at a time"
            options.say(name)
            work = {road: bench.asking(road, clients, 8 if options.quick else 24) for road in ROADS}
            results[name] = await interleaved(3 if options.quick else 7, work)
    return [_section(results)]


class TunnelBench:
    """A registry with two members: one that it calls directly, and one that lets nothing in."""

    def __init__(self, made: DemoRegion) -> None:
        self.made = made
        self.codes = dict(zip(ROADS, made.topology.codes, strict=False))
        self.studies: dict[str, str] = {}
        self._base = f"https://{HOST}:{made.port_base}"

    async def fill(self) -> None:
        """The same images at both, each its own study, until the registry gives out both."""
        for place, (road, code) in enumerate(self.codes.items()):
            patient = make_patients(1, (code,), seed=21 + place, national=True)[0]
            study = CtStudy(SLICES, code, patient=patient)
            self.studies[road] = study.names(FIRST + place).study
            async with self.made.node_dicomweb(code) as node:
                files = study.copy(FIRST + place)
                for start in range(0, len(files), 10):
                    await node.store(files[start : start + 10])
        async with asyncio.timeout(WAIT_S), self._session() as session:
            while True:
                if all([await self._listed(session, road) for road in ROADS]):
                    return
                await asyncio.sleep(0.5)

    async def _listed(self, session: ClientSession, road: str) -> bool:
        url = f"{self._base}/dicomweb/studies?StudyInstanceUID={self.studies[road]}&includefield=00201208"
        async with session.get(url) as answer:
            rows = orjson.loads(await answer.read()) if answer.status == 200 else []
        return bool(rows) and rows[0]["00201208"]["Value"] == [SLICES]

    def _session(self) -> ClientSession:
        headers = {"Authorization": f"Bearer {self.made.tokens['clinician']}"}
        connector = TCPConnector(ssl=trusting(self.made.ca) or True, limit=0)
        return ClientSession(connector=connector, headers=headers, auto_decompress=False)

    def asking(self, road: str, clients: int, count: int) -> Callable[[int], Awaitable[Sample]]:
        """One round: ``count`` studies by ``clients`` over kept connections."""
        url = f"{self._base}/dicomweb/studies/{self.studies[road]}"
        headers = {"Accept": 'multipart/related; type="application/dicom"'}
        pids = [self.made.supervisor.child(name).pid for name in ("registry", self.codes[road])]

        async def run(session: ClientSession, left: list[int], took: list[float]) -> None:
            while left:
                left.pop()
                started = time.perf_counter()
                async with session.get(url, headers=headers) as answer:
                    if answer.status != 200:
                        raise BadAnswerError(f"{url}: status {answer.status}: {(await answer.text())[:300]}")
                    async for _ in answer.content.iter_any():
                        pass
                took.append(time.perf_counter() - started)

        async def round_(_: int) -> Sample:
            async with self._session() as session:
                await asyncio.gather(*(run(session, [1], []) for _ in range(clients)))  # connections, caches

                async def work() -> tuple[float, list[float]]:
                    left, took = [1] * count, list[float]()
                    await asyncio.gather(*(run(session, left, took) for _ in range(clients)))
                    return count, took

                return await timed(pids, work())

        return round_


@asynccontextmanager
async def _running(options: Options) -> AsyncIterator[TunnelBench]:
    whole, base, folder = read_topology(), free_ports(100), options.folder / "tunnel"
    made = DemoRegion(
        topology=replace(whole, members=whole.members[:4]),
        data=folder,
        port_base=base,
        restart_after_s=0,
    )
    options.say("a region with TLS, and a member that lets nothing in")
    try:
        await made.make(lambda _: None)
        bench = TunnelBench(made)
        for road, code in bench.codes.items():
            path = made.node_folder(code) / "node.toml"
            written = path.read_text("utf-8")
            changed = written.replace('# reach = "auto"', f'reach = "{road}"')
            if changed == written:
                raise BadAnswerError("node.toml has no line for region.reach")
            path.write_text(changed, "utf-8")
        await made.start_all(lambda _: None)
        await bench.fill()
        yield bench
    finally:
        await made.stop()


def _section(results: Mapping[str, Mapping[str, Result]]) -> Section:
    rows = []
    for name, by_road in results.items():
        direct, tunnel = (by_road[road] for road in ROADS)
        rows.append(
            (
                name,
                *(number(STUDY_MB * result.rate) for result in (direct, tunnel)),
                times(tunnel.rate / direct.rate),
                times(GOAL),
                *(number(result.cpu_each_ms) for result in (direct, tunnel)),
            )
        )
    return Section(
        name="tunnel",
        title="Through a member's tunnel, beside direct",
        intro=(
            "A registry fetches the same images from two members over mutual TLS: one that it calls directly,"
            " and one that lets nothing in, through the gRPC connection that the node keeps (TLS within TLS)."
            " Everything is on this machine, so that both ends, and the client, share its processors."
            " Processor milliseconds are the registry's and the node's together, for one study."
        ),
        columns=(
            "operation",
            "direct, MB/s",
            "tunnel, MB/s",
            "tunnel beside direct",
            "goal",
            "direct, processor ms",
            "tunnel, processor ms",
        ),
        rows=rows,
    )
