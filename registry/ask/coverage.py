"""Coverage: how complete an answer is, as a value computed once per question (D19).

*Unreachable* and *clock* concern opening; *behind*, *filling* and *unknown* concern the list: they are never
one flag. A list is behind for the patient whose studies wait, and for nobody else. Pure: the members'
presence comes in, a value goes out; each face renders it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from crosslight.standards.concern import patient_hash
from crosslight.standards.ids import Identifier, MemberId
from registry.members.model import Directory, Member, Presence

ListState = Literal["live", "behind", "filling", "unknown"]
# Whose an unlisted study is: nobody's who was asked for, that patient's, or it is not known whose.
Whose = Literal["nobody", "patient", "anybody"]
#: What an answer may lack: studies that wait, of that patient or anybody; that patient's that were refused.
Gap = Literal["patient waits", "anybody waits", "patient refused"]
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
    clock_wrong: bool = False  # beyond the limit: nothing can be opened there (D22)
    skew_ms: int = 0
    since: datetime | None = None  # of being unreachable or suspended
    as_of: datetime | None = None  # the index is as of
    indexed_from: str = ""  # YYYYMMDD
    census_equal: bool | None = None
    census_at: datetime | None = None
    waits: Whose = "nobody"  # whose the studies are that are not listed yet, as far as this question goes
    refused: Whose = "nobody"  # the same of those that are not listed until an operator acts
    waiting: int = 0  # how many wait there, whoever they concern
    parked: int = 0  # how many the registry refused, whoever they concern
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
        elif self.clock_wrong:
            words.append("clock")
        if self.list_state != "live":
            words.append(self.list_state)
        return tuple(words) or ("live",)

    @property
    def opens(self) -> bool:
        """Whether images can be opened there now."""
        return self.reachable and not self.suspended and not self.clock_wrong

    @property
    def never_linked(self) -> bool:
        """Whether nothing was ever heard of it."""
        return self.as_of is None

    @property
    def gaps(self) -> tuple[Gap, ...]:
        """What the answer may lack here, for each face to put in its own words."""
        gaps: list[Gap] = []
        if self.waits == "patient":
            gaps.append("patient waits")
        elif self.waits == "anybody":
            gaps.append("anybody waits")
        if self.refused == "patient":
            gaps.append("patient refused")
        return tuple(gaps)

    @property
    def well(self) -> bool:
        """Whether nothing at this member makes the answer less than complete and openable."""
        return self.states == ("live",) and not self.identity_doubt

    @property
    def proves_absence(self) -> bool:
        """Whether what is not listed of this member is not there (D19).

        Its list is current, filled and recently counted, it can be reached, and no identity is in doubt.
        """
        return (
            self.list_state == "live"
            and self.reachable
            and not self.suspended
            and not self.identity_doubt
            and (self.waits, self.refused) == ("nobody", "nobody")
            and self.census_equal is True
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Coverage:
    """All members' parts, in the order of their codes."""

    members: tuple[MemberCoverage, ...]
    at: datetime
    # names of sources that are no members: what they hold beyond what they registered is unknown
    sources: tuple[str, ...] = ()

    @property
    def degraded(self) -> bool:
        """Whether any member is less than well."""
        return not all(m.well for m in self.members)

    @property
    def proves_absence(self) -> bool:
        """Whether an empty list may be called "no imaging" (D19): every member's part proves it."""
        return bool(self.members) and all(m.proves_absence for m in self.members)

    def states_key(self) -> str:
        """States without times: part of a search's ETag (D19).

        All that an answer says of completeness follows from it.
        """
        return ";".join(
            f"{m.code}={','.join(m.states)},{m.waits},{m.refused}"
            f"{'!' * m.identity_doubt}{'+' * m.proves_absence}"
            for m in self.members
        )

    def header(self) -> str:
        """The value of the ``Crosslight-Coverage`` header.

        For example ``RTK;state=live, RA2;state=unreachable;since=…``.
        """
        elements = []
        for member in self.members:
            element = f"{member.code};state={'+'.join(member.states)}"
            if member.as_of:
                element += f";as-of={member.as_of.strftime('%Y-%m-%dT%H:%M:%SZ')}"
            if member.since:
                element += f";since={member.since.strftime('%Y-%m-%dT%H:%M:%SZ')}"
            if member.refused == "patient":
                element += ";refused=patient"
            if member.identity_doubt:
                element += ";identity=disputed"
            elements.append(element)
        return ", ".join(elements)


def compute(
    directory: Directory,
    at: datetime,
    doubts: Collection[MemberId] = (),
    identifiers: Collection[Identifier] | None = None,
) -> Coverage:
    """Coverage at this moment, from what the members' links last said.

    Args:
        directory: Members and their presence.
        at: Now.
        doubts: Members where the identity of the patient in question is in doubt.
        identifiers: Every identifier of whom the question is about; one without authority is tried as each
            member's own. None: it may be about anybody, so that any unlisted study counts.
    """
    members = tuple(
        _member(m, directory.presence(m.id), at, m.id in doubts, identifiers) for m in directory.all()
    )
    return Coverage(members=members, at=at, sources=tuple(m.name or m.code for m in directory.foreign()))


def _member(
    member: Member, presence: Presence, at: datetime, doubt: bool, identifiers: Collection[Identifier] | None
) -> MemberCoverage:
    suspended = member.status == "suspended"
    censused = presence.census_at is not None and at - presence.census_at <= CENSUS_FRESH
    waits, refused = _whose(member, presence, identifiers)
    return MemberCoverage(
        member=member.id,
        code=member.code,
        name=member.name,
        list_state=_list_state(presence, waits, refused),
        reachable=presence.reachable,
        suspended=suspended,
        clock_wrong=presence.clock_wrong,
        skew_ms=presence.skew_ms,
        since=member.status_since if suspended else presence.since,
        as_of=presence.last_heard,
        indexed_from=presence.indexed_from,
        census_equal=presence.census_equal if censused else None,
        census_at=presence.census_at,
        waits=waits,
        refused=refused,
        waiting=presence.waiting,
        parked=presence.parked,
        quarantined=presence.quarantined,
        identity_doubt=doubt,
    )


def _whose(
    member: Member, presence: Presence, identifiers: Collection[Identifier] | None
) -> tuple[Whose, Whose]:
    """Whether what waits, and what was refused, concerns whom the question is about.

    A node that does not say whose its studies are (an older one) leaves it at anybody's, and so does a
    question of anybody.
    """
    concern = presence.concern
    if concern is None:
        return "anybody" if presence.waiting else "nobody", "anybody" if presence.parked else "nobody"
    if identifiers is None:
        waits = bool(presence.waiting or concern.waiting or concern.anybody_waiting)
        refused = bool(presence.parked or concern.refused or concern.anybody_refused)
        return "anybody" if waits else "nobody", "anybody" if refused else "nobody"
    hashes: set[bytes] = set()
    if concern.waiting or concern.refused:
        own = {member.authority, *member.authorities}
        tried = {Identifier(i.value, a) for i in identifiers for a in ([i.authority] if i.authority else own)}
        hashes = {patient_hash(member.secret, i) for i in tried}
    return (
        _concerned(hashes & concern.waiting, concern.anybody_waiting),
        _concerned(hashes & concern.refused, concern.anybody_refused),
    )


def _concerned(met: Collection[bytes], anybody: bool) -> Whose:
    return "patient" if met else "anybody" if anybody else "nobody"


def _list_state(presence: Presence, waits: Whose, refused: Whose) -> ListState:
    """What the list lacks; a member that cannot be reached leaves the list as of when it was last heard.

    One that has come back and said nothing yet may hold more than when it was last heard.

    What was refused is listed when an operator has acted, which may take days: it makes the list of its own
    patient less than current, and nobody else's; that the others' absence is not proven meanwhile is said
    where absence is at stake.
    """
    if presence.last_heard is None or presence.unheard:
        return "unknown"
    if presence.filling:
        return "filling"
    return "behind" if waits != "nobody" or refused == "patient" else "live"
