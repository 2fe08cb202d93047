"""Who can be reached now.

Heartbeats are kept in memory, and shared between processes and restarts through the database (D25).

A member is unreachable when its link is lost or three heartbeats are missed; *since when* is when it was lost
or last heard.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from crosslight.runtime.clock import Clock
from crosslight.runtime.waiting import Subscribers
from crosslight.standards.concern import Concern
from crosslight.standards.ids import MemberId
from registry.members.ends import LinkEnd, second_holder
from registry.members.model import Presence

CLOCKS_APART_S = 1.5  # of two processes of one registry
UNKNOWN_END = LinkEnd("", "")
FLUSH_LAG_S = 1.5  # how much older the database's copy of another process's heartbeat may be


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a node last said of itself, and what the registry made of it."""

    waiting: int = 0
    parked: int = 0
    quarantined: int = 0
    filling: bool = False
    indexed_from: str = ""
    census_equal: bool | None = None
    census_at: str = ""  # ISO 8601
    skew_ms: int = 0
    software: str = ""  # name and version of its program
    studies: int | None = None  # that it says it has published; None = it has not said yet
    trouble: str = ""  # why its link last ended, where we ended it
    concern: str = ""  # version, hex, of whom its unlisted studies concern; '' = it does not say
    unheard: bool = False  # what it last said was said before it was away, and it has said nothing since
    reach: str = ""  # how it is called: direct or tunnel; '' = not known
    far_address: str = ""  # where its link comes from
    far_state: str = ""  # the id of the database at its far end; '' = the link is of an older release

    @classmethod
    def from_plain(cls, data: dict[str, Any]) -> Report:
        """Read what :func:`dataclasses.asdict` wrote, also by another release."""
        return cls(**{k: v for k, v in data.items() if k in cls.__dataclass_fields__})


@dataclass(frozen=True, slots=True, kw_only=True)
class PresenceRow:
    """One member's presence as the database has it."""

    member: MemberId
    process: str
    reachable: bool
    since: datetime | None
    last_heard: datetime | None
    report: Report


@dataclass(slots=True)
class _LinkState:
    token: int
    heard_s: float
    heard: datetime
    report: Report
    far: LinkEnd
    since: datetime  # when it began


def _from(far: LinkEnd, report: Report) -> Report:
    return replace(report, far_address=far.address, far_state=far.state_id)


class PresenceBoard:
    """Presence of all members as this process knows it.

    Args:
        process: A name for this process, new at each start.
        silence_s: So long without a heartbeat makes a member unreachable.
    """

    def __init__(self, clock: Clock, process: str, silence_s: float) -> None:
        self._clock, self.process, self._silence = clock, process, silence_s
        self._links: dict[MemberId, _LinkState] = {}
        self._rows: dict[MemberId, PresenceRow] = {}
        self._written: dict[MemberId, PresenceRow] = {}
        self._concerns: dict[MemberId, tuple[str, Concern]] = {}  # the newest known, with its version
        self._unwritten: set[MemberId] = set()  # whose newest set the database lacks
        self._tokens = 0
        self._started_s = float("-inf")
        self.on_lost: Callable[[], None] = lambda: None
        self._standing: dict[MemberId, tuple[bool, bool]] = {}
        # told when a member can be reached, is full, or no longer so
        self.changed: Subscribers[MemberId] = Subscribers()

    def serve(self) -> None:
        """This process takes links from now on.

        Members that were reachable get one silence to link anew before they are not; what they hold by now is
        not known meanwhile.
        """
        self._started_s = self._clock.monotonic_s()

    def opened(self, member: MemberId, far: LinkEnd = UNKNOWN_END) -> int:
        """A link is up, with ``far`` at its other end: a token for :meth:`heard` and :meth:`lost`.

        With it an older link of the same member changes nothing.
        """
        self._tokens += 1
        row, report = self._current(member), self._last_report(member)
        if row is None or not row.reachable or row.report.unheard:
            report = replace(report, unheard=True)
        now, report = self._clock.now(), _from(far, report)
        self._links[member] = _LinkState(
            self._tokens, self._clock.monotonic_s(), now, report, far=far, since=now
        )
        self._look(member)
        return self._tokens

    def _last_report(self, member: MemberId) -> Report:
        link, row = self._links.get(member), self._rows.get(member)
        return link.report if link else row.report if row else Report()

    def heard(self, member: MemberId, token: int, report: Report) -> None:
        """A heartbeat came."""
        link = self._links.get(member)
        if link is not None and link.token == token:
            link.heard_s, link.heard = self._clock.monotonic_s(), self._clock.now()
            link.report = _from(link.far, report)
            self._look(member)

    def concerned(self, member: MemberId, concern: Concern) -> None:
        """A heartbeat brought whom the member's unlisted studies concern; the heartbeat's report names it."""
        self._concerns[member] = (concern.version.hex(), concern)
        self._unwritten.add(member)

    def concern(self, member: MemberId) -> Concern | None:
        """The set that the member's newest report names; None when it names none, or another than is here."""
        row = self._current(member)
        version, concern = self._concerns.get(member, ("", None))
        return concern if row is not None and version == row.report.concern else None

    def take_unwritten(self) -> list[tuple[MemberId, Concern]]:
        """Sets that the database does not have yet; they are handed out once."""
        taken, self._unwritten = self._unwritten, set()
        return [(member, self._concerns[member][1]) for member in taken]

    def not_written(self, members: Iterable[MemberId]) -> None:
        """What :meth:`take_unwritten` handed out could not be written."""
        self._unwritten.update(members)

    def missing(self) -> list[MemberId]:
        """Members whose newest report names a set that is not here.

        Another process has it, or had it before a restart.
        """
        named = {
            m: row.report.concern
            for m in {*self._links, *self._rows}
            if (row := self._current(m)) is not None
        }
        return [
            m for m, version in named.items() if version and self._concerns.get(m, ("", None))[0] != version
        ]

    def found(self, member: MemberId, concern: Concern) -> None:
        """The database's set of a member."""
        self._concerns[member] = (concern.version.hex(), concern)

    def report(self, member: MemberId) -> Report:
        """What the member last said."""
        return self._last_report(member)

    def lost(self, member: MemberId, token: int, trouble: str = "") -> None:
        """A link ended, for ``trouble`` where we ended it; only the newest counts."""
        link = self._links.get(member)
        if link is None or link.token != token:
            return
        del self._links[member]
        link.report = replace(link.report, trouble=trouble)
        since = link.heard if self._silent(link) else self._clock.now()
        self._rows[member] = self._row(member, link, reachable=False, since=since)
        self._look(member)
        self.on_lost()

    def due_s(self) -> float:
        """How long until the next of our links is silent.

        A restart must find in the database what faces have said.
        """
        now_s = self._clock.monotonic_s()
        return min(
            (left for k in self._links.values() if (left := k.heard_s + self._silence - now_s) >= 0),
            default=float("inf"),
        )

    def _silent(self, link: _LinkState) -> bool:
        return self._clock.monotonic_s() - link.heard_s > self._silence

    def _row(
        self, member: MemberId, link: _LinkState, *, reachable: bool, since: datetime | None
    ) -> PresenceRow:
        return PresenceRow(
            member=member,
            process=self.process,
            reachable=reachable,
            since=since,
            last_heard=link.heard,
            report=link.report,
        )

    def presence(self, member: MemberId, max_skew_s: float) -> Presence:
        """The member's presence now.

        One that never linked is unreachable since no moment that anybody could name.

        ``max_skew_s``: from which on its clock is wrong (D22).
        """
        row = self._current(member)
        if row is None:
            return Presence(member=member, reachable=False)
        report = row.report
        return Presence(
            member=member,
            reachable=row.reachable,
            since=None if row.reachable else (row.since or row.last_heard),
            last_heard=row.last_heard,
            waiting=report.waiting,
            parked=report.parked,
            quarantined=report.quarantined,
            filling=report.filling,
            indexed_from=report.indexed_from,
            census_equal=report.census_equal,
            census_at=datetime.fromisoformat(report.census_at) if report.census_at else None,
            skew_ms=report.skew_ms,
            software=report.software,
            studies=report.studies,
            trouble=report.trouble,
            clock_wrong=abs(report.skew_ms) > max_skew_s * 1000,
            concern=self.concern(member),
            unheard=report.unheard,
            reach=report.reach,
        )

    def _current(self, member: MemberId) -> PresenceRow | None:
        link, row = self._links.get(member), self._rows.get(member)
        elsewhere = row is not None and row.process != self.process
        if link is not None and not (
            elsewhere and row is not None and row.last_heard and row.last_heard > link.heard
        ):
            silent = self._silent(link)
            return self._row(member, link, reachable=not silent, since=link.heard if silent else None)
        if row is None or not row.reachable or row.last_heard is None:
            return row
        age_s = (self._clock.now() - row.last_heard).total_seconds()
        starting = self._clock.monotonic_s() - self._started_s <= self._silence
        if age_s <= self._silence + FLUSH_LAG_S:
            return row
        if starting:
            return replace(row, report=replace(row.report, unheard=True))
        return replace(row, reachable=False, since=row.last_heard)

    def unwritten(self) -> list[PresenceRow]:
        """Rows of our links that the database does not have yet."""
        mine = [m for m, row in self._rows.items() if row.process == self.process]
        rows = [
            row
            for m in {*self._links, *mine}
            if (row := self._current(m)) is not None and row.process == self.process
        ]
        return [row for row in rows if self._written.get(row.member) != row]

    def written(self, rows: list[PresenceRow]) -> None:
        """These are in the database now."""
        self._written.update({row.member: row for row in rows})

    def beside(self, replaced: Sequence[PresenceRow]) -> list[tuple[MemberId, str]]:
        """Whose key has a second holder, by the rows of other processes that ours replaced; with what tells.

        A link elsewhere that was heard after ours had begun lives beside it; one that was heard only before
        is the same node's that has moved here. Both links must be known by their ends.
        """
        told = []
        for row in replaced:
            link = self._links.get(row.member)
            if link is None or row.last_heard is None or not (link.far.state_id and row.report.far_state):
                continue
            elsewhere = LinkEnd(row.report.far_address, row.report.far_state)
            both = (row.last_heard - link.since).total_seconds() > CLOCKS_APART_S
            if both and (why := second_holder(elsewhere, link.far)):
                told.append((row.member, f"{why}, at another process of the registry"))
        return told

    def holds_beside(self, row: PresenceRow, far: LinkEnd) -> str:
        """What says that ``far`` is another holder of a key than the one whose link another process has.

        '' where nothing does, or that link's process has not written for so long that its word is over.
        """
        elsewhere = LinkEnd(row.report.far_address, row.report.far_state)
        if row.last_heard is None or not (far.state_id and elsewhere.state_id):
            return ""
        if (self._clock.now() - row.last_heard).total_seconds() > self._silence:
            return ""
        why = second_holder(elsewhere, far)
        return f"{why}, at another process of the registry" if why else ""

    def refresh(self, rows: list[PresenceRow]) -> None:
        """The database's copy, read after ours was written."""
        for row in rows:
            ours = self._rows.get(row.member)
            unsaved = (
                ours is not None and ours.process == self.process and self._written.get(row.member) != ours
            )
            if not unsaved:
                self._rows[row.member] = row
        for member in sorted({*self._links, *self._rows}):  # silence too is seen here: nobody tells of it
            self._look(member)

    def _look(self, member: MemberId) -> None:
        row = self._current(member)
        report = row.report if row is not None else Report()
        full = (
            row is not None
            and row.last_heard is not None
            and not (report.filling or report.unheard)
            and report.census_equal is True
        )
        standing = (row is not None and row.reachable, full)
        if self._standing.get(member, (False, False)) != standing:
            self._standing[member] = standing
            self.changed(member)
