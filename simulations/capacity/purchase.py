"""What must be bought, and how long the beginning takes: arithmetic on measured figures."""

from __future__ import annotations

from math import ceil
from typing import Final

from simulations.capacity.answers import YearPurchase
from simulations.capacity.demand import Demand, busiest_hour
from simulations.capacity.service_times import ServiceTimes
from simulations.topology import Topology

#: Messages of one published study: first, and as complete.
REVISIONS: Final = 2.0
#: A process that works more than this of its busiest hour lets people wait; processors keep half for bursts.
PROCESS_BUSY: Final = 0.6
CORES_BUSY: Final = 0.5
#: An index that is updated grows beyond its rows; measured at 1.3 for PostgreSQL (scale measurements).
BLOAT: Final = 1.3
#: Write-ahead log that is kept for a standby and for a point in time, gigabytes.
WAL_GB: Final = 16.0
#: Studies of one patient, in the mean of a region that has run for years.
STUDIES_OF_A_PATIENT: Final = 10.0
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
        index_gb = studies * (times.study_bytes + times.patient_bytes / STUDIES_OF_A_PATIENT) * BLOAT / 1e9
        bought.append(
            YearPurchase(
                year=year,
                studies=studies,
                processes=max(1, ceil(processes)),
                cores=max(2, ceil(cores)),
                disk_gb=index_gb + WAL_GB + acts * times.act_bytes / 1e9,
            )
        )
    return tuple(bought)


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
