"""Time, processor time and percentiles; and how rounds are interleaved."""

from __future__ import annotations

import mmap
import os
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


def cpu_s(*pids: int) -> float:
    """Processor seconds of these processes and all below them (children of a fork server included), and of
    children of these that have ended; 0 for what is gone."""
    used, ended, parents = dict[int, float](), dict[int, float](), dict[int, int]()
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except (OSError, IndexError):
            continue
        pid = int(entry.name)
        parents[pid] = int(fields[1])
        used[pid], ended[pid] = _used_s(pid), (int(fields[13]) + int(fields[14])) / _TICKS
    family = {pid for pid in pids if pid in used}
    while grown := {pid for pid, parent in parents.items() if parent in family} - family:
        family |= grown
    return sum(used[pid] + ended[pid] for pid in family)


def touch_memory(size: int) -> None:
    """Have the machine get hold of ``size`` bytes, at most half of what is free, and let them go.

    In a guest, memory that was never used costs seconds a GiB at its first use: no server is to pay that.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * mmap.PAGESIZE
    with mmap.mmap(-1, max(mmap.PAGESIZE, min(size, free // 2))) as memory:
        for page in range(0, len(memory), mmap.PAGESIZE):
            memory[page] = 1


def _used_s(pid: int) -> float:
    """Processor seconds of a process and its threads, by its own clock; 0 if it is gone."""
    try:
        return time.clock_gettime(~pid << 3 | 2)  # CPUCLOCK_SCHED of the process: linux/posix-timers.h
    except OSError:
        return 0.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One round of one target: operations, seconds, and the server's processor seconds."""

    count: float
    seconds: float
    cpu: float
    latencies: tuple[float, ...] = ()  # seconds each, where they were taken

    @property
    def rate(self) -> float:
        """Operations a second."""
        return self.count / self.seconds

    @property
    def cpu_each_ms(self) -> float:
        """Processor milliseconds of the server for each operation."""
        return 1000 * self.cpu / self.count


@dataclass(frozen=True, slots=True)
class Result:
    """What the rounds of one target say."""

    samples: tuple[Sample, ...]

    @property
    def rate(self) -> float:
        """Median of the rounds' rates."""
        return statistics.median(s.rate for s in self.samples)

    @property
    def cpu_each_ms(self) -> float:
        """Median of the rounds' processor time for each operation."""
        return statistics.median(s.cpu_each_ms for s in self.samples)

    def percentile_ms(self, share: float) -> float:
        """Of all latencies; nan without any."""
        return percentile([x for s in self.samples for x in s.latencies], share) * 1000


def percentile(values: Iterable[float], share: float) -> float:
    """The nearest-rank percentile; nan of nothing."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


async def timed(pids: Sequence[int], work: Awaitable[float | tuple[float, Sequence[float]]]) -> Sample:
    """Await ``work``, which tells how many operations it did (and their latencies)."""
    before, started = cpu_s(*pids), time.perf_counter()
    done = await work
    seconds = time.perf_counter() - started
    count, latencies = done if isinstance(done, tuple) else (done, ())
    return Sample(count, seconds, cpu_s(*pids) - before, tuple(latencies))


async def interleaved(
    rounds: int, targets: Mapping[str, Callable[[int], Awaitable[Sample]]]
) -> dict[str, Result]:
    """Each round measures every target once, in an order that alternates."""
    samples: dict[str, list[Sample]] = {name: [] for name in targets}
    for number in range(rounds):
        names = list(targets) if number % 2 == 0 else list(targets)[::-1]
        for name in names:
            samples[name].append(await targets[name](number))
    return {name: Result(tuple(taken)) for name, taken in samples.items()}
