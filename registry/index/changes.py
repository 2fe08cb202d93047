"""The change feed: what every commit changed, told to whoever asks again from where it stopped (ADR 0031).

A change is written in the transaction that makes it, into a *stream*: its member's, or one of persons.
Numbers of a stream have no gaps and are taken under a row lock that is held until the commit, so that they
are seen in their order: a reader that has seen number n has seen all below, whatever commits late. There is
no sequence over all streams; a reader's cursor has a number for each. Changes are kept for some days; who
comes later than that is told so (:class:`Behind`), and compares.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any, get_args

from crosslight.runtime.db import Db, Row, Tx
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import Gone
from registry.identity.model import PersonKey, RecordChange, RecordKey
from registry.index.model import Change, ChangeKind
from registry.index.rows import to_ms

# the number in the table is the place here: add at the end only
KINDS: tuple[ChangeKind, ...] = get_args(ChangeKind)
PAGE = 500  # changes of one reading
TRIMMED = 1000  # changes removed in one transaction
_COLUMNS = (
    "stream", "n", "kind", "waits", "revision", "record_key", "former_key", "at", "study_uid", "entry_uuid",
)  # fmt: skip
_STREAMS = (
    "SELECT member_id AS stream, changes FROM member_feed UNION ALL SELECT stream, changes FROM person_stream"
)
_NUMBERED = (
    "UPDATE person_stream SET changes = changes + ? WHERE stream = (SELECT stream FROM person_stream {}) "
    "RETURNING stream, changes"
)


#: Whose patient records are, as ``identity`` has it.
Persons = Callable[[Tx, Collection[RecordKey]], Mapping[RecordKey, PersonKey]]


class Behind(Gone):
    """Changes after a cursor are not kept any more, or of another incarnation: the reader must compare."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """How far a reader has read: the number of each stream's last change; streams not named had none."""

    incarnation: str
    streams: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ChangePage:
    """Changes after a cursor, those of a stream in their order, and where to go on."""

    changes: tuple[Change, ...]
    cursor: Cursor
    more: bool


def write_changes(tx: Tx, changes: Iterable[tuple[int, int, Change]], at: int) -> None:
    """Write changes as (stream, number, change), at ``at`` (Unix milliseconds): one statement."""
    tx.insert_many("index_change", _COLUMNS, [_row(*change, at) for change in changes])


def note_persons(tx: Tx, records: Collection[RecordKey], kind: RecordChange, now: datetime) -> None:
    """Patient records are linked otherwise, or say something else.

    Whoever writes this holds locks of persons, so it waits for nobody: it takes a stream that nobody else is
    writing to.
    """
    if not records:
        return
    free = tx.dialect.for_update + tx.dialect.skip_locked
    taken = tx.row(_NUMBERED.format(f"ORDER BY stream DESC LIMIT 1{free}"), (len(records),))
    if taken is None:  # more at once than there are streams
        taken = tx.row(_NUMBERED.format("ORDER BY stream LIMIT 1"), (len(records),))
    assert taken is not None  # noqa: S101 - there are streams from the first delta on
    stream, last = int(taken[0]), int(taken[1])
    first = last - len(records) + 1
    changes = [Change(kind=kind, member=None, record_key=key) for key in sorted(records)]
    write_changes(tx, [(stream, n, change) for n, change in enumerate(changes, first)], to_ms(now))


class ChangeFeed:
    """Reads the feed, and trims it."""

    def __init__(self, db: Db) -> None:
        self._db = db

    async def head(self) -> Cursor:
        """Where the feed ends now. Who compares takes it before."""
        return await self._db.read("changes_head", _head)

    async def after(self, cursor: Cursor, limit: int = PAGE, persons: Persons | None = None) -> ChangePage:
        """What was committed after ``cursor``: about ``limit`` changes, of each stream that has any some.

        Args:
            cursor: Where the reader stopped.
            limit: How many.
            persons: Says whose the records are now.

        Raises:
            Behind: there were changes that are not kept any more.
        """

        def read(tx: Tx) -> ChangePage:
            page = _after(tx, cursor, limit)
            if persons is None or not page.changes:
                return page
            person_of = persons(
                tx, {key for change in page.changes if (key := change.record_key) is not None}
            )
            changes = (
                replace(c, person=person_of.get(c.record_key)) if c.record_key else c for c in page.changes
            )
            return replace(page, changes=tuple(changes))

        return await self._db.read("changes_after", read)

    async def trim(self, before: datetime) -> int:
        """Remove changes older than ``before``, in small steps; how many."""
        removed = 0
        for stream, _ in (await self.head()).streams:
            step = TRIMMED
            while step == TRIMMED:
                step = await self._db.write(
                    "changes_trim", partial(_trim, stream=stream, before=to_ms(before))
                )
                removed += step
        return removed


def _head(tx: Tx) -> Cursor:
    row = tx.row("SELECT value FROM registry_meta WHERE name = 'incarnation'")
    streams = sorted((int(stream), int(last)) for stream, last in tx.rows(_STREAMS) if last)
    return Cursor(str(row[0]) if row is not None else "", tuple(streams))


def _after(tx: Tx, cursor: Cursor, limit: int) -> ChangePage:
    head = _head(tx)
    if head.incarnation != cursor.incarnation:
        raise Behind(
            "The changes after this cursor are of another incarnation.",
            todo="Compare, then read on from the head.",
        )
    read = dict(cursor.streams)
    ahead = [(stream, last) for stream, last in head.streams if last != read.get(stream, 0)]
    each = max(1, limit // max(1, len(ahead)))
    changes: list[Change] = []
    more = False
    for stream, last in ahead:
        rows = _read(tx, stream, read.get(stream, 0), each)
        if last < read.get(stream, 0) or not rows or rows[0][1] != read.get(stream, 0) + 1:
            raise Behind(
                "The changes after this cursor are not kept any more.",
                todo="Compare, then read on from the head.",
            )
        changes += [_change(row) for row in rows]
        read[stream] = int(rows[-1][1])
        more = more or read[stream] < last
    return ChangePage(tuple(changes), Cursor(head.incarnation, tuple(sorted(read.items()))), more)


def _read(tx: Tx, stream: int, after: int, limit: int) -> list[Row]:
    sql = f"SELECT {', '.join(_COLUMNS)} FROM index_change WHERE stream = ? AND n > ? ORDER BY n LIMIT ?"
    return tx.rows(sql, (stream, after, limit))


def _trim(tx: Tx, *, stream: int, before: int) -> int:
    """Only from the front, so that what is left has no gaps; the first that is not old ends it."""
    rows = tx.rows("SELECT n, at FROM index_change WHERE stream = ? ORDER BY n LIMIT ?", (stream, TRIMMED))
    old = 0
    for n, at in rows:
        if at >= before:
            break
        old = n
    return tx.execute("DELETE FROM index_change WHERE stream = ? AND n <= ?", (stream, old)) if old else 0


def _row(stream: int, n: int, change: Change, at: int) -> tuple[Any, ...]:
    kind, waits = KINDS.index(change.kind), int(change.waits)
    keys = (int(change.record_key or 0), int(change.former_key or 0))
    return (stream, n, kind, waits, change.revision, *keys, at, change.study_uid, change.entry_uuid)


def _change(row: Sequence[Any]) -> Change:
    stream, _, kind, waits, revision, key, former, _, study_uid, entry_uuid = row
    return Change(
        kind=KINDS[kind],
        member=MemberId(stream) if stream > 0 else None,
        record_key=RecordKey(key) if key else None,
        former_key=RecordKey(former) if former else None,
        study_uid=study_uid,
        entry_uuid=entry_uuid,
        revision=revision,
        waits=bool(waits),
    )
