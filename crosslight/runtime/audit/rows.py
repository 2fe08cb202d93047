"""The rows of an act and of its outcome: how they are written, and how an act is read back.

``audit_act`` has what an act alone says. Who acted and how is a row of ``audit_said``, a study's UID one of
``audit_study``, an authority one of ``audit_authority``, its patients together one of ``audit_whom``; all are
named by numbers (``shorthand``). ``audit_patient_whom`` finds them by each patient, and ``audit_outcome`` has
what became of an act. Acts of the schema before have their patients in ``body`` and ``audit_patient_act``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal

import orjson

from crosslight.runtime.audit.act import AuditEntry
from crosslight.runtime.audit.months import month_number
from crosslight.runtime.audit.outcome import Outcome
from crosslight.runtime.audit.shorthand import (
    Shorthand,
    from_ms,
    in_ms,
    pack_correlation,
    parted,
    unpack_correlation,
    whole,
    year_end,
)
from crosslight.runtime.clock import instant
from crosslight.runtime.db import Row, Tx
from crosslight.standards.access import Principal

Naming = Literal["said", "study", "authority", "whom"]

NAMES_AT_ONCE = 500  # of studies, in one reading
_ACT = ("at", "correlation", "said", "body", "studies", "whom")
_SAID = ("face", "action", "subject", "organisation", "who", "decision", "rule", "peer")
_NAMES: dict[Naming, tuple[str, ...]] = {
    "said": _SAID,
    "study": ("uid",),
    "authority": ("authority",),
    "whom": ("patients",),
}
SELECT = (
    "SELECT a.seq, a.correlation, a.at, s.face, s.action, s.who, s.decision, s.rule, s.peer, a.body,"
    " a.studies, o.outcome, w.patients FROM audit_act a JOIN audit_said s ON s.number = a.said"
    " LEFT JOIN audit_whom w ON w.number = a.whom LEFT JOIN audit_outcome o ON o.act = a.seq"
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """What is to be committed of one act: its row, its outcome, or both.

    Attributes:
        at: When, in milliseconds.
        act: The act's row; () of an outcome alone.
        patients: The numbers of those by whom the act is found, where its ``whom`` is new.
        outcome: What became of it; None where that comes later.
        number: Of an outcome alone: the act's.
        until: When the year of its names ends.
        new: Those that may not be written yet, by table.
    """

    at: int
    act: tuple[Any, ...] = ()
    patients: Sequence[int] = ()
    outcome: str | None = None
    number: int = 0
    until: int = 0
    new: dict[Naming, dict[bytes, str]] = field(default_factory=dict)

    @property
    def weight(self) -> int:
        """How many rows it is, about."""
        return 1 + len(self.patients) + sum(map(len, self.new.values()))

    def committed(self, short: Shorthand) -> None:
        """It is: what it names need not be written again."""
        for table, names in self.new.items():
            short.committed(table, names, self.until)


def act_row(short: Shorthand, entry: AuditEntry, moment: datetime, outcome: Outcome | None = None) -> Written:
    """An act, written before anything is given; or with its outcome, where nothing was or will be."""
    about, at, until = entry.about, in_ms(moment), year_end(moment.year)
    patients = sorted({(p.value, p.authority) for p in about.patients})
    names = [f"{authority}|{value}" for value, authority in patients]
    body = {"q": dict(about.query)} if about.query else {}
    whom = [orjson.dumps(names).decode()] if names else []
    texts: dict[Naming, list[str]] = {
        "said": [_said(entry)],
        "study": sorted(set(about.studies)),
        "authority": list({authority for _, authority in patients}),
        "whom": whom,
    }
    named = {table: short.named(table, said, until) for table, said in texts.items()}
    return Written(
        at=at,
        act=(
            at,
            pack_correlation(entry.caller.correlation),
            whole(named["said"][0][0]),
            short.pack(body),
            b"".join(named["study"][0]),
            whole(named["whom"][0][0]) if whom else None,
        ),
        patients=[whole(short.number(name)) for name in names] if named["whom"][1] else (),
        outcome=None if outcome is None else str(outcome),
        until=until,
        new={table: new for table, (_, new) in named.items() if new},
    )


def outcome_row(outcome: Outcome, moment: datetime, act: int) -> Written:
    """What became of the act number ``act``."""
    return Written(at=in_ms(moment), outcome=str(outcome), number=act)


def _said(entry: AuditEntry) -> str:
    """Who acts, how, and what was decided: the columns of ``audit_said`` as a JSON array."""
    caller, principal, decision = entry.caller, entry.caller.principal, entry.decision
    said = (
        entry.face,
        entry.action,
        principal.subject,
        principal.organisation,
        orjson.dumps(principal.describe()).decode(),
        "permit" if decision.permit else "deny",
        decision.rule,
        caller.origin,
    )
    return orjson.dumps(said).decode()


def _kept(text: str) -> str:
    """Without U+0000, which not every engine keeps in a text.

    What somebody asks for or sends must not hinder its own audit.
    """
    return text.replace("\0", "\ufffd")


def insert(rows: Sequence[Written], tx: Tx) -> list[int]:
    """Write rows, each act with its names and those by whom it is found; of each row its act's number."""
    _insert_names(rows, tx)
    acts = [row for row in rows if row.act]
    above = [month_number(row.at) for row in acts]
    fresh = iter(tx.insert_numbered("audit_act", _ACT, [row.act for row in acts], "seq", above))
    numbers = [next(fresh) if row.act else row.number for row in rows]
    both = zip(numbers, rows, strict=True)
    tx.insert_many(
        "audit_outcome",
        ("act", "at", "outcome"),
        [(number, row.at, _kept(row.outcome)) for number, row in both if row.outcome is not None],
        "ON CONFLICT (act) DO NOTHING",
    )
    return numbers


def _insert_names(rows: Sequence[Written], tx: Tx) -> None:
    """In an order that is the same in every process, so that none waits for another in a circle."""
    for table, columns in _NAMES.items():
        new = {n: (row.until, text) for row in rows if row.new for n, text in row.new.get(table, {}).items()}
        values = [
            (whole(number), until, *map(_kept, orjson.loads(text) if table == "said" else (text,)))
            for number, (until, text) in sorted(new.items())
        ]
        tx.insert_many(
            f"audit_{table}", ("number", "until", *columns), values, "ON CONFLICT (number) DO NOTHING"
        )
    found = {(patient, row.act[-1]) for row in rows for patient in row.patients}
    tx.insert_many(
        "audit_patient_whom", ("patient", "whom"), sorted(found), "ON CONFLICT (patient, whom) DO NOTHING"
    )


def read(short: Shorthand, rows: Sequence[Row], tx: Tx) -> list[Audited]:
    """Rows of :data:`SELECT`, with the names of their studies."""
    wanted = sorted({number for row in rows for number in parted(row[10])})
    uids: dict[int, str] = {}
    for start in range(0, len(wanted), NAMES_AT_ONCE):
        part = wanted[start : start + NAMES_AT_ONCE]
        marks = ",".join("?" * len(part))
        uids.update(tx.rows(f"SELECT number, uid FROM audit_study WHERE number IN ({marks})", part))
    return [_audited(short, row, uids) for row in rows]


def _audited(short: Shorthand, row: Row, uids: dict[int, str]) -> Audited:
    body = short.unpack(row[9])
    return Audited(
        seq=int(row[0]),
        correlation=unpack_correlation(row[1]),
        at=instant(from_ms(row[2])),
        face=row[3],
        action=row[4],
        who=Principal.described(orjson.loads(row[5])),
        decision=row[6],
        rule=row[7],
        peer=row[8],
        query=body.get("q", {}),
        patients=tuple(orjson.loads(row[12]) if row[12] else body.get("p", ())),
        studies=tuple(sorted(uids[number] for number in parted(row[10]))),
        text=row[11] or "",
    )
