"""The registry on both databases beside a floor: submissions, queries, searches, feed; bytes per study."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from itertools import islice, pairwise
from typing import Any

import grpc.aio
import orjson

from benchmarks import registry_sizes, studies
from benchmarks.load import BadAnswerError, load, post
from benchmarks.meter import Result, Sample, interleaved, timed
from benchmarks.options import Options
from benchmarks.peers import HOST
from benchmarks.registry_questions import AGAIN, DICOM, FHIR, LIST, QUERY, SEARCH, SOAP, SUBMIT, Questions
from benchmarks.registry_secured import SecuredRegistries, crowd
from benchmarks.registry_servers import FLOOR, Server, servers_of
from benchmarks.report import Section, number, times
from crosslight.pb import feed_pb2 as pb
from registry.link.callers import MEMBER_METADATA
from tests import pg

CLIENTS = 8
FEED_BOUND_S = 170.0  # of loading one registry: a run must end
FEED = "gRPC feed, batches of 500"
#: operation -> at most so many times the floor's processor time, which is PostgreSQL's too
GOALS = {
    SEARCH: {"SQLite": 2.5, "PostgreSQL": 4.0},
    AGAIN: {"SQLite": 1.5, "PostgreSQL": 1.5},
    LIST: {"SQLite": 4.5, "PostgreSQL": 4.5},
    QUERY: {"SQLite": 3.5, "PostgreSQL": 3.5},
    SUBMIT: {"SQLite": 4.0, "PostgreSQL": 4.0},
    FEED: {"SQLite": 6.0, "PostgreSQL": 6.0},
}
_PUBLISH = "/crosslight.pb.IndexFeed/Publish"


async def measure(options: Options) -> list[Section]:
    """Run the benchmark: how fast the registry is, and how large its studies are."""
    async with AsyncExitStack() as stack:
        dsn = stack.enter_context(
            pg.cluster(fsync="on", autovacuum="on", shared_buffers="512MB", max_wal_size="2GB")
        )
        bench = RegistryBench(options, await servers_of(options, stack, dsn))
        results = await bench.run()
        apart = await bench.sizes()
        alone = await bench.one_at_a_time()
        taken = ServiceTimesTaken(
            results, apart["PostgreSQL"], bench.act_bytes, alone, bench.between_searches
        )
        both = await SecuredRegistries(options, bench.questions, await bench.crowd()).measure(
            bench.servers, GOALS
        )
    return [_section(bench, results, taken.measured()), *both, _sizes_section(bench, apart, taken.sizes())]


@dataclass(frozen=True, slots=True)
class ServiceTimesTaken:
    """What a registry takes on PostgreSQL, for ``crosslight simulate``."""

    results: Mapping[str, Mapping[str, Result]]
    bytes_of: Mapping[str, float]
    act_bytes: float
    alone_s: Sequence[float]  # searches, one at a time
    between_s: Sequence[float]  # two answers, when asked without a pause

    def measured(self) -> dict[str, float]:
        """Times."""
        find, publish = self.results[SEARCH]["PostgreSQL"], self.results[FEED]["PostgreSQL"]
        return {
            "find_s": 1 / find.rate,
            "find_cpu_s": find.cpu_each_ms / 1000,
            "publish_per_s": publish.rate,
            "publish_cpu_s": publish.cpu_each_ms / 1000,
            "variation": statistics.stdev(self.between_s) / statistics.fmean(self.between_s),
            "find_alone_s": statistics.fmean(self.alone_s),
            "find_alone_variation": statistics.stdev(self.alone_s) / statistics.fmean(self.alone_s),
        }

    def sizes(self) -> dict[str, float]:
        """Bytes."""
        return {
            "study_bytes": self.bytes_of["current"],
            "patient_bytes": self.bytes_of["each_patient"],
            "act_bytes": self.act_bytes,
        }


class RegistryBench:
    """Loads the servers, then asks them."""

    def __init__(self, options: Options, servers: dict[str, Server]) -> None:
        self._options, self.servers = options, servers
        self.studies = options.studies
        self.rounds = 2 if options.quick else 4
        # both registries gave the same OIDs and epochs
        self.questions = Questions((), (), servers["SQLite"].members, iter(range(1, 1 << 23)))
        self.cut: set[str] = set()  # engines that were not loaded in time
        self._asking: dict[tuple[str, str], Iterator[bytes]] = {}
        self.between: dict[str, list[float]] = {}  # two answers, seconds, by server
        self.between_searches: list[float] = []  # the same of searches on PostgreSQL
        self.act_bytes = 0.0  # of a search's entries in the audit, on PostgreSQL

    async def run(self) -> dict[str, dict[str, Result]]:
        """Operation -> server -> result."""
        results = {FEED: await self._feed()}
        self._options.say("ITI-18 and FHIR")
        await self._learn()
        count = 150 if self._options.quick else 400
        before = registry_sizes.audit_bytes(self.servers["PostgreSQL"].url)
        results[SEARCH] = await self._each(lambda s, _: self._ask(s, SEARCH, count))
        audited = registry_sizes.audit_bytes(self.servers["PostgreSQL"].url) - before
        self.between_searches = self.between.pop("PostgreSQL")
        self.act_bytes = audited / sum(s.count for s in results[SEARCH]["PostgreSQL"].samples)
        for name in (QUERY, LIST, AGAIN):
            self._options.say(name)
            results[name] = await self._each(lambda s, _, name=name: self._ask(s, name, count))  # type: ignore[misc]  # bound now
        self._options.say("ITI-42")
        results[SUBMIT] = await self._each(lambda s, _: self._submit(s, 100 if self._options.quick else 250))
        return results

    async def _each(self, work: Callable[[Server, int], Awaitable[Sample]]) -> dict[str, Result]:
        return await interleaved(
            self.rounds, {name: partial(work, server) for name, server in self.servers.items()}
        )

    # --- the feed -------------------------------------------------------------------------------------------

    async def _feed(self) -> dict[str, Result]:
        """Load all studies; each chunk goes to every server in turn."""
        self._options.say(f"the feed: {self.studies} studies into each registry")
        asked = self.questions
        places, whole = studies.plan(self.studies, len(asked.members))
        asked.whole, asked.others = range(whole * 9 // 10), range(whole * 9 // 10, whole)
        at_once = 5 if self._options.quick else 20
        made = studies.batches(places, asked.members, next(asked.numbers))
        asked.numbers = iter(range(len(places) + 10, 1 << 23))
        samples_of: dict[str, list[Sample]] = {name: [] for name in self.servers}
        done = 0
        while chunk := list(islice(made, at_once)):
            for name, server in self.servers.items():
                if server.is_floor and len(samples_of[name]) >= 4:
                    continue
                if sum(s.seconds for s in samples_of[name]) > FEED_BOUND_S:
                    self.cut.add(name)
                    continue
                samples_of[name].append(await timed(server.pids, _publish(server, chunk)))
            done += sum(batch.count for batch in chunk)
            if len(samples_of["SQLite"]) % 4 == 0:
                self._options.say(f"  {done} of {self.studies}")
        return {name: Result(tuple(taken)) for name, taken in samples_of.items()}

    async def crowd(self) -> int:
        """A person with very many studies in both registries."""
        person, batches = crowd(self.questions)
        for engine in ("SQLite", "PostgreSQL"):
            await _publish(self.servers[engine], batches)
        return person

    # --- asking ---------------------------------------------------------------------------------------------

    def _going_on(self, server: Server, name: str) -> Iterator[bytes]:
        """Requests of an operation, from where the last round ended."""
        made = self.questions.asked(name, server.host, floor=server.is_floor)
        return self._asking.setdefault((server.name, name), made)

    async def _ask(self, server: Server, name: str, count: int) -> Sample:
        """The time between two answers of a search is kept, for ``crosslight simulate``."""

        async def work() -> tuple[float, Sequence[float]]:
            requests = islice(self._going_on(server, name), count)
            loaded = await load(HOST, server.port, requests, clients=CLIENTS)
            if name == SEARCH:
                between = (b - a for a, b in pairwise(sorted(loaded.ended)))
                self.between.setdefault(server.name, []).extend(between)
            return loaded.count, loaded.latencies

        return await timed(server.pids, work())

    async def _learn(self) -> None:
        """Check answers, and give the floors the same bytes to send."""
        server = self.servers["SQLite"]
        submitted = next(self.questions.submissions(server.host, 1))
        answers = {
            kind: (accept, await _one(server, next(self._going_on(server, name))))
            for kind, accept, name in (
                ("search", FHIR, SEARCH),
                ("query", SOAP, QUERY),
                ("list", DICOM, LIST),
            )
        }
        answers["submitted"] = (SOAP, await _one(server, submitted))
        total = orjson.loads(answers["search"][1])["total"]
        entries = answers["query"][1].count(b"<rim:ExtrinsicObject")
        listed = len(orjson.loads(answers["list"][1]))
        if (total, entries, listed) != (studies.WHOLE,) * 3:
            found = f"{total} by FHIR, {entries} by ITI-18, {listed} by QIDO-RS"
            raise BadAnswerError(f"found {found} instead of {studies.WHOLE}")
        if b"ResponseStatusType:Success" not in answers["submitted"][1]:
            raise BadAnswerError(answers["submitted"][1].decode()[:2000])
        self.answer_bytes = {name: len(data) for name, (_, data) in answers.items()}
        for floor in (s for s in self.servers.values() if s.is_floor):
            for name, (kind, data) in answers.items():
                request = post(floor.host, f"/canned/{name}", kind, data).replace(b"POST", b"PUT", 1)
                await load(HOST, floor.port, [request])

    # --- submitting -----------------------------------------------------------------------------------------

    async def _submit(self, server: Server, count: int) -> Sample:
        requests = list(self.questions.submissions(server.host, count, floor=server.is_floor))

        async def work() -> tuple[float, Sequence[float]]:
            loaded = await load(
                HOST,
                server.port,
                requests,
                clients=CLIENTS,
                check=lambda b: b"ResponseStatusType:Success" in b,
            )
            return loaded.count, loaded.latencies

        return await timed(server.pids, work())

    async def sizes(self) -> dict[str, dict[str, float]]:
        """Engine -> bytes per study."""
        return {
            engine: await registry_sizes.index_bytes(self.servers[engine])
            for engine in ("SQLite", "PostgreSQL")
        }

    async def one_at_a_time(self) -> Sequence[float]:
        """What searches take, seconds, when nobody else asks (PostgreSQL)."""
        server, count = self.servers["PostgreSQL"], 60 if self._options.quick else 200
        loaded = await load(HOST, server.port, islice(self._going_on(server, SEARCH), count))
        return loaded.latencies


async def _one(server: Server, request: bytes) -> bytes:
    kept: list[bytes] = []
    await load(HOST, server.port, [request], keep=kept)
    return kept[0]


async def _publish(server: Server, chunk: Sequence[studies.Batch]) -> float:
    """Send batches, two at a time; how many acts were accepted.

    Raises:
        BadAnswerError: one was not.
    """
    waiting = iter(chunk)

    async def sender(channel: grpc.aio.Channel) -> None:
        call: Any = channel.unary_unary(
            _PUBLISH, request_serializer=None, response_deserializer=pb.PublishReply.FromString
        )
        for batch in waiting:
            reply = await call(batch.data, metadata=((MEMBER_METADATA, batch.code),), timeout=120)
            bad = [r for r in reply.results if r.outcome != pb.ActResult.ACCEPTED]
            if bad or len(reply.results) != batch.count:
                raise BadAnswerError(f"{len(bad)} of {batch.count} acts were refused: {bad[:1]}")

    async with grpc.aio.insecure_channel(f"{HOST}:{server.grpc_port}") as channel:
        await asyncio.gather(sender(channel), sender(channel))
    return sum(batch.count for batch in chunk)


# --- telling ------------------------------------------------------------------------------------------------


def _section(
    bench: RegistryBench, results: dict[str, dict[str, Result]], measured: Mapping[str, float]
) -> Section:
    rows: list[tuple[str, ...]] = []
    for name in (SEARCH, AGAIN, LIST, QUERY, SUBMIT, FEED):
        for engine in ("SQLite", "PostgreSQL"):
            ours, floor = results[name][engine], results[name][f"floor {engine}"]
            rows.append(
                (
                    f"{name}, {engine}",
                    number(ours.rate),
                    times(ours.rate / floor.rate),
                    number(ours.cpu_each_ms),
                    times(ours.cpu_each_ms / floor.cpu_each_ms),
                    number(1000 / ours.cpu_each_ms),
                    times(GOALS[name][engine]),
                    number(ours.percentile_ms(0.5)),
                    number(ours.percentile_ms(0.99)),
                )
            )
    notes = [
        f"{CLIENTS} clients at a time; with 100,000 studies no patient is asked for twice, so caches of"
        " renderings do not help."
    ]
    if bench.cut:
        notes.append(
            f"Loading was cut off after {FEED_BOUND_S:.0f} s ({', '.join(sorted(bench.cut))}): the sizes tell"
            " how far."
        )
    sent = ", ".join(f"{name} {size / 1e3:.0f} kB" for name, size in bench.answer_bytes.items())
    return Section(
        name="registry",
        title="Registry: above a floor",
        intro=(
            f"{bench.studies:,} studies loaded over the gRPC feed into each registry (real processes, open,"
            f" audited, fsynced), then {CLIENTS} clients at a time. {FLOOR} Answers: {sent}. Processor time"
            " includes PostgreSQL's."
        ),
        columns=(
            "Operation",
            "/s",
            "of the floor's rate",
            "CPU ms each",
            "of the floor's CPU",
            "/s per core",
            "aim",
            "p50 ms",
            "p99 ms",
        ),
        rows=rows,
        notes=tuple(notes),
        measured=measured,
    )


def _sizes_section(
    bench: RegistryBench, by_engine: dict[str, dict[str, float]], measured: Mapping[str, float]
) -> Section:
    names = ("current", "row", "row_indexes", "locators", "body", "extras", "superseded", "patients")
    goals = {"SQLite": "600", "PostgreSQL": "800"}
    return Section(
        name="sizes",
        title="Registry: bytes per study",
        intro=(
            f"{bench.studies:,} studies; `current` is a row with its indexes and locators. Patients are"
            " apart."
        ),
        columns=("Database", "studies", *names, "aim for current"),
        rows=[
            (engine, number(s["studies"]), *(number(s.get(name, 0.0)) for name in names), goals[engine])
            for engine, s in by_engine.items()
        ],
        measured=measured,
    )
