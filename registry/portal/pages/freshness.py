"""What an open page asks now and then: whether its list is still so, and how its members are.

It shows nothing, so it is no audited act.
"""

from __future__ import annotations

from aiohttp import web

from crosslight.standards.ids import is_uid
from crosslight.standards.problem import NotFound
from registry.portal.coverage_wording import with_doubt
from registry.portal.render import JSON_HEADERS
from registry.portal.shell import Shell

MAX_DOUBT = 64


def state_address(patient: str, study_uid: str = "") -> str:
    """Where the script of the page of ``patient`` asks whether the answer is still so."""
    return f"{patient}/state.json" + (f"?study={study_uid}" if study_uid else "")


class Freshness:
    """JSON for the pages' own script."""

    def __init__(self, shell: Shell) -> None:
        self._shell = shell

    def routes(self) -> list[web.RouteDef]:
        """Of a patient's page, and of one without a patient."""
        return [
            web.get("/coverage.json", self.coverage),
            web.get("/patients/{handle}/state.json", self.state),
        ]

    async def state(self, request: web.Request) -> web.Response:
        """An opaque version of the patient's answer, and the members' state as it concerns this patient.

        With ``study`` it is the version of that study's answer.
        """
        uid = request.query.get("study", "")
        if uid and not is_uid(uid):
            raise NotFound("There is no such study.")
        glance = await self._shell.glance(request, self._shell.selector(request), uid)
        sites = self._shell.sites(glance.coverage)
        return web.json_response(sites.as_json() | {"version": glance.version}, headers=JSON_HEADERS)

    async def coverage(self, request: web.Request) -> web.Response:
        """The members' state for an open page without a patient.

        ``doubt`` repeats the codes that the page knew of.
        """
        self._shell.principal(request)
        codes = [code for code in request.query.get("doubt", "").split(",")[:MAX_DOUBT] if code]
        sites = self._shell.sites(with_doubt(self._shell.coverage(), codes))
        return web.json_response(sites.as_json(), headers=JSON_HEADERS)
