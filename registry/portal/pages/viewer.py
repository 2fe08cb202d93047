"""The preview of one study."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aiohttp import web

from crosslight.standards.ids import is_uid
from crosslight.standards.problem import NotFound
from registry.ask.question import ByPatient, StudyFilter
from registry.portal.pages.freshness import state_address
from registry.portal.pages.patient import of_person, only
from registry.portal.render import View
from registry.portal.shell import Shell, Strip
from registry.portal.timeline import Banner, Copy, Row, banner_of, rows_of


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewerView(View):
    """One copy of one study, and its series."""

    template: ClassVar[str] = "viewer.html"
    strip: Strip
    banner: Banner
    row: Row
    copy: Copy
    root: str  # DICOMweb
    current: str  # the series that is shown first; '' for none
    here: str  # its place in the list


@dataclass(frozen=True, slots=True, kw_only=True)
class CopiesView(View):
    """Copies that do not agree: whoever looks says which to show."""

    template: ClassVar[str] = "copies.html"
    strip: Strip
    banner: Banner
    row: Row
    here: str  # its place in the list


class ViewerPages:
    """The preview of a study: the pictures of one copy."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """Below the patient's address."""
        return [web.get("/patients/{handle}/studies/{study}", self.study)]

    async def study(self, request: web.Request) -> web.Response:
        """The preview of one study; ``copy`` and ``series`` say which.

        Where copies do not agree and none was named, the page that asks.
        """
        shell, uid = self._shell, request.match_info["study"]
        patient = f"/patients/{request.match_info['handle']}"
        selector = shell.selector(request)
        if not is_uid(uid):
            raise NotFound("There is no such study.")
        glance = await shell.glance(request, selector, uid)
        question = ByPatient(patient=selector, filter=StudyFilter(study_uids=(uid,)))
        async with shell.ask(request, "read", question) as answer:
            person = only(answer.persons)
            strip = shell.strip(answer.coverage, state=state_address(patient, uid), version=glance.version)
            rows = rows_of(of_person(answer, person), shell.directory, strip.sites)
            if not rows:
                raise NotFound(
                    "This study is not listed for this patient any more.",
                    todo="Go back and refresh the list.",
                )
            row = rows[0]
            banner = banner_of(person, shell.directory, shell.region, shell.today().date())
            here = f"{patient}#study-{row.uid}"
            copy = row.copy(request.query.get("copy", ""))
            if copy is None:
                return shell.html(request, CopiesView(strip=strip, banner=banner, row=row, here=here))
            view = ViewerView(
                strip=strip,
                banner=banner,
                row=row,
                copy=copy,
                root=row.root(copy),
                current=_current(copy, request.query.get("series", "")),
                here=here,
            )
            return shell.html(request, view)


def _current(copy: Copy, asked: str) -> str:
    """The series to show first: the one asked for, else the first with pictures."""
    if any(s.uid == asked for s in copy.lines):
        return asked
    return next((s.uid for s in copy.lines if s.pictures), copy.lines[0].uid if copy.lines else "")
