"""What the audit notes of sign-ins and sign-outs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from aiohttp import web

from crosslight.runtime.audit import About, Act, AuditLog
from crosslight.runtime.http import admit
from crosslight.standards.access import Action, Decision, Principal
from crosslight.standards.problem import Forbidden


class SignInAudit:
    """Audits sign-ins, sign-outs and failures. ``where`` is said of the demo's own provider."""

    def __init__(self, audit: AuditLog, where: str = "") -> None:
        self._audit, self._query = audit, {"at": where} if where else {}

    def act(self, request: web.Request, principal: Principal, action: Action, **told: Any) -> Act:
        """A sign-in that its provider vouches for, or a sign-out: to be done in its block."""
        caller, about = admit(request, principal), About(query={**self._query, **told})
        return self._audit.act(caller, "portal", action, about, decision=Decision(True, action))

    async def refused(self, request: web.Request, principal: Principal, why: str) -> None:
        """A sign-in that was none."""
        caller, decision = admit(request, principal), Decision(False, why)
        act = self._audit.act(caller, "portal", "sign-in", About(query=self._query), decision=decision)
        with suppress(Forbidden):  # who tries it is told so on a page
            async with act:
                pass
