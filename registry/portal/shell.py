"""What all pages share: who asks, asking on their behalf, the region's time, the strip of members, the frame.

Every answer comes through ``ask``; no identifier stands in an address. ``/static/`` needs no sign-in;
everything else is protected by the service's middleware, which puts the caller on the request and sends a
browser without one to sign in.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

from aiohttp import web

from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.http import CALLER, form_fields
from crosslight.runtime.large_answers import LargeAnswers
from crosslight.runtime.workers import Workers
from crosslight.standards.access import Action, Principal, decide
from crosslight.standards.problem import Forbidden, Unauthenticated
from registry.access.sessions import SESSION
from registry.ask.ask import Ask, Glance
from registry.ask.coverage import Coverage
from registry.ask.question import Answer, Question
from registry.identity.model import PatientSelector, Person
from registry.members.model import Directory
from registry.officer.decisions import IdentityDecisions, may_decide
from registry.portal import wording as words
from registry.portal.config import PortalConfig
from registry.portal.coverage_wording import Sites, sites_of
from registry.portal.patient_handles import Handles
from registry.portal.render import Frame, Pages, View

MAX_FORM_BYTES = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class PortalContext:
    """What the pages are made of.

    Args:
        ask: The one way to answers.
        directory: Members' names.
        decisions: The identity officer's room; None leaves its pages out.
        key: A secret of the region that every process shares; handles are sealed with a key derived from it.
        workers: Where large pages are made; None: on the event loop.
        open_mode: Whether the open demo's banner is shown and no sign-in offered.
    """

    ask: Ask
    directory: Directory
    key: bytes = field(repr=False)
    clock: Clock
    ids: Ids
    decisions: IdentityDecisions | None = None
    config: PortalConfig = PortalConfig()
    workers: Workers | None = None
    open_mode: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Strip:
    """The members beside a page, and what its script asks for."""

    sites: Sites
    doubt: tuple[str, ...]  # codes of members with a record in doubt
    poll_ms: int
    state: str = ""  # where it asks whether the answer is still so; '' without a patient
    version: str = ""  # of the answer that is shown
    held: Counter[str] | None = None  # studies at each member, where a list is shown


class Shell:
    """What all pages of one registry share."""

    def __init__(self, context: PortalContext) -> None:
        self._context = context
        self.config = context.config
        self.region = context.ask.region
        self.directory = context.directory
        self.open_mode = context.open_mode
        self.pages = Pages()
        self.large = LargeAnswers(context.workers)
        self._handles = Handles(context.key, context.clock, context.ids, context.config.handle_ttl_s)

    # --- who asks -------------------------------------------------------------------------------------------

    def caller(self, request: web.Request) -> Caller:
        """Who asks.

        Raises:
            Unauthenticated: nobody is signed in.
        """
        caller: Caller | None = request.get(CALLER)
        if caller is None:
            raise Unauthenticated("Sign in to go on.")
        return caller

    def principal(self, request: web.Request) -> Principal:
        """As :meth:`caller`, who they are."""
        return self.caller(request).principal

    def is_officer(self, request: web.Request) -> bool:
        """Whether there is an identity officer's room, and they may enter it."""
        principal = principal_of(request)
        return self._context.decisions is not None and principal is not None and may_decide(principal)

    # --- asking ---------------------------------------------------------------------------------------------

    def ask(
        self, request: web.Request, action: Action, question: Question
    ) -> AbstractAsyncContextManager[Answer]:
        """Ask on behalf of who asks."""
        return self._context.ask.question(
            self.caller(request), face="portal", action=action, question=question
        )

    async def glance(self, request: web.Request, patient: PatientSelector, study_uid: str = "") -> Glance:
        """Whether an answer is still so; no audited act."""
        ask = self._context.ask
        return await ask.glance(self.caller(request), face="portal", patient=patient, study_uid=study_uid)

    def coverage(self) -> Coverage:
        """How the members are now, whoever the patient is."""
        return self._context.ask.coverage()

    def selector(self, request: web.Request) -> PatientSelector:
        """Whom the address's handle means.

        Raises:
            NotFound, Gone: nobody, or it has ended, or it is another reader's.
        """
        return PatientSelector(
            fhir_id=self._handles.open(request.match_info["handle"], self.principal(request))
        )

    def href(self, request: web.Request, person: Person) -> str:
        """A patient's address, for this reader only."""
        return f"/patients/{self._handles.seal(person.fhir_id, self.principal(request))}"

    def today(self) -> datetime:
        """Now, in the region's zone."""
        return self._context.clock.now().astimezone(ZoneInfo(self.region.zone))

    async def fields(self, request: web.Request) -> dict[str, str]:
        """A posted form, of our own page.

        Raises:
            Forbidden: it was sent from another site.
        """
        _same_origin(request)
        if request.content_length is None or request.content_length > MAX_FORM_BYTES:
            raise web.HTTPRequestEntityTooLarge(MAX_FORM_BYTES, request.content_length or 0)
        if request.content_type != "application/x-www-form-urlencoded":
            raise web.HTTPUnsupportedMediaType
        return await form_fields(request)

    # --- showing --------------------------------------------------------------------------------------------

    def sites(self, coverage: Coverage) -> Sites:
        """Coverage in words."""
        return sites_of(coverage, self.region, self.config.member_word)

    def strip(self, coverage: Coverage, *, state: str = "", version: str = "") -> Strip:
        """The members beside a page."""
        return Strip(
            sites=self.sites(coverage),
            doubt=tuple(m.code for m in coverage.members if m.identity_doubt),
            poll_ms=self.config.poll_s * 1000,
            state=state,
            version=version,
        )

    def html(self, request: web.Request, view: View, *, status: int = 200) -> web.Response:
        """A page, framed for whoever asks."""
        session = request.get(SESSION)
        frame = Frame(
            service=self.config.service_name,
            word=self.config.member_word,
            region=self.region,
            principal=principal_of(request),
            officer=self.is_officer(request),
            open_mode=self.open_mode,
            sign_in=self.config.sign_in,
            sign_out=self.config.sign_out,
            csrf=session.csrf if session is not None else "",
            session_left=session.left_s if session is not None else 0,
            read_at=words.instant(self._context.clock.now(), self.region.zone),
        )
        return self.pages.html(view, frame, status=status)


def principal_of(request: web.Request) -> Principal | None:
    """Who asks for a page, where somebody is known."""
    caller = request.get(CALLER)
    return caller.principal if caller is not None else None


def may_search(principal: Principal) -> bool:
    """Whether their role may look for patients."""
    return decide(principal, "portal", "search").permit


def _same_origin(request: web.Request) -> None:
    """A form of another site posts nothing here (beside the session cookie's SameSite)."""
    origin = request.headers.get("Origin", "")
    crossed = request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none")
    if crossed or (origin not in ("", "null") and urlsplit(origin).netloc != request.host):
        raise Forbidden("This form was not sent from this page.", todo="Open the page and search there.")
