"""What registries answer when they are open, and over TLS to who shows a token or a certificate: one process
each, over the same data, beside the same floor; and what grows with a patient, or beside a search of all.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice, repeat

from benchmarks import studies
from benchmarks.load import get, load
from benchmarks.meter import Result, Sample, interleaved, percentile, timed
from benchmarks.options import Options
from benchmarks.peers import HOST
from benchmarks.registry_questions import (
    AGAIN,
    DICOM,
    FHIR,
    LIST,
    QUERY,
    SEARCH,
    SUBMIT,
    Questions,
    number_of,
    search,
)
from benchmarks.registry_servers import BothWays, Server, secured
from benchmarks.report import Section, number, times

CLIENTS = 8
ENGINES = ("SQLite", "PostgreSQL")
FLOOR, PLAIN, SECURED = "floor", "open", "secured"
#: first page -> how it is asked for one person: path, Accept
FIRST_PAGES = {
    "FHIR, first 20": (lambda person: search(person, "&_count=20"), FHIR),
    "QIDO-RS, first 20": (lambda person: f"/dicomweb/studies?PatientID={number_of(person)}&limit=20", DICOM),
}
MANY = 5_000  # studies of one patient
PAGE_GOAL, BESIDE_GOAL = 3.0, 2.0
RARE = "/fhir/ImagingStudy?modality=IO"


@dataclass(frozen=True, slots=True)
class Way:
    """How something is asked: where, with what, and whose processor time it is."""

    port: int
    pids: Sequence[int]
    token: str = ""
    tls: ssl.SSLContext | None = None

    @property
    def host(self) -> str:
        """The Host header."""
        return f"{HOST}:{self.port}"


class SecuredRegistries:
    """Registries that were loaded, started again closed, with an open listener beside.

    Args:
        crowded: A person with :data:`MANY` studies.
    """

    def __init__(self, options: Options, questions: Questions, crowded: int) -> None:
        self._options, self._questions, self._crowded = options, questions, crowded
        self._rounds = 2 if options.quick else 4
        self._count = 100 if options.quick else 300
        self._asking: dict[tuple[str, str, str], Iterator[bytes]] = {}

    async def measure(
        self, servers: Mapping[str, Server], goals: Mapping[str, Mapping[str, float]]
    ) -> list[Section]:
        """The two sections."""
        costs: dict[str, dict[str, dict[str, Result]]] = {}
        pages: dict[str, dict[str, dict[str, Result]]] = {}
        beside: dict[str, tuple[list[float], list[float]]] = {}
        for engine in ENGINES:
            made = await secured(servers[engine])
            self._options.say(f"open, and with TLS and a token: {engine}")
            costs[engine] = {
                name: await self._one(engine, name, servers[f"floor {engine}"], made)
                for name in (SEARCH, AGAIN, LIST, QUERY, SUBMIT)
            }
            pages[engine] = await self._first_pages(made)
            beside[engine] = await self._beside_all(made)
            await servers[engine].running.aclose()
        return [_costs(costs, goals), _growth(pages, beside)]

    # --- open and secured -----------------------------------------------------------------------------------

    async def _one(self, engine: str, name: str, floor: Server, made: BothWays) -> dict[str, Result]:
        shown = {
            QUERY: Way(made.systems, made.pids, tls=made.as_system),
            SUBMIT: Way(made.systems, made.pids, tls=made.as_member),
        }
        ways = {
            FLOOR: Way(floor.port, floor.pids),
            PLAIN: Way(made.plain, made.pids),
            SECURED: shown.get(name, Way(made.people, made.pids, made.token, made.trusting)),
        }
        work = {how: partial(self._ask, engine, name, how, way) for how, way in ways.items()}
        for ask in work.values():  # what was just started is not to pay for its first answers here
            await ask(0)
        return await interleaved(self._rounds, work)

    async def _ask(self, engine: str, name: str, how: str, way: Way, _: int) -> Sample:
        asked, floor = self._questions, how == FLOOR
        if name == SUBMIT:
            made = asked.submissions(way.host, self._count // 2, floor=floor, only_first=True)
            requests: Iterator[bytes] = iter(list(made))
        else:
            key = (engine, name, how)
            if key not in self._asking:
                self._asking[key] = asked.asked(name, way.host, floor=floor, token=way.token)
            requests = islice(self._asking[key], self._count)

        async def work() -> tuple[float, Sequence[float]]:
            loaded = await load(HOST, way.port, requests, clients=CLIENTS, tls=way.tls)
            return loaded.count, loaded.latencies

        return await timed(way.pids, work())

    # --- what grows -----------------------------------------------------------------------------------------

    async def _first_pages(self, made: BothWays) -> dict[str, dict[str, Result]]:
        """First page -> of whom -> result."""
        results = {}
        for name, (path, accept) in FIRST_PAGES.items():
            few = cycle(
                [get(f"{HOST}:{made.plain}", path(person), accept) for person in self._questions.whole]
            )
            many = repeat(get(f"{HOST}:{made.plain}", path(self._crowded), accept))

            async def ask(requests: Iterator[bytes], _: int) -> Sample:
                async def work() -> float:
                    return (await load(HOST, made.plain, islice(requests, self._count // 4))).count

                return await timed(made.pids, work())

            results[name] = await interleaved(
                self._rounds, {"few": partial(ask, few), "many": partial(ask, many)}
            )
        return results

    async def _beside_all(self, made: BothWays) -> tuple[list[float], list[float]]:
        """How long 8 clients' searches take alone, and while somebody searches all for what is rare."""
        alone, beside = list[float](), list[float]()
        host = f"{HOST}:{made.plain}"
        requests = self._questions.asked(SEARCH, host)
        for _ in range(self._rounds):
            alone += (await load(HOST, made.plain, islice(requests, self._count), clients=CLIENTS)).latencies
            async with _meanwhile(made.plain, get(host, RARE, FHIR)):
                more = await load(HOST, made.plain, islice(requests, self._count), clients=CLIENTS)
            beside += more.latencies
        return alone, beside


@asynccontextmanager
async def _meanwhile(port: int, request: bytes) -> AsyncIterator[None]:
    """One client asks this without a pause."""
    asking = asyncio.create_task(load(HOST, port, repeat(request)))
    try:
        yield
        if asking.done():
            await asking  # it ended in an error: then nothing was beside
    finally:
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


def crowd(questions: Questions) -> tuple[int, list[studies.Batch]]:
    """A person of whom nothing is known yet, and the feed of :data:`MANY` studies of theirs."""
    person = 1_000_000  # beyond all that were planned
    places = [studies.Place(0, person, 20_000_000 + n) for n in range(MANY)]
    made = list(studies.batches(places, questions.members, next(questions.numbers)))
    questions.numbers = iter(range(next(questions.numbers) + MANY + 10, 1 << 23))
    return person, made


# --- telling ------------------------------------------------------------------------------------------------


def _costs(
    costs: Mapping[str, Mapping[str, Mapping[str, Result]]], goals: Mapping[str, Mapping[str, float]]
) -> Section:
    rows = []
    for engine, by_name in costs.items():
        for name, by_way in by_name.items():
            floor, plain, closed = (by_way[way] for way in (FLOOR, PLAIN, SECURED))
            rows.append(
                (
                    f"{name}, {engine}",
                    *(number(result.cpu_each_ms) for result in (floor, plain, closed)),
                    times(plain.cpu_each_ms / floor.cpu_each_ms),
                    times(closed.cpu_each_ms / floor.cpu_each_ms),
                    times(goals[name][engine]),
                    f"{number(plain.percentile_ms(0.99))} / {number(closed.percentile_ms(0.99))}",
                )
            )
    return Section(
        name="registry secured",
        title="Registry: open, and with TLS and a token",
        intro=(
            f"One process answers {CLIENTS} clients in two ways, in turn, beside the floor (which is plain):"
            " open to anybody, and over TLS to a clinician's bearer token; ITI-18 over mutual TLS to a"
            " system's certificate, ITI-42 to a member's. All of it is audited. Processor milliseconds of"
            " the server and its database for each."
        ),
        columns=(
            "Operation",
            "floor, ms",
            "open, ms",
            "TLS and token, ms",
            "open, of the floor's",
            "TLS and token, of the floor's",
            "aim",
            "p99 ms, open / TLS and token",
        ),
        rows=rows,
    )


def _growth(
    pages: Mapping[str, Mapping[str, Mapping[str, Result]]],
    beside: Mapping[str, tuple[list[float], list[float]]],
) -> Section:
    rows = []
    for engine, by_name in pages.items():
        for name, by_whom in by_name.items():
            few, many = by_whom["few"].cpu_each_ms, by_whom["many"].cpu_each_ms
            what = f"{name}: a patient with {MANY:,} studies, one with {studies.WHOLE}; processor, {engine}"
            rows.append((what, number(many), number(few), times(many / few), times(PAGE_GOAL)))
    for engine, (alone, noisy) in beside.items():
        a, b = percentile(alone, 0.99) * 1000, percentile(noisy, 0.99) * 1000
        what = f"{SEARCH}, {CLIENTS} clients, p99: beside a rare search of all patients, without; {engine}"
        rows.append((what, number(b), number(a), times(b / a), times(BESIDE_GOAL)))
    return Section(
        name="registry growth",
        title="Registry: what grows, and who waits for whom",
        intro="Milliseconds; one client where nothing else is said, which asks without a pause.",
        columns=("What", "the first", "the second", "ratio", "aim at most"),
        rows=rows,
    )
