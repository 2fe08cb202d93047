"""C-FIND, C-GET and C-MOVE: our node beside Orthanc, the same objects held, the same questions, in turn."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from time import perf_counter

from benchmarks.load import BadAnswerError
from benchmarks.meter import Result, Sample, cpu_s, interleaved
from benchmarks.objects import CtStudy, tiny_studies
from benchmarks.options import Options
from benchmarks.peers import HOST, NODELAY, MissingError, child, free_ports, orthanc, region, settle
from benchmarks.report import Section, number, times
from benchmarks.sender import send
from crosslight.standards.dicom.query.asking import question
from crosslight.standards.dicom.query.models import QueryLevel
from crosslight.standards.dicom.web.json import Attributes, attributes
from node.dimse.asking import FIND, MOVE, find, move
from node.dimse.outgoing import CalledSystem, associate

CODE, BENCH = "RTK", "BENCH"
MOST = 20_000  # answers
_CAME = re.compile(r"Received C-STORE Request")  # an object, as getscu says it
#: operation -> the ratio that is aimed at
GOALS = {
    "C-FIND by PatientID": 5.0,
    "C-FIND of one day, answers": 2.0,
    "C-FIND of a study's images, answers": 2.0,
    "C-GET of a study": 0.7,
    "C-MOVE of a study": 0.7,
}
_DESTINATION = """
[[dimse.destinations]]
ae_title = "{title}"
host = "{host}"
port = {port}
"""


@dataclass(frozen=True, slots=True)
class Archive:
    """One that is asked."""

    pid: int
    port: int
    aet: str

    @property
    def called(self) -> CalledSystem:
        """As our SCU calls it."""
        return CalledSystem(ae_title=self.aet, host=HOST, port=self.port)


async def measure(options: Options) -> list[Section]:
    """Run the benchmark of what leaves by DIMSE: its section of the report."""
    async with AsyncExitStack() as stack:
        base = free_ports(100)
        mover = base + 90
        more = _DESTINATION.format(title=BENCH, host=HOST, port=mover)
        made = await stack.enter_async_context(region(options.folder / "retrieve", base, [CODE], more=more))
        known = {"bench": {"AET": BENCH, "Host": HOST, "Port": mover}}
        anchor = await stack.enter_async_context(
            orthanc(options.folder / "orthanc-retrieve", base + 80, DicomModalities=known)
        )
        node = Archive(made.supervisor.child(CODE).pid, made.ports(CODE).dimse, CODE)
        taking = [dcmtk("storescp"), "--ignore", "-pdu", "131072", "-aet", BENCH, str(mover)]
        log = options.folder / "storescp.log"
        await stack.enter_async_context(child(taking, mover, log, NODELAY))
        bench = RetrieveBench(options, {"orthanc": Archive(anchor, base + 81, "ORTHANC"), "node": node})
        results = await bench.run()
    return [_section(bench, results)]


class RetrieveBench:
    """The operations that are measured, on each of the archives."""

    def __init__(self, options: Options, archives: dict[str, Archive]) -> None:
        self._options, self._archives = options, archives
        self.rounds = 3 if options.quick else 5
        self.tiny = options.held
        self.ct = CtStudy(60 if options.quick else 300, CODE)
        self.study = self.ct.names(1)

    async def run(self) -> dict[str, dict[str, Result]]:
        """Operation -> archive -> result."""
        say, files = self._options.say, self.ct.copy(1)
        say(f"both are given {self.tiny} studies and one of {self.ct.slices} slices")
        tiny, patients = tiny_studies(self.tiny, CODE)
        for archive in self._archives.values():
            await send(HOST, archive.port, archive.aet, tiny, 4)
            await send(HOST, archive.port, archive.aet, files, 1)
        await settle(*(archive.pid for archive in self._archives.values()))
        n_asked = 100 if self._options.quick else 300
        apart = patients[:: max(1, len(patients) // n_asked)]  # of all that is held, not of its beginning
        by_patient = [{"PatientID": one} for one in islice(cycle(apart), n_asked)]
        (day,) = {"20250602"}  # of all that is made
        series = {"StudyInstanceUID": self.study.study, "SeriesInstanceUID": self.study.series}
        say("C-FIND")
        results = {
            "C-FIND by PatientID": await self._each(lambda a: self._find(a, "STUDY", by_patient)),
            "C-FIND of one day, answers": await self._each(
                lambda a: self._find(a, "STUDY", [{"StudyDate": day}], least=self.tiny, answers=True)
            ),
            "C-FIND of a study's images, answers": await self._each(
                lambda a: self._find(a, "IMAGE", [series], least=self.ct.slices, answers=True)
            ),
        }
        say("C-GET and C-MOVE")
        results["C-GET of a study"] = await self._each(lambda a: self._program(a, self._getscu(a)))
        results["C-MOVE of a study"] = await self._each(self._move)
        return results

    async def _each(self, work: Callable[[Archive], Sample]) -> dict[str, Result]:
        async def once(archive: Archive, round_: int) -> Sample:
            return await asyncio.to_thread(work, archive)

        for archive in self._archives.values():  # what the first use loads is no part of it
            await asyncio.to_thread(work, archive)
        targets = {name: partial(once, archive) for name, archive in self._archives.items()}
        return await interleaved(self.rounds, targets)

    def _find(
        self,
        archive: Archive,
        level: QueryLevel,
        keys: Sequence[dict[str, str]],
        *,
        least: int = 1,
        answers: bool = False,
    ) -> Sample:
        """Questions on one association, one after the other; counts them, or their answers."""
        latencies, n_answers = [], 0
        with associate(archive.called, [FIND], calling=BENCH) as association:
            before, began = cpu_s(archive.pid), perf_counter()
            for asked in keys:
                started = perf_counter()
                found = find(association, question(level, asked), MOST, _unread)
                latencies.append(perf_counter() - started)
                if len(found.answers) < least:
                    raise BadAnswerError(f"{archive.aet} finds {len(found.answers)} of {least} or more")
                n_answers += len(found.answers)
            seconds, used = perf_counter() - began, cpu_s(archive.pid) - before
        return Sample(n_answers if answers else len(keys), seconds, used, () if answers else tuple(latencies))

    def _getscu(self, archive: Archive) -> list[str]:
        return ["getscu", "-S", "--ignore", "-pdu", "131072", "-aet", BENCH, "-aec", archive.aet, *self._of()]

    def _move(self, archive: Archive) -> Sample:
        """To storescp, which drops what comes."""
        wanted = attributes(QueryRetrieveLevel="STUDY", StudyInstanceUID=self.study.study)
        with associate(archive.called, [MOVE], calling=BENCH) as association:
            before, began = cpu_s(archive.pid), perf_counter()
            ended = move(association, wanted, BENCH, association.new_id())
            seconds, used = perf_counter() - began, cpu_s(archive.pid) - before
        if ended.completed != self.ct.slices:
            raise BadAnswerError(f"C-MOVE of {archive.aet}: {ended}")
        return Sample(ended.completed, seconds, used)

    def _of(self) -> list[str]:
        return ["-k", "QueryRetrieveLevel=STUDY", "-k", f"StudyInstanceUID={self.study.study}"]

    def _program(self, archive: Archive, command: list[str]) -> Sample:
        """DCMTK's; it says how many objects came."""
        before, began = cpu_s(archive.pid), perf_counter()
        whole = [dcmtk(command[0]), "-v", *command[1:], HOST, str(archive.port)]
        done = subprocess.run(
            whole, capture_output=True, text=True, env=NODELAY, timeout=300, check=False, errors="replace"
        )
        seconds, used = perf_counter() - began, cpu_s(archive.pid) - before
        said = done.stdout + done.stderr
        if done.returncode or len(_CAME.findall(said)) != self.ct.slices:
            raise BadAnswerError(f"{command[0]} of {archive.aet}: {said[-600:]}")
        return Sample(self.ct.slices, seconds, used)


def dcmtk(name: str) -> str:
    """DCMTK's program of this name, not pynetdicom's, which lies beside this interpreter.

    Raises:
        MissingError: it is not installed.
    """
    ours = Path(sys.executable).parent
    path = os.pathsep.join(one for one in os.environ["PATH"].split(os.pathsep) if Path(one) != ours)
    found = shutil.which(name, path=path)
    if found is None:
        raise MissingError(f"{name} is missing: apt-get install dcmtk")
    return found


def _unread(data: bytes, transfer_syntax_uid: str) -> Attributes:
    """Answers are counted, not read: the client is no part of it."""
    return {}


def _section(bench: RetrieveBench, results: dict[str, dict[str, Result]]) -> Section:
    rows: list[tuple[str, ...]] = []
    for name, by_archive in results.items():
        theirs, ours = by_archive["orthanc"], by_archive["node"]
        slow = [number(r.percentile_ms(0.99)) if r.samples[0].latencies else "–" for r in (theirs, ours)]
        rows.append(
            (
                name,
                number(theirs.rate),
                number(ours.rate),
                times(ours.rate / theirs.rate),
                times(GOALS[name]),
                times(theirs.cpu_each_ms / ours.cpu_each_ms if ours.cpu_each_ms else float("nan")),
                " / ".join(slow),
            )
        )
    return Section(
        name="retrieve",
        title="What leaves by DIMSE: a node beside Orthanc",
        intro=(
            f"Each holds {bench.tiny} studies of one instance, and a CT series of {bench.ct.slices} slices of"
            f" {bench.ct.bytes_each / 1e3:.0f} kB. Both with TCP_NODELAY; the node"
            " decides and audits each question and each retrieve before its first answer. Ratios"
            " above 1 are in the node's favour."
        ),
        columns=(
            "Operation",
            "Orthanc /s",
            "Crosslight /s",
            "ratio",
            "aim",
            "ratio of processor time",
            "p99 ms, Orthanc / ours",
        ),
        rows=rows,
        notes=(
            "C-FIND and C-MOVE are asked by one client of our own on one association, which counts answers"
            " unread; C-GET by DCMTK's getscu, its start included. What comes is dropped, C-MOVE's by DCMTK's"
            " storescp.",
        ),
    )
