"""The rows of ``audit_entry``: how an act and its outcome are written, and how an act is read back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import chain
from typing import Any

import orjson

from crosslight.runtime.audit.act import AuditEntry
from crosslight.runtime.audit.outcome import Outcome
from crosslight.runtime.clock import instant
from crosslight.runtime.db import Row, Tx
from crosslight.standards.access import Principal

_COLUMNS = (
    "kind",
    "correlation",
    "at",
    "face",
    "action",
    "subject",
    "organisation",
    "purpose",
    "who",
    "decision",
    "rule",
    "peer",
    "query",
    "outcome",
    "patients",
    "studies",
    "act",
)
_INSERT = (
    f"INSERT INTO audit_entry ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) RETURNING seq"
)
#: An act and its patients in one round trip, in PostgreSQL's words.
_INSERT_BOTH = (
    f"WITH entry AS ({_INSERT}) INSERT INTO audit_patient (seq, value, authority) SELECT entry.seq, p.value,"
    " p.authority FROM entry, unnest(?::text[], ?::text[]) AS p (value, authority) RETURNING seq"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """One act as the audit has it, with its outcome.

    ``text`` is the outcome as it was written; '' when none was.
    """

    seq: int
    correlation: str
    at: str  # ISO 8601, UTC
    face: str
    action: str
    who: Principal
    decision: str  # permit | deny
    rule: str
    peer: str
    query: dict[str, Any]
    text: str
    patients: tuple[str, ...] = ()  # AUTHORITY|NUMBER
    studies: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        """What became of the act."""
        return Outcome.parse(self.text)

    def plain(self) -> dict[str, Any]:
        """The act as a JSON object."""
        return {
            "seq": self.seq,
            "correlation": self.correlation,
            "at": self.at,
            "face": self.face,
            "action": self.action,
            "who": self.who.describe(),
            "decision": self.decision,
            "rule": self.rule,
            "peer": self.peer,
            "query": self.query,
            "outcome": self.text,
            "patients": list(self.patients),
            "studies": list(self.studies),
        }


@dataclass(frozen=True, slots=True)
class AuditRow:
    """A row of ``audit_entry``, and (value, authority) of the patients that an act is found by.

    ``act``: of an outcome, the act's ``seq``; 0 = it is the row before this one.
    """

    values: tuple[str, ...]
    patients: Sequence[tuple[str, str]] = ()
    act: int | None = None


def act_row(entry: AuditEntry, at: datetime) -> AuditRow:
    """The row of an act, written before anything is given."""
    about = entry.about
    patients = sorted({(p.value, p.authority) for p in about.patients})
    names = orjson.dumps([f"{authority}|{value}" for value, authority in patients]).decode()
    studies = orjson.dumps(sorted(set(about.studies))).decode()
    query = orjson.dumps(dict(about.query), default=str).decode() if about.query else ""
    return AuditRow(("act", *_head(entry, at), query, "", names, studies), patients)


def outcome_row(entry: AuditEntry, at: datetime, outcome: Outcome, act: int) -> AuditRow:
    """The row of what became of the act number ``act`` (0: the row before this one)."""
    return AuditRow(("outcome", *_head(entry, at), "", str(outcome), "[]", "[]"), act=act)


def _head(entry: AuditEntry, at: datetime) -> tuple[str, ...]:
    """The columns that an act and its outcome have in common."""
    caller, principal, decision = entry.caller, entry.caller.principal, entry.decision
    who = orjson.dumps(principal.describe()).decode()
    return (
        caller.correlation,
        instant(at),
        entry.face,
        entry.action,
        principal.subject,
        principal.organisation,
        principal.purpose,
        who,
        "permit" if decision.permit else "deny",
        decision.rule,
        caller.origin,
    )


def audited(row: Row) -> Audited:
    """A row of :meth:`AuditLog.select`."""
    return Audited(
        seq=int(row[0]),
        correlation=row[1],
        at=row[2],
        face=row[3],
        action=row[4],
        who=Principal.described(orjson.loads(row[5])),
        decision=row[6],
        rule=row[7],
        peer=row[8],
        query=orjson.loads(row[9]) if row[9] else {},
        patients=tuple(orjson.loads(row[10])),
        studies=tuple(orjson.loads(row[11])),
        text=row[12] or "",
    )


def insert_rows(rows: Sequence[AuditRow], tx: Tx) -> list[int]:
    """Write rows and the patients that they are found by; the number (``seq``) of each row."""
    numbers: list[int] = []
    for row in rows if tx.dialect.takes_nul else map(_kept, rows):
        values = (*row.values, row.act if row.act or row.act is None else numbers[-1])
        if row.patients and tx.dialect.remote:
            columns = (list(column) for column in zip(*row.patients, strict=True))
            inserted = tx.row(_INSERT_BOTH, (*values, *columns))
        else:
            inserted = tx.row(_INSERT, values)
        assert inserted is not None  # noqa: S101 - RETURNING always gives a row
        numbers.append(int(inserted[0]))
        if row.patients and not tx.dialect.remote:
            tx.insert_many(
                "audit_patient", ("seq", "value", "authority"), [(numbers[-1], *p) for p in row.patients]
            )
    return numbers


def _kept(row: AuditRow) -> AuditRow:
    """Without U+0000, which not every engine keeps in a text.

    What somebody asks for or sends must not hinder its own audit.
    """
    if not any("\0" in text for text in chain(row.values, *row.patients)):
        return row
    patients = tuple({(_shown(value), _shown(authority)): None for value, authority in row.patients})
    return AuditRow(tuple(map(_shown, row.values)), patients, row.act)


def _shown(text: str) -> str:
    return text.replace("\0", "\ufffd")
