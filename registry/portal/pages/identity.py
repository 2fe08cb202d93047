"""The identity officer's pages: what waits, both sides of one case, deciding and taking back.

For the role ``identity`` alone.

Everything is asked of, and done by, ``registry.officer.decisions``, which audits it. A case's address is its
handle, which names no patient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import ClassVar, cast

from aiohttp import web

from crosslight.standards.problem import Invalid
from registry.identity.cases import (
    MAX_REASON,
    Case,
    LinkEvent,
    RecordDecision,
    Side,
    Verdict,
    Waiting,
    compared,
    handle_of,
)
from registry.officer.decisions import IdentityDecisions, Officer
from registry.portal import wording as words
from registry.portal.render import View
from registry.portal.shell import Shell

SHOWN_DECISIONS = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One field of two records: what each says, and in a word how they stand to each other."""

    label: str
    mine: str
    theirs: str
    word: str = ""  # same, differs, not known; '' where they are not compared

    @property
    def differs(self) -> bool:
        """Whether the two contradict each other."""
        return self.word == "differs"


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """A record beside the one in question."""

    side: Side
    relation: str
    lines: tuple[Line, ...]
    candidate: bool  # it may be declared to be the same person


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionLine:
    """A decision in words; ``ended`` is '' while it is in force."""

    decision: RecordDecision
    case: str  # the handle of the record that it is about
    says: str
    at: str
    ended: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveLine:
    """What became of a record: when, in words, by whom and why."""

    at: str
    said: str
    who: str
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueView(View):
    """What waits, oldest first, and what was decided lately."""

    template: ClassVar[str] = "identity.html"
    waiting: tuple[tuple[Waiting, str], ...]  # with since when
    total: int
    decisions: tuple[DecisionLine, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseView(View):
    """One case: this record, those beside it, and what was decided.

    With what is wrong with a form that was posted.
    """

    template: ClassVar[str] = "identity_case.html"
    case: Case
    since: str
    alone: tuple[Line, ...]  # of a record with none beside it
    beside: tuple[Beside, ...]
    decisions: tuple[DecisionLine, ...]
    moves: tuple[MoveLine, ...]
    errors: dict[str, str]
    form: dict[str, str]
    max_reason: int = MAX_REASON


class IdentityPages:
    """The pages of the identity officer.

    Args:
        shell: What all pages share.
        decisions: The officer's room.
    """

    def __init__(self, shell: Shell, decisions: IdentityDecisions) -> None:
        self._shell, self._room = shell, decisions

    def routes(self) -> list[web.RouteDef]:
        """For the people's listener."""
        return [
            web.get("/identity", self.queue),
            web.get("/identity/{handle}", self.case),
            web.post("/identity/{handle}/decide", self.decide),
            web.post("/identity/{handle}/end", self.end),
            web.get("/identity/{handle}/decide", self.back),
            web.get("/identity/{handle}/end", self.back),
        ]

    async def queue(self, request: web.Request) -> web.Response:
        """What waits, oldest first, and what was decided."""
        queue = await self._room.queue(self._officer(request))
        view = QueueView(
            waiting=tuple((record, self._moment(record.since)) for record in queue.waiting),
            total=queue.total,
            decisions=tuple(self._decided(decision) for decision in queue.decisions[:SHOWN_DECISIONS]),
        )
        return self._shell.html(request, view)

    async def case(self, request: web.Request) -> web.Response:
        """One case, both sides beside each other."""
        case = await self._room.case(request.match_info["handle"], self._officer(request))
        return self._page(request, case)

    async def decide(self, request: web.Request) -> web.Response:
        """A decision; back to the case, where it stands with its undoing."""
        officer, handle = self._officer(request), request.match_info["handle"]
        form = await self._shell.fields(request)
        verdict, _, other = form.get("verdict", "").partition(" ")
        if verdict not in ("same", "another", "alone"):
            return await self._again(request, officer, {"verdict": "Choose what you decide"}, form)
        if not form.get("reason", "").strip():
            errors = {"reason": "Give the reason: what you compared, and where"}
            return await self._again(request, officer, errors, form)
        decided, version = cast(Verdict, verdict), form.get("version", "")
        try:
            await self._room.decide(handle, decided, officer, form["reason"], other=other, version=version)
        except Invalid as error:
            if error.where != "reason":
                raise
            return await self._again(request, officer, {"reason": f"{error.what} {error.todo}"}, form)
        return _see(f"/identity/{handle}")

    async def end(self, request: web.Request) -> web.Response:
        """A decision taken back."""
        officer, handle = self._officer(request), request.match_info["handle"]
        form = await self._shell.fields(request)
        if not form.get("reason", "").strip():
            errors = {"undo": "Give the reason for taking the decision back"}
            return await self._again(request, officer, errors, form)
        await self._room.end(form.get("decision", ""), officer, form["reason"])
        return _see(f"/identity/{handle}")

    async def back(self, request: web.Request) -> web.Response:
        """A form's address, reloaded: back to the case."""
        raise web.HTTPSeeOther(f"/identity/{request.match_info['handle']}")

    # --- parts ----------------------------------------------------------------------------------------------

    async def _again(
        self, request: web.Request, officer: Officer, errors: dict[str, str], form: dict[str, str]
    ) -> web.Response:
        case = await self._room.case(request.match_info["handle"], officer)
        return self._page(request, case, errors=errors, form=form, status=400)

    def _page(
        self,
        request: web.Request,
        case: Case,
        *,
        errors: dict[str, str] | None = None,
        form: dict[str, str] | None = None,
        status: int = 200,
    ) -> web.Response:
        today = self._shell.today().date()
        view = CaseView(
            case=case,
            since=self._moment(case.since) if case.since is not None else "",
            alone=() if case.others else _lines(case.subject, case.subject, today),
            beside=tuple(_beside(case, other, today) for other in case.others),
            decisions=tuple(self._decided(d) for d in case.decisions),
            moves=tuple(self._moved(m) for m in case.moves),
            errors=errors or {},
            form=form or {},
        )
        return self._shell.html(request, view, status=status)

    def _officer(self, request: web.Request) -> Officer:
        caller = self._shell.caller(request)
        principal = caller.principal
        who = f"{principal.name} ({principal.subject})" if principal.name else principal.subject
        return Officer(caller=caller, face="portal", who=who)

    def _moment(self, when: datetime) -> str:
        return words.instant(when, self._shell.region.zone)

    def _decided(self, decision: RecordDecision) -> DecisionLine:
        ended = decision.ended_at
        return DecisionLine(
            decision=decision,
            case=handle_of(decision.record),
            says=decision.says(),
            at=self._moment(decision.at),
            ended=self._moment(ended) if ended is not None else "",
        )

    def _moved(self, move: LinkEvent) -> MoveLine:
        said = f"from person {handle_of(move.from_person)} to {handle_of(move.to_person)}"
        if move.from_person == move.to_person:
            said = f"stays with person {handle_of(move.to_person)}"
        said += ", disputed" if move.disputed else ""
        return MoveLine(at=self._moment(move.at), said=said, who=move.who, why=move.why)


def _see(address: str) -> web.Response:
    return web.Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})


def _beside(case: Case, other: Side, today: date) -> Beside:
    return Beside(
        side=other,
        relation=other.relation,
        lines=_lines(case.subject, other, today),
        candidate=any(side.record.key == other.record.key for side in case.candidates),
    )


def _lines(mine: Side, other: Side, today: date) -> tuple[Line, ...]:
    told = compared(mine, other)

    def line(label: str, said: Callable[[Side], str], word: str = "") -> Line:
        return Line(label=label, mine=said(mine), theirs=said(other), word=word)

    return (
        line("Name", lambda s: words.person_name(s.patient.name), told.name),
        line("Born", lambda s: words.born(s.patient.birth_date, today), told.birth_date),
        line("Gender", lambda s: words.sex(s.patient.sex), told.sex),
        line("National number", _numbers, told.numbers),
        line("Postcode", lambda s: words.plain(s.patient.postcode) or words.UNKNOWN, told.postcode),
        line("Own number", lambda s: words.local_number(s.patient)),
        line("At", lambda s: s.member_name),
    )


def _numbers(side: Side) -> str:
    if not side.numbers:
        return words.UNKNOWN
    notes = ", ".join(filter(None, (_standing(side), "traced" if side.traced else "")))
    return ", ".join(words.number(n) for n in side.numbers) + (f" ({notes})" if notes else "")


def _standing(side: Side) -> str:
    """How the record stands to its national numbers, in a word."""
    if side.record.in_doubt:
        return "in doubt"
    if side.record.disputed:
        return "claimed, not held"
    return "held" if side.holds else ""
