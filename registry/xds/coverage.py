"""Coverage in an AdhocQueryResponse: a slot for each member always, one Warning when an answer may be less than whole (D19)."""

from __future__ import annotations

from datetime import datetime

from crosslight.standards.xds.errors import RegistryError
from registry.ask.coverage import Coverage, MemberCoverage

SLOT = "urn:crosslight:coverage:"


def coverage_slots(coverage: Coverage) -> list[tuple[str, tuple[str, ...]]]:
    """rs:ResponseSlotList: ``urn:crosslight:coverage:CODE``, its values ``state=``, ``as-of=``, ``since=``, ``refused=``,
    ``identity=``."""
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


def coverage_warning(coverage: Coverage) -> RegistryError | None:
    """The one Warning of a degraded answer; None when all is well."""
    if not coverage.degraded:
        return None
    parts = []
    for member in coverage.members:
        if not member.well:
            words = [*member.states] if member.states != ("live",) else []
            words += ["disputed identity"] if member.identity_doubt else []
            since = f" since {_instant(member.since)}" if member.since is not None else ""
            parts.append(f"{member.code} ({member.name}) {', '.join(words)}{since}")
    return RegistryError("XDSRegistryError", f"This answer may not be whole: {'; '.join(parts)}.", severity="Warning")
