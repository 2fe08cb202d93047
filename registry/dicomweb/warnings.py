"""What an answer says beside its rows, as Warning headers (PS3.18 8.3.4.4). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from registry.ask.absence import beyond, proves_absence, reason, unlisted
from registry.ask.coverage import Coverage
from registry.ask.question import Answer, ByPatient, Question


def degraded(coverage: Coverage) -> list[str]:
    """One text for each member whose part is less than well."""
    told = []
    for member in coverage.members:
        if not member.well:
            states = list(member.states) if member.states != ("live",) else []
            doubt = "a record there claims this number, or is in doubt: compare name and date of birth"
            states += [doubt] if member.identity_doubt else []
            since = f" since {member.since.strftime('%Y-%m-%dT%H:%M:%SZ')}" if member.since else ""
            told.append(f"{member.code} {member.name}: {', '.join(states)}{since}")
    return told


def unsaid(question: Question, answer: Answer, *, empty: bool) -> list[str]:
    """What a list does not say: nothing is left to be taken for a proof that is none."""
    if not isinstance(question, ByPatient):
        # of an empty list: any of them may be what was asked for
        return [told] if (told := unlisted(answer)) else []
    if not empty:
        return [f"{told} This list may not be complete."] if (told := unlisted(answer)) else []
    why = reason(answer)
    if why:
        return [f"Nothing is listed; this does not prove that there is none. {why}"]
    sources = beyond(answer.coverage.sources)
    return [f"None at the members. {sources}"] if sources and proves_absence(answer) else []


def quotable(text: str) -> str:
    """Text for a quoted-string of a header field (RFC 9110 5.6.4)."""
    plain = text.encode("ascii", "replace").decode()
    return re.sub(r'["\\]', r"\\\g<0>", re.sub(r"[\x00-\x1f\x7f]", " ", plain))


def passed_warnings(headers: Iterable[str]) -> list[str]:
    matches = (re.match(r'299 \S+ "(.*)"\Z', header) for header in headers)
    return [match.group(1) for match in matches if match]
