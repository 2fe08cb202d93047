"""The identity officer's room: the queue, one case, deciding, and taking back.

Every act is audited before it is seen or done.

The page and the command line come in by this door; neither touches the tables.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from crosslight.runtime.audit import About, Act, AuditLog
from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock
from crosslight.runtime.db import Db, Tx
from crosslight.standards import access
from crosslight.standards.access import Action, Face, Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Conflict, Invalid, NotFound
from registry.identity import merge_requests, rows
from registry.identity.cases import Case, Queue, RecordDecision, Verdict, checked_reason
from registry.identity.model import RecordKey
from registry.identity.rows import to_micros
from registry.identity.store import IdentityStore
from registry.identity.tables import lock_writers
from registry.index.store import IndexStore
from registry.members.model import Directory
from registry.officer.casebook import SEE_QUEUE, CaseBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Officer:
    """Who acts, and where.

    Args:
        caller: For the audit and for access.
        face: ``portal``, or ``admin`` for the command line.
        who: The person, as the history names them.
    """

    caller: Caller
    face: Face
    who: str


def may_decide(principal: Principal) -> bool:
    """Whether a person signed in to the page is an identity officer."""
    return access.decide(principal, "portal", "decide").permit


class IdentityDecisions:
    """What an identity officer can see and do.

    Args:
        db: The database of index and identity.
        identity, index: Their stores.
        directory: Members, for their names.
        audit: Where every act is noted.
        clock: Time.
    """

    def __init__(
        self,
        db: Db,
        identity: IdentityStore,
        index: IndexStore,
        directory: Directory,
        audit: AuditLog,
        clock: Clock,
    ) -> None:
        self._db, self._identity, self._book = db, identity, CaseBook(identity, index, directory)
        self._audit, self._clock = audit, clock

    # --- looking --------------------------------------------------------------------------------------------

    async def queue(self, by: Officer) -> Queue:
        """What waits, and what was decided lately.

        Raises:
            Forbidden: to whom is no identity officer.
        """
        async with self._act(by, "search", {}):
            return await self._db.read("identity_queue", self._book.queue)

    async def case(self, named: str, by: Officer) -> Case:
        """A record and those that it has to be compared with.

        Args:
            named: A handle, or ``AUTHORITY|NUMBER``.
            by: Who looks.

        Raises:
            Forbidden: to whom is no identity officer.
            Invalid, NotFound, Conflict: for a name that is none, leads nowhere, or to several.
        """
        await self._admit(by, "read")
        case = await self._db.read(
            "identity_case", lambda tx: self._book.case(tx, self._book.resolved(tx, named))
        )
        studies = tuple(study for side in (case.subject, *case.others) for study in side.studies)
        query = {"handle": case.handle, "found": {"studies": len(studies)}}
        async with self._act(by, "read", query, case.patients):
            return case

    # --- acting ---------------------------------------------------------------------------------------------

    async def decide(
        self, named: str, verdict: Verdict, by: Officer, why: str, *, other: str = "", version: str = ""
    ) -> RecordDecision:
        """Decide a case; the decision, with the id that takes it back.

        Args:
            named: A handle, or ``AUTHORITY|NUMBER``.
            verdict: ``same`` person, ``another`` person (of a part in doubt), or stands ``alone``.
            by: Who decides.
            why: The reason; it is kept.
            other: With ``same``, whom with, where there are several.
            version: Of the case as it was shown; it is refused when it has changed since. '' for none.

        Raises:
            Forbidden: to whom is no identity officer.
            Invalid, NotFound: for names that are none, no reason, or what cannot be said of this case.
            Conflict: it is decided already, or has changed.
        """
        await self._admit(by, "decide")
        reason = checked_reason(why)
        case = await self._db.read(
            "identity_case", lambda tx: self._book.case(tx, self._book.resolved(tx, named))
        )
        query = {"verdict": verdict, "handle": case.handle, "other": other, "reason": reason}
        async with self._act(by, "decide", query, case.patients):
            return await self._db.write(
                "identity_decide",
                lambda tx: self._decided(tx, case.subject.record.key, verdict, by, reason, other, version),
            )

    async def end(self, decision: str, by: Officer, why: str) -> RecordDecision:
        """Take a decision back; what it was, in force no more.

        Args:
            decision: Its id, or the first eight characters of it.
            by: Who does.
            why: The reason; it is kept.

        Raises:
            Forbidden: to whom is no identity officer.
            NotFound: there is no such decision.
            Conflict: it was ended before.
            Invalid: no reason, or it is a merge.
        """
        await self._admit(by, "end-decision")
        reason = checked_reason(why)
        named = await self._db.read("identity_decision", lambda tx: self._book.decision(tx, decision))
        patients = await self._db.read("identity_case", lambda tx: self._book.case(tx, named.record).patients)
        query = {"decision": named.id, "reason": reason}

        def ended(tx: Tx) -> RecordDecision:
            lock_writers(tx)
            rows.load_by(tx, "record_key", {named.record}, lock=True)  # who comes second finds it ended
            current = self._book.decision(tx, named.id)
            if not current.in_force:
                raise Conflict(
                    f"Decision {current.short} was ended before.",
                    why=f"By {current.ended_who}.",
                    todo=SEE_QUEUE,
                )
            if current.merge:
                todo = "Undo it with `unmerge AUTHORITY|NUMBER`, of the number that was merged away."
                raise Invalid(f"Decision {current.short} is a merge.", todo=todo)
            self._identity.end_decision_tx(tx, current.id, self._clock.now(), who=by.who, why=reason)
            return self._book.decision(tx, current.id)

        async with self._act(by, "end-decision", query, patients):
            return await self._db.write("identity_end", ended)

    async def unmerge(self, number: Identifier, by: Officer, why: str) -> None:
        """Undo a merge (A40) that was a mistake, by the number that was merged away.

        Raises:
            Forbidden: to whom is no identity officer.
            NotFound: that number was not merged away.
            Invalid: no reason, or a number without its authority.
        """
        await self._admit(by, "unmerge")
        reason = checked_reason(why)
        if not number.authority:
            raise Invalid(
                "A number alone may be several people's.",
                todo="Give AUTHORITY|NUMBER, the authority as an OID.",
            )
        async with self._act(by, "unmerge", {"reason": reason}, (number,)):
            try:
                await self._identity.unmerge(number, self._clock.now(), who=by.who, why=reason)
            except NotFound as error:
                todo = "Give the number that was merged away; the history of its record names the merge."
                raise NotFound("That number was not merged into another.", todo=todo) from error

    # --- access and audit -----------------------------------------------------------------------------------

    async def _admit(self, by: Officer, action: Action) -> None:
        """Refuse, and audit the refusal, before anything is looked up.

        Whoever may not look learns nothing of what there is.
        """
        if not self._permitted(by).permit:
            async with self._act(by, action, {}):
                pass

    @staticmethod
    def _permitted(by: Officer) -> access.Decision:
        return access.decide(by.caller.principal, by.face, "decide")

    def _act(
        self, by: Officer, action: Action, query: dict[str, Any], patients: Collection[Identifier] = ()
    ) -> Act:
        """An act, to be done in its block: whoever may decide may look."""
        about = About(patients=tuple(patients), query={name: value for name, value in query.items() if value})
        return self._audit.act(
            by.caller,
            by.face,
            action,
            about,
            decision=self._permitted(by),
            refusal="Only an identity officer may see this.",
        )

    # --- in a transaction -----------------------------------------------------------------------------------

    def _decided(
        self, tx: Tx, key: RecordKey, verdict: Verdict, by: Officer, why: str, other: str, version: str
    ) -> RecordDecision:
        lock_writers(tx)
        rows.load_by(tx, "record_key", {key}, lock=True)  # who comes second finds it decided
        case = self._book.case(tx, key)
        if (standing := _again(case, verdict)) is not None:
            raise Conflict(
                f"It is decided already: {standing.says()} ({standing.short}, by {standing.who}).",
                todo="End that decision first, if it was wrong.",
            )
        if version and version != case.version:
            raise Conflict(
                "This has changed since it was opened here.", todo="Compare once more, then decide."
            )
        if verdict not in case.open_verdicts:
            choices = " or ".join(f"“{open_verdict}”" for open_verdict in case.open_verdicts)
            raise Invalid(
                f"“{verdict}” cannot be said of this record.",
                todo=f"Say {choices}." if choices else SEE_QUEUE,
            )
        partner = self._partner(tx, case, other) if verdict == "same" else None
        if case.merge is not None:
            at = to_micros(self._clock.now())
            decision_id = merge_requests.decide(
                tx, self._identity, case.merge, same=verdict == "same", at=at, who=by.who, why=why
            )
            return self._book.decision(tx, decision_id)
        decision_id = self._identity.decide_tx(tx, key, partner, self._clock.now(), who=by.who, why=why)
        return self._book.decision(tx, decision_id)

    def _partner(self, tx: Tx, case: Case, other: str) -> RecordKey:
        """With whom it is the same person."""
        candidates = {side.record.key: side for side in case.candidates}
        if other:
            key = self._book.resolved(tx, other)
            if key not in candidates:
                raise Invalid(
                    "That record is not one that this one could be.",
                    why="It shares no number with it, or is one person with it already.",
                    todo=(
                        f"Give one of {', '.join(side.handle for side in candidates.values())}."
                        if candidates
                        else SEE_QUEUE
                    ),
                )
            return key
        persons = {side.record.person: key for key, side in reversed(candidates.items())}
        if not persons:
            raise Invalid("There is nobody with whom it could be the same person.", todo=SEE_QUEUE)
        if len(persons) > 1:
            handles = " or ".join(side.handle for side in candidates.values())
            raise Invalid(
                "There are several with whom it could be the same person.", todo=f"Say which: {handles}."
            )
        return next(iter(persons.values()))


def _again(case: Case, verdict: Verdict) -> RecordDecision | None:
    """The decision in force that this one would repeat or contradict."""
    mine = case.subject.record.key
    for decision in case.decisions:
        if not decision.in_force or decision.kind in ("merge", "two"):
            continue
        if decision.kind == "apart" and decision.record == mine:
            return decision
        if decision.kind == "other" and decision.record == mine and verdict == "another":
            return decision
        if decision.kind == "same" and (verdict != "same" or not case.candidates):
            return decision
    return None
