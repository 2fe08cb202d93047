"""The clinician's page: handlers and routes. Every answer comes through ``ask``; no identifier stands in an address.

``/static/`` needs no sign-in; everything else is protected by the service's middleware, which puts the principal on the
request and sends a browser without one to sign in.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from aiohttp import web

from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.http import CALLER, CORRELATION, Renderer, render_json
from crosslight.runtime.turns import Apart
from crosslight.runtime.workers import Workers
from crosslight.standards.access import Action, Principal, decide
from crosslight.standards.ids import is_uid
from crosslight.standards.problem import Conflict, CrosslightError, Forbidden, NotFound, OurError, Unauthenticated
from registry.access.sessions import SESSION
from registry.ask.ask import Ask, Glance
from registry.ask.coverage import Coverage
from registry.ask.question import Answer, ByPatient, Patients, Question, StudyFilter
from registry.identity.model import PatientSelector, Person
from registry.members.model import Directory
from registry.officer.decisions import IdentityDecisions, may_decide
from registry.portal import words
from registry.portal.config import PortalConfig
from registry.portal.handles import Handles
from registry.portal.officer import OfficerPages
from registry.portal.render import HEADERS, Pages
from registry.portal.search import EMPTY, FIELDS, Search, misread, number_hint, number_label, read_search
from registry.portal.sites import Sites, sites_of, with_doubt
from registry.portal.timeline import Copy, banner_of, by_year, rows_of

MAX_FORM_BYTES = 8192
MAX_DOUBT = 64
_JSON_HEADERS = {name: value for name, value in HEADERS.items() if name != "Content-Security-Policy"}
NOT_YOUR_ROLE = (
    "Your account’s role may not look at patients’ imaging.",
    "If it should, ask the information governance team of your organisation.",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalContext:
    """What the page needs.

    Args:
        ask: The one way to answers.
        directory: Members' names.
        decisions: The identity officer's room; None leaves its pages out.
        key: A secret of the region that every process shares; handles are sealed with a key derived from it.
        open_mode: Whether the open demo's banner is shown and no sign-in offered.
        workers: Where large pages are made; None: on the event loop.
    """

    ask: Ask
    directory: Directory
    key: bytes = field(repr=False)
    clock: Clock
    ids: Ids
    decisions: IdentityDecisions | None = None
    config: PortalConfig = PortalConfig()
    open_mode: bool = False
    workers: Workers | None = None


class Portal:
    """The pages of one registry."""

    def __init__(self, context: PortalContext) -> None:
        self.context, self.config, self.region = context, context.config, context.ask.region
        self.pages, self._apart = Pages(), Apart(context.workers)
        self._handles = Handles(context.key, context.clock, context.ids, context.config.handle_ttl_s)

    # --- pages -------------------------------------------------------------------------------------------------------

    async def home(self, request: web.Request) -> web.Response:
        """The search form; nothing but a word of regret for a role that may not search."""
        if not _may_search(self._principal(request)):
            return self.problem(request, Forbidden("This role may not look for patients."))
        return self._form(request, EMPTY)

    async def search(self, request: web.Request) -> web.Response:
        """A posted search: one patient leads to their page, several are shown to choose from."""
        search = read_search(await self._fields(request), self.region, self._today().date(), self.context.directory.all())
        if search.selector is None:
            return self._form(request, search, status=400)
        question = Patients(patient=search.selector, limit=self.config.max_matches + 1)
        async with self._ask(request, "search", question) as answer:
            if len(answer.persons) == 1 and search.names(answer.persons[0]):
                headers = {"Location": self._href(request, answer.persons[0]), "Cache-Control": "no-store"}
                return web.Response(status=303, headers=headers)  # not raised: the act has gone well, and is audited so
            if answer.persons:
                return self._choose(request, search, answer)
            return self._nobody(request, misread(search, answer), answer)

    async def patient(self, request: web.Request) -> web.Response:
        """One patient's timeline."""
        selector = self._selector(request)
        glance = await self._glance(request, selector)  # before the list: a change in between shows as one more
        async with self._ask(request, "search", ByPatient(patient=selector)) as answer:
            person = _only(answer.persons)
            return await self._apart.make(lambda: self._timeline(request, person, answer, glance), answer.size)

    def _timeline(self, request: web.Request, person: Person, answer: Answer, glance: Glance) -> web.Response:
        values = self._sites(answer.coverage) | _followed(request.path, glance)
        rows = rows_of(_of(answer, person), self.context.directory, values["sites"])
        held = Counter(code for row in rows for code in {copy.code for copy in row.copies})
        values |= {
            "banner": banner_of(person, self.context.directory, self.region, self._today().date()),
            "disputed": answer.disputed,
            "rows": rows,
            "years": by_year(rows),
            "trusts": len(held),
            "held": held,
            "first_open": next((row for row in rows if row.opens), None),
            "unread": words.unread(answer),
            "here": request.path,
        }
        return self._html(request, "patient.html", values)

    async def study(self, request: web.Request) -> web.Response:
        """The preview of one study."""
        handle, uid = request.match_info["handle"], request.match_info["study"]
        selector = self._selector(request)
        if not is_uid(uid):
            raise NotFound("There is no such study.")
        glance = await self._glance(request, selector, uid)
        question = ByPatient(patient=selector, filter=StudyFilter(study_uids=(uid,)))
        async with self._ask(request, "read", question) as answer:
            person = _only(answer.persons)
            answer = _of(answer, person)
            values = self._sites(answer.coverage) | _followed(f"/patients/{handle}", glance, uid)
            rows = rows_of(answer, self.context.directory, values["sites"])
            if not rows:
                raise NotFound("This study is not listed for this patient any more.", todo="Go back and refresh the list.")
            row = rows[0]
            copy = row.copy(request.query.get("copy", ""))
            return self._html(
                request,
                "viewer.html",
                values
                | {
                    "banner": banner_of(person, self.context.directory, self.region, self._today().date()),
                    "row": row,
                    "copy": copy,
                    "root": row.root(copy),
                    "current": _current(copy, request.query.get("series", "")),
                    "here": f"/patients/{handle}#study-{row.uid}",  # to its place in the list
                    "held": None,
                },
            )

    async def state(self, request: web.Request) -> web.Response:
        """What an open page asks now and then: an opaque version of its patient's answer (with ``study``, of that study's), and
        the members' state as far as it concerns this patient. It shows nothing, so it is no audited act."""
        uid = request.query.get("study", "")
        if uid and not is_uid(uid):
            raise NotFound("There is no such study.")
        glance = await self._glance(request, self._selector(request), uid)
        sites = sites_of(glance.coverage, self.region, self.config.member_word)
        return web.json_response(sites.as_json() | {"version": glance.version}, headers=_JSON_HEADERS)

    async def coverage(self, request: web.Request) -> web.Response:
        """The members' state for an open page without a patient. ``doubt`` repeats the codes that the page knew of."""
        self._principal(request)
        codes = [code for code in request.query.get("doubt", "").split(",")[:MAX_DOUBT] if code]
        sites = sites_of(with_doubt(self.context.ask.coverage(), codes), self.region, self.config.member_word)
        return web.json_response(sites.as_json(), headers=_JSON_HEADERS)

    async def again(self, request: web.Request) -> web.Response:
        """``GET /search``: a search is posted; a reload of its address leads back to the form."""
        raise web.HTTPSeeOther("/")

    def problem(self, request: web.Request, error: CrosslightError) -> web.Response:
        """An error as a page for people, JSON for the page's own script."""
        if "text/html" not in request.headers.get("Accept", "text/html") and request.path.endswith(".json"):
            return render_json(request, error)
        titles: tuple[tuple[type[CrosslightError], str], ...] = (
            (Unauthenticated, "Please sign in"),
            (Forbidden, "You may not see this"),
            (NotFound, "Nothing here"),
            (Conflict, "It was not done"),
            (OurError, "Something went wrong"),
        )
        what, todo, principal = error.what, error.todo, _principal_of(request)
        barred = isinstance(error, Forbidden) and principal is not None and not _may_search(principal)
        if barred:
            what, todo = NOT_YOUR_ROLE
        values = {
            "title": next((title for kind, title in titles if isinstance(error, kind)), "This cannot be shown"),
            "what": what,
            "todo": todo,
            "barred": barred,
            "identity_queue": request.path.startswith("/identity") and self._is_officer(request),
            "sign_in_here": isinstance(error, Unauthenticated) and not self.context.open_mode,
            "support": self.config.support,
            "correlation": request.get(CORRELATION, ""),
        }
        return self._html(request, "problem.html", values, status=error.http_status)

    # --- parts -------------------------------------------------------------------------------------------------------

    def _form(self, request: web.Request, search: Search, *, status: int = 200) -> web.Response:
        values = self._sites(self.context.ask.coverage()) | self._form_values(search)
        return self._html(request, "search.html", values | {"held": None}, status=status)

    def _form_values(self, search: Search) -> dict[str, Any]:
        return {
            "form": search.form,
            "errors": search.errors,
            "error": dict.fromkeys(FIELDS, "") | search.errors,
            "number_label": number_label(self.region),
            "number_hint": number_hint(self.region, self.config.member_word),
            "trusts": [(m.code, words.plain(m.name) or m.code) for m in self.context.directory.all()],
        }

    def _choose(self, request: web.Request, search: Search, answer: Answer) -> web.Response:
        today = self._today().date()
        people = [
            {"banner": banner_of(p, self.context.directory, self.region, today), "href": self._href(request, p)}
            for p in answer.persons[: self.config.max_matches]
        ]
        values = {
            "people": people,
            "more": len(answer.persons) > self.config.max_matches,
            "disputed": answer.disputed,
            "own_disputed": {r.member for p in answer.persons for r in p.records if r.disputed or r.in_doubt},
            "holder": answer.held,
            "by_local": not search.by_number or search.national is None,
            "asked": _asked(search),
            "confirm": not any(search.names(p) for p in answer.persons),
            "held": None,
        }
        return self._html(request, "persons.html", self._sites(answer.coverage) | values)

    def _nobody(self, request: web.Request, search: Search, answer: Answer) -> web.Response:
        values = self._sites(answer.coverage) | self._form_values(search)  # what was asked for stands there to be checked
        sure = answer.naming.certain
        doubted = "Check this number" if search.by_number else "No patient found with this name and date of birth"
        values |= {
            "disputed": answer.disputed,
            "by_number": search.by_number,
            "sure": sure,
            "heading": "No patient found with this number" if sure else doubted,
            "nobody": words.nobody(answer, self.config.member_word, by_number=search.by_number),
            "advice": (
                "Check the digits, or search by name and date of birth."
                if search.by_number
                else "Check the spelling and the date, leave out the given name, or search by number."
            ),
            "held": None,
        }
        return self._html(request, "nobody.html", values, status=400 if search.errors else 200)

    def _sites(self, coverage: Coverage) -> dict[str, Any]:
        sites: Sites = sites_of(coverage, self.region, self.config.member_word)
        doubt = [m.code for m in coverage.members if m.identity_doubt]
        return {"sites": sites, "doubt": doubt, "poll_ms": self.config.poll_s * 1000, "state": "", "version": ""}

    def _html(self, request: web.Request, template: str, values: dict[str, Any], *, status: int = 200) -> web.Response:
        session = request.get(SESSION)
        common = {
            "service": self.config.service_name,
            "word": self.config.member_word,
            "region": self.region,
            "principal": _principal_of(request),
            "officer": self._is_officer(request),
            "open_mode": self.context.open_mode,
            "sign_in": self.config.sign_in,
            "sign_out": self.config.sign_out,
            "csrf": session.csrf if session is not None else "",
            "session_left": session.left_s if session is not None else 0,
            "read_at": words.instant(self.context.clock.now(), self.region.zone),
        }
        return self.pages.html(template, common | values, status=status)

    def _is_officer(self, request: web.Request) -> bool:
        principal = _principal_of(request)
        return self.context.decisions is not None and principal is not None and may_decide(principal)

    def officer_routes(self) -> list[web.RouteDef]:
        """The identity officer's pages, where there is a room for them."""
        if self.context.decisions is None:
            return []
        pages = OfficerPages(self.context.decisions, self._html, self._caller, self._fields, self._today, self.region.zone)
        return pages.routes()

    def _ask(self, request: web.Request, action: Action, question: Question) -> AbstractAsyncContextManager[Answer]:
        return self.context.ask.question(self._caller(request), face="portal", action=action, question=question)

    async def _glance(self, request: web.Request, patient: PatientSelector, study_uid: str = "") -> Glance:
        return await self.context.ask.glance(self._caller(request), face="portal", patient=patient, study_uid=study_uid)

    def _selector(self, request: web.Request) -> PatientSelector:
        return PatientSelector(fhir_id=self._handles.open(request.match_info["handle"], self._principal(request)))

    def _caller(self, request: web.Request) -> Caller:
        caller: Caller | None = request.get(CALLER)
        if caller is None:
            raise Unauthenticated("Sign in to go on.")
        return caller

    def _principal(self, request: web.Request) -> Principal:
        return self._caller(request).principal

    def _href(self, request: web.Request, person: Person) -> str:
        return f"/patients/{self._handles.seal(person.fhir_id, self._principal(request))}"

    def _today(self) -> datetime:
        return self.context.clock.now().astimezone(ZoneInfo(self.region.zone))

    async def _fields(self, request: web.Request) -> dict[str, str]:
        """A posted form, of our own page."""
        self._same_origin(request)
        if request.content_length is None or request.content_length > MAX_FORM_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_FORM_BYTES, request.content_length or 0)
        if request.content_type != "application/x-www-form-urlencoded":
            raise web.HTTPUnsupportedMediaType
        return {name: value for name, value in (await request.post()).items() if isinstance(value, str)}

    def _same_origin(self, request: web.Request) -> None:
        """A form of another site posts nothing here (beside the session cookie's SameSite)."""
        origin = request.headers.get("Origin", "")
        crossed = request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")
        if crossed or (origin not in ("", "null") and urlsplit(origin).netloc != request.host):
            raise Forbidden("This form was not sent from this page.", todo="Open the page and search there.")


def _followed(address: str, glance: Glance, study_uid: str = "") -> dict[str, Any]:
    """Where the page's script asks whether the answer is still so, and which it has."""
    return {"state": f"{address}/state.json" + (f"?study={study_uid}" if study_uid else ""), "version": glance.version}


def _may_search(principal: Principal) -> bool:
    return decide(principal, "portal", "search").permit


def _only(persons: Iterable[Person]) -> Person:
    found = next(iter(persons), None)
    if found is None:
        raise NotFound("This patient’s record is not here any more.", todo="Search for the patient again.")
    return found


def _of(answer: Answer, person: Person) -> Answer:
    """With this person's holdings only: a page never mixes two, whoever may be seen beside."""
    keys = {record.key for record in person.records}
    return replace(answer, holdings=tuple(h for h in answer.holdings if h.whose in keys))


def _asked(search: Search) -> str:
    return "with this number" if search.by_number else "with this name and date of birth"


def _current(copy: Copy, asked: str) -> str:
    """The series to show first: the one asked for, else the first with pictures."""
    if any(s.uid == asked for s in copy.lines):
        return asked
    return next((s.uid for s in copy.lines if s.pictures), copy.lines[0].uid if copy.lines else "")


def routes(context: PortalContext) -> list[web.RouteDef]:
    """The page's routes, for the people's listener."""
    return routes_of(Portal(context))


def routes_of(portal: Portal) -> list[web.RouteDef]:
    """As :func:`routes`, of a portal whose :meth:`Portal.problem` renders errors too."""
    return [
        web.get("/", portal.home),
        web.get("/search", portal.again),
        web.post("/search", portal.search),
        web.get("/coverage.json", portal.coverage),
        web.get("/patients/{handle}", portal.patient),
        web.get("/patients/{handle}/state.json", portal.state),
        web.get("/patients/{handle}/studies/{study}", portal.study),
        web.get("/static/{tag}/{name}", portal.pages.static),
        *portal.officer_routes(),
    ]


def renderer(portal: Portal) -> Renderer:
    """For ``ErrorRenderers.add``: below ``/patients``, ``/search``, ``/identity`` and ``/``."""
    return portal.problem


def elsewhere(portal: Portal) -> Renderer:
    """For ``ErrorRenderers.add`` at ``/``: the first page, and an address that leads nowhere: a page in a browser, else JSON."""

    def render(request: web.Request, error: CrosslightError) -> web.Response:
        if request.path == "/":
            return portal.problem(request, error)
        lost = error.http_status == 404 and request.match_info.http_exception is not None
        if lost and "text/html" in request.headers.get("Accept", ""):
            return portal.problem(request, NotFound("There is no such page."))
        return render_json(request, error)

    return render


def _principal_of(request: web.Request) -> Principal | None:
    """Who asks for a page, where somebody is known."""
    caller = request.get(CALLER)
    return caller.principal if caller is not None else None
