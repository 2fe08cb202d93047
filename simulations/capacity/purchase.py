"""What must be bought, and how long the beginning takes: arithmetic on measured figures."""

from __future__ import annotations

from math import ceil
from typing import Final

from simulations.capacity.answers import MemberNeed, YearPurchase
from simulations.capacity.demand import Demand, Rates, busiest_hour, mean_images, mean_study_mb
from simulations.capacity.service_times import ServiceTimes
from simulations.topology import MemberPlan, Topology

#: Messages of one published study: first, and as complete.
REVISIONS: Final = 2.0
#: A process that works more than this of its busiest hour lets people wait; processors keep half for bursts.
PROCESS_BUSY: Final = 0.6
CORES_BUSY: Final = 0.5
LINE_BUSY: Final = 0.5
#: An index that is updated grows beyond its rows; measured at 1.3 for PostgreSQL (scale measurements).
BLOAT: Final = 1.3
#: Write-ahead log that is kept for a standby and for a point in time, gigabytes.
WAL_GB: Final = 16.0
#: Studies under one member's record of a patient, in the mean of a region that has run for years.
STUDIES_OF_A_RECORD: Final = 6.0
#: A node's database, of each image, bytes (measured on the demo: metadata, rows and their indexes).
NODE_IMAGE_BYTES: Final = 1800.0
_HOUR_S = 3600.0


def purchases(topology: Topology, times: ServiceTimes, years: int) -> tuple[YearPurchase, ...]:
    """What the registry needs at the end of each year.

    Audit is kept for ever unless an operator ends it, and is most of the disk.
    """
    at = busiest_hour()
    studies = float(sum(migration.studies for migration in topology.migrations))
    acts = 0.0
    bought = []
    for year in range(1, years + 1):
        demand = Demand(topology, year)
        rates = demand.of_region(*at)
        studies += demand.exams_per_year
        acts += demand.exams_per_year * (
            topology.use.finds_per_exam + topology.use.opens_per_exam + REVISIONS
        )
        processes = (
            rates.finds * times.find_s + rates.exams * REVISIONS / times.publish_per_s
        ) / PROCESS_BUSY
        cores = (rates.finds * times.find_cpu_s + rates.exams * REVISIONS * times.publish_cpu_s) / CORES_BUSY
        index_gb = studies * (times.study_bytes + times.patient_bytes / STUDIES_OF_A_RECORD) * BLOAT / 1e9
        bought.append(
            YearPurchase(
                year=year,
                studies=studies,
                processes=max(1, ceil(processes)),
                cores=max(2, ceil(cores)),
                index_gb=index_gb,
                audit_gb=acts * times.act_bytes / 1e9,
                log_gb=WAL_GB,
                line_mbit_s=line_wanted_mbit_s(rates),
            )
        )
    return tuple(bought)


def line_wanted_mbit_s(rates: Rates) -> float:
    """What a line should carry for the studies that are opened over it, megabits each second."""
    return rates.opens * mean_study_mb() * 8 / LINE_BUSY


def member_needs(
    member: MemberPlan, topology: Topology, times: ServiceTimes, years: int
) -> tuple[MemberNeed, ...]:
    """What a member must have at the end of each year."""
    at, made, needs = busiest_hour(), float(held_before(member.code, topology)), list[MemberNeed]()
    new = 0.0
    for year in range(1, years + 1):
        demand = Demand(topology, year)
        rates = demand.of_member(member, *at)
        exams = demand.exams_of(member)
        made, new = made + exams, new + exams
        images = rates.exams * mean_images()
        sent = rates.opens * (times.picture_s + mean_study_mb() / times.stream_mb_s)
        needs.append(
            MemberNeed(
                year=year,
                cores=max(2, ceil((images * times.store_cpu_s + sent) / CORES_BUSY)),
                database_gb=made * mean_images() * NODE_IMAGE_BYTES / 1e9,
                images_tb=new * mean_study_mb() / 1e6,
                line_mbit_s=line_wanted_mbit_s(rates),
            )
        )
    return tuple(needs)


def held_before(code: str, topology: Topology) -> int:
    """Studies that a member has before the region is."""
    return sum(migration.studies for migration in topology.migrations if migration.member == code)


def backfill_per_s(topology: Topology, times: ServiceTimes) -> float:
    """Studies each second that all old archives together publish while none is done."""
    members = {migration.member for migration in topology.migrations}
    asked = sum(max(m.per_second for m in topology.migrations if m.member == code) for code in members)
    return min(asked, times.publish_per_s * topology.registry.processes)


def member_backfill_hours(code: str, topology: Topology) -> float:
    """How long a member's old archives take by themselves, read one after the other at the rate they bear."""
    return sum(m.studies / m.per_second for m in topology.migrations if m.member == code) / _HOUR_S


def backfill(topology: Topology, times: ServiceTimes) -> tuple[float, str]:
    """How long until all old studies are in the index, hours, and what bounds it, in words."""
    if not topology.migrations:
        return 0.0, ""
    slowest = max((member_backfill_hours(member.code, topology), member.name) for member in topology.members)
    studies = sum(migration.studies for migration in topology.migrations)
    registry = studies / (times.publish_per_s * topology.registry.processes) / _HOUR_S
    if registry > slowest[0]:
        return registry, "what the registry's processes take"
    return slowest[0], f"what may be asked of the archives of {slowest[1]}"
