"""``python -m simulations.faults``: play seeds, a few at once, until all are played or the time is over."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from itertools import islice
from pathlib import Path

import click
from rich.progress import Progress

from crosslight.runtime.log import setup_logging
from crosslight.runtime.terminal import make_markup_console
from simulations.faults.plan import plan
from simulations.faults.run import RunOutcome, play
from simulations.faults.shrink import shrink

TAIL = 60  # lines of a trace that are printed


def play_seed(seed: int) -> RunOutcome:
    """One seed, in a process of its own."""
    setup_logging(level="critical")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # of lives that ended in a crash
    return play(seed, plan(seed))


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    try:
        return range(int(first), int(last or first) + 1)
    except ValueError:
        raise click.BadParameter(f"{text} is no range of seeds: 1-50") from None


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("seeds")
@click.option("--minutes", type=click.FloatRange(0), help="No new seed after so long.")
@click.option(
    "--resume",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Keep here which seeds held, and leave them out next time.",
)
@click.option("--jobs", type=click.IntRange(1, 64), default=os.cpu_count() or 1, help="So many at once.")
def main(seeds: str, minutes: float | None, resume: Path | None, jobs: int) -> None:
    """Play SEEDS (1-50) of a region with faults, and end with status 1 where something did not hold."""
    console, begun = make_markup_console(), time.monotonic()
    passed = (
        {int(line) for line in resume.read_text().split()}
        if resume is not None and resume.exists()
        else set()
    )
    todo = [seed for seed in _seeds(seeds) if seed not in passed]
    failed: list[RunOutcome] = []
    played, virtual = 0, 0.0
    with Progress(console=console) as progress, ProcessPoolExecutor(jobs) as pool:
        task = progress.add_task("seeds", total=len(todo))
        for outcome in _played(pool, todo, jobs, begun + minutes * 60 if minutes else None):
            played, virtual = played + 1, virtual + outcome.seconds
            progress.advance(task)
            if outcome.broken:
                failed.append(outcome)
                progress.console.print(f"seed {outcome.seed}: {outcome.broken}", markup=False)
            elif resume is not None:
                resume.parent.mkdir(parents=True, exist_ok=True)
                with resume.open("a") as kept:
                    kept.write(f"{outcome.seed}\n")
    took = time.monotonic() - begun
    console.print(
        f"{played} seeds, {played - len(failed)} held, {60 * played / took:.0f} a minute,"
        f" {virtual / took:.0f} times real time"
    )
    if failed:
        _tell(failed[0])
    sys.exit(1 if failed else 0)


def _played(
    pool: ProcessPoolExecutor, todo: list[int], jobs: int, until: float | None
) -> Iterator[RunOutcome]:
    left = iter(todo)
    running: set[Future[RunOutcome]] = {pool.submit(play_seed, seed) for seed in islice(left, jobs)}
    while running:
        done, running = wait(running, return_when=FIRST_COMPLETED)
        for future in done:
            yield future.result()
            if until is None or time.monotonic() < until:
                running |= {pool.submit(play_seed, seed) for seed in islice(left, 1)}


def _tell(outcome: RunOutcome) -> None:
    """The shortest plan that fails alike, and the end of its trace."""
    console = make_markup_console()
    setup_logging(level="critical")
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    kind = outcome.broken.split(" ", 2)[:2]
    acts = shrink(plan(outcome.seed), lambda acts: play(outcome.seed, acts).broken.split(" ", 2)[:2] == kind)
    last = play(outcome.seed, acts)
    console.print(f"\nSeed {outcome.seed}, what it needs to fail: {last.broken}", markup=False)
    for act in acts:
        console.print(str(act), markup=False)
    console.print(f"\nThe last {TAIL} of {len(last.trace)} lines of its trace", markup=False)
    for line in last.trace[-TAIL:]:
        console.print(line, markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
