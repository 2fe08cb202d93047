"""How both commands show the audit: a table for people, JSON lines for programs.

Whoever runs it may read patient numbers.
"""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

import orjson
from rich.table import Table
from rich.text import Text

from crosslight.runtime.audit.query import OLDER_ACTS
from crosslight.runtime.audit.rows import Audited
from crosslight.runtime.terminal import counted, printable
from crosslight.standards.ids import Identifier, is_uid
from crosslight.standards.national import plain_number
from crosslight.standards.problem import Invalid

TOGETHER_MINUTES = 15


def parse_patient(text: str) -> Identifier:
    """A patient as an operator writes one: ``VALUE`` (under any authority), or ``OID|VALUE``.

    Spaces in a number do not count.

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


@dataclass(slots=True)
class Opening:
    """Acts that are one to a person: the pictures of one opening are fetched one by one."""

    newest: Audited
    oldest: str  # when the first of them was
    count: int = 1
    outcomes: Counter[str] = field(default_factory=Counter)


def openings(entries: Iterable[Audited]) -> list[Opening]:
    """Acts of one person on the same patients and studies, together as one opening; newest first.

    Those alike in face, kind and decision, all within :data:`TOGETHER_MINUTES`. In reading only: each act is
    written.
    """
    opened: list[Opening] = []
    current: dict[tuple[str, ...], Opening] = {}
    for entry in entries:
        who = entry.who
        parts = (who.subject, who.organisation, who.purpose, entry.face, acted(entry), entry.decision)
        key = (*parts, entry.rule, *entry.patients, "|", *entry.studies)
        known = current.get(key)
        together = (
            known is not None and entry.studies and _minutes(entry.at, known.newest.at) <= TOGETHER_MINUTES
        )
        if known is None or not together:
            known = current[key] = Opening(entry, entry.at, 0)
            opened.append(known)
        known.count += 1
        known.oldest = entry.at
        known.outcomes[entry.outcome.in_words()] += 1
    return opened


def _minutes(earlier: str, later: str) -> float:
    try:
        return abs((datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()) / 60
    except (ValueError, TypeError):
        return float("inf")


def acted(entry: Audited) -> str:
    """The action of an act by its present name: older releases wrote some in the query."""
    said = entry.query.get("act", "") if entry.action in ("read", "operate", "decide", "search") else ""
    for action, older in OLDER_ACTS.items():
        if said and any(said == text or (text.endswith(": ") and said.startswith(text)) for text in older):
            return action
    return entry.action


def audit_table(entries: Iterable[Audited], title: str = "") -> Table:
    """Entries of :meth:`AuditLog.select` for people, newest first, times in UTC.

    Who, why, what and how it ended.

    Three columns, so that it can be read in 80; names from outside are text, never markup.
    """
    table = Table(
        title=Text(printable(title)) if title else None,
        caption="times in UTC",
        title_justify="left",
        show_lines=True,
    )
    table.add_column("when", no_wrap=True)
    for column in ("who and why", "what, and what became of it"):
        table.add_column(column, overflow="fold")
    for opening in openings(entries):
        entry = opening.newest
        style = "red" if entry.decision != "permit" else "yellow" if entry.outcome.kind == "cut" else ""
        table.add_row(*(Text(cell) for cell in _cells(opening)), style=style)
    return table


def _cells(opening: Opening) -> tuple[str, str, str]:
    entry, who = opening.newest, opening.newest.who
    when = _time(entry.at)
    if opening.count > 1 and opening.oldest[:19] != entry.at[:19]:
        when = f"{_time(opening.oldest)}\nto {_time(entry.at)[11:]}"
    name = " ".join(part for part in (who.name, f"({who.subject})") if part)
    act = f"{entry.face} {acted(entry)}"
    much = [f"{opening.count} times"] if opening.count > 1 else []
    much += [counted(len(entry.studies), "study", "studies")] if entry.studies else []
    allowed = "" if entry.decision == "permit" else f"REFUSED: {entry.rule}"
    if opening.count == 1:
        result = next(iter(opening.outcomes))
    else:
        kinds = Counter[str]()
        for words, count in opening.outcomes.items():
            kinds[words.partition(":")[0]] += count
        result = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common())
    carrier = entry.peer.partition(" ")[2]
    who_lines = (
        name,
        f"{who.organisation} {who.purpose}".strip(),
        f"by {carrier}" if carrier and carrier != who.subject else "",
        who.credential,
    )
    what_lines = (act, ", ".join(much), allowed, result, entry.correlation)
    return when, _lines(who_lines), _lines(what_lines)


def _lines(texts: Iterable[str]) -> str:
    return "\n".join(printable(text) for text in texts if text)


def _time(at: str) -> str:
    return str(at)[:19].replace("T", " ")


CSV_COLUMNS = (
    "seq",
    "at",
    "subject",
    "name",
    "organisation",
    "purpose",
    "face",
    "action",
    "decision",
    "rule",
    "outcome",
    "peer",
    "credential",
    "patients",
    "studies",
    "correlation",
)


def audit_csv(entries: Iterable[Audited], *, head: bool = False) -> str:
    """The same as CSV (RFC 4180), one act a row.

    A cell that a spreadsheet would take for a formula gets an apostrophe; controls are shown, not sent.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    if head:
        writer.writerow(CSV_COLUMNS)
    for entry in entries:
        row = entry.plain()
        row |= (
            {"credential": ""}
            | row["who"]
            | {"patients": " ".join(entry.patients), "studies": " ".join(entry.studies)}
        )
        writer.writerow([_safe(str(row[column])) for column in CSV_COLUMNS])
    return out.getvalue()


def _safe(text: str) -> str:
    shown = printable(text)
    return f"'{shown}" if text[:1] in ("=", "+", "-", "@", "\t", "\r") else shown


def audit_lines(entries: Iterable[Audited]) -> Iterable[bytes]:
    """The same as one JSON object a line, whole; what is no printable character is written as its number."""
    for entry in entries:
        line = orjson.dumps(entry.plain())
        yield (line if line.decode().isprintable() else json.dumps(entry.plain()).encode()) + b"\n"
