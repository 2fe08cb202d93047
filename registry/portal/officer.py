"""The identity officer's pages: what waits, both sides of one case, deciding and taking back. For the role ``identity`` alone.

Everything is asked of, and done by, ``registry.officer.decisions``, which audits it. A case's address is its handle, which
names no patient.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, cast

from aiohttp import web

from crosslight.runtime.caller import Caller
from crosslight.standards.problem import Invalid
from registry.identity.cases import MAX_REASON, Case, LinkEvent, RecordDecision, Side, Verdict, compared, handle_of
from registry.officer.decisions import IdentityDecisions, Officer
from registry.portal import words

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


class OfficerPages:
    """The pages.

    Args:
        decisions: The officer's room.
        html: Renders a page of the portal.
        caller: Who asks; raises where nobody is signed in.
        fields: A posted form, checked to come from our own page.
        today: The region's now.
    """

    def __init__(
        self,
        decisions: IdentityDecisions,
        html: Callable[..., web.Response],
        caller: Callable[[web.Request], Caller],
        fields: Callable[[web.Request], Any],
        today: Callable[[], datetime],
        zone: str,
    ) -> None:
        self._room, self._html, self._caller, self._fields = decisions, html, caller, fields
        self._today, self._zone = today, zone

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
        found = await self._room.queue(self._officer(request))
        values = {
            "waiting": [(one, self._moment(one.since)) for one in found.waiting],
            "total": found.total,
            "decisions": [self._decided(d) for d in found.decisions[:SHOWN_DECISIONS]],
            "handle_of": handle_of,
        }
        return self._html(request, "identity.html", values)

    async def case(self, request: web.Request) -> web.Response:
        """One case."""
        found = await self._room.case(request.match_info["handle"], self._officer(request))
        return self._page(request, found)

    async def decide(self, request: web.Request) -> web.Response:
        """A decision; back to the case, where it stands with its undoing."""
        officer, form, handle = self._officer(request), await self._fields(request), request.match_info["handle"]
        verdict, _, other = form.get("verdict", "").partition(" ")
        if verdict not in ("same", "another", "alone"):
            return await self._again(request, officer, {"verdict": "Choose what you decide"}, form)
        if not form.get("reason", "").strip():
            return await self._again(request, officer, {"reason": "Give the reason: what you compared, and where"}, form)
        try:
            await self._room.decide(
                handle, cast(Verdict, verdict), officer, form["reason"], other=other, version=form.get("version", "")
            )
        except Invalid as error:
            if error.where != "reason":
                raise
            return await self._again(request, officer, {"reason": f"{error.what} {error.todo}"}, form)
        return _see(f"/identity/{handle}")

    async def end(self, request: web.Request) -> web.Response:
        """A decision taken back."""
        officer, form, handle = self._officer(request), await self._fields(request), request.match_info["handle"]
        if not form.get("reason", "").strip():
            return await self._again(request, officer, {"undo": "Give the reason for taking the decision back"}, form)
        await self._room.end(form.get("decision", ""), officer, form["reason"])
        return _see(f"/identity/{handle}")

    async def back(self, request: web.Request) -> web.Response:
        """A form's address, reloaded: back to the case."""
        raise web.HTTPSeeOther(f"/identity/{request.match_info['handle']}")

    # --- parts -------------------------------------------------------------------------------------------------------

    async def _again(self, request: web.Request, officer: Officer, errors: dict[str, str], form: dict[str, str]) -> web.Response:
        found = await self._room.case(request.match_info["handle"], officer)
        return self._page(request, found, errors=errors, form=form, status=400)

    def _page(
        self, request: web.Request, case: Case, *, errors: dict[str, str] | None = None, form: dict[str, str] | None = None,
        status: int = 200,
    ) -> web.Response:  # fmt: skip
        today = self._today().date()
        values = {
            "case": case,
            "since": self._moment(case.since) if case.since is not None else "",
            "alone": [] if case.others else _lines(case.subject, case.subject, today),
            "beside": [_beside(case, other, today) for other in case.others],
            "decisions": [self._decided(d) for d in case.decisions],
            "moves": [self._moved(m) for m in case.moves],
            "errors": errors or {},
            "form": form or {},
            "max_reason": MAX_REASON,
            "day": words.day,
        }
        return self._html(request, "identity_case.html", values, status=status)

    def _officer(self, request: web.Request) -> Officer:
        caller = self._caller(request)
        principal = caller.principal
        who = f"{principal.name} ({principal.subject})" if principal.name else principal.subject
        return Officer(caller=caller, face="portal", who=who)

    def _moment(self, when: datetime) -> str:
        return words.instant(when, self._zone)

    def _decided(self, decision: RecordDecision) -> dict[str, Any]:
        ended = decision.ended_at
        return {
            "decision": decision,
            "says": decision.says(),
            "at": self._moment(decision.at),
            "ended": self._moment(ended) if ended is not None else "",
        }

    def _moved(self, move: LinkEvent) -> dict[str, str]:
        said = f"from person {handle_of(move.from_person)} to {handle_of(move.to_person)}"
        if move.from_person == move.to_person:
            said = f"stays with person {handle_of(move.to_person)}"
        said += ", disputed" if move.disputed else ""
        return {"at": self._moment(move.at), "said": said, "who": move.who, "why": move.why}


def _see(address: str) -> web.Response:
    return web.Response(status=303, headers={"Location": address, "Cache-Control": "no-store"})


def _beside(case: Case, other: Side, today: date) -> Beside:
    return Beside(
        side=other,
        relation=other.relation,
        lines=tuple(_lines(case.subject, other, today)),
        candidate=any(one.record.key == other.record.key for one in case.candidates),
    )


def _lines(mine: Side, other: Side, today: date) -> list[Line]:
    told = compared(mine, other)

    def line(label: str, said: Callable[[Side], str], word: str = "") -> Line:
        return Line(label=label, mine=said(mine), theirs=said(other), word=word)

    return [
        line("Name", lambda s: words.person_name(s.patient.name), told.name),
        line("Born", lambda s: words.born(s.patient.birth_date, today), told.birth_date),
        line("Gender", lambda s: words.sex(s.patient.sex), told.sex),
        line("National number", _numbers, told.numbers),
        line("Postcode", lambda s: words.plain(s.patient.postcode) or words.UNKNOWN, told.postcode),
        line("Own number", lambda s: words.local_number(s.patient)),
        line("At", lambda s: s.member_name),
    ]


def _numbers(side: Side) -> str:
    if not side.numbers:
        return words.UNKNOWN
    record = side.record
    state = "in doubt" if record.in_doubt else "claimed, not held" if record.disputed else "held" if side.holds else ""
    notes = ", ".join(filter(None, (state, "traced" if side.traced else "")))
    return ", ".join(words.number(n) for n in side.numbers) + (f" ({notes})" if notes else "")
