"""One audited act, from before it happens until its outcome (D20).

::

    async with audit.act(caller, "xds", "publish", About(studies=uids)) as act:
        ...                          # the act is durable here: who, why, what, and that it was allowed
        act.done(stored=2)           # what became of it, if more than "ok"

A denial is an act too: it is committed whole, and raised. An error within the block becomes the outcome and
goes on; who hangs up cuts the act off. An outcome that cannot be written is logged: what was done stays done,
and an act without one reads as cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from types import TracebackType
from typing import Any, Protocol, Self

from crosslight.runtime.audit.outcome import IN_ALL, Outcome, OutcomeKind, counted, outcome_of
from crosslight.runtime.caller import Caller
from crosslight.runtime.log import get_logger
from crosslight.standards.access import Action, Decision, Face
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError, Forbidden, StorageError

log = get_logger("audit")

DENIED = "You may not do this here."


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What an act concerns: patients and studies by which it is found, and what was asked."""

    patients: Sequence[Identifier] = ()
    studies: Sequence[str] = ()
    query: Mapping[str, Any] = field(default_factory=dict)


NOTHING = About()


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One act, before it happens."""

    caller: Caller
    face: Face
    action: Action
    decision: Decision
    about: About = field(default_factory=About)


class Ledger(Protocol):
    """Where acts are committed (:class:`~crosslight.runtime.audit.log.AuditLog`)."""

    async def begin(self, entry: AuditEntry) -> int:
        """Commit an act; its number."""
        ...

    async def end(self, entry: AuditEntry, outcome: Outcome, act: int) -> None:
        """Commit its outcome."""
        ...

    def end_later(self, entry: AuditEntry, outcome: Outcome, act: int) -> None:
        """Have its outcome committed."""
        ...

    def begin_beside(self, entry: AuditEntry) -> Callable[[], int]:
        """As begin, from a thread; what it gives waits for the commit."""
        ...

    def end_sync(self, entry: AuditEntry, outcome: Outcome, act: int) -> None:
        """As end, from a thread."""
        ...

    async def whole(self, entry: AuditEntry, outcome: Outcome) -> None:
        """Commit both together."""
        ...

    def whole_later(self, entry: AuditEntry, outcome: Outcome) -> None:
        """Have both committed."""
        ...


def _tell(begun: Future[None], done: asyncio.Task[None]) -> None:
    error = StorageError("The service is ending.") if done.cancelled() else done.exception()
    if error is None:
        begun.set_result(None)
    else:
        begun.set_exception(error)


class Act:
    """One act while it happens; made by :meth:`~crosslight.runtime.audit.log.AuditLog.act`.

    Args:
        ledger: Where it is committed.
        entry: Who, why and what.
        refusal: What is raised when it is denied, or what a Forbidden says.
        code: How this face names an error; ``''`` for its kind.
        deferred: The beginning is committed by :meth:`begin`, or with the outcome of an answer that is held
            back until then.
        lazy: Nobody waits for the outcome.
    """

    def __init__(
        self,
        ledger: Ledger,
        entry: AuditEntry,
        *,
        refusal: CrosslightError | str = DENIED,
        code: Callable[[CrosslightError], str] = lambda error: "",
        deferred: bool = False,
        lazy: bool = False,
    ) -> None:
        self._ledger = ledger
        self.entry = entry
        self._refusal = refusal
        self._code = code
        self._deferred = deferred
        self._lazy = lazy
        self._asked = False  # whether the act was handed to the store
        self._number = 0  # of its row, once that is committed
        self._committed: Callable[[], int] | None = None  # waits until it is
        self.outcome = Outcome("ok")

    # --- for who acts ---------------------------------------------------------------------------------------

    def done(self, kind: OutcomeKind = "ok", /, **counts: int) -> None:
        """What was done, in numbers: ``done(stored=2)``, ``done("partial", stored=2, refused=1)``."""
        self.outcome = counted(kind, **counts)

    def gave(self, number: int, what: str, *, of: int | None = None) -> None:
        """How many of what was asked were given, or taken.

        Of three documents one is ``partial 1 documents, 3 in all``.
        """
        whole = {} if of is None else {IN_ALL: of}
        kind: OutcomeKind = "ok" if of is None or number >= of else "partial" if number else "refused"
        self.done(kind, **{what: number}, **whole)

    def found(self, studies: Sequence[str], patients: Sequence[Identifier] = ()) -> None:
        """Of a deferred act: what a search found is a part of it."""
        about = self.entry.about
        self.entry = replace(
            self.entry, about=replace(about, studies=tuple(studies), patients=(*about.patients, *patients))
        )

    async def begin(self) -> None:
        """Of a deferred act: have it committed, before the first byte leaves.

        Raises:
            StorageError: it cannot be written: no audit, no data.
        """
        if not self._number:
            self._asked = True
            self._number = await self._ledger.begin(self.entry)

    @asynccontextmanager
    async def beginning(self) -> AsyncGenerator[Future[None]]:
        """Of a deferred act that takes something in: it is committed meanwhile.

        What it gives is done when it is, for threads that must wait for that.

        Raises:
            StorageError: it cannot be written: nothing may be taken in.
        """
        begun: Future[None] = Future()
        committing = asyncio.create_task(self.begin())
        committing.add_done_callback(partial(_tell, begun))
        try:
            yield begun
        except Exception:
            await committing
            raise
        await committing  # whoever has gone is not waited for

    # --- from a thread, over several calls (DIMSE) ----------------------------------------------------------

    def begin_beside(self) -> None:
        """Have its beginning committed, while something else is done that must be durable too.

        Raises:
            StorageError: it cannot be written: nothing may be taken in.
        """
        self._committed = self._ledger.begin_beside(self.entry)

    def begun_sync(self) -> None:
        """Wait until its beginning is committed; blocks.

        Raises:
            StorageError: it could not be written: nothing may be answered as done.
        """
        if not self._number and self._committed is not None:
            self._number = self._committed()

    def end_sync(self) -> None:
        """Commit its outcome; blocks."""
        try:
            self._ledger.end_sync(self.entry, self.outcome, self._number)
        except StorageError as error:
            log.error(
                "an outcome could not be audited",
                error=type(error).__name__,
                correlation=self.entry.caller.correlation,
            )

    # --- the block ------------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Begin it.

        Raises:
            Forbidden: it is not allowed (or what was given as refusal); that is audited.
            StorageError: it cannot be written: nothing may be done.
        """
        if not self.entry.decision.permit:
            await self._ledger.whole(self.entry, Outcome("denied"))
            refusal, rule = self._refusal, self.entry.decision.rule
            raise Forbidden(refusal, why=rule) if isinstance(refusal, str) else refusal
        if not self._deferred:
            await self.begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            code = self._code(error) if isinstance(error, CrosslightError) else ""
            self.outcome = outcome_of(error, self.outcome, code)
        if self.entry.caller.bodiless:
            self.outcome = self.outcome.of_headers()
        if self.outcome.kind == "cut":  # nobody is there to wait, and nothing may be waited for
            with suppress(RuntimeError):  # the event loop is over
                self._end_later()
        elif not self._number and error is None:
            # the answer is still held back: no audit, no data
            await self._ledger.whole(self.entry, self.outcome)
        elif self._lazy and self._number:
            self._end_later()
        else:
            await self._end()

    def _end_later(self) -> None:
        if self._number:
            self._ledger.end_later(self.entry, self.outcome, self._number)
        elif not self._asked:  # else it is committed without us, and reads as cut off
            self._ledger.whole_later(self.entry, self.outcome)

    async def _end(self) -> None:
        try:
            if self._number:
                await self._ledger.end(self.entry, self.outcome, self._number)
            else:
                await self._ledger.whole(self.entry, self.outcome)
        except StorageError as error:
            log.error(
                "an outcome could not be audited",
                error=type(error).__name__,
                correlation=self.entry.caller.correlation,
            )
