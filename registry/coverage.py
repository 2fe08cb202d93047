"""Coverage: how complete an answer is, as a value computed once per question (D19).

*Unreachable* concerns opening; *behind*, *filling* and *unknown* concern the list: they are never one flag. Pure: the members'
presence comes in, a value goes out; each face renders it.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from crosslight.standards.ids import MemberId

ListState = Literal["live", "behind", "filling", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberCoverage:
    """One member's part of an answer."""

    member: MemberId
    code: str
    name: str
    list_state: ListState
    reachable: bool
    suspended: bool = False
    since: datetime | None = None  # of being unreachable or suspended
    as_of: datetime | None = None  # the index is as of
    indexed_from: str = ""  # YYYYMMDD
    census_equal: bool | None = None
    census_at: datetime | None = None
    waiting: int = 0
    quarantined: int = 0
    identity_doubt: bool = False  # a disputed record of the number asked for is here (D3)

    @property
    def states(self) -> tuple[str, ...]:
        """The states in words: ``live`` alone when all is well."""
        words = []
        if self.suspended:
            words.append("suspended")
        if not self.reachable:
            words.append("unreachable")
        if self.list_state != "live":
            words.append(self.list_state)
        return tuple(words) or ("live",)

    @property
    def well(self) -> bool:
        """Whether nothing at this member makes the answer less than complete and openable."""
        return self.states == ("live",) and not self.identity_doubt


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """All members' parts, in the order of their codes."""

    members: tuple[MemberCoverage, ...]
    at: datetime

    @property
    def degraded(self) -> bool:
        """Whether any member is less than well."""
        return not all(m.well for m in self.members)

    @property
    def proves_absence(self) -> bool:
        """Whether an empty list may be called "no imaging" (D19)."""
        return all(
            m.list_state == "live" and not m.suspended and not m.identity_doubt and m.waiting == 0 and m.census_equal is True
            for m in self.members
        )

    def states_key(self) -> str:
        """States without times: part of a search's ETag (D19)."""
        return ";".join(f"{m.code}={','.join(m.states)}{'!' if m.identity_doubt else ''}" for m in self.members)

    def header(self) -> str:
        """The value of the ``Crosslight-Coverage`` header, e.g. ``RTK;state=live, RA2;state=unreachable;since=…``."""
        parts = []
        for m in self.members:
            part = f"{m.code};state={'+'.join(m.states)}"
            if m.as_of:
                part += f";as-of={m.as_of.strftime('%Y-%m-%dT%H:%M:%SZ')}"
            if m.since:
                part += f";since={m.since.strftime('%Y-%m-%dT%H:%M:%SZ')}"
            if m.identity_doubt:
                part += ";identity=disputed"
            parts.append(part)
        return ", ".join(parts)
