"""Audit acts as a table for people."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table


def show_audit(console: Console, acts: list[dict[str, Any]]) -> None:
    """Print acts, newest first: who, for whom, why, what, and what became of it."""
    table = Table(title=f"{len(acts)} acts", title_justify="left")
    for name in ("When (UTC)", "Who", "Organisation", "Purpose", "Act", "Studies", "Decision", "Outcome", "Correlation"):
        table.add_column(name, overflow="fold")
    for act in acts:
        who = act["who"]
        table.add_row(
            str(act["at"])[:19].replace("T", " "),
            f"{who.get('name') or who.get('subject')} ({', '.join(who.get('roles', ()))})",
            who.get("organisation", ""),
            who.get("purpose", ""),
            f"{act['face']} {act['action']}",
            str(len(act["studies"])),
            act["decision"] if act["decision"] == "permit" else f"{act['decision']}: {act['rule']}",
            act["outcome"] or "cut off",
            act["correlation"][:12],
        )
    console.print(table)
