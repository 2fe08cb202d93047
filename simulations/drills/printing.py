"""Drills and their verdicts on a terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from simulations.drills.record import Record
from simulations.drills.report import allowed, seconds, verdict
from simulations.drills.table import Drill


def show_list(console: Console, drills: Sequence[Drill]) -> None:
    """One line each."""
    table = Table(title="Drills: crosslight drill NAME, or --all", title_justify="left")
    table.add_column("Name")
    table.add_column("What happens")
    for drill in drills:
        table.add_row(drill.name, drill.line)
    console.print(table)


def show_records(console: Console, records: Sequence[Record]) -> None:
    """A table for each drill, and all of it in one sentence."""
    for record in records:
        word = "passed" if record.passed else "failed"
        table = Table(title=f"{record.title}: {word}, {record.seconds:.0f} s", title_justify="left")
        for name in ("", "What had to hold", "After", "Allowed", "What was seen"):
            table.add_column(
                name, justify="right" if name in ("After", "Allowed") else "left", overflow="fold"
            )
        for one in record.judged:
            mark = Text("✓", "green") if one.held else Text("✗", "bold red")
            table.add_row(mark, one.what, seconds(one.took_s), allowed(one.within_s), one.seen)
        console.print(table)
    passed = bool(records) and all(record.passed for record in records)
    console.print(verdict(records), style="bold green" if passed else "bold red")
