"""Doctor's findings as a table for people; the exit status says the worst of them."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table
from rich.text import Text

from crosslight.client.doctor import Finding, worst
from crosslight.runtime.plain_text import printable

_MARK = {"ok": ("✓", "green"), "warn": ("!", "yellow"), "fail": ("✗", "bold red")}


def show(console: Console, results: Iterable[tuple[str, list[Finding]]]) -> int:
    """Print each target's findings; 0 when nothing failed, 1 otherwise."""
    status = 0
    for name, findings in results:
        table = Table(title=Text(printable(name)), title_justify="left", show_header=False, pad_edge=False)
        for _ in range(4):
            table.add_column(overflow="fold")
        for finding in findings:
            # what is said of a machine is what it, or whoever answers there, says
            said = (Text(printable(part)) for part in (finding.check, finding.what, finding.todo))
            table.add_row(Text(*_MARK[finding.result]), *said)
        console.print(table)
        if worst(findings) == "fail":
            status = 1
    return status
