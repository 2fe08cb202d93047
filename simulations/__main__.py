"""The ``crosslight`` command."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import click

from crosslight import __version__
from crosslight.runtime.command import Commands
from crosslight.runtime.config import LOOPBACK
from crosslight.runtime.log import setup_logging
from crosslight.runtime.terminal import make_markup_console
from crosslight.standards.problem import CrosslightError
from simulations.demo import Demo, DemoOptions
from simulations.doctor import doctor
from simulations.drill import drill
from simulations.simulate import simulate
from simulations.topology import FOREIGN_REGION, read_topology, topology_path


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__)
def main() -> None:
    """Crosslight: a federated cross-site image discovery network.

    `crosslight demo` brings up a whole region on this machine; `crosslight-registry` and `crosslight-node`
    are the two sides.
    """
    setup_logging(level="warning")


@main.command()
@click.option("--once", is_flag=True, help="Play the story, and end: status 0 only if every step held.")
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("demo-data"),
    show_default=True,
    help="Where everything is kept.",
)
@click.option(
    "--port-base",
    type=click.IntRange(1024, 65000),
    default=8600,
    show_default=True,
    help="First port; the registry takes four, each node three of the next tens.",
)
@click.option(
    "--region",
    "region_file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="A region description (TOML); Surrey and Sussex without one.",
)
@click.option(
    "--open",
    "open_mode",
    is_flag=True,
    help="No authentication and no TLS, loopback only: for pointing ordinary tools at it.",
)
@click.option(
    "--foreign",
    is_flag=True,
    help="Beside archives of others (Orthanc, dcmqrscp, a folder, an object store); North Central London"
    " without --region.",
)
@click.option(
    "--bind",
    default="127.0.0.1",
    show_default=True,
    help="Address to listen on; the demo knows loopback only.",
)
@click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write addresses, tokens and contents to this file when all is up.",
)
@click.option(
    "--restart-after",
    "restart_after_s",
    type=click.FloatRange(0),
    default=20.0,
    show_default=True,
    help="Seconds until a process killed from outside is started again; 0 = never.",
)
def demo(
    once: bool,
    data: Path,
    port_base: int,
    region_file: Path | None,
    open_mode: bool,
    foreign: bool,
    bind: str,
    json_path: Path | None,
    restart_after_s: float,
) -> None:
    """A region of real processes on loopback, the story of what it can do, and then the region until Ctrl-C.

    A second run starts from the kept state without playing the story again; --once always plays it.
    """
    if bind not in LOOPBACK:
        why = "An open demo on the network would show everything to everyone. " if open_mode else ""
        raise click.UsageError(
            f"{why}The demo listens on loopback only; use crosslight-registry and crosslight-node for a"
            " network."
        )
    console = make_markup_console()
    try:
        topology = read_topology(region_file or (topology_path(FOREIGN_REGION) if foreign else None))
        options = DemoOptions(
            topology=topology,
            data=data,
            port_base=port_base,
            once=once,
            open_mode=open_mode,
            json_path=json_path.resolve() if json_path else None,
            restart_after_s=restart_after_s,
            foreign=foreign,
        )
        status = asyncio.run(Demo(options, console).run())
    except CrosslightError as error:
        console.print(f"[bold red]{error.what}[/bold red] {error.why} {error.todo}", markup=True)
        status = 1
    sys.exit(status)


main.add_command(doctor)
main.add_command(drill)
main.add_command(simulate)

if __name__ == "__main__":
    main()
