"""The one way to a question's answer: identity, access, index, coverage, audit (ARCHITECTURE, D20).

A question costs one reading transaction and one audit write before the answer is handed over; its outcome is
written while the answer leaves.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache, lru_cache
from typing import Any

from crosslight.runtime.audit import About, AuditLog
from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock
from crosslight.runtime.db import Db, Tx
from crosslight.runtime.shares import Shares, share_of
from crosslight.standards.access import Action, Face, Principal, decide
from crosslight.standards.ids import Identifier
from crosslight.standards.national import national_number
from crosslight.standards.problem import CrosslightError, Forbidden
from crosslight.standards.region import Region
from registry.ask.answer import Answering
from registry.ask.coverage import Coverage, compute
from registry.ask.foretelling import foretold
from registry.ask.freshness import Glances, Looked
from registry.ask.kept_readings import KeptReadings, NotedTx, QuestionKey
from registry.ask.own_entries import as_member, of_member
from registry.ask.permits import Permits
from registry.ask.policy import Policy
from registry.ask.question import (
    Answer,
    ByPatient,
    ByPopulation,
    DirectoryQuestion,
    Patients,
    Question,
    is_export,
)
from registry.ask.results import QuestionResult
from registry.identity.model import PatientSelector, Person, PersonKey
from registry.identity.store import IdentityStore
from registry.index.store import IndexStore
from registry.members.model import Directory

_NOT_ASKED = ("", (), None, False)
MAX_AUDITED = 2000  # numbers of patients, or studies, of one act that are named one by one
REFUSED = "You may not ask this here."
_ABOUT_SOMEBODY = frozenset({"search", "read"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Glance:
    """What may be had of a patient's answer without asking for it: an opaque version, and its coverage."""

    version: str
    coverage: Coverage


class Ask:
    """Answers questions for every face.

    Args:
        db: The database of index and identity.
        index, identity: Their stores.
        directory: Members and their presence.
        audit: Where every act is noted before its answer is handed over.
        clock: Time.
        region: Whose numbers count.
        permits: What is asked beyond the table of roles, and how many questions at a time.
    """

    def __init__(
        self,
        db: Db,
        index: IndexStore,
        identity: IdentityStore,
        directory: Directory,
        audit: AuditLog,
        clock: Clock,
        region: Region,
        permits: Permits,
    ) -> None:
        self.near = Shares("questions", permits.config.near())
        self._asking: dict[asyncio.Task[Any] | None, AsyncExitStack] = {}
        self.wide = Shares("questions that name nobody", permits.config.wide())
        self._db = db
        self._index = index
        self._identity = identity
        self._directory = directory
        self._audit = audit
        self._clock = clock
        self.region = region
        self.permits = permits
        self.glances = Glances(clock)
        self.readings = KeptReadings(permits.config.kept_bytes)

    @asynccontextmanager
    async def question(
        self, caller: Caller, *, face: Face, action: Action, question: Question
    ) -> AsyncIterator[Answer]:
        """Answer ``question``; its act is audited before the answer is handed over, its outcome at exit.

        A search or a reading that names nobody is the action ``export``, whatever the face calls it.

        Raises:
            Forbidden: policy says no (audited).
            OverRate: an export too many in this hour (audited), a search or a list for an order too many in
                this minute.
            Invalid: a selector that names nobody, a cursor that is none of ours.
            OverShare, Busy: there was no turn in time (nothing was asked, nothing is audited).
        """
        if action == "search":
            self.permits.search(caller)
        exports = action in _ABOUT_SOMEBODY and is_export(question)
        action = "export" if exports else action
        principal = caller.principal
        refusal: CrosslightError | str = REFUSED
        decision = as_member(principal, question, decide(principal, face, action))
        if exports:
            decision, refusal = await self.permits.export(caller, face, decision)
        elif action == "list-for-order":
            decision, refusal = self.permits.list_for_order(caller, decision)
        asked = {type(question).__name__: plain(question)}
        result, about = QuestionResult(), About(query=asked)
        async with AsyncExitStack() as working:
            if decision.permit:
                wide = isinstance(question, ByPopulation)
                await working.enter_async_context(self._turn(self.wide if wide else self.near, caller))

                def read(tx: Tx) -> tuple[QuestionResult, About]:
                    return self._read(tx, principal, face, question, asked)

                if wide:
                    result, about = await self._db.read_wide("ask", read)
                else:
                    # where each statement is a round trip, what will be asked is said before
                    told = foretold(question, face, self._identity) if self._db.dialect.remote else None
                    result, about = await self._db.read_near("ask", read, foretold=told)
                if action == "retrieve":  # what follows is members' work, in turns there
                    await self.rest()
            asking = self._audit.act(
                caller, face, action, about, decision=decision, refusal=refusal, lazy=True
            )
            async with asking as act:
                if result.opens:
                    await self.permits.keep(principal, result.opens)
                answer = self._answer(question, result, caller.correlation)
                yield answer
                act.done(given=len(answer.holdings) + len(answer.objects) or len(answer.persons))

    @asynccontextmanager
    async def _turn(self, lane: Shares, caller: Caller) -> AsyncIterator[None]:
        """A turn of a caller's, for reading and for what is made of it.

        Who asks within a question of the same request takes no second one: nobody waits for themselves.
        """
        task = asyncio.current_task()
        if task in self._asking:
            yield
            return
        async with AsyncExitStack() as turn:
            await turn.enter_async_context(lane.turn(share_of(caller)))
            self._asking[task] = turn
            try:
                yield
            finally:
                self._asking.pop(task, None)

    async def rest(self) -> None:
        """Give back the turn of the question that this request is within.

        For what is done there from now on is another's work, such as a member's, and may last.
        """
        turn = self._asking.get(asyncio.current_task())
        if turn is not None:
            await turn.aclose()

    def _read(
        self, tx: Tx, principal: Principal, face: Face, question: Question, asked: dict[str, Any]
    ) -> tuple[QuestionResult, About]:
        """What is found, and whose data that is, for the audit."""
        result = self._found(tx, principal, face, question)
        return result, _about(asked, result)

    def _found(self, tx: Tx, principal: Principal, face: Face, question: Question) -> QuestionResult:
        """What a question finds: read, or read to be the same as before (ADR 0046).

        Nothing but these arguments, the members and the region's key goes into it. What was opened for a
        while (ADR 0037) hangs on the time, and is looked up beside: what that goes into is not kept.
        """
        if isinstance(question, ByPopulation | DirectoryQuestion):  # a walk, or no reading at all
            return self._read_anew(tx, principal, face, question, lambda: self._opened(tx, principal))
        asked = QuestionKey(principal, face, question)
        meaning = (self._directory.revision, self._index.incarnation, self._index.region_key)
        known = self.readings.find(asked, meaning, tx)
        if known is not None:
            return known
        noted, by_time = NotedTx(tx), list[bool]()

        def opened() -> frozenset[PersonKey]:
            by_time.append(True)
            return self._opened(tx, principal)

        result = self._read_anew(noted.tx, principal, face, question, opened)
        return result if by_time else self.readings.keep(asked, meaning, noted.statements, result)

    def _opened(self, tx: Tx, principal: Principal) -> frozenset[PersonKey]:
        return self.permits.opened_tx(tx, principal)

    def _read_anew(
        self,
        tx: Tx,
        principal: Principal,
        face: Face,
        question: Question,
        opened: Callable[[], frozenset[PersonKey]],
    ) -> QuestionResult:
        policy = Policy(self._directory, principal, face, cache(opened))
        answering = Answering(tx, self._index, self._identity, self._directory, self.region, policy)
        return of_member(principal, question, answering.answer(question))

    def _answer(self, question: Question, result: QuestionResult, correlation: str) -> Answer:
        return Answer(
            holdings=result.holdings,
            persons=result.persons,
            objects=result.objects,
            disputed=result.disputed,
            coverage=self._coverage(question, result),
            correlation=correlation,
            incarnation=self._index.incarnation,
            cursor=result.cursor,
            gone=result.gone,
            unread=result.unread,
            naming=result.naming,
            total=result.total,
            same=result.same,
        )

    def _coverage(self, question: Question, result: QuestionResult) -> Coverage:
        return compute(
            self._directory,
            self._clock.now(),
            result.doubts,
            concerned(question, result.patients, self.region),
        )

    async def glance(
        self, caller: Caller, *, face: Face, patient: PatientSelector, study_uid: str = ""
    ) -> Glance:
        """Whether what an open page shows of this patient is still so, and how complete it is now.

        Shows nothing and is no audited act: the version is opaque, and only whoever may ask the question
        itself gets it. The same version means the same answer; a list that is asked for again is an act of
        its own.

        Args:
            caller, face: Who looks, and where.
            patient: The one patient of the page.
            study_uid: Only of this study.

        Raises:
            Forbidden: policy says no.
        """
        decision = decide(caller.principal, face, "search")
        if not decision.permit:
            raise Forbidden(REFUSED, why=decision.rule)
        question, key = Patients(patient=patient), (caller.principal, face, patient, study_uid)
        looked = self.glances.get(key)
        if looked is None:
            ticket = self.glances.begin()
            async with self.near.turn(share_of(caller)):
                looked = await self._db.read_near(
                    "glance", lambda tx: self._look(tx, caller.principal, face, question, study_uid)
                )
            self.glances.keep(key, looked, ticket)
        coverage = compute(
            self._directory,
            self._clock.now(),
            looked.doubts,
            concerned(question, looked.patients, self.region),
        )
        return Glance(version=looked.version, coverage=coverage)

    def _look(self, tx: Tx, principal: Principal, face: Face, question: Patients, study_uid: str) -> Looked:
        result = self._found(tx, principal, face, question)
        records = [record for person in result.persons for record in person.records]
        keys = [record.key for record in records]
        under = {record.part_of or record.key for record in records}  # the records that holdings are kept by
        marks = (
            self._index.read.marks(tx, under, study_uid),
            [] if study_uid else self._index.objects.marks(tx, keys),
        )
        text = repr((self._index.incarnation, [_lasting(p) for p in result.persons], result.disputed, marks))
        return Looked(
            version=hmac.new(self._index.region_key, text.encode(), "sha256").hexdigest()[:32],
            doubts=result.doubts,
            patients=result.patients,
            records=frozenset(under).union(keys),
            persons=frozenset(person.key for person in result.persons),
            studies=frozenset(mark[1] for mark in marks[0]),
        )

    def coverage(self) -> Coverage:
        """Coverage now, without a patient in question."""
        return compute(self._directory, self._clock.now())

    async def close(self) -> None:
        """Wait until the outcomes still being written are committed."""
        await self._audit.settle()


def concerned(
    question: Question, patients: Collection[Identifier], region: Region
) -> Collection[Identifier] | None:
    """Every identifier of whom ``question`` is about, for its coverage (D19); None: it may be about anybody.

    Anybody: a question by name, of a population, by an object's own name, or by a number without issuer
    that nobody here has and that is no national one.

    Args:
        question: What was asked.
        patients: The identifiers asked for, and all of the persons found.
        region: Whose national numbers count.
    """
    if not isinstance(question, ByPatient | Patients) or question.patient.birth_date or not patients:
        return None
    numbers: set[Identifier] = set()
    known = {i.value for i in patients if i.authority}
    for asked in patients:
        value = asked.value.strip()
        national = {
            Identifier(number, authority)
            for authority in ([asked.authority] if asked.authority else region.nationals)
            if authority in region.nationals
            and (number := national_number(authority, value, allow_test=region.allow_test_numbers))
        }
        if not asked.authority and not national and value not in known:
            return None
        numbers |= national or {Identifier(value, asked.authority)}
        if not asked.authority:
            numbers.add(Identifier(value))  # as a member's own number
    return numbers


def _lasting(person: Person) -> Person:
    """Without the times at which records were fed again as they were."""
    return replace(person, records=tuple(replace(record, updated=None) for record in person.records))


def _about(asked: dict[str, Any], result: QuestionResult) -> About:
    """What is asked, and whose data the answer shows.

    Of a large answer no more than :data:`MAX_AUDITED` are named, and how many there were.
    """
    studies = tuple(dict.fromkeys(h.study_uid for h in result.holdings))
    counts = {"patients": len(result.persons), "studies": len(studies)}
    return About(
        patients=result.patients[:MAX_AUDITED],
        studies=studies[:MAX_AUDITED],
        query={**asked, "found": counts},
    )


def plain(value: Any) -> Any:
    """A question's fields without those that were not asked by, for the audit."""
    if (names := _fields(value.__class__)) is not None:
        members = ((name, getattr(value, name)) for name in names)
        return {name: plain(member) for name, member in members if member not in _NOT_ASKED}
    return [plain(member) for member in value] if isinstance(value, tuple) else value


@lru_cache(maxsize=64)
def _fields(kind: Any) -> tuple[str, ...] | None:
    """The fields of a part of a question; None of a value."""
    return tuple(field.name for field in fields(kind)) if is_dataclass(kind) else None
