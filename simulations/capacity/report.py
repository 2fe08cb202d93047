"""An answer as one HTML file: the answer first, then tables and plots; it fetches nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import date
from math import isfinite

import jinja2
from markupsafe import Markup

from crosslight import __version__
from simulations.capacity import plots
from simulations.capacity.answers import Answer
from simulations.capacity.demand import busiest_hour
from simulations.capacity.network import REGISTRY, RegionNetwork
from simulations.capacity.service_times import Measured
from simulations.topology import Topology

#: The worst are shown; the others are there to unfold.
SHOWN_OUTAGES = 8


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


def short_name(name: str) -> str:
    """A member's name as a table and a plot have room for it."""
    for word in (" NHS Foundation Trust", " NHS Trust", " for Children"):
        name = name.removesuffix(word)
    return name.removeprefix("NHS ")


def place_of(called: Mapping[str, str]) -> Callable[[str], str]:
    """Says a place, or a line between two, by names instead of codes."""

    def place(name: str) -> str:
        ends = name.split("-", 1) if name not in called else [name]
        return " – ".join(called.get(end, end) for end in ends)

    return place


def size(gigabytes: float) -> str:
    """Of a disk."""
    return f"{gigabytes / 1000:,.1f} TB" if gigabytes >= 1000 else f"{gigabytes:,.0f} GB"


def short_answers(answer: Answer) -> list[str]:
    """What a board wants to know, in a few sentences."""
    return [line for line in (_waits(answer), _registry(answer), _beginning(answer), *_lines(answer)) if line]


def _waits(answer: Answer) -> str:
    first, last = answer.hours[0], answer.hours[-1]
    slowest = max(answer.members, key=lambda member: member.first_image.p95_s)
    return (
        f"A patient's list is there within {wait(last.find.p95_s)} for 95 of 100 searches in the busiest hour"
        f" of year {answer.years} (now: {wait(first.find.p95_s)}), the first image of another's study within"
        f" {wait(last.first_image.p95_s)}; slowest at {short_name(slowest.name)},"
        f" {wait(slowest.first_image.p95_s)}."
    )


def _registry(answer: Answer) -> str:
    bought = answer.purchases[-1]
    return (
        f"The registry needs {bought.cores} cores, {size(bought.disk_gb)} of disk and a line of"
        f" {bought.line_mbit_s:,.0f} Mb/s by the end of year {answer.years}, and {bought.processes}"
        f" process{'es' if bought.processes > 1 else ''}. Each member needs a node of"
        f" {max(need.cores for member in answer.members for need in member.needs[-1:])} cores and up to"
        f" {size(max(member.needs[-1].database_gb for member in answer.members))} for its own database."
    )


def _beginning(answer: Answer) -> str:
    if not answer.backfill_hours or answer.backfill_find is None:
        return "Nothing is migrated: the index fills as examinations are made."
    return (
        f"What is there already is in the index after {answer.backfill_hours / 24:.1f} days; the bound is"
        f" {answer.backfill_bound}. Meanwhile 95 of 100 searches of the busiest hour are answered within"
        f" {wait(answer.backfill_find.p95_s)}."
    )


def _lines(answer: Answer) -> list[str]:
    lines = []
    narrow = [m.name for m in answer.members if m.needs[-1].line_mbit_s > m.line_mbit_s]
    if narrow:
        lines.append(
            f"A wider line is needed at {', '.join(map(short_name, narrow))}: images would take more than"
            f" half of what is there by year {answer.years}."
        )
    worst = next((outage for outage in answer.outages if outage.isolates), None)
    if worst is not None:
        share = len(worst.isolates) / len(answer.members)
        whom = "everybody" if share == 1 else f"{len(worst.isolates)} of {len(answer.members)}"
        name = "the registry" if worst.name == REGISTRY else worst.name
        lines.append(
            f"The loss of {name} for {worst.hours:.0f} hours of a working day cuts {whom} off from the"
            f" others: {worst.alone_finds:,.0f} searches are answered from the own archive alone,"
            f" {worst.waiting:,.0f} studies wait and are published within {span(worst.catch_up_s)} after it."
            " Nothing is lost."
        )
    return lines


def key_figures(answer: Answer) -> list[tuple[str, str]]:
    """The few numbers of it, each with what it is."""
    last, bought = answer.hours[-1], answer.purchases[-1]
    figures = [
        (wait(last.find.p95_s), "until a patient's list is there (95 of 100)"),
        (wait(last.first_image.p95_s), "until the first image of another's study (95 of 100)"),
        (f"{bought.cores} cores", f"and {size(bought.disk_gb)} for the registry, year {answer.years}"),
    ]
    if answer.backfill_hours:
        figures.append((f"{answer.backfill_hours / 24:.1f} days", "until what exists is in the index"))
    alone = [outage for outage in answer.outages if len(outage.isolates) == len(answer.members)]
    figures.append((str(len(alone)), "places or lines whose loss cuts everybody off"))
    return figures


def belief(measured: Measured) -> str:
    """How right the figures are, by what was tried."""
    compared = measured.compared
    if compared is None:
        return "The forecast was not compared with a running region yet: crosslight simulate --compare FILE."
    return (
        f"On {compared.measured.isoformat()} the same questions were asked of a running region (release"
        f" {compared.release}, {compared.machine}), whose machine also asked them and did other work. The"
        f" forecast was off by {100 * compared.worst:.0f} % at most."
    )


def render(answer: Answer, topology: Topology, measured: Measured, today: date) -> str:
    """The report."""
    network = RegionNetwork(topology)
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("simulations.capacity", "."),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    called = {member.code: short_name(member.name) for member in topology.members}
    environment.filters.update(wait=wait, span=span, short=short_name, size=size, place=place_of(called))
    day, hour = busiest_hour()
    drawn = {
        "week": plots.week(topology),
        "latencies": plots.latencies(answer, called),
        "disk": plots.disk(answer),
        "drawing": plots.drawing(topology, network, called),
    }
    return environment.get_template("report.html").render(
        answer=answer,
        topology=topology,
        exams=f"{sum(member.exams_per_year for member in topology.members):,}",
        release=__version__,
        old=measured.age(today),
        keeps_up=all(isfinite(year.find.p95_s) for year in answer.hours),
        short=short_answers(answer),
        figures=key_figures(answer),
        shown_outages=SHOWN_OUTAGES,
        busiest=f"{day} {hour}:00",
        # our own drawings, whose texts matplotlib has escaped
        plots={name: Markup(svg) for name, svg in drawn.items()},  # noqa: S704 - see above
        belief=belief(measured),
        origin=measured.latest,
        compared=measured.compared,
    )
