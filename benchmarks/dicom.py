"""Our node beside Orthanc: the same objects in, the same questions, in turn."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path

from benchmarks.flushes import flushes_of
from benchmarks.load import BadAnswerError, Loaded, get, load, post
from benchmarks.meter import Result, Sample, cpu_s, interleaved, timed, touch_memory
from benchmarks.objects import CtStudy, Names, tiny_studies
from benchmarks.options import Options
from benchmarks.peers import HOST, NODELAY, free_ports, orthanc, region, settle
from benchmarks.report import Section, number, times
from benchmarks.sender import send, send_each_alone

CODE = "RTK"
BOUNDARY = "crosslight-bench"
MULTIPART = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'
PER_REQUEST = 50  # instances in one STOW-RS request
STUDY = 'multipart/related; type="application/dicom"; transfer-syntax=*'
FRAME = 'multipart/related; type="application/octet-stream"; transfer-syntax=*'
JSON = "application/dicom+json"
#: operation -> the ratio that dicom.md aims at
GOALS = {
    "C-STORE, 1 association": 1.6,
    "C-STORE, 4 associations": 1.4,
    "C-STORE, 1 association, light sender": 1.9,
    "C-STORE, 4 associations, light sender": 1.5,
    "C-STORE of 10 kB, 1 association": 1.7,
    "C-STORE of 10 kB, 4 associations": 1.7,
    "C-STORE of 10 kB, an association each": 0.33,
    "STOW-RS, 1 client": 2.5,
    "STOW-RS, 4 clients": 1.6,
    "WADO-RS, whole study": 2.0,
    "WADO-RS, first byte of it": 2.8,
    "WADO-RS, series metadata": 20.0,
    "WADO-RS, frames": 4.0,
    "WADO-RS, rendered": 1.0,
    "QIDO-RS, PatientID, 8 clients": 15.0,
}


@dataclass(frozen=True, slots=True)
class Target:
    """A DICOMweb server that is measured."""

    pid: int
    http: int
    dimse: int
    aet: str
    root: str  # of DICOMweb

    @property
    def host(self) -> str:
        """The Host header."""
        return f"{HOST}:{self.http}"

    def get(self, path: str, accept: str) -> bytes:
        """The bytes of a GET request to this server."""
        return get(self.host, self.root + path, accept)

    async def load(
        self, requests: Sequence[bytes] | Iterator[bytes], clients: int = 1, seconds: float = float("inf")
    ) -> Loaded:
        """Send requests to this server, and count the answers."""
        return await load(HOST, self.http, requests, clients=clients, seconds=seconds)


def related(files: Sequence[bytes]) -> bytes:
    """A multipart/related body."""
    part = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(b"".join((part, data, b"\r\n")) for data in files) + f"--{BOUNDARY}--\r\n".encode()


async def measure(options: Options) -> list[Section]:
    """Run the DICOM benchmark: its section of the report."""
    async with AsyncExitStack() as stack:
        base = free_ports(100)
        made = await stack.enter_async_context(region(options.folder / "dicom", base, [CODE]))
        anchor = await stack.enter_async_context(orthanc(options.folder / "orthanc", base + 80))
        node = Target(
            made.supervisor.child(CODE).pid, made.ports(CODE).base, made.ports(CODE).dimse, CODE, "/dicomweb"
        )
        targets = {"orthanc": Target(anchor, base + 80, base + 81, "ORTHANC", "/dicom-web"), "node": node}
        bench = DicomBench(options, targets)
        results = await bench.run()
    return [_section(bench, results)]


class DicomBench:
    """The operations that are measured, on each of the servers."""

    def __init__(self, options: Options, targets: dict[str, Target]) -> None:
        self._options, self._targets = options, targets
        self.slices = 60 if options.quick else 300
        self.tiny = 300 if options.quick else 1000
        self.rounds = 2 if options.quick else 3
        self.ct = CtStudy(self.slices, CODE)
        self.small = CtStudy(240 if options.quick else 1200, CODE, size=64)
        self.flushes: dict[str, float] = {}
        self._copies = 0
        self._kept: Names | None = None

    async def run(self) -> dict[str, dict[str, Result]]:
        """Operation -> target -> result."""
        say = self._options.say
        results = {}
        for target in self._targets.values():  # first uses load libraries and start children
            await self._stow(target, 999_999, 1)
            names = self.ct.names(999_999)
            image = f"/studies/{names.study}/series/{names.series}/instances/{names.instances[0]}/rendered"
            await target.load([target.get(image, "image/jpeg")])
        await asyncio.to_thread(touch_memory, 30 * self.rounds * self.slices * self.ct.bytes_each)
        self.flushes = {name: await self._flushes(target) for name, target in self._targets.items()}
        for clients, name in ((1, "C-STORE, 1 association"), (4, "C-STORE, 4 associations")):
            say(name)
            results[name] = await self._storing(partial(self._cstore, associations=clients))
            results[f"{name}, light sender"] = await self._storing(
                partial(self._light, study=self.ct, associations=clients)
            )
        say("C-STORE of 10 kB")
        for clients, name in ((1, "1 association"), (4, "4 associations"), (0, "an association each")):
            results[f"C-STORE of 10 kB, {name}"] = await self._storing(
                partial(self._light, study=self.small, associations=clients)
            )
        for clients, name in ((1, "STOW-RS, 1 client"), (4, "STOW-RS, 4 clients")):
            say(name)
            results[name] = await self._storing(partial(self._stow, clients=clients))
        say("WADO-RS")
        await self._settle()
        results |= await self._retrieves()
        say(f"QIDO-RS: {self.tiny} studies to begin with")
        files, patients = tiny_studies(self.tiny, CODE)
        for target in self._targets.values():
            await target.load(
                [self._post(target, files[i : i + 100]) for i in range(0, len(files), 100)], clients=2
            )
        await self._settle()
        results["QIDO-RS, PatientID, 8 clients"] = await self._each(lambda t, r: self._qido(t, patients))
        return results

    async def _settle(self) -> None:
        await settle(*(target.pid for target in self._targets.values()))

    async def _each(
        self, work: Callable[[Target, int], Awaitable[Sample]], rounds: int = 0
    ) -> dict[str, Result]:
        return await interleaved(
            rounds or self.rounds, {name: partial(work, target) for name, target in self._targets.items()}
        )

    async def _storing(self, work: Callable[[Target, int], Awaitable[Sample]]) -> dict[str, Result]:
        """Each round a new copy of the study, the same for every target."""
        first = self._copies + 1
        self._copies += self.rounds
        self._kept = self.ct.names(self._copies)
        return await self._each(lambda t, r: work(t, first + r))

    # --- in -------------------------------------------------------------------------------------------------

    async def _cstore(self, target: Target, copy: int, associations: int) -> Sample:
        root = self._options.folder / "send"
        folders = [root / str(n) for n in range(associations)]
        self.ct.write(copy, folders)
        os.sync()
        try:
            return await timed([target.pid], self._storescu(target, folders))
        finally:
            shutil.rmtree(root)

    async def _storescu(self, target: Target, folders: Sequence[Path]) -> float:
        def send(folder: Path) -> None:
            command = ["storescu", "-R", "-aec", target.aet, "+sd", HOST, str(target.dimse), str(folder)]
            done = subprocess.run(
                command, capture_output=True, text=True, env=NODELAY, timeout=300, check=False
            )
            if done.returncode:
                raise BadAnswerError(f"storescu to {target.aet}: {(done.stdout + done.stderr)[-600:]}")

        await asyncio.gather(*(asyncio.to_thread(send, folder) for folder in folders))
        return self.slices

    async def _light(self, target: Target, copy: int, study: CtStudy, associations: int) -> Sample:
        """Ready PDUs; an association for each object where ``associations`` is 0."""
        files = study.copy(copy)
        if not associations:
            files = files[: len(files) // 8]
        os.sync()
        before = cpu_s(target.pid)
        if associations:
            seconds = await send(HOST, target.dimse, target.aet, files, associations)
        else:
            seconds = await send_each_alone(HOST, target.dimse, target.aet, files)
        return Sample(len(files), seconds, cpu_s(target.pid) - before)

    async def _flushes(self, target: Target) -> float:
        """Flushes of the disk for each object of one association."""
        self._copies += 1
        files = self.small.copy(self._copies)
        return await flushes_of(target.pid, len(files), send(HOST, target.dimse, target.aet, files, 1))

    def _post(self, target: Target, files: Sequence[bytes]) -> bytes:
        return post(target.host, f"{target.root}/studies", MULTIPART, related(files), JSON)

    async def _stow(self, target: Target, copy: int, clients: int) -> Sample:
        files = self.ct.copy(copy)
        requests = [self._post(target, files[i : i + PER_REQUEST]) for i in range(0, len(files), PER_REQUEST)]
        os.sync()

        async def work() -> float:
            await target.load(requests, clients)
            return self.slices

        return await timed([target.pid], work())

    # --- out ------------------------------------------------------------------------------------------------

    async def _retrieves(self) -> dict[str, dict[str, Result]]:
        assert self._kept is not None
        names, results = self._kept, {}
        series = f"/studies/{names.study}/series/{names.series}"
        firsts: dict[int, list[float]] = {t.pid: [] for t in self._targets.values()}

        async def study(target: Target, _: int) -> Sample:
            async def work() -> float:
                loaded = await target.load([target.get(f"/studies/{names.study}", STUDY)])
                if loaded.received < self.slices * 512 * 512 * 2:
                    raise BadAnswerError(f"{target.aet}: the study came back with {loaded.received} bytes")
                firsts[target.pid].append(loaded.first_byte_s)
                return loaded.received / 1e6

            return await timed([target.pid], work())

        results["WADO-RS, whole study"] = await self._each(study, self.rounds + 2)
        results["WADO-RS, first byte of it"] = {
            name: Result(tuple(Sample(1, s, float("nan")) for s in firsts[target.pid]))
            for name, target in self._targets.items()
        }
        results["WADO-RS, series metadata"] = await self._each(
            lambda t, _: self._gets(t, [t.get(f"{series}/metadata", JSON)]), self.rounds
        )
        part = self.slices // self.rounds
        results["WADO-RS, frames"] = await self._each(
            lambda t, r: self._gets(
                t, [t.get(f"{series}/instances/{i}/frames/1", FRAME) for i in _part(names, r, part)]
            )
        )
        results["WADO-RS, rendered"] = await self._each(
            lambda t, r: self._gets(
                t,
                [
                    t.get(f"{series}/instances/{i}/rendered", "image/jpeg")
                    for i in _part(names, r, min(part, 40))
                ],
            )
        )
        return results

    async def _gets(self, target: Target, requests: Sequence[bytes]) -> Sample:
        async def work() -> tuple[float, Sequence[float]]:
            loaded = await target.load(requests)
            return loaded.count, loaded.latencies

        return await timed([target.pid], work())

    async def _qido(self, target: Target, patients: Sequence[str]) -> Sample:
        requests = [target.get(f"/studies?PatientID={number}", JSON) for number in patients]

        async def work() -> tuple[float, Sequence[float]]:
            loaded = await target.load(islice(cycle(requests), 10**6), 8, 2.0 if self._options.quick else 4.0)
            return loaded.count, loaded.latencies

        return await timed([target.pid], work())


def _part(names: Names, round_: int, size: int) -> Sequence[str]:
    """Instances that no other round asks for, so that nothing is answered from a cache."""
    return names.instances[round_ * size : (round_ + 1) * size]


_UNITS = {"WADO-RS, whole study": "MB/s", "WADO-RS, first byte of it": "ms", "WADO-RS, series metadata": "ms"}


def _service_times(ours: Mapping[str, Result]) -> dict[str, float]:
    """What a node takes, for ``crosslight simulate``."""
    return {
        "store_cpu_s": ours["C-STORE, 1 association"].cpu_each_ms / 1000,
        "picture_s": 1 / ours["WADO-RS, rendered"].rate,
        "first_byte_s": 1 / ours["WADO-RS, first byte of it"].rate,
        "stream_mb_s": ours["WADO-RS, whole study"].rate,
    }


def _section(bench: DicomBench, results: dict[str, dict[str, Result]]) -> Section:
    rows: list[tuple[str, ...]] = []
    for name, by_server in results.items():
        theirs, ours, unit = by_server["orthanc"], by_server["node"], _UNITS.get(name, "/s")
        slow = [number(r.percentile_ms(0.99)) if r.samples[0].latencies else "–" for r in (theirs, ours)]
        rates = [number(1000 / r.rate if unit == "ms" else r.rate) for r in (theirs, ours)]
        rows.append(
            (
                name,
                unit,
                *rates,
                times(ours.rate / theirs.rate),
                times(GOALS[name]),
                times(theirs.cpu_each_ms / ours.cpu_each_ms if ours.cpu_each_ms else float("nan")),
                " / ".join(slow),
            )
        )
    return Section(
        name="dicom",
        measured=_service_times({name: by_server["node"] for name, by_server in results.items()}),
        title="DICOM: a node beside Orthanc",
        intro=(
            f"One CT series of {bench.slices} slices of {bench.ct.bytes_each / 1e3:.0f} kB, new UIDs each"
            f" time; {bench.tiny} more studies for the searches. Orthanc runs with TCP_NODELAY=1,"
            " SyncStorageArea and its DICOMweb plugin (metadata Full); the node runs open, audits every act,"
            " fsyncs before it acknowledges, and publishes to its registry on the same cores. Ratios above 1"
            " are in the node's favour."
        ),
        columns=(
            "Operation",
            "unit",
            "Orthanc",
            "Crosslight",
            "ratio",
            "aim",
            "ratio of processor time",
            "p99 ms, Orthanc / ours",
        ),
        rows=rows,
        notes=(
            (
                "C-STORE is DCMTK's storescu with TCP_NODELAY=1, which takes as much of the cores as a"
                " server; the light sender and the objects of"
                f" {bench.small.bytes_each / 1e3:.0f} kB send PDUs made before. STOW-RS sends {PER_REQUEST}"
                " instances a request."
            ),
            (
                "Flushes of the disk for each object of one association (fsync, fdatasync): Orthanc"
                f" {number(bench.flushes['orthanc'])}, none of a folder, its index every ten seconds or so;"
                f" the node {number(bench.flushes['node'])}, folders and index included."
                " Memory for the page cache was touched before."
            ),
            "Frames and rendered images are asked for one after the other over one connection, none twice.",
            (
                "Debian's Orthanc leaves Nagle's algorithm on unless TCP_NODELAY=1 is set; then its DIMSE is"
                " several times slower."
            ),
        ),
    )
