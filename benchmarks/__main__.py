"""``python -m benchmarks``: measure, print the tables, write docs/benchmarks.md."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console

from benchmarks import backfill, before_after, dicom, latency, registry, retrieve, security, tunnel
from benchmarks.load import BadAnswerError
from benchmarks.options import Options
from benchmarks.peers import MissingError
from benchmarks.report import Section, commit, machine, show, write
from crosslight import __version__
from crosslight.runtime.log import setup_logging
from simulations.capacity import service_times
from simulations.capacity.machine import core_s, described

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks.md"
PARTS: dict[str, Callable[[Options], Awaitable[list[Section]]]] = {
    "dicom": dicom.measure,
    "retrieve": retrieve.measure,
    "backfill": backfill.measure,
    "registry": registry.measure,
    "latency": latency.measure,
    "security": security.measure,
    "tunnel": tunnel.measure,
}


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--quick", is_flag=True, help="Small and short: for a first look, not for publishing.")
@click.option(
    "--studies",
    type=click.IntRange(1000, 10_000_000),
    help="Studies in each registry (100,000; quick: 5,000).",
)
@click.option(
    "--held",
    type=click.IntRange(10, 1_000_000),
    help="Studies in each archive of the parts retrieve and backfill (10,000; quick: 300).",
)
@click.option("--only", multiple=True, type=click.Choice(list(PARTS)), help="Only these parts.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where the page goes (whole runs: docs/benchmarks.md).",
)
@click.option(
    "--service-times",
    "times_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Where service times for `crosslight simulate` go (whole runs: simulations/capacity).",
)
@click.option(
    "--before",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    help="A checkout of an earlier release, after `make dev` there: it is measured too.",
)
def main(
    quick: bool,
    studies: int | None,
    held: int | None,
    only: tuple[str, ...],
    out: Path | None,
    times_file: Path | None,
    before: Path | None,
) -> None:
    """Measure Crosslight beside Orthanc and above a floor, on this machine.

    Only ratios of one run mean something.
    """
    setup_logging(level="error")
    console = Console(width=max(150, Console().width))
    facts, started = machine(), time.monotonic()
    sections: list[Section] = []

    def say(text: str) -> None:
        console.print(f"[{time.monotonic() - started:4.0f} s] {text}", style="dim", markup=False)

    with tempfile.TemporaryDirectory(prefix="crosslight-bench-") as folder:
        options = Options(
            Path(folder),
            quick,
            studies or (5_000 if quick else 100_000),
            held or (300 if quick else 10_000),
            say,
        )
        for name in only or PARTS:
            try:
                sections += asyncio.run(_part(PARTS[name], options))
            except (BadAnswerError, MissingError) as error:
                show(console, sections)
                raise click.ClickException(f"{name}: {error}") from error
        if before is not None:
            try:
                sections.append(before_after.measure(options, before.resolve()))
            except MissingError as error:
                show(console, sections)
                raise click.ClickException(f"before and after: {error}") from error
    facts.append(("Duration", f"{time.monotonic() - started:.0f} s"))
    show(console, sections)
    whole = not quick and not only
    if page := out or (PAGE if whole else None):
        write(page, facts, " ".join(sys.argv[1:] if not out else ()), sections)
        console.print(f"Written: {page.name}")
    else:
        console.print("docs/benchmarks.md is written by whole runs only; --out FILE writes this one.")
    if times_file or whole:
        kept = keep_service_times(sections, times_file or service_times.FILE)
        console.print(f"Service times for crosslight simulate: {', '.join(kept) or 'none measured'}")


def keep_service_times(sections: Iterable[Section], path: Path) -> list[str]:
    """Write what ``crosslight simulate`` counts with; what was measured, by name."""
    # a quick run may see no processor time at all: it is counted in hundredths of a second
    values = {n: value for section in sections for n, value in section.measured.items() if value > 0}
    origin = service_times.Origin(
        measured=datetime.now(UTC).date(),
        release=__version__,
        commit=commit(),
        machine=described(),
        core_s=core_s(),
    )
    service_times.write(values, origin, path)
    return sorted(values)


async def _part(measure: Callable[[Options], Awaitable[list[Section]]], options: Options) -> list[Section]:
    return await measure(options)


if __name__ == "__main__":
    main()
