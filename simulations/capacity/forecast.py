"""The forecast: from a region's description to how long people wait and what must be bought.

A busy hour is played, not averaged: arrivals of a Poisson stream meet the registry's processes, first come
first served, and what is sent waits for its share of each line. What the registry does beside (publications)
takes its part of the same processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np

from simulations.capacity.answers import Answer, HourAnswer, Latency, MemberAnswer
from simulations.capacity.demand import Demand, Rates, busiest_hour, mean_images, mean_study_mb
from simulations.capacity.network import REGISTRY, RegionNetwork, Road
from simulations.capacity.outages import moves_of, outages_of
from simulations.capacity.purchase import (
    NODE_IMAGE_BYTES,
    REVISIONS,
    backfill,
    member_backfill_hours,
    purchases,
)
from simulations.capacity.queues import Seconds, WorkTime, arrivals, loss_bound_bits_per_s, waits
from simulations.capacity.service_times import ServiceTimes
from simulations.capacity.what_if import WhatIf
from simulations.topology import MemberPlan, Topology

#: Searches played for each answer; their 95th percentile stands within about 2 % then.
PLAYED = 20_000
#: A list of twenty studies as sent, and a picture as it is shown (JPEG), megabytes.
LIST_MB = 0.07
PICTURE_MB = 0.15
_FULL = 0.98  # a line or process that is asked for more than this does not keep up


def answer(
    topology: Topology, times: ServiceTimes, *, years: int = 5, what_if: WhatIf | None = None, seed: int = 1
) -> Answer:
    """Play the busiest hour of each year, and count what it needs.

    Args:
        topology: The region.
        times: Measured work of the product.
        years: How far to look.
        what_if: What is changed in it; None: nothing.
        seed: Of all that is drawn; the same gives the same answer.

    Raises:
        ConfigError: places that are not joined, or a change that names none of them.
    """
    if what_if is not None:
        topology = what_if.applied(topology)
    network = RegionNetwork(topology)
    day, hour = busiest_hour()
    played = [
        Play(topology, network, times, Demand(topology, year).of_region(day, hour), seed)
        for year in range(years + 1)
    ]
    hours, bound = backfill(topology, times)
    return Answer(
        region=topology.name,
        years=years,
        seed=seed,
        hours=tuple(play.answered(year) for year, play in enumerate(played)),
        members=tuple(_member(member, topology, network, played[-1]) for member in topology.members),
        purchases=purchases(topology, times, years),
        outages=outages_of(topology, network, times, what_if),
        moves=moves_of(topology, times, what_if),
        backfill_hours=hours,
        backfill_bound=bound,
    )


@dataclass(frozen=True, slots=True)
class _Line:
    """What is left of a road for one more stream, bits each second."""

    road: Road
    free_bits_per_s: float

    def seconds(self, megabytes: float) -> float:
        """To send so much over it; a round trip is not in it."""
        per_s = min(self.free_bits_per_s, loss_bound_bits_per_s(self.road.rtt_s, self.road.loss))
        return inf if per_s <= 0 else megabytes * 8e6 / per_s


class Play:
    """One busy hour, played once.

    Args:
        topology: The region. network: Its lines. times: Measured work.
        rates: What comes each second.
        seed: Of what is drawn.
    """

    def __init__(
        self, topology: Topology, network: RegionNetwork, times: ServiceTimes, rates: Rates, seed: int
    ) -> None:
        self._topology, self._network, self._times, self.rates = topology, network, times, rates
        random = np.random.default_rng(seed)
        processes = topology.registry.processes
        find = WorkTime(times.find_s, times.variation)
        beside = rates.exams * REVISIONS / times.publish_per_s  # part of one process that publications take
        self.busy = (rates.finds * times.find_s + beside) / processes
        # What publications take of a process is gone for searches: they are served that much slower.
        slowed = WorkTime(find.mean_s / max(1e-9, 1 - beside / processes), find.variation)
        if self.busy >= _FULL:
            self.served: Seconds = np.full(PLAYED, inf)
        elif rates.finds <= 0:
            self.served = find.draw(random, PLAYED)
        else:
            work = slowed.draw(random, PLAYED)
            self.served = waits(arrivals(random, rates.finds, PLAYED), work, processes) + work
        self._pictures = WorkTime(times.picture_s, 1.0).draw(random, PLAYED)
        self._random = random
        self._exams = {member.code: member.exams_per_year for member in topology.members}

    def answered(self, year: int) -> HourAnswer:
        """For the region as a whole: each member's part counts as often as it asks."""
        codes = list(self._exams)
        total = sum(self._exams.values()) or 1
        parts = [self._exams[code] / total for code in codes]
        return HourAnswer(
            year=year,
            exams_per_s=self.rates.exams,
            finds_per_s=self.rates.finds,
            opens_per_s=self.rates.opens,
            busy=self.busy,
            find=_latency([self.find_s(code) for code in codes], parts),
            first_image=_latency([self.first_image_s(code) for code in codes], parts),
        )

    def line(self, code: str) -> _Line:
        """A member's way to the registry, with what its images leave of the narrowest line."""
        road = self._network.road(code, REGISTRY)
        bits = road.narrowest.mbit_s * 1e6
        return _Line(road, bits * (1 - self.line_busy(code)))

    def line_busy(self, code: str) -> float:
        """Part of a member's narrowest line that images take: those that it sends, or those that it reads.

        Lines carry both ways at once; what others open of a member goes by its part of all exams.
        """
        bits = self.line_bits_per_s(code)
        return min(1.0, bits / (self._network.road(code, REGISTRY).narrowest.mbit_s * 1e6))

    def line_bits_per_s(self, code: str) -> float:
        """Bits each second of images that pass a member's way in the one direction that has more of them."""
        share = self._exams[code] / (sum(self._exams.values()) or 1)
        return self.rates.opens * share * mean_study_mb() * 8e6

    def find_s(self, code: str) -> Seconds:
        """From a member: the round trip, the wait and the work, and the list on its way, seconds each."""
        line = self.line(code)
        return self.served + line.road.rtt_s + line.seconds(LIST_MB)

    def first_image_s(self, code: str) -> Seconds:
        """From a member, of a study of any other: the click, two roads and the holder's picture, seconds."""
        own, others = self.line(code), [other for other in self._exams if other != code]
        weights = np.array([self._exams[other] or 1 for other in others], float)
        holders = self._random.choice(len(others), PLAYED, p=weights / weights.sum())
        far = [self.line(other) for other in others]
        # the registry asks the holder, which answers; the registry's own work on it is a search's
        there = np.array([2 * line.road.rtt_s + line.seconds(PICTURE_MB) for line in far])[holders]
        here = own.road.rtt_s + own.seconds(PICTURE_MB)
        waited: Seconds = self.served + there + here + self._times.first_byte_s + self._pictures
        return waited


def _latency(of_members: list[Seconds], parts: list[float]) -> Latency:
    """Percentiles of all members' waits together, each with its part."""
    values = np.concatenate(of_members)
    weights = np.concatenate(
        [np.full(len(s), part / len(s)) for s, part in zip(of_members, parts, strict=True)]
    )
    order = np.argsort(values)
    upto = np.cumsum(weights[order])
    at = [
        values[order][min(len(values) - 1, int(np.searchsorted(upto, part * upto[-1])))]
        for part in (0.5, 0.95)
    ]
    return Latency(p50_s=float(at[0]), p95_s=float(at[1]))


def _member(member: MemberPlan, topology: Topology, network: RegionNetwork, play: Play) -> MemberAnswer:
    road = network.road(member.code, REGISTRY)
    exams = member.exams_per_year
    return MemberAnswer(
        code=member.code,
        name=member.name,
        road_rtt_s=road.rtt_s,
        ways=network.min_cut(member.code)[1],
        line_mbit_s=road.narrowest.mbit_s,
        line_busy=play.line_busy(member.code),
        line_wanted_mbit_s=2 * play.line_bits_per_s(member.code) / 1e6,
        find=_latency([play.find_s(member.code)], [1.0]),
        first_image=_latency([play.first_image_s(member.code)], [1.0]),
        archive_tb_per_year=exams * mean_study_mb() / 1e6,
        index_gb_per_year=exams * mean_images() * NODE_IMAGE_BYTES / 1e9,
        backfill_hours=member_backfill_hours(member.code, topology),
    )
