"""Pages of ImagingStudy: which studies of an answer stand on one, in which order, and its entries as bytes.

A page follows from what was found, which ``Answer.same`` names, and from :class:`PageAsked`; nothing else is
read here. So the page of what is found again is kept (ADR 0046). What an answer says of itself, its links and
its coverage are no part of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson

from crosslight.runtime.large_answers import in_steps
from crosslight.standards.fhir.bundle import Entries, Entry, entry, joined
from crosslight.standards.fhir.directory import member_endpoint, organization, region_endpoint
from crosslight.standards.fhir.facts import HoldingFacts, MemberFacts, RegionFacts
from crosslight.standards.fhir.imaging_study import StudyWriter, imaging_study
from crosslight.standards.fhir.match import StudyMatcher
from crosslight.standards.fhir.people import patient
from crosslight.standards.fhir.search import Criterion, SearchRequest
from crosslight.standards.fhir.terms import Systems
from crosslight.standards.fhir.times import safe_interval
from crosslight.standards.fhir.wire import Resource, render
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import Invalid
from registry.ask.question import Answer
from registry.fhir.cache import RenderCache
from registry.fhir.face import cut
from registry.fhir.facts import Facts, id_part
from registry.fhir.plan import Plan
from registry.fhir.table import IMAGING_STUDY

_UNDATED = datetime(1, 1, 1, tzinfo=UTC)


def sort_key(holding: HoldingFacts, sort: tuple[str, ...]) -> list[Any]:
    """Ascending order of rows for ``_sort``, as JSON keeps it.

    Undated last either way (D22), the id to break ties.
    """
    return [
        *(_sort_part(holding, key.removeprefix("-"), -1 if key.startswith("-") else 1) for key in sort),
        holding.fhir_id,
    ]


def _sort_part(holding: HoldingFacts, key: str, sign: int) -> list[Any]:
    if key == "_id":
        return [sign * ord(char) for char in holding.fhir_id]  # ids are of one length
    if key == "_lastUpdated":
        return [0, sign * round(holding.updated.timestamp() * 1_000_000)]
    interval = safe_interval(holding.record.time)
    if interval is None:
        return [1, 0]
    return [0, sign * round((interval[0] - _UNDATED).total_seconds() * 1_000_000)]


@dataclass(frozen=True, slots=True, kw_only=True)
class PageAsked:
    """All that a page depends on beside what was found."""

    search: SearchRequest
    after: bytes  # the place of the page before, as JSON
    base: str
    left: tuple[Criterion, ...]  # the criteria that the question did not decide
    sliced: bool  # all rows are found at once, and this page is cut from them
    incarnation: str
    region: RegionFacts
    members: tuple[MemberFacts | None, ...]  # of everybody who is named, in the order found


@dataclass(frozen=True, slots=True)
class StudyPage:
    """A page of studies.

    ``size`` is how many studies are on it, ``total`` how many there are in all (None: not counted), ``after``
    where the next page begins (None: there is none).
    """

    asked: PageAsked
    entries: Entries
    size: int
    total: int | None
    after: Any

    @property
    def data(self) -> bytes:
        """What it takes in memory, nearly."""
        return self.entries.data


class StudyPages:
    """Makes pages; keeps those of what is found again.

    Args:
        systems: How numbers are named.
        max_bytes: Of pages that are kept together; 0 keeps none.
    """

    def __init__(self, systems: Systems, max_bytes: int) -> None:
        self._systems, self._kept = systems, RenderCache[StudyPage](max_bytes)

    def page(self, answer: Answer, facts: Facts, asked: PageAsked) -> StudyPage:
        """The page of an answer; ``facts`` are of the region and the members that ``asked`` has.

        Raises:
            Invalid: the place of the page before is of another search.
        """

        def make() -> StudyPage:
            return _made(answer, facts, self._systems, asked)

        if answer.same is None:
            return make()
        return self._kept.get(answer.same, make, lambda kept: kept.asked == asked)


def page_asked(
    search: SearchRequest, after: Any, base: str, plan: Plan, answer: Answer, facts: Facts
) -> PageAsked:
    """What a page depends on, of a search that was planned and answered."""
    named: dict[MemberId | None, None] = dict.fromkeys([holding.member for holding in answer.holdings])
    named |= dict.fromkeys([record.member for person in answer.persons for record in person.records])
    return PageAsked(
        search=search,
        after=orjson.dumps(after),
        base=base,
        left=tuple([c for c in search.criteria if c not in plan.decided]),
        sliced=plan.bounded and answer.total is None,
        incarnation=id_part(answer.incarnation),
        region=facts.region,
        members=tuple([facts.member(member) for member in named]),
    )


def _made(answer: Answer, facts: Facts, systems: Systems, asked: PageAsked) -> StudyPage:
    matcher = StudyMatcher(facts.region, systems)
    rows = [h for h in in_steps(facts.holdings(answer)) if matcher.matches(h, asked.left)]
    total, after = answer.total, answer.cursor or None
    if asked.sliced:
        rows, total, after = _slice(rows, asked.search, orjson.loads(asked.after))
    entries = [] if asked.search.summary == "count" else _entries(rows, facts, systems, asked)
    return StudyPage(asked, joined(entries), len(rows), total, after)


def _entries(rows: list[HoldingFacts], facts: Facts, systems: Systems, asked: PageAsked) -> list[Entry]:
    search = asked.search
    if search.elements or search.summary == "text":
        whole = (imaging_study(row, facts.region, systems) for row in in_steps(rows))
        studies = [render(cut(IMAGING_STUDY, search, study)) for study in whole]
    else:
        writer = StudyWriter(facts.region, systems)
        studies = [writer.write(row) for row in in_steps(rows)]
    entries = [entry(study, asked.base, "match") for study in studies]
    included = _included(search.includes, rows, facts, systems, asked.incarnation)
    return entries + [entry(resource, asked.base, "include") for resource in included]


def _slice(
    rows: list[HoldingFacts], search: SearchRequest, after: Any
) -> tuple[list[HoldingFacts], int, Any]:
    """This page's rows, how many there are in all, and the key after which the next page begins.

    None: there is none. Keys, not offsets: rows that come or go between pages neither repeat nor hide others.
    """
    total = len(rows)
    keyed = [(sort_key(row, search.sort), row) for row in in_steps(rows)]
    if after is not None:
        if not isinstance(after, list) or len(after) != len(search.sort) + 1:
            raise Invalid("The page link belongs to another search.", where="_page", fhir_code="value")
        keyed = [pair for pair in keyed if pair[0] > after]
    keyed.sort(key=lambda pair: pair[0])
    page = keyed[: search.count]
    last = page[-1][0] if page and len(keyed) > len(page) else None
    return [row for _, row in page], total, last


def _included(
    includes: Iterable[str], rows: list[HoldingFacts], facts: Facts, systems: Systems, incarnation: str
) -> list[Resource]:
    """What ``_include`` asks for, each once."""
    wanted, resources = set(includes), dict[tuple[str, str], Resource]()
    region = facts.region
    for row in rows:
        person, member = row.person, row.member
        if person is not None and wanted & {"ImagingStudy:patient", "ImagingStudy:subject"}:
            resources["Patient", person.fhir_id] = patient(person, systems, incarnation=incarnation)
        if "ImagingStudy:endpoint" in wanted:
            if member is None or member.shows_images:
                resources["Endpoint", region.endpoint_id] = region_endpoint(region, incarnation=incarnation)
            if member is not None and member.dicomweb:
                resources["Endpoint", member.endpoint_id] = member_endpoint(member, incarnation=incarnation)
        if member is not None and "ImagingStudy:custodian" in wanted:
            custodian = organization(member, region, incarnation=incarnation)
            resources["Organization", member.organization_id] = custodian
    return list(resources.values())
