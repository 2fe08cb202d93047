"""Coverage: how complete an answer is, as a value computed once per question (D19).

*Unreachable* concerns opening; *behind*, *filling* and *unknown* concern the list: they are never one flag. Pure: the members'
presence comes in, a value goes out; each face renders it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from crosslight.standards.ids import MemberId
from registry.members.model import Directory, Member, Presence

ListState = Literal["live", "behind", "filling", "unknown"]
CENSUS_FRESH = timedelta(hours=1)  # an older census proves nothing


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
        """Whether an empty list may be called "no imaging": every member current, filled, recently censused, no doubt (D19)."""
        return bool(self.members) and all(
            m.list_state == "live"
            and m.reachable
            and not m.suspended
            and not m.identity_doubt
            and m.waiting == 0
            and m.census_equal is True
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


def compute(directory: Directory, at: datetime, doubts: Collection[MemberId] = ()) -> Coverage:
    """Coverage at this moment, from what the members' links last said.

    Args:
        directory: Members and their presence.
        at: Now.
        doubts: Members where the identity of the patient in question is in doubt.
    """
    return Coverage(members=tuple(_member(m, directory.presence(m.id), at, m.id in doubts) for m in directory.all()), at=at)


def _member(member: Member, presence: Presence, at: datetime, doubt: bool) -> MemberCoverage:
    suspended = member.status == "suspended"
    waiting = presence.waiting + presence.parked
    censused = presence.census_at is not None and at - presence.census_at <= CENSUS_FRESH
    return MemberCoverage(
        member=member.id,
        code=member.code,
        name=member.name,
        list_state=_list_state(presence, waiting),
        reachable=presence.reachable,
        suspended=suspended,
        since=member.status_since if suspended else presence.since,
        as_of=presence.last_heard,
        indexed_from=presence.indexed_from,
        census_equal=presence.census_equal if censused else None,
        census_at=presence.census_at,
        waiting=waiting,
        quarantined=presence.quarantined,
        identity_doubt=doubt,
    )


def _list_state(presence: Presence, waiting: int) -> ListState:
    """What the list lacks; a member that cannot be reached leaves the list as of when it was last heard."""
    if presence.last_heard is None:
        return "unknown"
    if presence.filling:
        return "filling"
    return "behind" if waiting else "live"
