"""What a region does in which hour: tables of use, each with its source, and rates made from them.

Sources are named as in docs/simulation.md; what is an assumption says so there.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Final

from simulations.topology import MemberPlan, Topology

DAYS: Final = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
WEEKS_OF_A_YEAR: Final = 365 / 7

#: Day -> its part of a week's exams. Electives are made on weekdays (90 %), emergencies on all days.
WEEKDAYS: Final[Mapping[str, float]] = {
    "Mon": 0.180, "Tue": 0.178, "Wed": 0.176, "Thu": 0.172, "Fri": 0.162, "Sat": 0.072, "Sun": 0.060,
}  # fmt: skip
#: Hour of a weekday -> its part of the day; the peak is from ten to noon, 60 % come from nine to six.
HOURS: Final[tuple[float, ...]] = (
    0.013, 0.011, 0.010, 0.009, 0.009, 0.010, 0.014, 0.025, 0.052, 0.078, 0.088, 0.087,
    0.074, 0.071, 0.076, 0.074, 0.066, 0.053, 0.042, 0.036, 0.031, 0.027, 0.024, 0.020,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Modality:
    """What one kind of study is like.

    Args:
        share: Of all exams.
        median_mb: Size of a study, megabytes; sizes are log-normal.
        p95_mb: 95 of 100 studies are smaller.
        images: In a study, in the mean.
        series: In a study, in the mean.
    """

    share: float
    median_mb: float
    p95_mb: float
    images: float
    series: float


MODALITIES: Final[Mapping[str, Modality]] = {
    "CR/DX": Modality(0.47, 12, 30, 1.6, 1.5),
    "US": Modality(0.22, 40, 250, 40, 1),
    "CT": Modality(0.16, 250, 700, 500, 6),
    "MR": Modality(0.09, 120, 350, 400, 9),
    "XA/RF": Modality(0.025, 80, 400, 60, 3),
    "NM/PT": Modality(0.015, 60, 400, 300, 3),
    "MG": Modality(0.02, 110, 800, 4, 1),
}


def mean_mb(modality: Modality) -> float:
    """Mean size of a study, megabytes, of the log-normal through median and 95th percentile."""
    sigma = log(modality.p95_mb / modality.median_mb) / 1.6449
    return modality.median_mb * exp(sigma * sigma / 2)


def mean_study_mb() -> float:
    """Mean size of a study over all modalities, megabytes."""
    return sum(kind.share * mean_mb(kind) for kind in MODALITIES.values())


def mean_images() -> float:
    """Images of a study, in the mean."""
    return sum(kind.share * kind.images for kind in MODALITIES.values())


def part_of_week(day: str, hour: int) -> float:
    """Which part of a week's exams is made in this hour."""
    return WEEKDAYS[day] * HOURS[hour]


def busiest_hour() -> tuple[str, int]:
    """Weekday and hour with most exams."""
    return max(((day, hour) for day in DAYS for hour in range(24)), key=lambda at: part_of_week(*at))


@dataclass(frozen=True, slots=True)
class Rates:
    """What comes each second."""

    exams: float
    finds: float
    opens: float  # studies of one member opened by people of another

    def times(self, factor: float) -> Rates:
        """All of it, so many times."""
        return Rates(self.exams * factor, self.finds * factor, self.opens * factor)


class Demand:
    """A region's use in any hour of any year.

    Args:
        topology: The region.
        year: Years from now; use grows as ``use.growth_per_year`` says.
    """

    def __init__(self, topology: Topology, year: float = 0.0) -> None:
        self._topology = topology
        self._growth = (1 + topology.use.growth_per_year) ** year
        self._others = 1 + sum(neighbour.find_share for neighbour in topology.neighbours)

    @property
    def exams_per_year(self) -> float:
        """Of all members."""
        made = sum(member.exams_per_year for member in self._topology.members)
        return float(self._growth * made)

    def exams_of(self, member: MemberPlan) -> float:
        """Of one member in the year."""
        return float(self._growth * member.exams_per_year)

    def of_region(self, day: str, hour: int) -> Rates:
        """What comes to the registry in this hour, neighbours included."""
        exams = self.exams_per_year * part_of_week(day, hour) / (WEEKS_OF_A_YEAR * 3600)
        use = self._topology.use
        return Rates(exams, exams * use.finds_per_exam * self._others, exams * use.opens_per_exam)

    def of_member(self, member: MemberPlan, day: str, hour: int) -> Rates:
        """One member's own part of it."""
        whole = sum(other.exams_per_year for other in self._topology.members) or 1
        return self.of_region(day, hour).times(member.exams_per_year / whole)
