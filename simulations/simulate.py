"""``crosslight simulate``: what a region will do and need, before it is bought."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import orjson
from rich.console import Console

from crosslight import __version__
from crosslight.runtime.terminal import make_markup_console
from crosslight.standards.problem import ConfigError, CrosslightError
from simulations.topology import read_topology

if TYPE_CHECKING:
    from simulations.capacity.compared import Compared
    from simulations.capacity.service_times import Measured

#: What the extra `simulate` brings.
NEEDED = ("networkx", "matplotlib")
_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class SimulateOptions:
    """What the command line said."""

    region: Path
    years: int
    what_if_file: Path | None
    seed: int
    out: Path | None
    endpoints: Path | None
    times_file: Path | None
    keep: bool
    rounds: int


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
@click.option(
    "--service-times",
    "times_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Service times of your own (`python -m benchmarks --service-times FILE`).",
)
@click.option("--keep", is_flag=True, help="With --compare: keep the error beside the service times.")
@click.option(
    "--rounds",
    type=click.IntRange(1, 100),
    default=8,
    show_default=True,
    help="With --compare: how often everything is asked; the more, the less other work there counts.",
)
def simulate(**given: Any) -> None:
    """What will p95 be, and what must be bought: of a REGION described in a TOML file.

    Plays the busiest hour of each year with service times measured by `make bench`, and writes a report.
    """
    console = make_markup_console()
    try:
        if missing := [name for name in NEEDED if find_spec(name) is None]:
            raise ConfigError(
                f"This needs {' and '.join(missing)}.", todo="pip install 'crosslight[simulate]'"
            )
        status = _simulate(SimulateOptions(**given), console)
    except CrosslightError as error:
        console.print(f"{error.what} {error.why} {error.todo}".strip(), style="bold red", markup=False)
        status = 1
    sys.exit(status)


def _simulate(wanted: SimulateOptions, console: Console) -> int:
    # here, not above: they load libraries that only this command needs
    from simulations.capacity.forecast import answer
    from simulations.capacity.report import render, short_answers
    from simulations.capacity.service_times import FILE, read
    from simulations.capacity.what_if import read_what_if

    topology = read_topology(wanted.region)
    measured = read(wanted.times_file or FILE)
    if wanted.endpoints is not None:
        measured = _compared(wanted, wanted.endpoints, measured, console)
    what_if = read_what_if(wanted.what_if_file) if wanted.what_if_file is not None else None
    answered = answer(topology, measured.times, years=wanted.years, what_if=what_if, seed=wanted.seed)
    shown = what_if.applied(topology) if what_if is not None else topology
    today = datetime.now(UTC).date()
    page = wanted.out or Path(f"{topology.slug}.html")
    page.write_text(render(answered, shown, measured, today), "utf-8")
    if old := measured.age(today):
        console.print(old, style="yellow", markup=False)
    for line in short_answers(answered):
        console.print(f"• {line}", markup=False)
    console.print(f"The report: {page}", markup=False)
    return 0


def _compared(wanted: SimulateOptions, endpoints: Path, measured: Measured, console: Console) -> Measured:
    """The same with how far the forecast is off beside this region; kept where that was asked for."""
    from dataclasses import replace

    from simulations.capacity.compared import Comparison
    from simulations.capacity.comparison import Effort, compare, in_words
    from simulations.capacity.machine import core_s, described
    from simulations.capacity.running import running
    from simulations.capacity.service_times import FILE, Origin, keep_comparison

    def say(text: str) -> None:
        console.print(text, style="dim", markup=False)

    async def work() -> tuple[Compared, ...]:
        async with running(_endpoints(endpoints)) as there:
            return await compare(there, wanted.seed, say, Effort(rounds=wanted.rounds))

    rows = asyncio.run(work())
    for row in rows:
        console.print(in_words(row), markup=False)
    today = datetime.now(UTC).date()
    origin = Origin(measured=today, release=__version__, machine=described(), core_s=core_s())
    if wanted.keep:
        return keep_comparison(rows, origin, wanted.times_file or FILE)
    said = Comparison(measured=today, release=__version__, machine=origin.machine, rows=rows)
    return replace(measured, compared=said)


def _endpoints(path: Path) -> dict[str, Any]:
    try:
        said = orjson.loads(path.read_bytes())
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise ConfigError(f"{path} is no file of crosslight demo --json.", where="--compare")
    return said
