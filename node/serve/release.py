"""The one way out of a node: everything that leaves passes :meth:`Release.act`.

The holder decides (ARCHITECTURE 4). In this order, and offline: is the caller known, is this node suspended,
is the clock good enough (D22), does a release token name this study, does the table of roles allow it, does
the trust's own policy. Then who, why and what is committed to the audit before the first byte, and the
outcome after the last (D20), under the correlation id of the token, so that the region's entries and ours
join. A refusal is an audited act too.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal

from aiohttp import web

from crosslight.runtime.audit import DENIED, About, Act, AuditLog
from crosslight.runtime.caller import Caller
from crosslight.runtime.http import CALLER
from crosslight.runtime.log import get_logger
from crosslight.runtime.shares import Shares, share_of
from crosslight.standards.access import Action, Decision, Face, Principal, decide, not_granted
from crosslight.standards.asking import export_refused
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError, Forbidden, Unauthenticated, Unavailable

log = get_logger("release")

GrantKind = Literal["open", "access", "release", "certificate", "device"]
MAX_AUDITED_STUDIES = 1000  # of a search; more are counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """On what the caller stands. ``studies`` and ``correlation`` are those of a release token."""

    principal: Principal
    kind: GrantKind
    studies: frozenset[str] = frozenset()
    correlation: str = ""
    via: str = ""  # member CODE, gateway or system NAME of the client certificate


@dataclass(frozen=True, slots=True)
class _Asker:
    """Who asks, on what, and over which connection."""

    grant: Grant
    caller: Caller
    transport: asyncio.Transport | None


#: Set by :mod:`node.serve.authenticate` together with CALLER.
GRANT: web.RequestKey[Grant] = web.RequestKey("grant", Grant)

Policy = Callable[[Principal, Face, Action, Sequence[str]], Decision]
PatientsOf = Callable[[str], Awaitable[Sequence[Identifier]]]

_REGIONAL = frozenset({"access", "release", "certificate"})  # credentials that the region has issued
_OUT = frozenset({"search", "read", "export", "retrieve"})  # actions by which something leaves


def no_policy(principal: Principal, face: Face, action: Action, studies: Sequence[str]) -> Decision:
    """The policy of a trust that has none of its own: what the table allows is allowed."""
    return Decision(True, "")


async def _nobody(study_uid: str) -> Sequence[Identifier]:
    return ()


class Release:
    """Decides, audits, lets go.

    Args:
        audit: Where acts are committed.
        policy: The trust's own rule, asked after the table.
        code: This node's organisation code, by which it is granted to systems to store here.
        suspended: Whether the region has suspended this node; then nothing is released on the region's
            credentials.
        skew_s: Measured clock difference to the region in seconds, None before the first measurement.
        patients_of: The patient's identifiers of a study held here, for the audit.
        max_skew_s: D22.
        sending: Turns of what is retrieved; None: as many as ask.
    """

    def __init__(
        self,
        audit: AuditLog,
        *,
        policy: Policy = no_policy,
        code: Callable[[], str] = lambda: "",
        suspended: Callable[[], bool] = lambda: False,
        skew_s: Callable[[], float | None] = lambda: None,
        patients_of: PatientsOf = _nobody,
        max_skew_s: float = 60.0,
        sending: Shares | None = None,
    ) -> None:
        self._audit = audit
        self._policy = policy
        self._code, self._suspended = code, suspended
        self._skew = skew_s
        self._patients_of, self._max_skew_s = patients_of, max_skew_s
        self._sending = sending
        self._going: dict[Act, asyncio.Transport] = {}  # what leaves now on the region's credentials

    def act(
        self,
        request: web.Request,
        action: Action,
        studies: Sequence[str],
        face: Face,
        *,
        query: dict[str, Any] | None = None,
        deferred: bool = False,
    ) -> AbstractAsyncContextManager[Act]:
        """Run an act that the caller is allowed.

        Args:
            request: With its principal and grant.
            action: What is done.
            studies: What it is done to; for a search those that the resource itself names.
            face: The way it came.
            query: What was asked, for the audit.
            deferred: Enter the block before the beginning is committed, to read what will be sent. The block
                calls :meth:`Act.begin` before it sends; an answer that is held back until the block is left
                need not: then beginning and outcome are one commit.

        Raises:
            Unauthenticated, Forbidden, Unavailable: refused (and audited, where somebody is known).
            StorageError: the audit cannot be written: no audit, no data.
            OverShare, Busy: there was no turn in time (before anything is audited: nothing was done).
        """
        grant, caller = request.get(GRANT), request.get(CALLER)
        if grant is None or caller is None:
            raise Unauthenticated("Sign in first.", todo="Send a bearer token.")
        return self._act(_Asker(grant, caller, request.transport), action, studies, face, query, deferred)

    def device_act(
        self, caller: Caller, action: Action, studies: Sequence[str], query: dict[str, Any], deferred: bool
    ) -> AbstractAsyncContextManager[Act]:
        """As :meth:`act`, of a device that calls by DIMSE: what it may is in its principal's grants."""
        asker = _Asker(Grant(principal=caller.principal, kind="device"), caller, None)
        return self._act(asker, action, studies, "dimse", query, deferred)

    @asynccontextmanager
    async def _act(
        self,
        asker: _Asker,
        action: Action,
        studies: Sequence[str],
        face: Face,
        query: dict[str, Any] | None,
        deferred: bool,
    ) -> AsyncIterator[Act]:
        async with self._turn(asker.caller, action):
            decision, refusal = self._decide(asker.grant, action, studies, face)
            about = About(studies=tuple(studies), patients=await self._patients(studies), query=query or {})
            act = self._audit.act(
                asker.caller,
                face,
                action,
                about,
                decision=decision,
                refusal=refusal or DENIED,
                deferred=deferred,
                lazy=True,
            )
            async with act, self._leaving(act, asker, action):
                yield act

    def _turn(self, caller: Caller, action: Action) -> AbstractAsyncContextManager[None]:
        """What is retrieved takes a turn of its caller's, until all of it is sent."""
        if self._sending is None or action != "retrieve":
            return nullcontext()
        return self._sending.turn(share_of(caller))

    @asynccontextmanager
    async def _leaving(self, act: Act, asker: _Asker, action: Action) -> AsyncIterator[None]:
        """While inside, suspension cuts what leaves on the region's credentials."""
        if asker.transport is not None and asker.grant.kind in _REGIONAL and action in _OUT:
            self._going[act] = asker.transport
            if self._suspended():  # since it was decided
                asker.transport.abort()
        try:
            yield
        finally:
            self._going.pop(act, None)

    def cut(self) -> int:
        """The region has suspended this node: end what is leaving on its credentials; how much that was."""
        going = list(self._going.values())
        for transport in going:
            transport.abort()
        if going:
            log.warning("connections cut", count=len(going))
        return len(going)

    async def close(self) -> None:
        """Wait until the outcomes still to be written are committed."""
        await self._audit.settle()

    async def _patients(self, studies: Sequence[str]) -> tuple[Identifier, ...]:
        patients: dict[Identifier, None] = {}
        for study in studies[:MAX_AUDITED_STUDIES]:
            patients.update(dict.fromkeys(await self._patients_of(study)))
        return tuple(patients)

    async def patients_of(self, study_uid: str) -> Sequence[Identifier]:
        """The patient's identifiers of a study held here."""
        return await self._patients_of(study_uid)

    def _stores_here(self, principal: Principal) -> bool:
        return "open" in principal.roles or principal.grants.stores_at(self._code())

    def _decide(
        self, grant: Grant, action: Action, studies: Sequence[str], face: Face
    ) -> tuple[Decision, CrosslightError | None]:
        """The decision, and the error that says no."""

        def no(rule: str, error: CrosslightError) -> tuple[Decision, CrosslightError]:
            return Decision(False, rule), error

        principal = grant.principal
        if grant.kind in _REGIONAL and action in _OUT and self._suspended():
            return no(
                "node suspended",
                Forbidden("This node is suspended in its region and releases nothing to it."),
            )
        skew = self._skew()
        if action == "retrieve" and skew is not None and abs(skew) > self._max_skew_s:
            return no(
                "clock skew",
                Unavailable(
                    "The clock of this node is wrong: nothing is released.",
                    why=(
                        f"It differs by {skew:+.0f} s from the registry's; serve.max_clock_skew_s is"
                        f" {self._max_skew_s:g}."
                    ),
                    todo="Set the clock.",
                ),
            )
        if grant.kind == "certificate" and "gateway" in principal.roles:
            return no(
                "gateway without a person",
                Forbidden("The gateway alone opens nothing.", todo="Send a release token."),
            )
        if grant.kind == "release" and (
            action not in _OUT or not studies or not set(studies) <= grant.studies
        ):
            return no("study not in the token", Forbidden("The release token is for other studies."))
        decision = decide(principal, face, action)
        if decision.permit and action == "store" and not self._stores_here(principal):
            decision = Decision(False, not_granted(principal, "store", self._code()))
        if decision.permit:
            own = self._policy(principal, face, action, studies)
            rule = f"{decision.rule}; {own.rule}" if own.rule else decision.rule
            decision = Decision(own.permit, rule)
        if decision.permit:
            return decision, None
        if action == "export":
            return decision, export_refused(face)
        return decision, Forbidden("This is not allowed here.", why=decision.rule)
