"""An answer as one HTML file: the answer first, then tables and plots; it fetches nothing."""

from __future__ import annotations

from datetime import date
from math import isfinite

import jinja2
from markupsafe import Markup

from crosslight import __version__
from simulations.capacity import plots
from simulations.capacity.answers import Answer
from simulations.capacity.demand import busiest_hour
from simulations.capacity.network import RegionNetwork
from simulations.capacity.service_times import Measured
from simulations.topology import Topology


def wait(seconds: float) -> str:
    """A wait as people say it."""
    if not isfinite(seconds):
        return "does not keep up"
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def span(seconds: float) -> str:
    """A longer time as people say it."""
    if not isfinite(seconds):
        return "never"
    if seconds < 1:
        return "less than 1 s"
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def short_answers(answer: Answer) -> list[str]:
    """What a board wants to know, in a few sentences."""
    first, last = answer.hours[0], answer.hours[-1]
    bought = answer.purchases[-1]
    slowest = max(answer.members, key=lambda member: member.first_image.p95_s)
    lines = [
        f"A patient's list is there within {wait(last.find.p95_s)} for 95 of 100 searches in the busiest hour"
        f" of year {answer.years} (now: {wait(first.find.p95_s)}), the first image of another's study within"
        f" {wait(last.first_image.p95_s)}; slowest at {slowest.name}, {wait(slowest.first_image.p95_s)}.",
        f"The registry needs {bought.cores} cores and {bought.disk_gb:,.0f} GB of disk by the end of year"
        f" {answer.years}, and {bought.processes} process{'es' if bought.processes > 1 else ''}.",
    ]
    if answer.backfill_hours:
        lines.append(
            f"What is there already is in the index after {answer.backfill_hours / 24:.1f} days; the bound is"
            f" {answer.backfill_bound}."
        )
    narrow = [member for member in answer.members if member.line_wanted_mbit_s > member.line_mbit_s]
    if narrow:
        lines.append("A wider line is needed at " + ", ".join(member.name for member in narrow) + ".")
    worst = next((outage for outage in answer.outages if outage.isolates), None)
    if worst is not None:
        share = len(worst.isolates) / len(answer.members)
        whom = "everybody" if share == 1 else f"{len(worst.isolates)} of {len(answer.members)}"
        lines.append(
            f"The loss of {worst.name} cuts {whom} off from the others; each goes on with its own archive."
            " The table below names every such point."
        )
    return lines


def belief(measured: Measured) -> str:
    """How right the figures are, by what was tried."""
    if not measured.errors:
        return "The forecast was not compared with a running region yet: crosslight simulate --compare FILE."
    parts = [f"{name}: {100 * error:+.0f} %" for name, error in sorted(measured.errors.items())]
    return (
        "Beside a running region under load, on the machine of the service times, the forecast was off by "
        + ", ".join(parts)
        + " (predicted over measured)."
    )


def render(answer: Answer, topology: Topology, measured: Measured, today: date) -> str:
    """The report."""
    network = RegionNetwork(topology)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("simulations.capacity", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(wait=wait, span=span)
    day, hour = busiest_hour()
    drawn = {
        "week": plots.week(topology),
        "latencies": plots.latencies(answer),
        "disk": plots.disk(answer),
        "drawing": plots.drawing(topology, network),
    }
    return environment.get_template("report.html").render(
        answer=answer,
        topology=topology,
        exams=f"{sum(member.exams_per_year for member in topology.members):,}",
        release=__version__,
        old=measured.age(today),
        keeps_up=all(isfinite(year.find.p95_s) for year in answer.hours),
        short=short_answers(answer),
        busiest=f"{day} {hour}:00",
        # our own drawings, whose texts matplotlib has escaped
        plots={name: Markup(svg) for name, svg in drawn.items()},  # noqa: S704 - see above
        belief=belief(measured),
        machine=measured.machine,
    )
