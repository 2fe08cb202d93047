"""How both commands show the audit: a table for people, JSON lines for programs. Whoever runs it may read patient numbers."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson
from rich.table import Table

from crosslight.standards.ids import Identifier, is_uid, plain_number
from crosslight.standards.problem import Invalid

COLUMNS = ("at", "who", "organisation", "purpose", "face", "action", "decision", "outcome", "studies", "correlation")


def parse_patient(text: str) -> Identifier:
    """A patient as an operator writes one: ``VALUE`` (under any authority), or ``OID|VALUE``; spaces in a number do not count.

    Raises:
        Invalid: if there is no value, or the authority is no OID.
    """
    authority, bar, value = text.strip().partition("|")
    if not bar:
        authority, value = "", authority
    if authority and not is_uid(authority):
        raise Invalid("The patient's authority is no OID.", todo="Write VALUE, or OID|VALUE.")
    value = value.strip()
    if plain_number(value).isdecimal():
        value = plain_number(value)
    if not value:
        raise Invalid("No patient was named.", todo="Write VALUE, or OID|VALUE.")
    return Identifier(value, authority)


def _cells(entry: dict[str, Any]) -> tuple[str, ...]:
    who = entry["who"]
    name = " ".join(part for part in (who["name"], f"({who['subject']})") if part)
    return (
        entry["at"].replace("T", " ").removesuffix("Z"),
        name,
        who["organisation"],
        who["purpose"],
        entry["face"],
        entry["action"],
        entry["decision"] if entry["decision"] == "permit" else f"{entry['decision']}: {entry['rule']}",
        entry["outcome"] or "cut off",
        str(len(entry["studies"])) if entry["studies"] else "",
        entry["correlation"],
    )


def audit_table(entries: Iterable[dict[str, Any]], title: str = "") -> Table:
    """Entries of :meth:`AuditLog.search` for people: who, why, what and how it ended, newest first, times in UTC."""
    table = Table(title=title or None, caption="times in UTC")
    for column in COLUMNS:
        table.add_column(column, overflow="fold", no_wrap=column in ("at", "face", "action"))
    for entry in entries:
        style = "red" if entry["decision"] != "permit" else "yellow" if not entry["outcome"] else None
        table.add_row(*_cells(entry), style=style)
    return table


def audit_lines(entries: Iterable[dict[str, Any]]) -> Iterable[bytes]:
    """The same as one JSON object a line, whole."""
    for entry in entries:
        yield orjson.dumps(entry) + b"\n"
