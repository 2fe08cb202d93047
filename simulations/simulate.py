"""``crosslight simulate``: what a region will do and need, before it is bought."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson
from rich.console import Console

from crosslight.runtime.terminal import make_markup_console
from crosslight.standards.problem import ConfigError, CrosslightError
from simulations.topology import read_topology

if TYPE_CHECKING:
    from simulations.capacity.service_times import Measured

#: What the extra `simulate` brings.
NEEDED = ("networkx", "matplotlib")
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@click.command()
@click.argument("region", type=_FILE)
@click.option("--years", type=click.IntRange(1, 30), default=5, show_default=True, help="How far to look.")
@click.option("--what-if", "what_if_file", type=_FILE, help="Changes to the region (TOML).")
@click.option(
    "--seed", type=int, default=1, show_default=True, help="Of what is drawn; the same gives the same."
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The report, one HTML file (the region's name otherwise).",
)
@click.option(
    "--compare",
    "endpoints",
    type=_FILE,
    help="Ask a running region as well, by the file that `crosslight demo --json` writes.",
)
def simulate(
    region: Path, years: int, what_if_file: Path | None, seed: int, out: Path | None, endpoints: Path | None
) -> None:
    """What will p95 be, and what must be bought: of a REGION described in a TOML file.

    Plays the busiest hour of each year with service times measured by `make bench`, and writes a report.
    """
    console = make_markup_console()
    try:
        if missing := [name for name in NEEDED if find_spec(name) is None]:
            raise ConfigError(
                f"This needs {' and '.join(missing)}.", todo="pip install 'crosslight[simulate]'"
            )
        status = _simulate(region, years, what_if_file, seed, out, endpoints, console)
    except CrosslightError as error:
        console.print(f"{error.what} {error.why} {error.todo}".strip(), style="bold red", markup=False)
        status = 1
    sys.exit(status)


def _simulate(
    region: Path,
    years: int,
    what_if_file: Path | None,
    seed: int,
    out: Path | None,
    endpoints: Path | None,
    console: Console,
) -> int:
    # here, not above: they load libraries that only this command needs
    from simulations.capacity.forecast import answer
    from simulations.capacity.report import render, short_answers
    from simulations.capacity.service_times import read
    from simulations.capacity.what_if import read_what_if

    topology = read_topology(region)
    measured = read()
    if endpoints is not None:
        measured = _compared(endpoints, seed, measured, console)
    what_if = read_what_if(what_if_file) if what_if_file is not None else None
    answered = answer(topology, measured.times, years=years, what_if=what_if, seed=seed)
    shown = what_if.applied(topology) if what_if is not None else topology
    today = datetime.now(UTC).date()
    page = out or Path(f"{topology.slug}.html")
    page.write_text(render(answered, shown, measured, today), "utf-8")
    if old := measured.age(today):
        console.print(old, style="yellow", markup=False)
    for line in short_answers(answered):
        console.print(f"• {line}", markup=False)
    console.print(f"The report: {page}", markup=False)
    return 0


def _compared(endpoints: Path, seed: int, measured: Measured, console: Console) -> Measured:
    from dataclasses import replace

    from simulations.capacity.comparison import compare, errors, running

    async def work() -> dict[str, float]:
        async with running(orjson.loads(endpoints.read_bytes())) as there:
            compared = await compare(there, seed, lambda text: console.print(text, style="dim", markup=False))
        for comparison in compared:
            console.print(
                f"{comparison.question} at {comparison.load:.0%}, {comparison.rate:.0f} a second: p95"
                f" {comparison.measured_p95_s * 1000:.0f} ms measured,"
                f" {comparison.predicted_p95_s * 1000:.0f} ms predicted ({100 * comparison.error:+.0f} %)",
                markup=False,
            )
        return errors(compared)

    return replace(measured, errors=asyncio.run(work()))
