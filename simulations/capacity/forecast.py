"""The forecast: from a region's description to how long people wait and what must be bought.

A busy hour is played, not averaged: arrivals of a Poisson stream wait, first come first served, for what all
share of the registry's processes, and then take what a search takes alone; what is sent waits for its share
of each line. What the registry does beside (publications) takes its part of the same processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

import numpy as np
from numpy.typing import NDArray

from simulations.capacity.answers import (
    Answer,
    HospitalAnswer,
    HourAnswer,
    Latency,
    MemberAnswer,
    MemberNeed,
)
from simulations.capacity.demand import Demand, Rates, busiest_hour, mean_study_mb
from simulations.capacity.network import REGISTRY, RegionNetwork, Road
from simulations.capacity.outages import moves_of, outages_of
from simulations.capacity.purchase import (
    REVISIONS,
    backfill,
    backfill_per_s,
    member_backfill_hours,
    member_needs,
    purchases,
)
from simulations.capacity.queues import Seconds, WorkTime, arrivals, loss_bound_bits_per_s, waits
from simulations.capacity.service_times import ServiceTimes
from simulations.capacity.what_if import WhatIf
from simulations.topology import HospitalPlan, LinkPlan, MemberPlan, Topology

#: Searches played for each answer; their 95th percentile stands within about 2 % then.
PLAYED = 20_000
_MOST_PLAYED = 100_000  # with what comes beside them
#: Studies in one message of a node that has many to publish (`publish.batch`).
PUBLISHED_AT_ONCE = 100
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
    times = times.on(topology.registry.core_speed)
    network = RegionNetwork(topology)
    day, hour = busiest_hour()
    played = [
        Play(topology, network, times, Demand(topology, year).of_region(day, hour), seed)
        for year in range(years + 1)
    ]
    hours, bound = backfill(topology, times)

    def beside(publications_per_s: float) -> Latency:
        rates = Demand(topology).of_region(day, hour)
        return Play(topology, network, times, rates, seed, publications_per_s).answered(0).find

    return Answer(
        region=topology.name,
        years=years,
        seed=seed,
        hours=tuple(play.answered(year) for year, play in enumerate(played)),
        members=tuple(
            _member(member, network, played[-1], member_needs(member, topology, times, years), topology)
            for member in topology.members
        ),
        purchases=purchases(topology, times, years),
        outages=outages_of(topology, network, times, what_if),
        moves=moves_of(topology, times, what_if, beside),
        hospitals=tuple(_hospital(place, topology, played[-1]) for place in topology.hospitals),
        backfill_hours=hours,
        backfill_bound=bound,
        backfill_find=beside(backfill_per_s(topology, times)) if topology.migrations else None,
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


def _waited(
    random: np.random.Generator, rates: Rates, more_per_s: float, times: ServiceTimes, processes: int
) -> Seconds:
    """How long searches wait for the processes, beside publications; a beginning publishes in batches."""
    streams = (
        (rates.finds, WorkTime(times.find_s, times.variation)),
        (rates.opens, WorkTime(times.relay_s, times.variation)),
        (rates.exams * REVISIONS, WorkTime(1 / times.publish_per_s, 1.0)),
        (more_per_s / PUBLISHED_AT_ONCE, WorkTime(PUBLISHED_AT_ONCE / times.publish_per_s, 0.0)),
    )
    lasts_s = min(PLAYED / rates.finds, _MOST_PLAYED / sum(rate for rate, _ in streams))
    at, work, asked = list[Seconds](), list[Seconds](), list[NDArray[np.bool_]]()
    for number, (rate, takes) in enumerate(streams):
        count = int(rate * lasts_s) if number else max(1, int(rate * lasts_s))
        at.append(arrivals(random, rate, count) if count else np.zeros(0))
        work.append(takes.draw(random, count))
        asked.append(np.full(count, number == 0))
    order = np.argsort(np.concatenate(at), kind="stable")
    waited = waits(np.concatenate(at)[order], np.concatenate(work)[order], processes)
    return random.choice(waited[np.concatenate(asked)[order]], PLAYED)


class Play:
    """One busy hour, played once.

    Args:
        topology: The region. network: Its lines. times: Measured work.
        rates: What comes each second.
        seed: Of what is drawn.
        more_per_s: Studies published each second beside those that are made.
    """

    def __init__(
        self,
        topology: Topology,
        network: RegionNetwork,
        times: ServiceTimes,
        rates: Rates,
        seed: int,
        more_per_s: float = 0.0,
    ) -> None:
        self._topology, self._network, self._times, self.rates = topology, network, times, rates
        random = np.random.default_rng(seed)
        published = rates.exams * REVISIONS + more_per_s
        asked = rates.finds * times.find_s + rates.opens * times.relay_s
        self.busy = (asked + published / times.publish_per_s) / topology.registry.processes
        alone = WorkTime(times.find_alone_s, times.find_alone_variation).draw(random, PLAYED)
        if self.busy >= _FULL:
            self.waited: Seconds = np.full(PLAYED, inf)
        elif rates.finds <= 0:
            self.waited = np.zeros(PLAYED)
        else:
            self.waited = _waited(random, rates, more_per_s, times, topology.registry.processes)
        self.served = self.waited + alone
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
        # the registry asks the holder, which answers
        there = np.array([2 * line.road.rtt_s + line.seconds(PICTURE_MB) for line in far])[holders]
        here = own.road.rtt_s + own.seconds(PICTURE_MB)
        holder: Seconds = there + self._times.first_byte_s + self._pictures
        return self.waited + self._times.relay_s + holder + here


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


def _member(
    member: MemberPlan,
    network: RegionNetwork,
    play: Play,
    needs: tuple[MemberNeed, ...],
    topology: Topology,
) -> MemberAnswer:
    road = network.road(member.code, REGISTRY)
    cut, ways = network.min_cut(member.code)
    return MemberAnswer(
        code=member.code,
        name=member.name,
        road_rtt_s=road.rtt_s,
        ways=ways,
        cut=cut,
        line_mbit_s=road.narrowest.mbit_s,
        line_busy=play.line_busy(member.code),
        find=_latency([play.find_s(member.code)], [1.0]),
        first_image=_latency([play.first_image_s(member.code)], [1.0]),
        needs=needs,
        backfill_hours=member_backfill_hours(member.code, topology),
    )


def _hospital(place: HospitalPlan, topology: Topology, play: Play) -> HospitalAnswer:
    """A member's answers with the hospital's own line before them."""
    member = next(member for member in topology.members if member.code == place.member)
    line = _Line(
        Road((LinkPlan(a=place.name, b=place.member, mbit_s=place.mbit_s, rtt_ms=place.rtt_ms),)),
        place.mbit_s * 1e6,
    )
    find = play.find_s(place.member) + line.road.rtt_s + line.seconds(LIST_MB)
    first = play.first_image_s(place.member) + line.road.rtt_s + line.seconds(PICTURE_MB)
    return HospitalAnswer(
        member=place.member,
        name=place.name,
        exams_per_year=member.exams_per_year * place.share,
        find=_latency([find], [1.0]),
        first_image=_latency([first], [1.0]),
    )
