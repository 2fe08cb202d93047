"""What happens when a line or a place is lost, and when a member moves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from simulations.capacity.answers import Latency, MoveAnswer, OutageAnswer
from simulations.capacity.demand import HOURS, Demand
from simulations.capacity.network import RegionNetwork
from simulations.capacity.purchase import REVISIONS
from simulations.capacity.service_times import ServiceTimes
from simulations.capacity.what_if import LostPlan, WhatIf
from simulations.topology import LinkPlan, Topology

_HOUR_S: Final = 3600.0
#: A member that moves publishes what it made in so many years, where nobody says how much it holds.
YEARS_HELD: Final = 8.0
_BEGINS: Final = 8  # an outage is told as from eight in the morning of a Monday: the day that asks for most


def outages_of(
    topology: Topology, network: RegionNetwork, times: ServiceTimes, what_if: WhatIf | None
) -> tuple[OutageAnswer, ...]:
    """Of what is asked about, else of each single point of failure, by the failures and work that it has.

    Raises:
        ConfigError: for a name of no line or place.
    """
    asked = what_if.lost if what_if is not None and what_if.lost else ()
    lost = asked or tuple(LostPlan(name=point.name, hours=8.0) for point in network.weak_points())
    return tuple(_outage(plan, topology, network, times) for plan in lost)


def _outage(plan: LostPlan, topology: Topology, network: RegionNetwork, times: ServiceTimes) -> OutageAnswer:
    isolates = network.isolated_by(plan.name)
    demand = Demand(topology)
    alone = [member for member in topology.members if member.code in isolates]
    exams = finds = all_finds = 0.0
    for hour, part in _hours(plan.hours):
        own = [demand.of_member(member, "Mon", hour) for member in alone]
        exams += part * _HOUR_S * sum(rates.exams for rates in own)
        finds += part * _HOUR_S * sum(rates.finds for rates in own)
        all_finds += part * _HOUR_S * demand.of_region("Mon", hour).finds
    free = 1 - _busy(demand, times, topology.registry.processes)
    return OutageAnswer(
        name=plan.name,
        hours=plan.hours,
        isolates=isolates,
        waiting=exams,
        catch_up_s=exams * REVISIONS / (times.publish_per_s * topology.registry.processes * free),
        partial_finds=max(0.0, all_finds - finds) if isolates else 0.0,
        alone_finds=finds,
        expected_hours_per_year=_expected_hours(plan.name, topology),
    )


def _hours(hours: float) -> list[tuple[int, float]]:
    """The hours of the day that an outage takes, each with its part."""
    whole = int(hours)
    parts = [((_BEGINS + n) % 24, 1.0) for n in range(whole)]
    return [*parts, ((_BEGINS + whole) % 24, hours - whole)]


def _busy(demand: Demand, times: ServiceTimes, processes: int) -> float:
    """Part of the processes' time that searches and publications take in a mean hour of a Monday."""
    rates = [demand.of_region("Mon", hour) for hour in range(len(HOURS))]
    mean = sum(r.finds * times.find_s + r.exams * REVISIONS / times.publish_per_s for r in rates) / len(rates)
    return min(0.95, mean / processes)


def _expected_hours(name: str, topology: Topology) -> float:
    """Of failures and planned work in a year; a place has neither of its own here."""
    link = next((link for link in topology.links if link.name == name), None)
    if link is None:
        return 0.0
    planned = sum(
        52 / work.every_weeks * work.hours for work in topology.planned_outages if work.link == name
    )
    return _failing_hours(link) + planned


def _failing_hours(link: LinkPlan) -> float:
    return link.failures_per_year * link.repair_hours


def moves_of(
    topology: Topology,
    times: ServiceTimes,
    what_if: WhatIf | None,
    beside: Callable[[float], Latency],
) -> tuple[MoveAnswer, ...]:
    """Of each member that is asked about; ``beside`` is how searches fare beside so many publications."""
    exams = {member.code: member.exams_per_year for member in topology.members}
    moves = []
    for move in what_if.moves if what_if is not None else ():
        studies = move.studies or exams[move.member] * YEARS_HELD
        per_s = min(move.per_second, times.publish_per_s)
        moves.append(
            MoveAnswer(
                member=move.member,
                studies=studies,
                hours=studies / per_s / _HOUR_S,
                busy=per_s / times.publish_per_s / topology.registry.processes,
                find=beside(per_s),
            )
        )
    return tuple(moves)
