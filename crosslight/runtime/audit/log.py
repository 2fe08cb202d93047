"""The store of the audit: a pair of rows for each act, committed together with those of others that wait.

Nothing is changed, and nothing removed but by an expiry (``keeping``): triggers in the database refuse it.
Acts are made by :meth:`AuditLog.act`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice

from crosslight.runtime.audit.act import DENIED, NOTHING, About, Act, AuditEntry
from crosslight.runtime.audit.outcome import Outcome
from crosslight.runtime.audit.query import Selection
from crosslight.runtime.audit.rows import Audited, AuditRow, act_row, audited, insert_rows, outcome_row
from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock
from crosslight.runtime.db import LAZY_S, Db, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate
from crosslight.runtime.log import get_logger
from crosslight.standards.access import Action, Decision, Face, decide
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError, StorageError

log = get_logger("audit")

SCHEMA = SchemaVersion("audit", schema=4, compat=2)
MAX_ACTS = 64  # in one commit


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Rows to be committed, and who is told; ``lazy`` ones may wait for others."""

    rows: Sequence[AuditRow]
    told: asyncio.Future[list[int]] | None = None
    lazy: bool = False


class AuditLog:
    """The audit store of one service.

    What waits is committed together: an act costs its rows, not a transaction of its own.
    """

    def __init__(self, db: Db, clock: Clock) -> None:
        self._db, self._clock = db, clock
        self._waiting: list[_Waiting] = []
        self._writing = False
        self._timer: asyncio.TimerHandle | None = None  # of lazy rows alone

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self._db, "crosslight.runtime.audit", SCHEMA)

    def act(
        self,
        caller: Caller,
        face: Face,
        action: Action,
        about: About = NOTHING,
        *,
        decision: Decision | None = None,
        refusal: CrosslightError | str = DENIED,
        code: Callable[[CrosslightError], str] = lambda error: "",
        deferred: bool = False,
        lazy: bool = False,
    ) -> Act:
        """One act, to be done in its block; see :mod:`crosslight.runtime.audit.act`.

        Args:
            caller, face, action: Who does what, and by which way.
            about: Whom and what it concerns.
            decision: Whether it is allowed, where another rule than the table of access says so.
            refusal, code, deferred, lazy: See :class:`Act`.
        """
        decided = decision or decide(caller.principal, face, action)
        entry = AuditEntry(caller=caller, face=face, action=action, decision=decided, about=about)
        return Act(self, entry, refusal=refusal, code=code, deferred=deferred, lazy=lazy)

    async def begin(self, entry: AuditEntry) -> int:
        """Commit the act; its number, for the outcome.

        Raises StorageError when it cannot: no audit, no data.
        """
        return (await self._commit([self._act(entry)]))[0]

    def begin_sync(self, entry: AuditEntry) -> int:
        """As :meth:`begin`, from a thread (DIMSE)."""
        return self._db.submit_write("audit", partial(insert_rows, [self._act(entry)])).result()[0]

    async def end(self, entry: AuditEntry, outcome: Outcome, act: int, *, lazy: bool = False) -> None:
        """Commit the outcome of an act.

        ``lazy``: where nobody waits for it, it may share the next act's commit.
        """
        await self._commit([self._outcome(entry, outcome, act)], lazy=lazy)

    def whole_later(self, entry: AuditEntry, outcome: Outcome) -> None:
        """Have an act committed of which nothing has left, nor will, with its outcome.

        From the event loop.
        """
        self._add(_Waiting([self._act(entry), self._outcome(entry, outcome, 0)], lazy=True))

    def end_later(self, entry: AuditEntry, outcome: Outcome, act: int) -> None:
        """As a lazy :meth:`end` that nobody waits for, nor can cancel by hanging up after the last byte.

        From the event loop.
        """
        self._add(_Waiting([self._outcome(entry, outcome, act)], lazy=True))

    async def settle(self) -> None:
        """Wait until all that was to come later is committed."""
        if self._waiting or self._writing:
            await self._commit([])

    def end_sync(self, entry: AuditEntry, outcome: Outcome, act: int) -> None:
        """As :meth:`end`, from a thread."""
        self._db.submit_write("audit", partial(insert_rows, [self._outcome(entry, outcome, act)])).result()

    async def whole(self, entry: AuditEntry, outcome: Outcome) -> None:
        """Commit an act and its outcome together, where the answer is held back until then.

        Raises as :meth:`begin`.
        """
        await self._commit([self._act(entry), self._outcome(entry, outcome, 0)])

    async def _commit(self, rows: list[AuditRow], *, lazy: bool = False) -> list[int]:
        told: asyncio.Future[list[int]] = asyncio.get_running_loop().create_future()
        self._add(_Waiting(rows, told, lazy))
        return await told

    def _add(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._go_on()

    def _go_on(self) -> None:
        """Commit what waits, one commit at a time; lazy rows alone wait a moment for others."""
        if self._writing or not self._waiting:
            return
        loop = asyncio.get_running_loop()
        if all(waiting.lazy for waiting in self._waiting) and len(self._waiting) < MAX_ACTS:
            self._timer = self._timer or loop.call_later(LAZY_S, self._hurry)
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting[:MAX_ACTS], self._waiting[MAX_ACTS:]
        self._writing = True

        def tell(future: Future[list[int]]) -> None:
            error = future.exception()
            numbers = [] if error is not None else future.result()
            with suppress(RuntimeError):  # the event loop is over
                loop.call_soon_threadsafe(self._committed, batch, error, numbers)

        try:
            rows = [row for waiting in batch for row in waiting.rows]
            writing = self._db.submit_write("audit", partial(insert_rows, rows))
        except StorageError as error:
            loop.call_soon(self._committed, batch, error, [])
        else:
            writing.add_done_callback(tell)

    def _hurry(self) -> None:
        self._timer = None
        self._waiting.append(_Waiting([]))
        self._go_on()

    def _committed(self, batch: list[_Waiting], error: BaseException | None, numbers: list[int]) -> None:
        self._writing = False
        remaining = iter(numbers)
        for waiting in batch:
            own_numbers = list(islice(remaining, len(waiting.rows)))
            if waiting.told is None:
                if error is not None and waiting.rows:
                    log.error("an outcome could not be audited", error=type(error).__name__)
            elif waiting.told.done():  # whoever waited was cancelled
                continue
            elif error is None:
                waiting.told.set_result(own_numbers)
            else:
                waiting.told.set_exception(error)
        self._go_on()

    def _act(self, entry: AuditEntry) -> AuditRow:
        return act_row(entry, self._clock.now())

    def _outcome(self, entry: AuditEntry, outcome: Outcome, act: int) -> AuditRow:
        return outcome_row(entry, self._clock.now(), outcome, act)

    async def search(
        self,
        *,
        patient: Identifier | None = None,
        study: str | None = None,
        correlation: str | None = None,
        limit: int = 1000,
    ) -> list[Audited]:
        """As :meth:`select`, by what is asked for most."""
        return await self.select(
            Selection(patient=patient, study=study or "", correlation=correlation or ""), limit
        )

    async def select(self, selection: Selection, limit: int) -> list[Audited]:
        """Acts, newest first and at most ``limit``, each with its outcome."""
        where, params = selection.where()

        def read(tx: Tx) -> list[Audited]:
            rows = tx.rows(
                "SELECT a.seq, a.correlation, a.at, a.face, a.action, a.who, a.decision, a.rule, a.peer,"
                " a.query, a.patients, a.studies, (SELECT max(e.outcome) FROM audit_entry e WHERE"
                " e.correlation = a.correlation AND e.kind = 'outcome' AND e.seq > a.seq AND (e.act = a.seq"
                " OR (e.act IS NULL AND e.face = a.face AND e.action = a.action))) FROM audit_entry a WHERE"
                f" {where} ORDER BY a.seq DESC LIMIT ?",
                (*params, limit),
            )
            return [audited(row) for row in rows]

        return await self._db.read("audit_search", read)

    async def count(self, selection: Selection) -> int:
        """How many acts there are of this selection."""
        where, params = selection.where()

        def read(tx: Tx) -> int:
            row = tx.row(f"SELECT count(*) FROM audit_entry a WHERE {where}", params)
            return int(row[0]) if row else 0

        return await self._db.read("audit_count", read)

    async def pages(self, selection: Selection, size: int = 1000) -> AsyncIterator[list[Audited]]:
        """All acts of a selection, newest first."""
        while page := await self.select(selection, size):
            yield page
            selection = replace(selection, before=page[-1].seq)
