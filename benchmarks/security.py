"""What security costs, and what one caller can take from another: over TLS, with tokens and audit."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

from aiohttp import ClientSession, TCPConnector

from benchmarks import noise, noise_strangers
from benchmarks.load import BadAnswerError
from benchmarks.meter import Result, Sample, interleaved, timed
from benchmarks.objects import CtStudy
from benchmarks.options import Options
from benchmarks.peers import HOST, child, free_ports, module
from benchmarks.report import Section, number, times
from crosslight.client.http import trusting
from simulations.people import make_patients
from simulations.region import DemoRegion
from simulations.topology import read_topology

SEARCH, STREAM = "FHIR search of 20 studies, 8 clients", "WADO-RS of a study over 20 MB, 1 client"
SECURED, BARE, PLAIN = "with token, decision and audit", "without, the same TLS", "without, no TLS"
GOALS = {SEARCH: 0.15, STREAM: 0.10}  # what they may add to the processor time over the same TLS
_STUDIES, _SLICES, _LARGE, _SMALL = 20, 40, 700_000, 700_100


async def measure(options: Options) -> list[Section]:
    """Run both: what security costs, then the neighbours, on one region."""
    async with _running(options) as made:
        costs = await made.costs()
        beside = await noise.neighbours(made.place(), options, noise_strangers.ROWS)
    return [_costs(costs), _neighbours(beside)]


class SecuredBench:
    """A registry and one node over TLS, each with a listener beside that asks and notes nothing."""

    def __init__(self, options: Options, made: DemoRegion, spare: int, pids: dict[str, int]) -> None:
        self._options, self.made, self._spare, self._pids = options, made, spare, pids
        self.code = made.topology.codes[0]
        self.patient = make_patients(1, (self.code,), seed=11, national=True)[0]
        self.study = CtStudy(_SLICES, self.code, patient=self.patient)

    async def fill(self) -> None:
        """A large study, and small ones of the same patient, until the registry lists all."""
        small = CtStudy(1, self.code, size=64, patient=self.patient)
        async with self.made.node_dicomweb(self.code) as node:
            files = self.study.copy(_LARGE)
            for start in range(0, len(files), 10):
                await node.store(files[start : start + 10])
            for n in range(_STUDIES - 1):
                await node.store(small.copy(_SMALL + n))
        async with asyncio.timeout(90), self.made.fhir("clinician") as registry:
            number_ = f"{self.made.topology.national.system}|{self.patient.national}"
            while True:
                found = await registry.search("ImagingStudy", patient_dot_identifier=number_)
                if len([s for s in found.matches if s["status"] == "available"]) == _STUDIES:
                    return
                await asyncio.sleep(0.5)

    @property
    def search(self) -> str:
        """The search's path."""
        system = quote(self.made.topology.national.system, safe="")
        return f"/fhir/ImagingStudy?patient.identifier={system}%7C{self.patient.national}"

    def place(self) -> noise.Place:
        """What the neighbours need to know."""
        names = self.study.names(_LARGE)
        return noise.Place(
            made=self.made,
            code=self.code,
            search=self.search,
            study=f"/studies/{names.study}",
            image=f"/studies/{names.study}/series/{names.series}/instances/{names.instances[0]}",
            patient=self.patient,
        )

    async def costs(self) -> dict[str, dict[str, Result]]:
        """Operation -> how it was asked -> result."""
        made, spare, code = self.made, self._spare, self.code
        study = f"/dicomweb{self.place().study}"
        count, streams = (200, 6) if self._options.quick else (600, 16)
        registry, node = f"https://{HOST}:{made.port_base}", made.node_base(code)
        results = {}
        for name, secured, at, pid, path, token, clients, each in (
            (SEARCH, registry, spare, "registry", self.search, made.tokens["clinician"], 8, count),
            (STREAM, node, spare + 2, code, study, made.node_tokens[code]["clinician"], 1, streams),
        ):
            self._options.say(name)
            targets = {
                SECURED: (secured, token),
                BARE: (f"https://{HOST}:{at}", ""),
                PLAIN: (f"http://{HOST}:{at + 1}", ""),
            }
            work: Mapping[str, Callable[[int], Awaitable[Sample]]] = {
                how: _asking(made.ca, base + path, given, clients, each, self._pids[pid])
                for how, (base, given) in targets.items()
            }
            results[name] = await interleaved(5 if self._options.quick else 9, work)
        return results


def _asking(
    ca: Path | None, url: str, token: str, clients: int, count: int, pid: int
) -> Callable[[int], Awaitable[Sample]]:
    """One round: ``count`` requests of ``clients`` over kept connections."""
    accept = "application/fhir+json" if "/fhir/" in url else 'multipart/related; type="application/dicom"'
    headers = {"Accept": accept} | ({"Authorization": f"Bearer {token}"} if token else {})

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
        connector = TCPConnector(ssl=trusting(ca) or True, limit=0)
        async with ClientSession(connector=connector, auto_decompress=False) as session:
            await asyncio.gather(*(run(session, [1], []) for _ in range(clients)))  # connections, caches

            async def work() -> tuple[float, list[float]]:
                left, took = [1] * count, list[float]()
                await asyncio.gather(*(run(session, left, took) for _ in range(clients)))
                return count, took

            return await timed([pid], work())

    return round_


@asynccontextmanager
async def _running(options: Options) -> AsyncIterator[SecuredBench]:
    whole, base, folder = read_topology(), free_ports(100), options.folder / "security"
    made = DemoRegion(
        topology=replace(whole, members=whole.members[:4]), data=folder, port_base=base, restart_after_s=0
    )
    options.say("a region with TLS, sign-in and tokens")
    await made.make(lambda _: None)
    await made.stop()
    code, pids = made.topology.codes[0], dict[str, int]()
    async with AsyncExitStack() as stack:
        for name, where, port in (
            ("registry", made.registry_folder, base + 60),
            (code, made.node_folder(code), base + 62),
        ):
            kind = "registry" if name == "registry" else "node"
            command = module("benchmarks.unsecured", kind, str(where), str(port))
            pids[name] = await stack.enter_async_context(child(command, port, folder / f"{name}.log"))
        await made.renew_tokens()
        bench = SecuredBench(options, made, base + 60, pids)
        await bench.fill()
        yield bench


def _costs(results: Mapping[str, Mapping[str, Result]]) -> Section:
    rows = []
    for name, by_way in results.items():
        secured, bare, plain = (by_way[way] for way in (SECURED, BARE, PLAIN))
        rows.append(
            (
                name,
                *(number(result.cpu_each_ms) for result in (plain, bare, secured)),
                f"{secured.cpu_each_ms / bare.cpu_each_ms - 1:+.0%}",
                f"{bare.rate / secured.rate - 1:+.0%}",
                f"{GOALS[name]:.0%}",
                times(bare.cpu_each_ms / plain.cpu_each_ms),
            )
        )
    return Section(
        name="security costs",
        title="What security costs",
        intro=(
            "One process answers the same question in three ways, in turn: plain to a caller who shows"
            " nothing, with nothing written to the audit; the same over TLS; and as it is, over TLS with a"
            " token that is verified, a decision, and the audit committed before the first byte. Processor"
            " milliseconds of the server for each."
        ),
        columns=(
            "operation",
            "no TLS, ms",
            "TLS, ms",
            "TLS, token, decision, audit, ms",
            "they add, processor",
            "they add, time",
            "goal",
            "TLS itself",
        ),
        rows=rows,
        notes=("TLS itself is apart: it is the price of the wire, and rests on the machine's ciphers.",),
    )


def _neighbours(beside: Mapping[str, tuple[list[float], list[float]]]) -> Section:
    rows = []
    for name, (alone, noisy) in beside.items():
        a, b = statistics.median(alone), statistics.median(noisy)
        rows.append((name, number(a * 1000), number(b * 1000), times(b / a), number(max(noisy) * 1000)))
    return Section(
        name="neighbours",
        title="A quiet caller beside a noisy one",
        intro=(
            "How long a quiet caller's request takes alone, and while another caller does its worst at the"
            " same listener; median milliseconds, over TLS (DICOM: plain). Both ends share this machine, so"
            " that the noise also takes processor time from the quiet one's client."
        ),
        columns=("listener: quiet beside noise", "alone, ms", "beside, ms", "ratio", "longest beside, ms"),
        rows=rows,
        notes=("No quiet request was refused, or the run would have failed.",),
    )
