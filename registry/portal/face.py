"""The clinician's page: all pages of one registry, their addresses, and how errors look there."""

from __future__ import annotations

from aiohttp import web

from crosslight.runtime.http import ErrorRenderers
from registry.portal.pages.freshness import Freshness
from registry.portal.pages.identity import IdentityPages
from registry.portal.pages.patient import PatientPages
from registry.portal.pages.problem import Problems
from registry.portal.pages.search import SearchPages
from registry.portal.pages.viewer import ViewerPages
from registry.portal.shell import PortalContext, Shell


class Portal:
    """The pages of one registry."""

    def __init__(self, context: PortalContext) -> None:
        self.shell = Shell(context)
        self.problems = Problems(self.shell)
        self.pages: list[SearchPages | PatientPages | ViewerPages | Freshness | IdentityPages] = [
            SearchPages(self.shell),
            PatientPages(self.shell),
            ViewerPages(self.shell),
            Freshness(self.shell),
        ]
        if context.decisions is not None:
            self.pages.append(IdentityPages(self.shell, context.decisions))


def routes(portal: Portal) -> list[web.RouteDef]:
    """The portal's routes, for the people's listener."""
    static = web.get("/static/{tag}/{name}", portal.shell.pages.static)
    return [route for page in portal.pages for route in page.routes()] + [static]


def add_errors(table: ErrorRenderers, portal: Portal) -> None:
    """Teach ``table`` how errors look on the pages, and at addresses that are no face's."""
    for prefix in ("/patients", "/search", "/identity"):
        table.add(prefix, portal.problems.page)
    table.add("/", portal.problems.elsewhere)
