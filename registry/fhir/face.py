"""What every handler of the FHIR face shares: asking, negotiating, answering."""

from __future__ import annotations

import hashlib
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from urllib.parse import parse_qsl, urlencode

from aiohttp import web

from crosslight.runtime.caching import PRIVATE, is_current
from crosslight.runtime.http import CALLER, CORRELATION, read_limited
from crosslight.runtime.large_answers import LargeAnswers
from crosslight.runtime.seams import Seams
from crosslight.standards.access import Action
from crosslight.standards.fhir.bundle import Entries, Entry, outcome_entry, searchset
from crosslight.standards.fhir.outcome import Issue, of_parameter, operation_outcome
from crosslight.standards.fhir.resource_spec import ResourceSpec
from crosslight.standards.fhir.search import Grammar, SearchRequest, parse_read, parse_search
from crosslight.standards.fhir.terms import JSON_TYPE, SUBSETTED, Systems
from crosslight.standards.fhir.wire import Resource, dumps, etag, subset
from crosslight.standards.problem import Invalid, UnsupportedMediaType
from registry.ask.ask import Ask
from registry.ask.coverage import Coverage
from registry.ask.naming import Misread
from registry.ask.question import Answer, Question
from registry.fhir.completeness import completeness, completeness_tags
from registry.fhir.config import FhirConfig
from registry.fhir.facts import Facts
from registry.fhir.negotiate import is_lenient, require_json
from registry.fhir.paging import PARAMETER, PageTokens
from registry.fhir.plan import StudyPlanner, is_sensitive
from registry.members.model import Directory

FIND_ID = "Search: the answer has the ids of what is here."
COVERAGE_HEADER = "Crosslight-Coverage"
_FORM = "application/x-www-form-urlencoded"

Pairs = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A search as it came: what is wanted, and where on its pages."""

    search: SearchRequest
    after: Any
    base: str


class FhirFace:
    """The FHIR face of one registry.

    Args:
        ask: The one way to answers.
        directory: Members, for Endpoint and Organization.
        key: A secret of the region that every process shares; page tokens are sealed with a key derived from
            it.
        version: Of the software, for the CapabilityStatement.
        secured: False in an open demo.
    """

    def __init__(
        self,
        ask: Ask,
        directory: Directory,
        *,
        key: bytes,
        seams: Seams,
        config: FhirConfig,
        version: str = "",
        secured: bool = True,
    ) -> None:
        self.ask = ask
        self.directory = directory
        self.config = config
        self.version = version
        self.secured = secured
        self.region = ask.region
        self.systems = Systems(ask.region)
        self.planner = StudyPlanner(self.systems, self._holder)
        self.started = seams.clock.now()
        self.large = LargeAnswers(seams.workers)
        self._tokens = PageTokens(key, seams.clock, seams.ids, config.page_token_ttl_s)

    def _holder(self, text: str) -> str | None:
        """The code of a member or source, by its code, its Organization's id or its repository's OID."""
        key = text.removeprefix("Organization/").removeprefix("urn:oid:")
        for member in (*self.directory.all(), *self.directory.foreign()):
            ids = (f"member-{member.id}", member.repository_unique_id)
            if key in ids or key.casefold() == member.code.casefold():
                return member.code
        return None

    # --- in -------------------------------------------------------------------------------------------------

    def base(self, request: web.Request) -> str:
        """Our own address, without a trailing slash."""
        return self.config.base_url.rstrip("/") or f"{request.scheme}://{request.host}/fhir"

    def facts(self, request: web.Request) -> Facts:
        """Facts for one answer."""
        root = self.config.dicomweb_url.rstrip("/") or self.base(request).removesuffix("/fhir") + "/dicomweb"
        return Facts(self.directory, self.region, root)

    def question(
        self, request: web.Request, action: Action, question: Question
    ) -> AbstractAsyncContextManager[Answer]:
        """Ask on behalf of the request's principal."""
        return self.ask.question(request[CALLER], face="fhir", action=action, question=question)

    async def asked(self, request: web.Request, spec: ResourceSpec) -> Asked:
        """Read a search from GET or POST ``_search``, or from a page token.

        Raises:
            Invalid, TooLarge, NotAcceptable: as the grammar and negotiation say.
        """
        pairs = await self._pairs(request)
        require_json(request, pairs)
        after, base = None, self.base(request)
        token = next((value for name, value in pairs if name == PARAMETER), None)
        if token is not None:
            if any(name not in (PARAMETER, "_format", "_pretty") for name, _ in pairs):
                raise Invalid(
                    "A page link is used as it is.", todo="Follow it without adding to it.", where=PARAMETER
                )
            page = self._tokens.read(token, resource=spec.type, subject=request[CALLER].principal.subject)
            pairs, after = page.pairs, page.after
        grammar = Grammar(
            zone=self.region.zone,
            base=base,
            lenient=is_lenient(request) or token is not None,
            default_count=min(self.config.default_count, self.config.max_count),
            max_count=self.config.max_count,
        )
        return Asked(search=parse_search(spec, pairs, grammar), after=after, base=base)

    def wanted(self, request: web.Request, spec: ResourceSpec) -> SearchRequest:
        """How a read wants its resource.

        Raises:
            Invalid, TooLarge, NotAcceptable: as the grammar and negotiation say.
        """
        require_json(request, request.query.items())
        return parse_read(spec, request.query.items())

    async def _pairs(self, request: web.Request) -> Pairs:
        pairs = tuple((name, value) for name, value in request.query.items())
        if request.method != "POST":
            return pairs
        body = await read_limited(request, self.config.max_form_bytes)
        if body and request.content_type != _FORM:
            raise UnsupportedMediaType(
                "A search body must be a form.", todo=f"Send Content-Type: {_FORM}.", where="Content-Type"
            )
        return pairs + _form(body)

    # --- out ------------------------------------------------------------------------------------------------

    def links(self, request: web.Request, spec: ResourceSpec, asked: Asked, after: Any) -> dict[str, str]:
        """``self`` and ``next`` (when ``after`` is given). None holds a patient identifier."""
        address, pairs = f"{asked.base}/{spec.type}", asked.search.pairs
        subject = request[CALLER].principal.subject

        def sealed(position: Any) -> str:
            return f"{address}?{PARAMETER}={self._tokens.make(spec.type, pairs, position, subject=subject)}"

        plain = asked.after is None and not is_sensitive(pairs)
        here = (f"{address}?{urlencode(pairs)}" if pairs else address) if plain else sealed(asked.after)
        return {"self": here} if after is None else {"self": here, "next": sealed(after)}

    def outcome(self, request: web.Request, issues: list[Issue]) -> Entry:
        """What an answer says of itself."""
        return outcome_entry(operation_outcome(issues), request[CORRELATION])

    def misread(
        self,
        request: web.Request,
        asked: Asked,
        answer: Answer,
        misread: Misread,
        spec: ResourceSpec,
        where: str,
    ) -> web.Response:
        """What is answered to a search that was not understood in one part.

        Raises:
            Invalid: 400 naming the part, unless ``Prefer: handling=lenient`` takes an empty answer that
                proves nothing.
        """
        if not is_lenient(request):
            raise misread.refusal(where)
        text = f"{where} was not understood: {misread.text} This empty list proves nothing."
        issues = [
            Issue(severity="warning", code="value", text=text, location=of_parameter(where)),
            *completeness(answer),
            *search_issues(asked.search),
        ]
        answer = replace(answer, naming=replace(answer.naming, misread=(misread,)))
        return self.bundle(
            request,
            asked,
            Entries(),
            self.outcome(request, issues),
            links=self.links(request, spec, asked, None),
            total=0,
            answer=answer,
        )

    def bundle(
        self,
        request: web.Request,
        asked: Asked,
        page: Entries,
        outcome: Entry,
        *,
        links: dict[str, str],
        total: int | None,
        answer: Answer,
        proven: bool | None = None,
    ) -> web.Response:
        """A searchset with its weak ETag (states of coverage, not its times: D19)."""
        disputed = ",".join(sorted(notice.member_code for notice in answer.disputed))
        tags = completeness_tags(answer, unproven=proven is False)
        states = [
            answer.coverage.states_key(),
            disputed,
            ",".join(asked.search.ignored),
            *(tag["code"] for tag in tags),
        ]
        text = "\x1f".join(
            [
                *page.shown,
                *states,
                str(answer.unread),
                str(total),
                str("next" in links),
                str(asked.after),
                str(asked.search.elements),
                asked.search.summary,
            ]
        )
        tag = f'W/"{hashlib.sha256(text.encode()).hexdigest()[:24]}"'
        body = searchset(page, outcome, links=links, total=total, tags=tags)
        return self.respond(request, body, tag=tag, coverage=answer.coverage, pretty=asked.search.pretty)

    def respond(
        self,
        request: web.Request,
        body: Resource,
        *,
        tag: str,
        coverage: Coverage | None,
        pretty: bool = False,
    ) -> web.Response:
        """200 with the caching rules of patient data, or 304."""
        headers = {"ETag": tag, "Vary": "Authorization, Cookie, Accept, Prefer", "Cache-Control": PRIVATE}
        if coverage is not None:
            headers[COVERAGE_HEADER] = coverage.header()
        if is_current(request, tag):
            return web.Response(status=304, headers=headers)
        return web.Response(
            body=dumps(body, pretty=pretty), content_type=JSON_TYPE, charset="utf-8", headers=headers
        )

    def resource(
        self, request: web.Request, resource: Resource, coverage: Coverage, wanted: SearchRequest
    ) -> web.Response:
        """One resource as read."""
        response = self.respond(
            request, resource, tag=etag(resource), coverage=coverage, pretty=wanted.pretty
        )
        updated = resource["meta"].get("lastUpdated")
        if updated:
            response.last_modified = updated_at(updated)
        return response


def cut(spec: ResourceSpec, search: SearchRequest, resource: Resource) -> Resource:
    """``resource`` as ``_elements`` or ``_summary=text`` asks."""
    if search.summary == "text":
        return subset(resource, ("text",), spec.mandatory, SUBSETTED)
    return subset(resource, search.elements, spec.mandatory, SUBSETTED) if search.elements else resource


def updated_at(instant: str) -> datetime:
    """An instant of ours as datetime."""
    return datetime.fromisoformat(instant.replace("Z", "+00:00"))


def search_issues(search: SearchRequest) -> list[Issue]:
    """What a search did not use."""
    words = "was not used: it narrows nothing, and totals are exact."
    noted = [
        Issue(
            severity="information", code="not-supported", text=f"{name} {words}", location=of_parameter(name)
        )
        for name in search.noted
    ]
    return noted + [
        Issue(
            severity="warning",
            code="not-supported",
            text=f"{name} was not used: this search is wider than was asked for.",
            location=of_parameter(name),
        )
        for name in search.ignored
    ]


def _form(body: bytes) -> Pairs:
    try:
        text = body.decode("utf-8")
        return tuple(parse_qsl(text, keep_blank_values=True, max_num_fields=256, errors="strict"))
    except ValueError:
        raise Invalid("The search body is not a form in UTF-8.", fhir_code="structure") from None
