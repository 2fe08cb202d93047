"""Coverage in an AdhocQueryResponse (D19).

There is a slot for each member always, and one Warning when an answer says less than it seems.
"""

from __future__ import annotations

from datetime import datetime

from crosslight.standards.xds.rules.errors import RegistryError
from registry.ask.absence import reason
from registry.ask.coverage import Coverage, MemberCoverage
from registry.ask.question import Answer

SLOT = "urn:crosslight:coverage:"


def coverage_slots(coverage: Coverage) -> list[tuple[str, tuple[str, ...]]]:
    """rs:ResponseSlotList: a slot ``urn:crosslight:coverage:CODE`` for each member.

    Its values: ``state=``, ``as-of=``, ``since=``, ``refused=``, ``identity=``.
    """
    return [(SLOT + member.code, _values(member)) for member in coverage.members]


def _values(member: MemberCoverage) -> tuple[str, ...]:
    values = [f"state={'+'.join(member.states)}"]
    if member.as_of is not None:
        values.append(f"as-of={_instant(member.as_of)}")
    if member.since is not None:
        values.append(f"since={_instant(member.since)}")
    if member.refused == "patient":
        values.append("refused=patient")
    if member.identity_doubt:
        values.append("identity=disputed")
    return tuple(values)


def _instant(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def warning_of(answer: Answer, *, warn: bool, asked: bool) -> RegistryError | None:
    """The one Warning of an answer that may be less than it looks; None when all is well.

    Args:
        answer: What was found.
        warn: Whether the consumer takes Warnings. What was not understood is said in any case.
        asked: Whether the query was for a patient.
    """
    misread = [value.text for value in answer.naming.misread]
    if misread:
        text = f"The query was not understood, and an empty answer proves nothing. {' '.join(misread)}"
        return RegistryError("XDSUnknownPatientId", text, severity="Warning")
    if not warn:
        return None
    empty = asked and not answer.holdings and not answer.objects
    unknown = f"An empty answer proves nothing here. {why}" if empty and (why := reason(answer)) else ""
    told = " ".join(part for part in (_degraded(answer.coverage), unknown) if part)
    code = "XDSUnknownPatientId" if unknown else "XDSRegistryError"
    return RegistryError(code, told, severity="Warning") if told else None


def _degraded(coverage: Coverage) -> str:
    degraded = []
    for member in coverage.members:
        if not member.well:
            troubles = [*member.states] if member.states != ("live",) else []
            troubles += ["disputed identity: compare name and date of birth"] if member.identity_doubt else []
            since = f" since {_instant(member.since)}" if member.since is not None else ""
            degraded.append(f"{member.code} ({member.name}) {', '.join(troubles)}{since}")
    return f"This answer may not be whole: {'; '.join(degraded)}." if degraded else ""
