"""The protocol of drills as one HTML file: the verdict first; it fetches nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import jinja2

from crosslight import __version__
from simulations.drills.record import Judged, Record
from simulations.topology import Topology


def seconds(value: float | None) -> str:
    """A measured time, '' where none was."""
    if value is None:
        return ""
    return f"{value:.1f} s" if value < 120 else f"{value / 60:.0f} min"


def allowed(value: float | None) -> str:
    """How long something may take, '' where there is no such bound."""
    return "" if value is None else f"{value:.0f} s"


def verdict(records: Sequence[Record]) -> str:
    """All of it in one sentence."""
    failed = [record.title for record in records if not record.passed]
    if not records:
        return "No drill was played."
    if failed:
        return f"{len(failed)} of {len(records)} drills failed: {', '.join(failed)}."
    return "The drill passed." if len(records) == 1 else f"All {len(records)} drills passed."


def longest(record: Record) -> Judged | None:
    """What took longest of all that was measured."""
    timed = [one for one in record.judged if one.took_s is not None]
    return max(timed, key=lambda one: one.took_s or 0.0, default=None)


def render(records: Sequence[Record], topology: Topology, place: str) -> str:
    """The report.

    Args:
        place: Where it was played, as people call it.
    """
    zone = ZoneInfo(topology.zone)

    def clock(at: datetime) -> str:
        return at.astimezone(zone).strftime("%H:%M:%S")

    def day(at: datetime) -> str:
        return at.astimezone(zone).strftime("%-d %B %Y, %H:%M %Z")

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("simulations.drills", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(seconds=seconds, allowed=allowed, clock=clock, day=day)
    return environment.get_template("report.html").render(
        records=records,
        topology=topology,
        place=place,
        verdict=verdict(records),
        passed=bool(records) and all(record.passed for record in records),
        longest=longest,
        release=__version__,
    )
