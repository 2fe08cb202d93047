"""Doctor's findings as a table for people; the exit status says the worst of them."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from crosslight.client.doctor import Finding, worst

_MARK = {"ok": "[green]✓[/green]", "warn": "[yellow]![/yellow]", "fail": "[bold red]✗[/bold red]"}


def show(console: Console, results: Iterable[tuple[str, list[Finding]]]) -> int:
    """Print each target's findings; 0 when nothing failed, 1 otherwise."""
    status = 0
    for name, findings in results:
        table = Table(title=name, title_justify="left", show_header=False, pad_edge=False)
        for _ in range(4):
            table.add_column(overflow="fold")
        for finding in findings:
            table.add_row(_MARK[finding.result], finding.check, finding.what, finding.todo)
        console.print(table)
        if worst(findings) == "fail":
            status = 1
    return status
