"""ImagingStudy: read and search."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from crosslight.runtime.large_answers import in_steps
from crosslight.standards.fhir.bundle import Entry, entry
from crosslight.standards.fhir.directory import member_endpoint, organization, region_endpoint
from crosslight.standards.fhir.facts import HoldingFacts
from crosslight.standards.fhir.imaging_study import StudyWriter, imaging_study
from crosslight.standards.fhir.match import StudyMatcher
from crosslight.standards.fhir.outcome import Issue, of_parameter
from crosslight.standards.fhir.people import patient
from crosslight.standards.fhir.search import SearchRequest
from crosslight.standards.fhir.times import safe_interval
from crosslight.standards.fhir.wire import Rendered, Resource, render
from crosslight.standards.problem import Gone, Invalid, NotFound
from registry.ask.question import Answer, ByObject, ByPopulation, DirectoryQuestion
from registry.fhir.cache import RenderCache
from registry.fhir.completeness import completeness, proven
from registry.fhir.face import FIND_ID, Asked, FhirFace, search_issues
from registry.fhir.facts import Facts, id_part
from registry.fhir.plan import Misunderstood, Plan, is_closed
from registry.fhir.table import IMAGING_STUDY

_LATE = (
    "Changes are listed once they are committed, which may be seconds after their time: begin the next window"
    " a minute before this one ends."
)
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


class StudyHandlers:
    """Handlers of ``/fhir/ImagingStudy``."""

    def __init__(self, face: FhirFace) -> None:
        self._face, self._cache = face, RenderCache(face.config.render_cache_bytes)

    async def read(self, request: web.Request) -> web.Response:
        """``GET /fhir/ImagingStudy/{id}``: 410 for one that was here."""
        face, key = self._face, request.match_info["id"]
        wanted = face.wanted(request, IMAGING_STUDY)
        async with face.question(request, "read", ByObject(fhir_ids=(key,))) as answer:
            facts = face.facts(request)
            for holding in answer.holdings:
                if holding.fhir_id == key and holding.state == "approved":
                    body = imaging_study(facts.holding(answer, holding), facts.region, face.systems)
                    return face.resource(
                        request, face.cut(IMAGING_STUDY, wanted, body), answer.coverage, wanted
                    )
            if key in answer.gone or any(h.fhir_id == key for h in answer.holdings):
                raise Gone("This study is no longer held here.", where="ImagingStudy.id")
            raise NotFound("There is no ImagingStudy with this id.", todo=FIND_ID, where="ImagingStudy.id")

    async def search(self, request: web.Request) -> web.Response:
        """``GET /fhir/ImagingStudy?…`` and ``POST /fhir/ImagingStudy/_search``."""
        face = self._face
        asked = await face.asked(request, IMAGING_STUDY)
        try:
            plan = face.planner.plan(asked.search, asked.after)
        except Misunderstood as wrong:
            async with face.question(request, "search", DirectoryQuestion()) as answer:
                return face.misread(request, asked, answer, wrong.misread, IMAGING_STUDY, wrong.where)
        async with face.question(request, "search", plan.question) as answer:
            if answer.naming.misread:
                return face.misread(
                    request, asked, answer, answer.naming.misread[0], IMAGING_STUDY, plan.about
                )
            return await face.large.make(lambda: self._found(request, asked, answer, plan), answer.size)

    def _found(self, request: web.Request, asked: Asked, answer: Answer, plan: Plan) -> web.Response:
        """What an answer shows of a search: its matches, or a page of them."""
        face = self._face
        facts = face.facts(request)
        matcher = StudyMatcher(facts.region, face.systems)
        left = [c for c in asked.search.criteria if c not in plan.decided]
        rows = [h for h in in_steps(facts.holdings(answer)) if matcher.matches(h, left)]
        after: Any = answer.cursor or None
        total = answer.total
        if plan.bounded and total is None:
            rows, total, after = _page(rows, asked)
        return self._answer(request, asked, answer, facts, rows, total, after, plan)

    def _answer(
        self,
        request: web.Request,
        asked: Asked,
        answer: Answer,
        facts: Facts,
        rows: list[HoldingFacts],
        total: int | None,
        after: Any,
        plan: Plan,
    ) -> web.Response:
        face, search = self._face, asked.search
        n_found = total if total is not None else (None if rows or after else 0)
        sure = proven(answer, n_found=n_found, closed=is_closed(search, plan.decided))
        issues = completeness(answer, proven=sure) + search_issues(search) + _total_issue(search, total)
        question = plan.question
        if isinstance(question, ByPopulation) and question.order == "updated" and question.ascending:
            issues.append(Issue(severity="information", code="informational", text=_LATE))
        entries = [] if search.summary == "count" else self._entries(answer, asked, facts, rows)
        entries.append(face.outcome(request, issues))
        links = face.links(request, IMAGING_STUDY, asked, after if search.summary != "count" else None)
        return face.bundle(request, asked, entries, links=links, total=total, answer=answer, proven=sure)

    def _rendered(self, holding: HoldingFacts, facts: Facts, writer: StudyWriter) -> Rendered:
        """A study's bytes, made once for the same revision, patient, member and region."""
        patient = holding.record.patient if holding.person is None else None
        shown = (
            holding.fhir_id,
            holding.incarnation,
            holding.revision,
            holding.updated,
            holding.conflict,
            patient,
            facts.fingerprint(holding.member),
            facts.fingerprint(holding.person),
            facts.fingerprint(facts.region),
        )
        return self._cache.get(shown, lambda: writer.write(holding))

    def _entries(self, answer: Answer, asked: Asked, facts: Facts, rows: list[HoldingFacts]) -> list[Entry]:
        face, search = self._face, asked.search
        if search.elements or search.summary == "text":
            whole = (imaging_study(r, facts.region, face.systems) for r in in_steps(rows))
            studies = [render(face.cut(IMAGING_STUDY, search, study)) for study in whole]
        else:
            writer = StudyWriter(facts.region, face.systems)
            studies = [self._rendered(row, facts, writer) for row in in_steps(rows)]
        entries = [entry(study, asked.base, "match") for study in studies]
        included = _included(search.includes, rows, facts, face, id_part(answer.incarnation))
        return entries + [entry(resource, asked.base, "include") for resource in included]


def _page(rows: list[HoldingFacts], asked: Asked) -> tuple[list[HoldingFacts], int, Any]:
    """This page's rows, how many there are in all, and the key after which the next page begins.

    None: there is none. Keys, not offsets: rows that come or go between pages neither repeat nor hide others.
    """
    search, total = asked.search, len(rows)
    keyed = [(sort_key(row, search.sort), row) for row in in_steps(rows)]
    if asked.after is not None:
        if not isinstance(asked.after, list) or len(asked.after) != len(search.sort) + 1:
            raise Invalid("The page link belongs to another search.", where="_page", fhir_code="value")
        keyed = [pair for pair in keyed if pair[0] > asked.after]
    keyed.sort(key=lambda pair: pair[0])
    page = keyed[: search.count]
    after = page[-1][0] if page and len(keyed) > len(page) else None
    return [row for _, row in page], total, after


def _total_issue(search: SearchRequest, total: int | None) -> list[Issue]:
    if search.total == "none" or total is not None:
        return []
    text = "A total is counted only for searches by patient, accession number or study."
    return [Issue(severity="information", code="not-supported", text=text, location=of_parameter("_total"))]


def _included(
    includes: Iterable[str], rows: list[HoldingFacts], facts: Facts, face: FhirFace, incarnation: str
) -> list[Resource]:
    """What ``_include`` asks for, each once."""
    wanted, resources = set(includes), dict[tuple[str, str], Resource]()
    region = facts.region
    for row in rows:
        person, member = row.person, row.member
        if person is not None and wanted & {"ImagingStudy:patient", "ImagingStudy:subject"}:
            resources["Patient", person.fhir_id] = patient(person, face.systems, incarnation=incarnation)
        if "ImagingStudy:endpoint" in wanted:
            if member is None or member.shows_images:
                resources["Endpoint", region.endpoint_id] = region_endpoint(region, incarnation=incarnation)
            if member is not None and member.dicomweb:
                resources["Endpoint", member.endpoint_id] = member_endpoint(member, incarnation=incarnation)
        if member is not None and "ImagingStudy:custodian" in wanted:
            custodian = organization(member, region, incarnation=incarnation)
            resources["Organization", member.organization_id] = custodian
    return list(resources.values())
