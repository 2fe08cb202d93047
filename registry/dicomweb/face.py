"""Handlers and addresses of the region's DICOMweb root (PS3.18 10)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import replace
from itertools import compress, groupby

from aiohttp import web
from multidict import CIMultiDict

from crosslight.runtime.caching import is_current, tag_of, validated
from crosslight.runtime.http import CALLER
from crosslight.runtime.large_answers import LargeAnswers, in_steps
from crosslight.runtime.workers import Workers
from crosslight.standards.access import Action
from crosslight.standards.dicom.web.accept import Offer, parse_accept, require
from crosslight.standards.dicom.web.json import MEDIA_TYPE, Attributes, dumps
from crosslight.standards.dicom.web.matching import Match, matches_row
from crosslight.standards.dicom.web.qido import QidoQuery
from crosslight.standards.dicom.web.qido_attributes import Level
from crosslight.standards.ids import is_uid
from crosslight.standards.problem import Invalid, Unsupported
from crosslight.standards.study import SeriesRecord
from registry.ask.ask import Ask
from registry.ask.coverage import Coverage
from registry.ask.question import Answer, ByObject, ByPatient, ByPopulation, Question
from registry.dicomweb.config import DicomwebConfig
from registry.dicomweb.cross_origin import COVERAGE_HEADER, cross_origin, preflight_answer
from registry.dicomweb.holder_rows import bounded_body, holder_rows
from registry.dicomweb.plan import QidoPlanner, decided, known_to_holders, person_matches, understood
from registry.dicomweb.resources import check_resource, no_such, plain_uid
from registry.dicomweb.rows import (
    ListedStudy,
    SharedRows,
    StudyRoots,
    all_series,
    cut,
    group,
    series_row,
    study_row,
)
from registry.dicomweb.warnings import degraded, passed_warnings, quotable, unsaid
from registry.gateway.answers import refused
from registry.gateway.forward import HOLDER_HEADER, Gateway
from registry.gateway.holders import Holder, holders_of
from registry.members.model import Directory

MAX_PAGES = 8  # of the index for one answer
Bounded = ByPatient | ByObject | ByPopulation
_OFFERS = (Offer(MEDIA_TYPE), Offer("application/json"))


class DicomwebFace:
    """The DICOMweb face of one registry.

    Args:
        ask: The one way to answers.
        directory: Members.
        gateway: For what only holders have.
        workers: Where large answers are made; None: on the event loop.
    """

    def __init__(
        self,
        ask: Ask,
        directory: Directory,
        gateway: Gateway,
        config: DicomwebConfig,
        workers: Workers | None = None,
    ) -> None:
        self._ask, self._directory, self._config = ask, directory, config
        self._gateway, self._reach = gateway, gateway.reach
        self._apart = LargeAnswers(workers)
        self._planner = QidoPlanner(ask.region, directory)

    # --- searches -------------------------------------------------------------------------------------------

    async def studies(self, request: web.Request) -> web.Response:
        """``/studies``: one row for each study UID (and patient), with its holders."""
        query = self._query(request, "study")
        question = self._bounded(query)
        wanted = query.offset + query.limit
        async with AsyncExitStack() as stack:
            answers = [await stack.enter_async_context(self._question(request, "search", question))]
            understood(answers[0].naming.misread)
            rows = await self._studies(answers, query, question)
            # Holdings are counted there, studies here: go on until the page is full and its last study has
            # all its holders.
            while (
                isinstance(question, ByPopulation)
                and answers[-1].cursor
                and len(rows) <= wanted
                and len(answers) < MAX_PAGES
            ):
                question = replace(question, cursor=answers[-1].cursor)
                answers.append(await stack.enter_async_context(self._question(request, "search", question)))
                rows = await self._studies(answers, query, question)
            first = answers[0]
            page = rows[query.offset : wanted] if first.total is None else rows
            left = max(0, (len(rows) if first.total is None else first.total) - query.offset - len(page))
            nothing = unsaid(question, first, empty=not rows and not first.total)

            def made() -> web.Response:
                rows = self._shown(page, answers, request, query)
                return self._rows(request, rows, answers[-1], query, left, nothing)

            return await self._apart.make(made, len(page))

    def _shown(
        self, page: Sequence[ListedStudy], answers: Sequence[Answer], request: web.Request, query: QidoQuery
    ) -> list[Attributes]:
        roots, returned = StudyRoots(answers, self._base(request)), query.returned()
        shared = SharedRows(self._reach.opens)
        return [cut(study_row(listed, roots.of(listed), shared), returned) for listed in in_steps(page)]

    async def _studies(
        self, answers: Sequence[Answer], query: QidoQuery, question: Bounded
    ) -> list[ListedStudy]:
        """The studies that match; a row of each is made only where a key has to be tried on it."""
        left = [match for match in decided(query, question) if match.kind != "any"]
        shared = SharedRows(self._reach.opens)

        def met(listed: ListedStudy) -> bool:
            return (not left or _meets(study_row(listed, "", shared), left, listed)) and person_matches(
                query, listed
            )

        records = sum(answer.size for answer in answers)
        return await self._apart.make(
            lambda: [listed for listed in in_steps(self._listed(answers)) if met(listed)], records
        )

    async def series(self, request: web.Request) -> web.StreamResponse:
        """``/studies/{study}/series``, ``/series?StudyInstanceUID=…`` or of a patient, from the index.

        Below ``/members/{code}`` as that member holds them.
        """
        query = self._query(request, "series")
        if known_to_holders(query):
            return await self._series_of_holder(request, query)
        question = self._bounded(query)
        if isinstance(question, ByPopulation):
            raise Invalid(
                "Series are searched within a study or a patient.",
                todo="Add StudyInstanceUID.",
                where="StudyInstanceUID",
            )
        async with self._question(request, "search", question) as answer:
            understood(answer.naming.misread)
            study = request.match_info.get("study", "")
            code = request.match_info.get("code", "")
            studies = await self._apart.make(lambda: self._listed([answer], code), answer.size)
            if (
                study and studies and not any(all_series(listed) for listed in studies)
            ):  # entry detail only (D17)
                return await self._from_holder(request, answer, study, f"studies/{study}/series")
            return await self._apart.make(
                lambda: self._series(request, answer, studies, query, question), answer.size
            )

    def _series(
        self,
        request: web.Request,
        answer: Answer,
        studies: Sequence[ListedStudy],
        query: QidoQuery,
        question: Bounded,
    ) -> web.Response:
        """A page of the series that match; a row of each is made only where a key has to be tried on it."""
        left = [match for match in decided(query, question) if match.kind != "any"]
        roots = StudyRoots([answer], self._base(request), named="code" in request.match_info)
        shared = SharedRows(self._reach.opens)

        def rows(listed: ListedStudy, wanted: Iterable[SeriesRecord]) -> list[Attributes]:
            root = roots.of(listed)
            study = study_row(listed, root, shared)
            return [series_row(listed, series, study, root) for series in wanted]

        matching: list[tuple[ListedStudy, SeriesRecord]] = []
        for listed in in_steps(studies):
            if person_matches(query, listed):
                every = all_series(listed)
                met = (
                    [_meets(row, left, listed) for row in rows(listed, every)]
                    if left
                    else [True] * len(every)
                )
                matching += [(listed, series) for series in compress(every, met)]
        page = matching[query.offset : query.offset + query.limit]
        over = max(0, len(matching) - query.offset - len(page))
        always, returned = () if "study" in request.match_info else ("00080056",), query.returned()
        cuts = list[Attributes]()
        for _, pairs in groupby(in_steps(page), key=lambda pair: id(pair[0])):
            of_one_study = list(pairs)
            listed, wanted = of_one_study[0][0], [series for _, series in of_one_study]
            cuts += [cut(row, returned, always) for row in rows(listed, wanted)]
        return self._rows(request, cuts, answer, query, over, unsaid(question, answer, empty=not matching))

    async def _series_of_holder(self, request: web.Request, query: QidoQuery) -> web.Response:
        """Series by what the index does not have: asked of the holder of one study."""
        studies = query.equal_to("StudyInstanceUID") or ()
        if len(studies) != 1:
            raise Invalid(
                f"{', '.join(known_to_holders(query))} is known to the holders alone.",
                why="The index does not have it.",
                todo="Add StudyInstanceUID, or ask at the member's own node.",
                where=known_to_holders(query)[0],
            )
        async with self._question(request, "search", ByObject(study_uids=studies)) as answer:
            return await self._from_holder(request, answer, studies[0], f"studies/{studies[0]}/series")

    async def instances(self, request: web.Request) -> web.StreamResponse:
        """``…/instances``: asked of a holder, for the registry has no instances (D5)."""
        study = request.match_info.get("study") or request.query.get("StudyInstanceUID", "")
        if not is_uid(study):
            raise Invalid(
                "Instances are searched within one study.",
                todo="Add StudyInstanceUID.",
                where="StudyInstanceUID",
            )
        self._query(request, "instance")
        series = request.match_info.get("series", "")
        path = f"studies/{study}/series/{series}/instances" if series else f"studies/{study}/instances"
        async with self._question(request, "search", ByObject(study_uids=(study,))) as answer:
            return await self._from_holder(request, answer, study, path)

    def _query(self, request: web.Request, level: Level) -> QidoQuery:
        pairs = [(name, value) for name, value in request.query.items() if name.lower() != "accept"]
        _media(request)
        query = QidoQuery.parse(level, pairs, max_results=self._config.max_results)
        keys = {"StudyInstanceUID": "study", "SeriesInstanceUID": "series"}
        address = request.match_info
        return query.within(
            **{key: plain_uid(address[name], name) for key, name in keys.items() if name in address}
        )

    def _bounded(self, query: QidoQuery) -> Bounded:
        question = self._planner.plan(query)
        if isinstance(question, ByPopulation) and question.limit > self._config.max_depth:
            raise Invalid(
                "The offset is too far into the region.",
                why=f"At most {self._config.max_depth} rows deep.",
                todo="Narrow by StudyDate, or ask for one patient.",
                where="offset",
            )
        return question

    def _listed(self, answers: Sequence[Answer], code: str = "") -> list[ListedStudy]:
        """Studies with their holders; ``code``: as that member holds them."""
        rows = [
            (holding, answer.person_of(holding), self._directory.by_id(holding.member))
            for answer in answers
            for holding in in_steps(answer.holdings)
            if holding.state == "approved"
        ]
        if code:
            rows = [row for row in rows if row[2] is not None and row[2].code.casefold() == code.casefold()]
        return group(rows, self._reach.opens)

    def _rows(
        self,
        request: web.Request,
        rows: Sequence[Attributes],
        answer: Answer,
        query: QidoQuery,
        left: int,
        nothing: Sequence[str],
    ) -> web.Response:
        coverage, more = answer.coverage, bool(answer.cursor)
        warnings = [*query.warnings, *degraded(coverage), *nothing]
        if left or more:  # PS3.18 8.3.4.4.1
            warnings.append(
                f"There are {left} additional results that can be requested"
                if left and not more
                else "There are additional results that can be requested"
            )
        return self._answer(request, rows, coverage, warnings)

    def _answer(
        self,
        request: web.Request,
        rows: Sequence[Attributes],
        coverage: Coverage,
        warnings: Sequence[str],
        holder: str = "",
    ) -> web.Response:
        """Rows, or 304: the tag is of the rows and of the states of coverage, not of its times (D19)."""
        body, media = dumps(rows), _media(request)
        headers = CIMultiDict({COVERAGE_HEADER: coverage.header(), **self._cors(request)})
        if holder:
            headers[HOLDER_HEADER] = holder
        for text in warnings:
            headers.add("Warning", f'299 crosslight "{quotable(text)}"')
        tag = tag_of(body, media, coverage.states_key(), *warnings, holder)
        validated(headers, tag, ("Authorization", "Cookie", "Accept", "Origin"))
        if is_current(request, tag):
            return web.Response(status=304, headers=headers)
        return web.Response(body=body, content_type=media, headers=headers)

    def _cors(self, request: web.Request) -> dict[str, str]:
        return cross_origin(request, self._config.cors_origins)

    # --- what only holders have -----------------------------------------------------------------------------

    async def _from_holder(self, request: web.Request, answer: Answer, study: str, path: str) -> web.Response:
        """A holder's own rows, with the region's addresses in them."""
        await self._ask.rest()
        holders = self._holders(request, answer, study)
        base, limit = self._base(request), self._config.max_answer_bytes
        if code := request.match_info.get("code", ""):
            base = f"{base}/members/{code}"
        async with self._gateway.first(
            request,
            holders,
            path,
            caller=request[CALLER],
            query=request.rel_url.raw_query_string,
            accept=MEDIA_TYPE,
        ) as (holder, upstream):
            body = await bounded_body(upstream.content.iter_chunked(1 << 18), limit)
            if upstream.status == 204 or (upstream.status == 200 and not body):
                body = b"[]"
            elif upstream.status != 200:
                raise refused(upstream.status, holder)
            rows = holder_rows(body, base, study, holder)
        warnings = [*degraded(answer.coverage), *passed_warnings(upstream.headers.getall("Warning", ()))]
        return self._answer(request, rows, answer.coverage, warnings, holder.member.code)

    async def retrieve(self, request: web.Request) -> web.StreamResponse:
        """WADO-RS: a study, series, instance, its frames, metadata, rendering or thumbnail, from a holder."""
        study, tail = request.match_info["study"], request.match_info.get("tail", "")
        check_resource(study, tail)
        async with self._question(request, "retrieve", ByObject(study_uids=(study,))) as answer:
            holders = self._holders(request, answer, study)
            path = f"studies/{study}/{tail}" if tail else f"studies/{study}"
            return await self._gateway.forward(
                request, holders, path, caller=request[CALLER], extra=self._cors(request)
            )

    async def nothing(self, request: web.Request) -> web.StreamResponse:
        """Any other address: without this, OPTIONS for all of them would make it 405."""
        raise no_such()

    async def store(self, request: web.Request) -> web.StreamResponse:
        """STOW-RS: a region has no archive."""
        raise Unsupported(
            "The region stores no images.",
            why="Images are kept by the member that made them.",
            todo="Store at your own node.",
        )

    async def preflight(self, request: web.Request) -> web.Response:
        """OPTIONS, for web viewers of the origins configured."""
        return preflight_answer(request, self._config.cors_origins)

    # --- shared ---------------------------------------------------------------------------------------------

    def _base(self, request: web.Request) -> str:
        return self._config.base_url.rstrip("/") or f"{request.scheme}://{request.host}/dicomweb"

    def _holders(self, request: web.Request, answer: Answer, study: str) -> list[Holder]:
        code = request.match_info.get("code", "")
        return holders_of(answer, study, self._reach, code=code, root=self._base(request))

    def _question(
        self, request: web.Request, action: Action, question: Question
    ) -> AbstractAsyncContextManager[Answer]:
        return self._ask.question(request[CALLER], face="dicomweb", action=action, question=question)


def _media(request: web.Request) -> str:
    """The media type of rows that is asked for; refuses what cannot be had."""
    accepted = parse_accept(request.headers.getall("Accept", ()), request.query.get("accept", ""))
    return require(accepted, _OFFERS).media


def _meets(row: Attributes, criteria: Iterable[Match], listed: ListedStudy) -> bool:
    """Whether a row meets what is left to decide.

    A study without a readable date is never hidden by one (D22).
    """
    undated = listed.lead.time.interval() is None
    return all(
        (undated and match.keyword in ("StudyDate", "StudyTime")) or matches_row(match, row)
        for match in criteria
    )
