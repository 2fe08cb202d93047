"""The store of the audit: a row for an act and one for its outcome, committed together with others that wait.

Nothing is changed, and nothing removed but by an expiry (``keeping``): triggers in the database refuse it.
Acts are made by :meth:`AuditLog.act`.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from crosslight.runtime.audit.act import DENIED, NOTHING, About, Act, AuditEntry
from crosslight.runtime.audit.older_rows import OLDER, older
from crosslight.runtime.audit.outcome import Outcome
from crosslight.runtime.audit.query import Param, Selection, in_ms_of
from crosslight.runtime.audit.rows import SELECT, Audited, Written, act_row, insert, outcome_row, read
from crosslight.runtime.audit.shorthand import Shorthand, from_ms, year_end
from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock
from crosslight.runtime.db import LAZY_S, Db, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate
from crosslight.runtime.log import get_logger
from crosslight.standards.access import Action, Decision, Face, decide
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError, StorageError

log = get_logger("audit")

SCHEMA = SchemaVersion("audit", schema=6, compat=6)
MAX_ACTS = 64  # in one commit
NEAR_ROWS = 300  # of one commit on the event loop: a millisecond or two
TURNS = 6  # of the event loop, in which acts of others that come at the same time are waited for


@dataclass(frozen=True, slots=True)
class _Waiting:
    """What is to be committed, and who is told the act's number; ``lazy`` ones may wait for others."""

    row: Written | None
    told: asyncio.Future[int] | None = None
    lazy: bool = False


class AuditLog:
    """The audit store of one service.

    What waits is committed together: an act costs its rows, not a transaction of its own.
    """

    def __init__(self, db: Db, clock: Clock) -> None:
        self._db, self._clock = db, clock
        self._waiting: list[_Waiting] = []
        self._writing, self._turns, self._together = False, 0, 0
        self._timer: asyncio.TimerHandle | None = None  # of lazy rows alone
        self._shorthand: Shorthand | None = None

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self._db, "crosslight.runtime.audit", SCHEMA)
        await self.ready()

    async def ready(self) -> None:
        """Of tables that are there: read what is needed to write and to read them."""
        if self._shorthand is not None:
            return
        row = await self._db.read("audit_secret", lambda tx: tx.row("SELECT secret FROM audit_secret"))
        self._shorthand = Shorthand(str(row[0])) if row else None

    @property
    def _short(self) -> Shorthand:
        if self._shorthand is None:
            raise StorageError(
                "The audit is not open.", todo="Start the service, or run its migrate command."
            )
        return self._shorthand

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
        await self.ready()
        return await self._commit(self._act(entry))

    def begin_beside(self, entry: AuditEntry) -> Callable[[], int]:
        """As :meth:`begin`, from a thread (DIMSE): it is being committed, and is when the answer returns."""
        return self._write_beside(self._act(entry))

    async def end(self, entry: AuditEntry, outcome: Outcome, act: int, *, lazy: bool = False) -> None:
        """Commit the outcome of an act.

        ``lazy``: where nobody waits for it, it may share the next act's commit.
        """
        await self._commit(self._outcome(outcome, act), lazy=lazy)

    def whole_later(self, entry: AuditEntry, outcome: Outcome) -> None:
        """Have an act committed of which nothing has left, nor will, with its outcome.

        From the event loop.
        """
        self._add(_Waiting(self._act(entry, outcome), lazy=True))

    def end_later(self, entry: AuditEntry, outcome: Outcome, act: int) -> None:
        """As a lazy :meth:`end` that nobody waits for, nor can cancel by hanging up after the last byte.

        From the event loop.
        """
        self._add(_Waiting(self._outcome(outcome, act), lazy=True))

    async def settle(self) -> None:
        """Wait until all that was to come later is committed."""
        if self._waiting or self._writing:
            await self._commit(None)

    def end_sync(self, entry: AuditEntry, outcome: Outcome, act: int) -> None:
        """As a lazy :meth:`end`, from a thread that may wait."""
        self._write_beside(self._outcome(outcome, act), lazy=True)()

    def _write_beside(self, row: Written, *, lazy: bool = False) -> Callable[[], int]:
        writing = self._db.submit_write("audit", partial(insert, [row]), lazy=lazy)

        def committed() -> int:
            (number,) = writing.result()
            row.committed(self._short)
            return number

        return committed

    async def whole(self, entry: AuditEntry, outcome: Outcome) -> None:
        """Commit an act and its outcome together, where the answer is held back until then.

        Raises as :meth:`begin`.
        """
        await self.ready()
        await self._commit(self._act(entry, outcome))

    async def _commit(self, row: Written | None, *, lazy: bool = False) -> int:
        told: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._add(_Waiting(row, told, lazy))
        return await told

    def _add(self, waiting: _Waiting) -> None:
        """Let it wait for what comes at the same time: bringing it to the disk costs more than the rows.

        What is lazy waits longer, for what is not.
        """
        self._waiting.append(waiting)
        if waiting.lazy and len(self._waiting) < MAX_ACTS:
            self._timer = self._timer or asyncio.get_running_loop().call_later(LAZY_S, self._hurry)
        else:
            self._gather()

    def _gather(self) -> None:
        if not self._turns and not self._writing:
            self._turns = 1
            asyncio.get_running_loop().call_soon(self._turn_over)

    def _turn_over(self) -> None:
        """Go on: at once where one act comes at a time, else when the event loop has turned a few times.

        It turns fast where nothing else is to be done, and slowly where there is.
        """
        asked = sum(not waiting.lazy for waiting in self._waiting)
        if self._turns < TURNS and max(asked, self._together) > 1:
            self._turns += 1
            asyncio.get_running_loop().call_soon(self._turn_over)
            return
        self._turns, self._together = 0, asked
        self._go_on()

    def _hurry(self) -> None:
        self._timer = None
        if self._waiting:
            self._waiting.append(_Waiting(None))
            self._go_on()

    def _go_on(self) -> None:
        """Commit what waits, one commit at a time; lazy rows alone wait a moment for others."""
        if self._writing or not self._waiting:
            return
        loop = asyncio.get_running_loop()
        if all(waiting.lazy for waiting in self._waiting) and len(self._waiting) < MAX_ACTS:
            self._timer = self._timer or loop.call_later(LAZY_S, self._hurry)
            return
        batch, self._waiting = self._waiting[:MAX_ACTS], self._waiting[MAX_ACTS:]
        self._writing = True
        rows = [waiting.row for waiting in batch if waiting.row is not None]

        def tell(future: Future[list[int]]) -> None:
            error = future.exception()
            numbers = [] if error is not None else future.result()
            with suppress(RuntimeError):  # the event loop is over
                loop.call_soon_threadsafe(self._committed, batch, error, numbers)

        light = sum(row.weight for row in rows) <= NEAR_ROWS
        try:
            submit = self._db.submit_near if light else self._db.submit_write
            writing = submit("audit", partial(insert, rows))
        except StorageError as error:
            loop.call_soon(self._committed, batch, error, [])
        else:
            writing.add_done_callback(tell)

    def _committed(self, batch: list[_Waiting], error: BaseException | None, numbers: list[int]) -> None:
        self._writing = False
        remaining = iter(numbers)
        for waiting in batch:
            number = next(remaining, 0) if waiting.row is not None else 0
            if error is None and waiting.row is not None and waiting.row.new:
                waiting.row.committed(self._short)
            if waiting.told is None:
                if error is not None and waiting.row is not None:
                    log.error("an outcome could not be audited", error=type(error).__name__)
            elif waiting.told.done():  # whoever waited was cancelled
                continue
            elif error is None:
                waiting.told.set_result(number)
            else:
                waiting.told.set_exception(error)
        if self._waiting:
            self._gather()

    def _act(self, entry: AuditEntry, outcome: Outcome | None = None) -> Written:
        return act_row(self._short, entry, self._clock.now(), outcome)

    def _outcome(self, outcome: Outcome, act: int) -> Written:
        return outcome_row(outcome, self._clock.now(), act)

    # --- reading --------------------------------------------------------------------------------------------

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

        def look(tx: Tx) -> list[Audited]:
            where, params = self._where(selection, tx)
            rows = tx.rows(f"{SELECT} WHERE {where} ORDER BY a.seq DESC LIMIT ?", (*params, limit))
            found = read(self._short, rows, tx)
            if left := limit - len(found):  # all older rows come after these
                where, params = selection.where_older()
                sql = f"{OLDER} WHERE {where} ORDER BY a.seq DESC LIMIT ?"
                found += [older(row) for row in tx.rows(sql, (*params, left))]
            return found

        await self.ready()
        return await self._db.read("audit_search", look)

    async def count(self, selection: Selection) -> int:
        """How many acts there are of this selection."""

        def look(tx: Tx) -> int:
            where, params = self._where(selection, tx)
            before, before_params = selection.where_older()
            return sum(
                int((tx.row(f"SELECT count(*) FROM {tables} WHERE {condition}", values) or (0,))[0])
                for tables, condition, values in (
                    ("audit_act a JOIN audit_said s ON s.number = a.said", where, params),
                    ("audit_entry a", before, before_params),
                )
            )

        await self.ready()
        return await self._db.read("audit_count", look)

    def _where(self, selection: Selection, tx: Tx) -> tuple[str, list[Param]]:
        """The condition of a selection, with what it needs to know of the tables."""
        authorities: list[str] = []
        if selection.patient is not None and not selection.patient.authority:
            authorities = [row[0] for row in tx.rows("SELECT DISTINCT authority FROM audit_authority")]
        years: list[int] = []
        if selection.study:
            ends = [tx.row(f"SELECT at FROM audit_act ORDER BY seq {way} LIMIT 1") for way in ("ASC", "DESC")]
            first, last = (from_ms(row[0]).year if row else 0 for row in ends)
            years = [year_end(year) for year in range(first, last + 1) if year]
        return selection.where(self._short, authorities, years, in_parts=tx.dialect.parts)

    async def older_than(self, before: str, after: int, limit: int) -> list[Audited]:
        """Acts from before a moment, oldest first, after the number ``after``; none of older releases."""

        def look(tx: Tx) -> list[Audited]:
            sql = f"{SELECT} WHERE a.at < ? AND a.seq > ? ORDER BY a.seq LIMIT ?"
            return read(self._short, tx.rows(sql, (in_ms_of(before), after, limit)), tx)

        await self.ready()
        return await self._db.read("audit_expired", look)

    async def pages(self, selection: Selection, size: int = 1000) -> AsyncIterator[list[Audited]]:
        """All acts of a selection, newest first."""
        while page := await self.select(selection, size):
            yield page
            selection = replace(selection, before=page[-1].seq)
