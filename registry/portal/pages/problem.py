"""Errors as pages for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from aiohttp import web

from crosslight.runtime.http import CORRELATION, render_json
from crosslight.standards.problem import (
    Busy,
    Conflict,
    CrosslightError,
    Forbidden,
    NotFound,
    OurError,
    Unauthenticated,
)
from registry.portal.render import View
from registry.portal.shell import Shell, may_search, principal_of

TITLES: tuple[tuple[type[CrosslightError], str], ...] = (
    (Unauthenticated, "Please sign in"),
    (Forbidden, "You may not see this"),
    (NotFound, "Nothing here"),
    (Conflict, "It was not done"),
    (Busy, "This is busy now"),
    (OurError, "Something went wrong"),
)
NOT_YOUR_ROLE = (
    "Your account’s role may not look at patients’ imaging.",
    "If it should, ask the information governance team of your organisation.",
)


AGAIN = "Nothing is broken: this page tries again by itself in a moment."
_REFRESH = "Refresh"  # of no standard, and done by every browser


@dataclass(frozen=True, slots=True, kw_only=True)
class ProblemView(View):
    """What went wrong, and the way on."""

    template: ClassVar[str] = "problem.html"
    title: str
    what: str
    todo: str
    barred: bool  # the role may not look at patients at all
    identity_queue: bool  # the way on is the queue
    sign_in_here: bool
    support: str
    correlation: str


class Problems:
    """Renders errors of the portal's addresses."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def page(self, request: web.Request, error: CrosslightError) -> web.Response:
        """An error as a page for people, JSON for the page's own script."""
        if "text/html" not in request.headers.get("Accept", "text/html") and request.path.endswith(".json"):
            return render_json(request, error)
        shell, principal = self._shell, principal_of(request)
        barred = isinstance(error, Forbidden) and principal is not None and not may_search(principal)
        what, todo = NOT_YOUR_ROLE if barred else (error.what, error.todo)
        if isinstance(error, Busy) and request.method == "GET":
            todo = AGAIN
        view = ProblemView(
            title=next((title for kind, title in TITLES if isinstance(error, kind)), "This cannot be shown"),
            what=what,
            todo=todo,
            barred=barred,
            identity_queue=request.path.startswith("/identity") and shell.is_officer(request),
            sign_in_here=isinstance(error, Unauthenticated) and not shell.open_mode,
            support=shell.config.support,
            correlation=request.get(CORRELATION, ""),
        )
        response = shell.html(request, view, status=error.http_status)
        if isinstance(error, Busy) and request.method == "GET":
            response.headers[_REFRESH] = str(error.retry_after_s)
        return response

    def elsewhere(self, request: web.Request, error: CrosslightError) -> web.Response:
        """The first page's errors, and an address that leads nowhere: a page in a browser, else JSON."""
        if request.path == "/":
            return self.page(request, error)
        lost = error.http_status == 404 and request.match_info.http_exception is not None
        if lost and "text/html" in request.headers.get("Accept", ""):
            return self.page(request, NotFound("There is no such page."))
        return render_json(request, error)
