"""Append-only audit, the same at registry and node: a pair of entries for each act (D20).

``begin`` commits who, why and what before the first byte of an answer leaves; ``end`` adds the outcome after the last. An act
without an outcome was cut off. Nothing is ever changed or removed: triggers in the database refuse it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import chain
from typing import Any

import orjson

from crosslight.runtime.audit.select import Selection
from crosslight.runtime.clock import Clock, instant
from crosslight.runtime.db import LAZY_S, Db, Tx
from crosslight.runtime.log import get_logger
from crosslight.runtime.schema import SchemaVersion, migrate
from crosslight.standards.access import Action, Face, Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import StorageError

log = get_logger("audit")

SCHEMA = SchemaVersion("audit", schema=2, compat=2)
MAX_ACTS = 64  # in one commit


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One act, before it happens."""

    principal: Principal
    face: Face
    action: Action
    decision: str  # permit | deny
    rule: str
    correlation: str
    patients: Sequence[Identifier] = ()
    studies: Sequence[str] = ()
    peer: str = ""
    query: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Row:
    """A row of ``audit_entry``, and (value, authority) of the patients that an act is found by."""

    values: tuple[str, ...]
    patients: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True, slots=True)
class _Waiting:
    """Rows to be committed, and who is told; ``lazy`` ones may wait for others."""

    rows: Sequence[_Row]
    told: asyncio.Future[None] | None = None
    lazy: bool = False


class AuditLog:
    """The audit store of one service. What waits is committed together: an act costs its rows, not a transaction of its own."""

    def __init__(self, db: Db, clock: Clock) -> None:
        self._db, self._clock = db, clock
        self._waiting: list[_Waiting] = []
        self._writing = False
        self._timer: asyncio.TimerHandle | None = None  # of lazy rows alone

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self._db, "crosslight.runtime.audit", SCHEMA)

    async def begin(self, entry: AuditEntry) -> None:
        """Commit the act. Raises StorageError when it cannot: no audit, no data."""
        await self._commit([self._act(entry)])

    def begin_sync(self, entry: AuditEntry) -> None:
        """As :meth:`begin`, from a thread (DIMSE)."""
        self._db.submit_write("audit", partial(_insert, [self._act(entry)])).result()

    async def end(self, entry: AuditEntry, outcome: str, *, lazy: bool = False) -> None:
        """Commit the outcome of an act: ``ok``, ``denied``, ``failed: …``, with counts where they help.

        ``lazy``: where nobody waits for it, it may share the next act's commit.
        """
        await self._commit([self._outcome(entry, outcome)], lazy=lazy)

    def begin_later(self, entry: AuditEntry) -> None:
        """Have an act committed of which nothing has left, nor will. From the event loop."""
        self._add(_Waiting([self._act(entry)], lazy=True))

    def end_later(self, entry: AuditEntry, outcome: str) -> None:
        """As a lazy :meth:`end` that nobody waits for, nor can cancel by hanging up after the last byte. From the event loop."""
        self._add(_Waiting([self._outcome(entry, outcome)], lazy=True))

    async def settle(self) -> None:
        """Wait until all that was to come later is committed."""
        if self._waiting or self._writing:
            await self._commit([])

    def end_sync(self, entry: AuditEntry, outcome: str) -> None:
        """As :meth:`end`, from a thread."""
        self._db.submit_write("audit", partial(_insert, [self._outcome(entry, outcome)])).result()

    async def whole(self, entry: AuditEntry, outcome: str) -> None:
        """Commit an act and its outcome together, where the answer is held back until then. Raises as :meth:`begin`."""
        await self._commit([self._act(entry), self._outcome(entry, outcome)])

    async def _commit(self, rows: list[_Row], *, lazy: bool = False) -> None:
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._add(_Waiting(rows, told, lazy))
        await told

    def _add(self, waiting: _Waiting) -> None:
        self._waiting.append(waiting)
        self._go_on()

    def _go_on(self) -> None:
        """Commit what waits, one commit at a time; lazy rows alone wait a moment for others."""
        if self._writing or not self._waiting:
            return
        loop = asyncio.get_running_loop()
        if all(one.lazy for one in self._waiting) and len(self._waiting) < MAX_ACTS:
            self._timer = self._timer or loop.call_later(LAZY_S, self._hurry)
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        batch, self._waiting = self._waiting[:MAX_ACTS], self._waiting[MAX_ACTS:]
        self._writing = True

        def tell(future: Future[None]) -> None:
            with suppress(RuntimeError):  # the event loop is over
                loop.call_soon_threadsafe(self._committed, batch, future.exception())

        try:
            writing = self._db.submit_write("audit", partial(_insert, [row for one in batch for row in one.rows]))
        except StorageError as error:
            loop.call_soon(self._committed, batch, error)
        else:
            writing.add_done_callback(tell)

    def _hurry(self) -> None:
        self._timer = None
        self._waiting.append(_Waiting([]))
        self._go_on()

    def _committed(self, batch: list[_Waiting], error: BaseException | None) -> None:
        self._writing = False
        for one in batch:
            if one.told is None:
                if error is not None and one.rows:
                    log.error("an outcome could not be audited", error=type(error).__name__)
            elif one.told.done():  # who waited has gone
                continue
            elif error is None:
                one.told.set_result(None)
            else:
                one.told.set_exception(error)
        self._go_on()

    def _act(self, entry: AuditEntry) -> _Row:
        patients = sorted({(p.value, p.authority) for p in entry.patients})
        names = orjson.dumps([f"{authority}|{value}" for value, authority in patients]).decode()
        studies = orjson.dumps(sorted(set(entry.studies))).decode()
        query = orjson.dumps(entry.query, default=str).decode() if entry.query else ""
        return _Row(("act", *self._head(entry), query, "", names, studies), patients)

    def _outcome(self, entry: AuditEntry, outcome: str) -> _Row:
        return _Row(("outcome", *self._head(entry), "", outcome, "[]", "[]"))

    def _head(self, entry: AuditEntry) -> tuple[str, ...]:
        who, principal = orjson.dumps(entry.principal.describe()).decode(), entry.principal
        return (
            entry.correlation, instant(self._clock.now()), entry.face, entry.action, principal.subject, principal.organisation,
            principal.purpose, who, entry.decision, entry.rule, entry.peer,
        )  # fmt: skip

    async def search(
        self, *, patient: Identifier | None = None, study: str | None = None, correlation: str | None = None, limit: int = 1000
    ) -> list[dict[str, Any]]:
        """As :meth:`select`, by what is asked for most."""
        return await self.select(Selection(patient=patient, study=study or "", correlation=correlation or ""), limit)

    async def select(self, selection: Selection, limit: int) -> list[dict[str, Any]]:
        """Acts, newest first and at most ``limit``, each with its outcome ('' = cut off)."""
        where, params = selection.where()

        def read(tx: Tx) -> list[dict[str, Any]]:
            rows = tx.rows(
                "SELECT a.seq, a.correlation, a.at, a.face, a.action, a.who, a.decision, a.rule, a.peer, a.query, a.patients, "
                "a.studies, (SELECT max(e.outcome) FROM audit_entry e WHERE e.correlation = a.correlation AND e.face = a.face "
                "AND e.action = a.action AND e.kind = 'outcome' AND e.seq > a.seq) "
                f"FROM audit_entry a WHERE {where} ORDER BY a.seq DESC LIMIT ?",
                (*params, limit),
            )
            return [
                {
                    "seq": row[0], "correlation": row[1], "at": row[2], "face": row[3], "action": row[4],
                    "who": orjson.loads(row[5]), "decision": row[6], "rule": row[7], "peer": row[8],
                    "query": orjson.loads(row[9]) if row[9] else {}, "outcome": row[12] or "",
                    "patients": orjson.loads(row[10]), "studies": orjson.loads(row[11]),
                }
                for row in rows
            ]  # fmt: skip

        return await self._db.read("audit_search", read)

    async def count(self, selection: Selection) -> int:
        """How many acts there are of this selection."""
        where, params = selection.where()

        def read(tx: Tx) -> int:
            row = tx.row(f"SELECT count(*) FROM audit_entry a WHERE {where}", params)
            return int(row[0]) if row else 0

        return await self._db.read("audit_count", read)

    async def pages(self, selection: Selection, size: int = 1000) -> AsyncIterator[list[dict[str, Any]]]:
        """All acts of a selection, newest first."""
        while page := await self.select(selection, size):
            yield page
            selection = replace(selection, before=int(page[-1]["seq"]))


_COLUMNS = (
    "kind", "correlation", "at", "face", "action", "subject", "organisation", "purpose", "who", "decision", "rule", "peer",
    "query", "outcome", "patients", "studies",
)  # fmt: skip
_INSERT = f"INSERT INTO audit_entry ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))}) RETURNING seq"
#: An act and its patients in one round trip, in PostgreSQL's words.
_INSERT_BOTH = (
    f"WITH entry AS ({_INSERT}) INSERT INTO audit_patient (seq, value, authority) "
    "SELECT entry.seq, p.value, p.authority FROM entry, unnest(?::text[], ?::text[]) AS p (value, authority)"
)


def _insert(rows: Sequence[_Row], tx: Tx) -> None:
    for row in rows if tx.dialect.takes_nul else map(_kept, rows):
        if row.patients and tx.dialect.remote:
            tx.execute(_INSERT_BOTH, (*row.values, *(list(column) for column in zip(*row.patients, strict=True))))
            continue
        found = tx.row(_INSERT, row.values)
        assert found is not None  # noqa: S101 - RETURNING always gives a row
        tx.insert_many("audit_patient", ("seq", "value", "authority"), [(int(found[0]), *p) for p in row.patients])


def _kept(row: _Row) -> _Row:
    """Without U+0000, which not every engine keeps in a text: what somebody asks for or sends must not hinder its own audit."""
    if not any("\0" in text for text in chain(row.values, *row.patients)):
        return row
    patients = tuple({(_shown(value), _shown(authority)): None for value, authority in row.patients})
    return _Row(tuple(map(_shown, row.values)), patients)


def _shown(text: str) -> str:
    return text.replace("\0", "\ufffd")
