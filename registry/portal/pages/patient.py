"""One patient's timeline."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar

from aiohttp import web

from crosslight.standards.problem import NotFound
from registry.ask.ask import Glance
from registry.ask.question import Answer, ByPatient
from registry.identity.model import DisputedNotice, Person
from registry.portal import wording as words
from registry.portal.pages.freshness import state_address
from registry.portal.render import View
from registry.portal.shell import Shell, Strip
from registry.portal.timeline import Banner, Row, banner_of, by_year, rows_of


@dataclass(frozen=True, slots=True, kw_only=True)
class PatientView(View):
    """Who it is, and their studies by year."""

    template: ClassVar[str] = "patient.html"
    strip: Strip
    banner: Banner
    disputed: tuple[DisputedNotice, ...]
    rows: list[Row]
    years: list[tuple[str, list[Row]]]
    trusts: int  # that hold some of them
    first_open: Row | None
    unread: str  # what is not understood, so that the list may lack studies
    here: str


class PatientPages:
    """The page of one patient: their studies on a timeline."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """The patient's address: a handle that names nobody, and ends."""
        return [web.get("/patients/{handle}", self.patient)]

    async def patient(self, request: web.Request) -> web.Response:
        """One patient's timeline."""
        shell = self._shell
        selector = shell.selector(request)
        # before the list: a change in between shows as one more
        glance = await shell.glance(request, selector)
        async with shell.ask(request, "search", ByPatient(patient=selector)) as answer:
            person = only(answer.persons)

            def made() -> web.Response:
                return shell.html(request, self._view(request.path, person, answer, glance))

            return await shell.large.make(made, answer.size)

    def _view(self, here: str, person: Person, answer: Answer, glance: Glance) -> PatientView:
        shell = self._shell
        strip = shell.strip(answer.coverage, state=state_address(here), version=glance.version)
        rows = rows_of(of_person(answer, person), shell.directory, strip.sites)
        studies_at = Counter(code for row in rows for code in {copy.code for copy in row.copies})
        return PatientView(
            strip=replace(strip, held=studies_at),
            banner=banner_of(person, shell.directory, shell.region, shell.today().date()),
            disputed=answer.disputed,
            rows=rows,
            years=by_year(rows),
            trusts=len(studies_at),
            first_open=next((row for row in rows if row.opens), None),
            unread=words.unread(answer),
            here=here,
        )


def only(persons: Iterable[Person]) -> Person:
    """The one patient of an address.

    Raises:
        NotFound: the record has gone since the address was given out.
    """
    person = next(iter(persons), None)
    if person is None:
        raise NotFound("This patient’s record is not here any more.", todo="Search for the patient again.")
    return person


def of_person(answer: Answer, person: Person) -> Answer:
    """The answer with this person's holdings alone.

    A page never mixes two patients, even where the caller may see another beside the one asked for.
    """
    keys = {record.key for record in person.records}
    return replace(answer, holdings=tuple(h for h in answer.holdings if h.whose in keys))
