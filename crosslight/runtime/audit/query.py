"""Which acts of the audit are asked for, as values and as a condition of SQL. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from typing import Any

import orjson

from crosslight.runtime.audit.months import FIRST, month_number
from crosslight.runtime.audit.shorthand import Shorthand, in_ms, pack_correlation, whole
from crosslight.runtime.credentials import plain_subject, uri_of
from crosslight.standards.access import Action
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Invalid

Param = str | int | bytes

#: Acts of patients: as the present schema has them, and as the one before had.
_OF_PATIENT = (
    "a.seq IN (SELECT x.seq FROM audit_patient_whom p JOIN audit_act x ON x.whom = p.whom"
    " WHERE p.patient IN (MARKS) UNION ALL SELECT p.act FROM audit_patient_act p WHERE p.patient IN (MARKS))"
)

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")
_MOMENT = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}\Z")


#: Action -> how releases before 0.3 wrote it into the query, under ``act``; what ends in ': ' went on.
OLDER_ACTS: dict[Action, tuple[str, ...]] = {
    "sign-in": ("sign-in", "demo sign-in"),
    "sign-out": ("sign-out",),
    "join": ("join",),
    "invite": ("invited",),
    "suspend": ("suspended",),
    "readmit": ("readmitted",),
    "agree-authority": ("authority agreed",),
    "ask-authority": ("authority asked for",),
    "withdraw-authority": ("authority withdrawn",),
    "describe-source": ("source",),
    "issue-certificate": ("certificate issued",),
    "issue-token": ("token issued: ",),
    "decide": ("identity decide: ",),
    "end-decision": ("identity end",),
    "unmerge": ("identity unmerge",),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Acts that meet all of what is given; what is empty does not count.

    ``patient`` without authority matches the value under any. A ``study`` alone, a user or a period is looked
    for entry by entry: patients alone have an index.
    """

    patient: Identifier | None = None
    study: str = ""
    correlation: str = ""
    user: str = ""  # subject, as any release wrote it, or name as it is shown
    organisation: str = ""
    since: str = ""  # ISO 8601, UTC; from this moment on
    until: str = ""  # before this moment
    action: str = ""  # as it is named now
    decision: str = ""  # permit | deny
    before: int = 0  # seq: older acts only

    def plain(self) -> dict[str, Any]:
        """What is given, for the entry that says that the audit was read."""
        said = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "patient"}
        return {name: value for name, value in said.items() if value}

    def where(
        self, short: Shorthand, authorities: Sequence[str], years: Sequence[int], *, in_parts: bool
    ) -> tuple[str, list[Param]]:
        """The condition on ``audit_act a`` and ``audit_said s``, and its parameters.

        Args:
            short: By which names are numbered.
            authorities: Of a patient without authority: all that there are.
            years: The ends of the years in which studies were named.
            in_parts: Acts lie in parts by their month: those of other months need not be looked at.
        """
        parts: list[tuple[str, Sequence[Param]]] = [("1 = 1", ())]
        if self.patient is not None:
            under = [self.patient.authority] if self.patient.authority else authorities
            numbers = [whole(short.number(f"{authority}|{self.patient.value}")) for authority in under]
            condition = _OF_PATIENT.replace("MARKS", ",".join("?" * len(numbers)))
            parts.append((condition, [*numbers, *numbers]) if numbers else ("1 = 0", ()))
        if self.study:
            kept = [short.of_year(self.study, until) for until in years]
            parts.append((f"({' OR '.join(['instr(a.studies, ?) > 0'] * len(kept)) or '1 = 0'})", kept))
        if self.user:
            parts.append(self._by_user("s"))
        if in_parts and self.since:
            parts.append((f"(a.seq < {FIRST} OR a.seq >= ?)", (month_number(in_ms_of(self.since)),)))
        if in_parts and self.until:
            parts.append(("a.seq < ?", (month_number(in_ms_of(self.until)) + FIRST,)))
        for condition, value in (
            ("s.action = ?", self.action),
            ("a.correlation = ?", pack_correlation(self.correlation) if self.correlation else ""),
            ("s.organisation = ?", self.organisation),
            ("a.at >= ?", self.since and in_ms_of(self.since)),
            ("a.at < ?", self.until and in_ms_of(self.until)),
            ("s.decision = ?", self.decision),
            ("a.seq < ?", self.before),
        ):
            if value not in ("", 0):
                parts.append((condition, (value,)))
        return " AND ".join(part for part, _ in parts), [value for _, values in parts for value in values]

    def _by_user(self, table: str) -> tuple[str, tuple[str, ...]]:
        name = f'%"name":{_like(_json(self.user))}%'
        exact, (before, after) = plain_subject(self.user), uri_of(plain_subject(self.user))
        older = f"{_like(before)}%{_like(after)}" if before else _like(exact)
        subjects = f"{table}.subject IN (?,?) OR {table}.subject LIKE ? ESCAPE '\\'"
        condition = f"({subjects} OR {table}.who LIKE ? ESCAPE '\\')"
        return condition, (self.user, exact, older, name)

    def where_older(self) -> tuple[str, list[Param]]:
        """The condition on ``audit_entry a`` of older releases, and its parameters."""
        parts: list[tuple[str, Sequence[Param]]] = [("a.kind = 'act'", ())]
        if self.patient is not None:
            match, values = "p.value = ?", [str(self.patient.value)]
            if self.patient.authority:
                match, values = f"{match} AND p.authority = ?", [*values, str(self.patient.authority)]
            parts.append((f"a.seq IN (SELECT p.seq FROM audit_patient p WHERE {match})", tuple(values)))
        if self.study:
            parts.append(("a.studies LIKE ? ESCAPE '\\'", (f"%{_like(_json(self.study))}%",)))
        if self.user:
            parts.append(self._by_user("a"))
        if self.action:
            parts.append(_acted(self.action))
        for condition, value in (
            ("a.correlation = ?", self.correlation),
            ("a.organisation = ?", self.organisation),
            ("a.at >= ?", self.since),
            ("a.at < ?", self.until),
            ("a.decision = ?", self.decision),
            ("a.seq < ?", self.before),
        ):
            if value:
                parts.append((condition, (value,)))
        return " AND ".join(part for part, _ in parts), [value for _, values in parts for value in values]


def _acted(action: str) -> tuple[str, tuple[str, ...]]:
    """Acts of this name, and those that older releases wrote under another."""
    older = next((texts for name, texts in OLDER_ACTS.items() if name == action), ())
    ends = [text if text.endswith(": ") else f'{text}"' for text in older]
    condition = " OR ".join(["a.action = ?", *["a.query LIKE ? ESCAPE '\\'"] * len(older)])
    return f"({condition})", (action, *(f'%"act":"{_like(text)}%' for text in ends))


def moment(text: str, *, end: bool = False) -> str:
    """A day, or a day and a minute, in UTC, as the audit writes times.

    Of a day that ends a period, the moment after it.

    Raises:
        Invalid: when it is none.
    """
    if not text:
        return ""
    try:
        if _DAY.match(text):
            return (date.fromisoformat(text) + timedelta(days=1 if end else 0)).isoformat()
        if _MOMENT.match(text):
            date.fromisoformat(text[:10])
            return text.replace(" ", "T")
    except (ValueError, OverflowError):
        pass
    raise Invalid(
        f"{text[:40]!r} is no day.", todo="Write 2026-11-30, or 2026-11-30T14:30; times are in UTC."
    )


def in_ms_of(text: str) -> int:
    """A moment as :func:`moment` writes it, in milliseconds."""
    at = datetime.fromisoformat(text)
    return in_ms(at if at.tzinfo else at.replace(tzinfo=UTC))


def _json(text: str) -> str:
    return orjson.dumps(text).decode()


def _like(text: str) -> str:
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
