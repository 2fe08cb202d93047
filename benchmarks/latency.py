"""How long it takes from a scanner's first object to the list, and from its last object to "complete", on
both roads.
"""

from __future__ import annotations

import asyncio
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from benchmarks.load import BadAnswerError, get, load
from benchmarks.meter import Result, Sample, interleaved, percentile, timed
from benchmarks.objects import CtStudy, Names
from benchmarks.options import Options
from benchmarks.peers import HOST, NODELAY, free_ports, region
from benchmarks.report import Section, number
from simulations.region import DemoRegion

ROADS = {"grpc": "RTK", "soap": "RXC"}
FIRST = {"RTK": 900_000, "RXC": 950_000}  # copies of the study: each road its own
SLICES = 12
POLL_S = 0.02
APART_S = 0.4  # between two studies of one scanner
WAIT_S = 60.0


@dataclass(slots=True)
class Watched:
    """One study on its way."""

    names: Names
    first: float = 0.0  # when the first object was acknowledged
    last: float = 0.0  # when the last one was
    found: float = 0.0
    complete: float = 0.0


async def measure(options: Options) -> list[Section]:
    """Run the latency benchmark: its section of the report."""
    count = 6 if options.quick else 20
    async with region(options.folder / "latency", free_ports(100), list(ROADS.values())) as made:
        results = {}
        for road, code in ROADS.items():
            options.say(f"{count} studies by {road}")
            results[road] = await _scanner(made, options.folder / f"scan-{road}", code, count)
        options.say("pictures through the registry")
        relayed = await _pictures(made, results["grpc"][0].names, 60 if options.quick else 200)
    return [_section(results, count, relayed)]


async def _pictures(made: DemoRegion, names: Names, count: int) -> Result:
    """Pictures of one member that the registry passes on, none twice: the registry's part of them."""
    host, registry = f"{HOST}:{made.port_base}", made.supervisor.child("registry").pid
    series = f"/dicomweb/studies/{names.study}/series/{names.series}/instances"
    numbers = iter(range(1, 10**6))

    async def work(number_: int) -> Sample:
        asked = [
            get(
                host,
                f"{series}/{names.instances[n % SLICES]}/rendered?window={next(numbers)},400,linear",
                "image/jpeg",
            )
            for n in range(count)
        ]

        async def ask() -> tuple[float, Sequence[float]]:
            loaded = await load(HOST, made.port_base, asked)
            return loaded.count, loaded.latencies

        return await timed([registry], ask())

    await work(0)  # connections
    return (await interleaved(3, {"registry": work}))["registry"]


async def _scanner(made: DemoRegion, folder: Path, code: str, count: int) -> list[Watched]:
    """Send ``count`` studies one after the other; watch each until it is complete."""
    study = CtStudy(SLICES, code, size=128)
    tasks = []
    for n in range(FIRST[code], FIRST[code] + count):
        watched = Watched(study.names(n))
        parts = [folder / f"{n}-first", folder / f"{n}-rest"]
        study.write(n, [folder / f"{n}"])
        for part in parts:
            part.mkdir()
        for file in sorted((folder / f"{n}").iterdir()):
            file.rename(parts[0 if file.name.startswith("00000") else 1] / file.name)
        await asyncio.to_thread(_send, made, code, parts[0])
        watched.first = time.monotonic()
        tasks.append(asyncio.create_task(_watch(made, watched)))
        await asyncio.to_thread(_send, made, code, parts[1])
        watched.last = time.monotonic()
        await asyncio.sleep(APART_S)
    return await asyncio.gather(*tasks)


def _send(made: DemoRegion, code: str, folder: Path) -> None:
    command = ["storescu", "-R", "-aec", code, "+sd", HOST, str(made.ports(code).dimse), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=NODELAY, timeout=60, check=False)
    if done.returncode:
        raise BadAnswerError(f"storescu: {(done.stdout + done.stderr)[-600:]}")


async def _watch(made: DemoRegion, watched: Watched) -> Watched:
    """Ask the registry for the study until it is there, and until it is available with all its instances."""
    host = f"{HOST}:{made.port_base}"
    request = get(
        host, f"/fhir/ImagingStudy?study-instance-uid={watched.names.study}", "application/fhir+json"
    )
    answers: list[bytes] = []
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        await load(HOST, made.port_base, [request], keep=answers)
        now, bundle = time.monotonic(), orjson.loads(answers.pop())
        studies = [e["resource"] for e in bundle["entry"] if e["search"]["mode"] == "match"]
        if studies:
            watched.found = watched.found or now
            if studies[0]["status"] == "available" and studies[0].get("numberOfInstances") == SLICES:
                watched.complete = now
                return watched
        await asyncio.sleep(POLL_S if not watched.found else 4 * POLL_S)
    raise BadAnswerError(f"{watched.names.study} was not complete within {WAIT_S:.0f} s")


def _section(results: Mapping[str, Sequence[Watched]], count: int, relayed: Result) -> Section:
    rows = []
    for road, watched in results.items():
        for measured, seconds in (
            ("first object to discoverable", [w.found - w.first for w in watched]),
            ("last object to complete", [w.complete - w.last for w in watched]),
        ):
            rows.append(
                (
                    f"{measured}, {road}",
                    *(number(percentile(seconds, p)) for p in (0.5, 0.95)),
                    number(max(seconds)),
                )
            )
    return Section(
        name="latency",
        measured={"relay_s": relayed.cpu_each_ms / 1000},
        title="From the scanner to the list",
        intro=(
            f"{count} studies of {SLICES} slices on each road, sent by storescu to a node (C-STORE"
            " acknowledged = stored) and looked for in the registry's FHIR face, seconds. A node first"
            " publishes a study 1 s after its first object, and as complete after 5 s of quiet"
            " (`publish.first_s`, `publish.quiet_s`): these waits are within the figures."
        ),
        columns=("From … to", "p50 s", "p95 s", "longest s"),
        rows=rows,
        notes=(
            f"Polled every {POLL_S * 1000:.0f} ms until it is found, then every {4 * POLL_S * 1000:.0f} ms.",
            f"A picture that the registry passes on takes {number(relayed.cpu_each_ms)} ms of its processor,"
            f" and {number(relayed.percentile_ms(0.5))} ms from asking to its last byte.",
        ),
    )
