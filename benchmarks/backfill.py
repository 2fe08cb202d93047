"""A node's first fill beside an archive that answers DICOMweb, and the same requests by a plain loop."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import perf_counter

from aiohttp import ClientSession, ClientTimeout, web

from benchmarks.load import BadAnswerError
from benchmarks.meter import Result, Sample, cpu_s
from benchmarks.objects import tiny_studies
from benchmarks.options import Options
from benchmarks.peers import HOST, free_ports, linked, orthanc, region, settle
from benchmarks.report import Section, number, times
from benchmarks.sender import send
from simulations.region import DemoRegion

GOAL = 1.5
WAIT_S = 3600.0
_SOURCE = """
[[sources.dicomweb]]
name = "PACS"
url = "http://{host}:{port}/dicom-web"
earliest = "20250101"
studies_per_minute = 1000000000
"""
_PLAIN = {"Accept-Encoding": "identity"}
_KNOWN = re.compile(r'^crosslight_node_source_studies\{source="PACS"\} ([0-9.e+]+)$', re.MULTILINE)


class Between:
    """Passes requests on to the archive, and keeps what was asked: the node's and the loop's way alike."""

    def __init__(self, upstream: int) -> None:
        self._upstream = f"http://{HOST}:{upstream}"
        self.asked: list[tuple[str, str]] = []  # path with query, and Accept
        self.began = 0.0

    @asynccontextmanager
    async def listening(self, port: int) -> AsyncIterator[None]:
        """While the context lasts."""
        async with ClientSession(timeout=ClientTimeout(None)) as session:

            async def answer(request: web.Request) -> web.Response:
                self.began = self.began or perf_counter()
                accept = request.headers.get("Accept", "*/*")
                self.asked.append((request.path_qs, accept))
                url = self._upstream + request.path_qs
                async with session.get(url, headers={"Accept": accept, **_PLAIN}) as found:
                    kind = {"Content-Type": found.headers.get("Content-Type", "application/dicom+json")}
                    return web.Response(status=found.status, body=await found.read(), headers=kind)

            app = web.Application()
            app.router.add_get("/{path:.*}", answer)
            runner = web.AppRunner(app, access_log=None)
            await runner.setup()
            try:
                await web.TCPSite(runner, HOST, port).start()
                yield
            finally:
                await runner.cleanup()


async def measure(options: Options) -> list[Section]:
    """Run it: its section of the report."""
    options.folder.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        base = free_ports(100)
        anchor = await stack.enter_async_context(orthanc(options.folder / "orthanc-backfill", base + 80))
        options.say(f"an archive is given {options.held} studies")
        tiny, _ = tiny_studies(options.held, "RTK")
        await send(HOST, base + 81, "ORTHANC", tiny, 4)
        await settle(anchor)
        between = Between(base + 80)
        await stack.enter_async_context(between.listening(base + 90))
        made = await stack.enter_async_context(region(options.folder / "backfill", base, []))
        filling, asking = list[Sample](), list[Sample]()
        for code in made.topology.codes[: 2 if options.quick else 3]:
            options.say(f"{code} is filled, and its requests are asked again")
            filling.append(await _filled(made, code, between, base + 90, options.held))
            asking.append(await _asked_again(between, base + 90, options.held, anchor))
    return [_section(options, Result(tuple(filling)), Result(tuple(asking)), len(between.asked))]


async def _filled(made: DemoRegion, code: str, between: Between, port: int, studies: int) -> Sample:
    """From a new node's first request until it knows all."""
    path = made.node_folder(code) / "node.toml"
    path.write_text(path.read_text("utf-8") + _SOURCE.format(host=HOST, port=port), "utf-8")
    between.asked.clear()
    between.began = 0.0
    await made.start(code)
    await linked(made, [code])
    pid, url = made.supervisor.child(code).pid, f"{made.node_base(code)}/metrics"
    async with ClientSession() as session, asyncio.timeout(WAIT_S):
        while True:
            async with session.get(url) as answer:
                known = _KNOWN.search(await answer.text())
            if known is not None and float(known.group(1)) >= studies:
                break
            await asyncio.sleep(0.1)
    sample = Sample(studies, perf_counter() - between.began, cpu_s(pid))
    made.kill(code)
    return sample


async def _asked_again(between: Between, port: int, studies: int, anchor: int) -> Sample:
    """The same requests, one after the other, over one connection."""
    asked = list(between.asked)
    async with ClientSession() as session:
        before, began = cpu_s(anchor), perf_counter()
        for path, accept in asked:
            async with session.get(f"http://{HOST}:{port}{path}", headers={"Accept": accept}) as answer:
                await answer.read()
                if answer.status not in (200, 204):
                    raise BadAnswerError(f"{path}: status {answer.status}")
        seconds, used = perf_counter() - began, cpu_s(anchor) - before
    between.asked[:] = asked
    return Sample(studies, seconds, used)


def _section(options: Options, filling: Result, asking: Result, requests: int) -> Section:
    return Section(
        name="backfill",
        title="A node's first fill beside an archive of others",
        intro=(
            f"Orthanc holds {options.held} studies of one instance. A new node beside it asks for all of"
            " them by DICOMweb, one study after the other and as fast as it may, and writes down what each"
            " instance is; then the very same requests are asked by a plain loop that drops the answers."
            " Both go through a small proxy that keeps what was asked. From the node's first request until"
            " it knows all studies."
        ),
        columns=(
            "studies",
            "requests",
            "node, s",
            "loop, s",
            "node beside loop",
            "aim",
            "node's processor ms",
        ),
        rows=[
            (
                str(options.held),
                str(requests),
                number(options.held / filling.rate),
                number(options.held / asking.rate),
                times(asking.rate / filling.rate),
                f"{GOAL:.2f} × at most",
                number(filling.cpu_each_ms),
            )
        ],
        notes=("Processor milliseconds of the node for each study, its start and publishing included.",),
    )
