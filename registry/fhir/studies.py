"""ImagingStudy: read and search."""

from __future__ import annotations

from dataclasses import replace

from aiohttp import web

from crosslight.runtime.http import read_limited
from crosslight.standards.fhir.imaging_study import imaging_study
from crosslight.standards.fhir.order_list import MAX_REQUEST_BYTES, MOST_STUDIES, OPERATION, read_order
from crosslight.standards.fhir.outcome import Issue, of_parameter
from crosslight.standards.fhir.search import Criterion, SearchRequest, TokenValue
from crosslight.standards.fhir.terms import JSON_TYPE
from crosslight.standards.national import national_number
from crosslight.standards.problem import Gone, Invalid, NotFound, UnsupportedMediaType
from registry.ask.question import Answer, ByObject, ByPatient, ByPopulation, DirectoryQuestion
from registry.fhir.completeness import completeness, proven
from registry.fhir.face import FIND_ID, Asked, FhirFace, cut, search_issues
from registry.fhir.negotiate import require_json
from registry.fhir.plan import Misunderstood, Plan, is_closed
from registry.fhir.study_pages import StudyPage, StudyPages, page_asked
from registry.fhir.table import IMAGING_STUDY

_LATE = (
    "Changes are listed once they are committed, which may be seconds after their time: begin the next window"
    " a minute before this one ends."
)


class StudyHandlers:
    """Handlers of ``/fhir/ImagingStudy``."""

    def __init__(self, face: FhirFace) -> None:
        self._face, self._pages = face, StudyPages(face.systems, face.config.render_cache_bytes)

    async def read(self, request: web.Request) -> web.Response:
        """``GET /fhir/ImagingStudy/{id}``: 410 for one that was here."""
        face, key = self._face, request.match_info["id"]
        wanted = face.wanted(request, IMAGING_STUDY)
        async with face.question(request, "read", ByObject(fhir_ids=(key,))) as answer:
            facts = face.facts(request)
            for holding in answer.holdings:
                if holding.fhir_id == key and holding.state == "approved":
                    body = imaging_study(facts.holding(answer, holding), facts.region, face.systems)
                    return face.resource(request, cut(IMAGING_STUDY, wanted, body), answer.coverage, wanted)
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

    async def for_order(self, request: web.Request) -> web.Response:
        """``POST /fhir/ImagingStudy/$for-order``: the list of one patient, for a member's node (ADR 0060).

        The newest studies of whoever has that national number, as a searchset. The order's number and the
        patient's are in the audited act.
        """
        face = self._face
        require_json(request, request.query.items())
        if request.content_type not in (JSON_TYPE, "application/json"):
            raise UnsupportedMediaType(
                "The body must be a Parameters resource.",
                todo=f"Send Content-Type: {JSON_TYPE}.",
                where="Content-Type",
            )
        wanted = read_order(await read_limited(request, MAX_REQUEST_BYTES))
        named = Criterion(
            name="patient", values=(TokenValue(wanted.system, wanted.value),), by_identifier=True
        )
        asked = Asked(
            search=SearchRequest(criteria=(named,), count=MOST_STUDIES, sort=("-started",)),
            after=None,
            base=face.base(request),
        )
        try:
            plan = face.planner.plan(asked.search)
        except Misunderstood as wrong:
            raise wrong.misread.refusal("patient") from None
        question = plan.question
        if not isinstance(question, ByPatient) or not self._is_national(question):
            raise Invalid(
                "Only a patient's national number leads to a list for an order.",
                why="A local number is another trust's word for somebody.",
                where="patient",
                fhir_code="value",
            )
        plan = replace(plan, question=replace(question, order=wanted.order))
        async with face.question(request, "list-for-order", plan.question) as answer:
            return await face.large.make(lambda: self._found(request, asked, answer, plan), answer.size)

    def _is_national(self, question: ByPatient) -> bool:
        region = self._face.region
        return all(
            number.authority in region.nationals
            and national_number(number.authority, number.value, allow_test=region.allow_test_numbers)
            for number in question.patient.identifiers
        )

    def _found(self, request: web.Request, asked: Asked, answer: Answer, plan: Plan) -> web.Response:
        """What an answer shows of a search: its matches, or a page of them."""
        face = self._face
        facts = face.facts(request)
        wanted = page_asked(asked.search, asked.after, asked.base, plan, answer, facts)
        page = self._pages.page(answer, facts, wanted)
        return self._answer(request, asked, answer, page, plan)

    def _answer(
        self, request: web.Request, asked: Asked, answer: Answer, page: StudyPage, plan: Plan
    ) -> web.Response:
        face, search, total, after = self._face, asked.search, page.total, page.after
        n_found = total if total is not None else (None if page.size or after else 0)
        sure = proven(answer, n_found=n_found, closed=is_closed(search, plan.decided))
        issues = completeness(answer, proven=sure) + search_issues(search) + _total_issue(search, total)
        question = plan.question
        if isinstance(question, ByPopulation) and question.order == "updated" and question.ascending:
            issues.append(Issue(severity="information", code="informational", text=_LATE))
        if isinstance(question, ByPatient) and question.order:  # no pages: who asks has no search
            links = {"self": f"{asked.base}/ImagingStudy/{OPERATION}"}
        else:
            links = face.links(request, IMAGING_STUDY, asked, after if search.summary != "count" else None)
        return face.bundle(
            request,
            asked,
            page.entries,
            face.outcome(request, issues),
            links=links,
            total=total,
            answer=answer,
            proven=sure,
        )


def _total_issue(search: SearchRequest, total: int | None) -> list[Issue]:
    if search.total == "none" or total is not None:
        return []
    text = "A total is counted only for searches by patient, accession number or study."
    return [Issue(severity="information", code="not-supported", text=text, location=of_parameter("_total"))]
