"""A forecast beside what was measured, as values that are kept and told."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any, Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Compared:
    """One question at one load; all in seconds.

    Args:
        question: What was asked, as people say it. load: Part of the most that the region answers.
        rate: Asked each second.
    """

    question: str
    load: float
    rate: float
    measured_p50_s: float
    measured_p95_s: float
    predicted_p50_s: float
    predicted_p95_s: float

    @property
    def p50_error(self) -> float:
        """Of the median: predicted over measured, less one."""
        return self.predicted_p50_s / self.measured_p50_s - 1

    @property
    def p95_error(self) -> float:
        """Of the 95th percentile: predicted over measured, less one."""
        return self.predicted_p95_s / self.measured_p95_s - 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One comparison of the forecast with a region that ran."""

    measured: date
    release: str
    machine: str
    rows: tuple[Compared, ...]

    @property
    def worst(self) -> float:
        """The largest error of any percentile, either way."""
        return max((abs(e) for row in self.rows for e in (row.p50_error, row.p95_error)), default=0.0)

    @classmethod
    def from_plain(cls, said: Mapping[str, Any]) -> Self:
        """Read what :meth:`plain` gave."""
        return cls(
            measured=date.fromisoformat(said["measured"]),
            release=str(said["release"]),
            machine=str(said["machine"]),
            rows=tuple(Compared(**row) for row in said["rows"]),
        )

    def plain(self) -> dict[str, Any]:
        """As JSON-able data."""
        return asdict(self)
