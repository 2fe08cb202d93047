"""The one way to a question's answer: identity, access, index, coverage, audit (ARCHITECTURE, D20).

A question costs one reading transaction and one audit write before the answer is handed over; its outcome is written while
the answer leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import asdict, replace
from typing import Any

from crosslight.runtime.audit import AuditEntry, AuditLog
from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.db import Db, Tx
from crosslight.runtime.log import get_logger
from crosslight.standards.access import Action, Face, Principal, decide
from crosslight.standards.problem import Forbidden
from crosslight.standards.region import Region
from registry.ask.answer import Answering, Found
from registry.ask.coverage import Coverage, compute
from registry.ask.question import Answer, ByPopulation, Question
from registry.identity.store import IdentityStore
from registry.index.store import IndexStore
from registry.members.model import Directory

MAX_AUDITED = 2000  # numbers of patients, or studies, of one act that are named one by one
log = get_logger("ask")


class Ask:
    """Answers questions for every face.

    Args:
        db: The database of index and identity.
        index, identity: Their stores.
        directory: Members and their presence.
        audit: Where every act is noted before its answer is handed over.
        clock, ids: The seam for time and randomness.
        region: Whose numbers count.
    """

    def __init__(
        self,
        db: Db,
        index: IndexStore,
        identity: IdentityStore,
        directory: Directory,
        audit: AuditLog,
        clock: Clock,
        ids: Ids,
        region: Region,
    ) -> None:
        self._db, self._index, self._identity, self._directory = db, index, identity, directory
        self._audit, self._clock, self._ids, self.region = audit, clock, ids, region
        self._outcomes: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def question(
        self, principal: Principal, *, face: Face, action: Action, question: Question, correlation: str, peer: str = ""
    ) -> AsyncIterator[Answer]:
        """Answer ``question``; its act is audited before the answer is handed over, its outcome at exit.

        Raises:
            Forbidden: policy says no (audited).
            Invalid: a selector that names nobody, a cursor that is none of ours.
        """
        correlation = correlation or self._ids.uuid4().hex
        decision = decide(principal, face, action)
        entry = AuditEntry(
            principal=principal,
            face=face,
            action=action,
            decision="permit" if decision.permit else "deny",
            rule=decision.rule,
            correlation=correlation,
            peer=peer,
            query={type(question).__name__: _plain(asdict(question))},
        )
        if not decision.permit:
            await self._audit.begin(entry)
            await self._audit.end(entry, "denied")
            raise Forbidden("You may not ask this here.", why=decision.rule)
        read = self._db.read if isinstance(question, ByPopulation) else self._db.read_near
        found = await read("ask", lambda tx: self._found(tx, principal, face, question))
        entry = _with_objects(entry, found)
        await self._audit.begin(entry)
        answer = self._answer(found, correlation)
        try:
            yield answer
        except (ConnectionError, asyncio.CancelledError, GeneratorExit):
            raise  # cut off: an act without an outcome says so (D20)
        except BaseException as error:
            self._ended(entry, f"failed: {type(error).__name__}")
            raise
        self._ended(entry, f"ok {len(answer.holdings) + len(answer.objects) or len(answer.persons)}")

    def _found(self, tx: Tx, principal: Principal, face: Face, question: Question) -> Found:
        answering = Answering(tx, self._index, self._identity, self._directory, self.region, principal, face)
        return answering.answer(question)

    def _answer(self, found: Found, correlation: str) -> Answer:
        return Answer(
            holdings=found.holdings,
            persons=found.persons,
            objects=found.objects,
            disputed=found.disputed,
            coverage=compute(self._directory, self._clock.now(), found.doubts),
            correlation=correlation,
            incarnation=self._index.incarnation,
            cursor=found.cursor,
            gone=found.gone,
            unread=found.unread,
        )

    def _ended(self, entry: AuditEntry, outcome: str) -> None:
        task = asyncio.get_running_loop().create_task(self._end(entry, outcome))
        self._outcomes.add(task)
        task.add_done_callback(self._outcomes.discard)

    async def _end(self, entry: AuditEntry, outcome: str) -> None:
        try:
            await self._audit.end(entry, outcome, lazy=True)
        except Exception:
            log.exception("an outcome could not be audited", correlation=entry.correlation)

    def coverage(self) -> Coverage:
        """Coverage now, without a patient in question."""
        return compute(self._directory, self._clock.now())

    async def close(self) -> None:
        """Wait until the outcomes still being written are committed."""
        while self._outcomes:
            await asyncio.gather(*self._outcomes)


def _with_objects(entry: AuditEntry, found: Found) -> AuditEntry:
    """The act with whose data it shows; an export names no more than :data:`MAX_AUDITED`, and says how many there were."""
    studies = tuple(dict.fromkeys(h.study_uid for h in found.holdings))
    counts = {"patients": len(found.persons), "studies": len(studies)}
    return replace(
        entry, patients=found.patients[:MAX_AUDITED], studies=studies[:MAX_AUDITED], query={**entry.query, "found": counts}
    )


def _plain(value: Any) -> Any:
    """Without what was not asked."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items() if v not in ("", (), None, {}, False)}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return value
