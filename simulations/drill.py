"""``crosslight drill``: rehearse what goes wrong in a region, with a verdict and a protocol."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import orjson
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from crosslight.runtime.terminal import make_console
from crosslight.standards.problem import CrosslightError
from simulations.topology import Topology, read_topology

if TYPE_CHECKING:
    from simulations.drills.record import Record
    from simulations.drills.table import Drill
    from simulations.region import DemoRegion

_FILE = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("names", nargs=-1, metavar="[NAME]...")
@click.option("--all", "everything", is_flag=True, help="Play all drills, one after another.")
@click.option(
    "--demo",
    "endpoints",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Play on a running demo, by the file that `crosslight demo --json` writes; otherwise on a region of"
    " their own.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("drill-data"),
    show_default=True,
    help="Where a region of their own is kept; a second run starts sooner.",
)
@click.option(
    "--port-base",
    type=click.IntRange(1024, 65000),
    default=9600,
    show_default=True,
    help="Its first port.",
)
@click.option("--region", "region_file", type=_FILE, help="A region description (TOML), as for `demo`.")
@click.option("--json", "json_path", type=_FILE, help="Write verdicts and protocols to this file.")
@click.option("--report", "report_path", type=_FILE, help="Write the protocol for readers, one HTML file.")
def drill(
    names: tuple[str, ...],
    everything: bool,
    endpoints: Path | None,
    data: Path,
    port_base: int,
    region_file: Path | None,
    json_path: Path | None,
    report_path: Path | None,
) -> None:
    """Rehearse what goes wrong in a region: real faults done to real processes, and a verdict.

    Without a NAME it lists the drills. Status 0 only if all that had to hold did. For synthetic patients, and
    never on a region with real ones.
    """
    # here, not above: they load libraries that the other commands do without
    from simulations.drills.printing import show_list, show_records
    from simulations.drills.report import render
    from simulations.drills.table import DRILLS

    console = make_console()
    known = {one.name: one for one in DRILLS}
    if unknown := [name for name in names if name not in known]:
        raise click.UsageError(f"There is no drill {', '.join(unknown)}; there are: {', '.join(known)}.")
    chosen = DRILLS if everything else tuple(known[name] for name in names)
    if not chosen:
        show_list(console, DRILLS)
        return
    try:
        topology = read_topology(region_file)
        stage = Stage(topology, endpoints, data, port_base, console)
        records = asyncio.run(stage.play(chosen))
        show_records(console, records)
        if json_path is not None:
            plain = {"region": topology.name, "drills": [record.plain() for record in records]}
            json_path.write_bytes(orjson.dumps(plain, option=orjson.OPT_INDENT_2))
        if report_path is not None:
            place = "on a running demo" if endpoints is not None else "on a region made for it"
            report_path.write_text(render(records, topology, place), "utf-8")
            console.print(f"The report: {report_path}")
    except CrosslightError as error:
        console.print(f"{error.what} {error.why} {error.todo}".strip(), style="bold red")
        sys.exit(1)
    sys.exit(0 if len(records) == len(chosen) and all(record.passed for record in records) else 1)


class Stage:
    """Where drills are played: a demo that runs, or a region of their own.

    Args:
        endpoints: Of the running demo; None for a region of their own in ``data``, ports from ``port_base``.
    """

    def __init__(
        self, topology: Topology, endpoints: Path | None, data: Path, port_base: int, console: Console
    ) -> None:
        self._topology, self._endpoints = topology, endpoints
        self._data, self._port_base, self._console = data, port_base, console

    async def play(self, drills: Sequence[Drill]) -> list[Record]:
        """Play each; their records, fewer where somebody ended it by Ctrl-C."""
        records: list[Record] = []
        main = asyncio.create_task(self._play(drills, records))
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, main.cancel)
        try:
            await main
        except asyncio.CancelledError:
            self._console.print("Ended before its time.")
        return records

    async def _play(self, drills: Sequence[Drill], records: list[Record]) -> None:
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
        ) as bar:
            task = bar.add_task("Starting the region …")
            async with self._region(lambda text: bar.update(task, description=text)) as region:
                for one in drills:
                    bar.reset(task, description=one.title)
                    record = await self._one(one, region, lambda text: self._line(bar, text))
                    records.append(record)

    def _line(self, bar: Progress, text: str) -> None:
        bar.console.print(f"  {text}", style="dim")

    async def _one(self, one: Drill, region: DemoRegion, say: Callable[[str], None]) -> Record:
        from simulations.drills.play import play_one

        self._console.print(one.title, style="bold")
        self._console.print(f"  {one.about}")
        return await play_one(one, region, say, clear=self._endpoints is not None)

    @asynccontextmanager
    async def _region(self, say: Callable[[str], None]) -> AsyncIterator[DemoRegion]:
        from simulations.bring_up import bring_up, claim_places
        from simulations.drills.attached import attached
        from simulations.folder_claim import FolderClaim
        from simulations.region import DemoRegion

        if self._endpoints is not None:
            region = await attached(self._endpoints, self._topology)
        else:
            region = DemoRegion(topology=self._topology, data=self._data, port_base=self._port_base)
        try:
            if self._endpoints is None:
                claim = FolderClaim()
                await bring_up(region, claim, say, fresh=await claim_places(region, claim))
            yield region
        finally:
            await region.stop()
