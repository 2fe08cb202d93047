"""A node whose clock is wrong: ``python -m simulations.drills.clocked SECONDS --dir FOLDER serve``.

The node's own code and listeners, with another ``Seams.clock``. What OpenSSL and the kernel take for the time
stays right: whether a certificate has begun or ended is judged by them.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import click

from crosslight.runtime.clock import SystemClock
from crosslight.runtime.log import setup_logging
from crosslight.runtime.seams import system_seams
from crosslight.runtime.serving import serve as serve_until_told
from node.app import NodeApp
from node.config import read_config
from node.serve.bounded_child import reading_workers


class WrongClock(SystemClock):
    """The real one, so many seconds ahead."""

    def __init__(self, ahead_s: float) -> None:
        self._ahead = timedelta(seconds=ahead_s)

    def now(self) -> datetime:
        return super().now() + self._ahead


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("ahead_s", type=float)
@click.option("--dir", "folder", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.argument("word", type=click.Choice(["serve"]))
def main(ahead_s: float, folder: Path, word: str) -> None:
    """Run the node in FOLDER with its clock AHEAD_S seconds ahead (before 0: behind)."""
    config = read_config(folder)
    setup_logging(level=config.log.level, json=config.log.json)
    seams = replace(system_seams(workers=reading_workers()), clock=WrongClock(ahead_s))
    asyncio.run(serve_until_told(NodeApp(folder, config, seams), "node"))


if __name__ == "__main__":
    main()
