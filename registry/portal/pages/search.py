"""The search: the form, several patients to choose from, and nobody found.

No identifier stands in an address.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aiohttp import web

from crosslight.standards.ids import MemberId
from crosslight.standards.problem import Forbidden
from registry.ask.question import Answer, Patients
from registry.identity.model import DisputedNotice
from registry.portal import wording as words
from registry.portal.render import View
from registry.portal.search import EMPTY, FIELDS, Search, misread, number_hint, number_label, read_search
from registry.portal.shell import Shell, Strip, may_search
from registry.portal.timeline import Banner, banner_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """The search form as it stands: what was typed, what is wrong with it, and what its fields are called."""

    value: dict[str, str]
    errors: dict[str, str]
    number_label: str
    number_hint: str
    trusts: tuple[tuple[str, str], ...]  # code and name

    @property
    def error(self) -> dict[str, str]:
        """What is wrong with each field; '' for nothing."""
        return dict.fromkeys(FIELDS, "") | self.errors


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchView(View):
    """The form alone."""

    template: ClassVar[str] = "search.html"
    strip: Strip
    form: Form


@dataclass(frozen=True, slots=True, kw_only=True)
class NobodyView(View):
    """Nobody was found; the form stands there again, so that what was asked for can be checked."""

    template: ClassVar[str] = "nobody.html"
    strip: Strip
    form: Form
    disputed: tuple[DisputedNotice, ...]
    by_number: bool
    sure: bool  # whether it is certain who was meant
    heading: str
    nobody: str
    advice: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """One patient to choose, and where their page is."""

    banner: Banner
    href: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PersonsView(View):
    """Several patients, or one who has to be confirmed."""

    template: ClassVar[str] = "persons.html"
    strip: Strip
    people: tuple[Choice, ...]
    more: bool  # than can be shown
    asked: str
    confirm: bool  # whether it is not certain that one of them was meant
    disputed: tuple[DisputedNotice, ...]
    own_disputed: frozenset[MemberId | None]  # where records shown here are themselves in doubt
    holder: bool  # whether the record that holds the number is among them
    by_local: bool


class SearchPages:
    """Finding a patient."""

    def __init__(self, shell: Shell) -> None:
        self._shell, self._region = shell, shell.region

    def routes(self) -> list[web.RouteDef]:
        """The first page and the search, which is posted."""
        return [web.get("/", self.home), web.get("/search", self.again), web.post("/search", self.search)]

    async def home(self, request: web.Request) -> web.Response:
        """The search form.

        Raises:
            Forbidden: for a role that may not search: nothing but a word of regret.
        """
        if not may_search(self._shell.principal(request)):
            raise Forbidden("This role may not look for patients.")
        return self._form(request, EMPTY)

    async def search(self, request: web.Request) -> web.Response:
        """A posted search: one patient leads to their page, several are shown to choose from."""
        shell = self._shell
        fields, today = await shell.fields(request), shell.today().date()
        search = read_search(fields, self._region, today, shell.directory.all())
        if search.selector is None:
            return self._form(request, search, status=400)
        question = Patients(patient=search.selector, limit=shell.config.max_matches + 1)
        async with shell.ask(request, "search", question) as answer:
            if len(answer.persons) == 1 and search.names(answer.persons[0]):
                headers = {"Location": shell.href(request, answer.persons[0]), "Cache-Control": "no-store"}
                # not raised: the act has gone well, and is audited so
                return web.Response(status=303, headers=headers)
            if answer.persons:
                return shell.html(request, self._choose(request, search, answer))
            search = misread(search, answer)
            return shell.html(request, self._nobody(search, answer), status=400 if search.errors else 200)

    async def again(self, request: web.Request) -> web.Response:
        """``GET /search``: a search is posted; a reload of its address leads back to the form."""
        raise web.HTTPSeeOther("/")

    def _form(self, request: web.Request, search: Search, *, status: int = 200) -> web.Response:
        strip = self._shell.strip(self._shell.coverage())
        return self._shell.html(request, SearchView(strip=strip, form=self._filled(search)), status=status)

    def _filled(self, search: Search) -> Form:
        members = self._shell.directory.all()
        return Form(
            value=search.form,
            errors=search.errors,
            number_label=number_label(self._region),
            number_hint=number_hint(self._region, self._shell.config.member_word),
            trusts=tuple((m.code, words.plain(m.name) or m.code) for m in members),
        )

    def _choose(self, request: web.Request, search: Search, answer: Answer) -> PersonsView:
        shell, today = self._shell, self._shell.today().date()
        most = shell.config.max_matches
        people = tuple(
            Choice(banner=banner_of(p, shell.directory, self._region, today), href=shell.href(request, p))
            for p in answer.persons[:most]
        )
        doubtful = {r.member for p in answer.persons for r in p.records if r.disputed or r.in_doubt}
        return PersonsView(
            strip=shell.strip(answer.coverage),
            people=people,
            more=len(answer.persons) > most,
            asked="with this number" if search.by_number else "with this name and date of birth",
            confirm=not any(search.names(p) for p in answer.persons),
            disputed=answer.disputed,
            own_disputed=frozenset(doubtful),
            holder=answer.held,
            by_local=not search.by_number or search.national is None,
        )

    def _nobody(self, search: Search, answer: Answer) -> NobodyView:
        sure = answer.naming.certain
        by_name = "No patient found with this name and date of birth"
        doubted = "Check this number" if search.by_number else by_name
        return NobodyView(
            strip=self._shell.strip(answer.coverage),
            form=self._filled(search),
            disputed=answer.disputed,
            by_number=search.by_number,
            sure=sure,
            heading="No patient found with this number" if sure else doubted,
            nobody=words.nobody(answer, self._shell.config.member_word, by_number=search.by_number),
            advice=(
                "Check the digits, or search by name and date of birth."
                if search.by_number
                else "Check the spelling and the date, leave out the given name, or search by number."
            ),
        )
