"""Coverage in words: the strip of trusts, and the sentences that say how complete a list is (D19). Pure.

*Unreachable* concerns opening; *behind, filling, unknown* concern the list. "No imaging" is said only when it is proven.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from crosslight.standards.region import Region
from registry.ask.coverage import Coverage, MemberCoverage
from registry.portal import words

#: How a trust looks in the strip: its CSS class and the symbol beside its words (never colour alone).
_SYMBOL = {"well": "●", "behind": "▲", "away": "✕", "doubt": "?"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One trust in the strip."""

    code: str
    name: str
    level: str  # well | behind | away | doubt
    symbol: str
    state: str  # in words
    fresh: str  # how fresh the list is
    opens: bool  # whether its images can be opened now
    opening: str  # the same in words


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """The strip and what it means."""

    sites: tuple[Site, ...]
    complete: bool
    lead: str  # for a list with studies: complete or not,
    sentence: str  # and why
    verdict: str  # for an empty one: proven or not,
    absence: str  # and why
    proven: bool
    at: str

    def by_code(self, code: str) -> Site | None:
        """A trust's part."""
        return next((s for s in self.sites if s.code == code), None)

    def as_json(self) -> dict[str, Any]:
        """For the page that polls."""
        return {
            "at": self.at,
            "complete": self.complete,
            "lead": self.lead,
            "sentence": self.sentence,
            "verdict": self.verdict,
            "absence": self.absence,
            "proven": self.proven,
            "sites": [
                {n: getattr(s, n) for n in ("code", "name", "level", "symbol", "state", "fresh", "opens", "opening")}
                for s in self.sites
            ],
        }


def with_doubt(coverage: Coverage, codes: Collection[str]) -> Coverage:
    """``coverage`` with the identity in doubt at these members: what a page that polls already knows of its patient."""
    marked = (replace(m, identity_doubt=True) if m.code in codes else m for m in coverage.members)
    return replace(coverage, members=tuple(marked))


def sites_of(coverage: Coverage, region: Region, word: str = "trust") -> Sites:
    """Put coverage in words, in the region's own time; ``word`` is what a member is called there."""

    def at(member: MemberCoverage) -> str:
        return f" since {words.moment(member.since, coverage.at, region.zone)}" if member.since else ""

    made = tuple(_site(m, at(m), coverage, region) for m in coverage.members)
    silent = [f"{words.plain(m.name)} has not answered{at(m) or ' yet'}" for m in coverage.members if _silent(m)]
    others = [_list_state(m) for m in coverage.members if not _silent(m) and (m.list_state != "live" or m.waiting)]
    doubts = [f"a record at {words.plain(m.name)} is in doubt" for m in coverage.members if m.identity_doubt]
    unproven = [
        f"{words.plain(m.name)} has not been compared in full yet"
        for m in coverage.members
        if not _silent(m) and m.list_state == "live" and not m.waiting and m.census_equal is not True
    ]
    gaps = silent + others + doubts
    if not coverage.members:
        gaps = [f"no {word} has joined yet"]
    at_now = words.moment(coverage.at, coverage.at, region.zone)
    proven = coverage.proves_absence and not gaps  # who does not answer may hold what it has not told
    return Sites(
        sites=made,
        complete=not gaps,
        lead="This list may not be complete." if gaps else f"Complete at {at_now}:",
        sentence=f"{_capital('; '.join(gaps))}." if gaps else f"every {word}’s list was up to date.",
        verdict="No imaging" if proven else "None found so far",
        absence=(
            f"Checked at {at_now}: none of the {words.count(len(coverage.members), word)} holds any."
            if proven
            else f"{_capital('; '.join(gaps or unproven))}."
        ),
        proven=proven,
        at=at_now,
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _silent(member: MemberCoverage) -> bool:
    return member.suspended or not member.reachable


def _list_state(member: MemberCoverage) -> str:
    name = words.plain(member.name)
    if member.list_state == "filling":
        return f"{name} is still sending its past studies"
    if member.list_state == "unknown":
        return f"nothing is known yet of {name}"
    return f"{name} is behind" + (f", {words.count(member.waiting, 'study', 'studies')} waiting" if member.waiting else "")


def _site(member: MemberCoverage, since: str, coverage: Coverage, region: Region) -> Site:
    if member.suspended:
        level, state, opening = "away", f"Suspended{since}", f"Suspended{since}"
    elif not member.reachable:
        level, state, opening = "away", f"Not reachable{since}", f"Not reachable{since}"
    else:
        level, opening = "well", "Open now"
        state = {"live": "Up to date", "behind": "Behind", "filling": "Sending past studies"}.get(member.list_state, UNKNOWN)
        if member.list_state != "live" or member.waiting:
            level = "behind"
            state = state if member.list_state != "live" else "Behind"
    if member.identity_doubt:
        level, state = ("doubt" if level != "away" else level), f"{state}; a record in doubt"
    fresh = f"List as of {words.moment(member.as_of, coverage.at, region.zone)}" if member.as_of else "No list yet"
    if member.waiting:
        fresh += f", {words.count(member.waiting, 'study', 'studies')} waiting"
    return Site(
        code=member.code,
        name=words.plain(member.name),
        level=level,
        symbol=_SYMBOL[level],
        state=state,
        fresh=fresh,
        opens=member.reachable and not member.suspended,
        opening=opening,
    )


UNKNOWN = words.UNKNOWN
