"""Coverage in words: the strip of trusts, and the sentences that say how complete a list is (D19). Pure.

*Unreachable* concerns opening; *behind, filling, unknown* concern the list. "No imaging" is said only when it
is proven.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any

from crosslight.standards.region import Region
from registry.ask.absence import beyond
from registry.ask.coverage import Coverage, Gap, MemberCoverage
from registry.portal import wording as words

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
    # nothing but a record in doubt keeps the list from being complete: that has a box of its own
    doubted: bool
    at: str

    def by_code(self, code: str) -> Site | None:
        """The trust of this code; None where it is not in the strip."""
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
            "doubted": self.doubted,
            "sites": [
                {
                    name: getattr(site, name)
                    for name in ("code", "name", "level", "symbol", "state", "fresh", "opens", "opening")
                }
                for site in self.sites
            ],
        }


def with_doubt(coverage: Coverage, codes: Collection[str]) -> Coverage:
    """``coverage`` with the identity in doubt at these members.

    A page that polls already knows where its patient's is.
    """
    marked = (replace(m, identity_doubt=True) if m.code in codes else m for m in coverage.members)
    return replace(coverage, members=tuple(marked))


def sites_of(coverage: Coverage, region: Region, word: str = "trust") -> Sites:
    """Put coverage in words, in the region's own time; ``word`` is what a member is called there.

    ``sentence`` leaves records in doubt to their own box, where there are other gaps and where there are
    none.
    """

    def at(member: MemberCoverage) -> str:
        return f" since {words.moment(member.since, coverage.at, region.zone)}" if member.since else ""

    sites = tuple(_site(m, at(m), coverage, region) for m in coverage.members)
    gaps = [_silence(m, at(m)) for m in coverage.members if _silent(m)]
    gaps += [_list_state(m) for m in coverage.members if not _silent(m) and m.list_state != "live"]
    doubts = [f"a record at {words.plain(m.name)} is in doubt" for m in coverage.members if m.identity_doubt]
    unproven = [
        _unproven(m)
        for m in coverage.members
        if not _silent(m) and not m.proves_absence and not m.identity_doubt
    ]
    if not coverage.members:
        gaps = [f"no {word} has joined yet"]
    at_now = words.moment(coverage.at, coverage.at, region.zone)
    proven = coverage.proves_absence and not gaps  # who does not answer may hold what it has not told
    none = f"Checked at {at_now}: none of the {words.count(len(coverage.members), word)} holds any."
    none = f"{none} {beyond([words.plain(source) for source in coverage.sources])}".rstrip()
    return Sites(
        sites=sites,
        complete=not gaps and not doubts,
        lead="This list may not be complete." if gaps or doubts else f"Complete at {at_now}:",
        sentence=f"{_capital('; '.join(gaps))}." if gaps else f"every {word}’s list was up to date.",
        verdict="No imaging" if proven else "None found so far",
        absence=none if proven else f"{_capital('; '.join(gaps or doubts or unproven))}.",
        proven=proven,
        doubted=bool(doubts) and not gaps,
        at=at_now,
    )


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _silent(member: MemberCoverage) -> bool:
    return member.suspended or not member.reachable


def _silence(member: MemberCoverage, since: str) -> str:
    name = words.plain(member.name)
    if member.never_linked and not member.suspended:
        return f"{name} has never linked"
    return f"{name} has not answered{since or ' yet'}"


def _list_state(member: MemberCoverage) -> str:
    name = words.plain(member.name)
    if member.list_state == "filling":
        return f"{name} is still sending its past studies"
    if member.list_state == "unknown":
        return f"nothing is known yet of {name}"
    waiting = f", {words.count(member.waiting, 'study', 'studies')} waiting" if member.waiting else ""
    clauses: dict[Gap, str] = {
        "patient waits": "has new or changed studies of this patient on their way",
        "anybody waits": f"is behind{waiting}",
        "patient refused": "has images of this patient that were refused and are not listed",
    }
    return f"{name} {' and '.join(clauses[gap] for gap in member.gaps) or 'is behind'}"


def _unproven(member: MemberCoverage) -> str:
    """Why an empty list of a member that is current proves nothing."""
    name = words.plain(member.name)
    if member.refused != "nobody":
        return f"{name} has images that were refused, and it is not known whose they are"
    return f"{name} has not been compared in full yet"


def _site(member: MemberCoverage, since: str, coverage: Coverage, region: Region) -> Site:
    if member.suspended:
        level, state, opening = "away", f"Suspended{since}", f"Suspended{since}"
    elif member.never_linked and not member.reachable:
        level, state, opening = "away", "Never linked", "Never linked"
    elif not member.reachable:
        level, state, opening = "away", f"Not reachable{since}", f"Not reachable{since}"
    elif member.clock_wrong:
        level, state = "away", f"Clock wrong by {round(abs(member.skew_ms) / 1000):,} s"
        opening = "Cannot be opened: the clock there is wrong"
    else:
        level, opening = "well" if member.list_state == "live" else "behind", "Open now"
        state = {"live": "Up to date", "behind": "Behind", "filling": "Sending past studies"}.get(
            member.list_state, UNKNOWN
        )
    if member.identity_doubt:
        level, state = ("doubt" if level != "away" else level), f"{state}; a record in doubt"
    return Site(
        code=member.code,
        name=words.plain(member.name),
        level=level,
        symbol=_SYMBOL[level],
        state=state,
        fresh=_fresh(member, words.moment(member.as_of, coverage.at, region.zone) if member.as_of else ""),
        opens=member.opens,
        opening=opening,
    )


def _fresh(member: MemberCoverage, as_of: str) -> str:
    """How fresh its part of the list is, and what it lacks."""
    phrases: dict[Gap, str] = {
        "patient waits": "studies of this patient waiting",
        "anybody waits": f"{words.count(member.waiting, 'study', 'studies')} waiting",
        "patient refused": "images of this patient refused",
    }
    # how many wait is not known of every member
    lacks = [phrases[gap] for gap in member.gaps if gap != "anybody waits" or member.waiting]
    return ", ".join([f"List as of {as_of}" if as_of else "No list yet", *lacks])


UNKNOWN = words.UNKNOWN
