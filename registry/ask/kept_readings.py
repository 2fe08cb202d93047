"""KeptReadings: what questions found last, kept for as long as the database says the same (ADR 0046).

What a question finds follows from who asks, where, what, the members, the region's key, and from what the
database answers to the statements that are made on the way. Those statements are noted with their answers.
When the same is asked again they are made again, in the new question's own transaction; where each answers
the same, what was found is found. So nothing is to be told of a change, whoever made it, and there is no
counter that a writer might forget.
"""

from __future__ import annotations

import marshal
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, TypeVar, cast

from crosslight.runtime.db import Row, Tx
from registry.ask.results import QuestionResult

MOST_ROWS = 1000  # of one reading's statements
EACH = 1000  # bytes of a statement, about, beside its text, its parameters and its rows
PARAMETER = 100  # bytes of one, about
DECODED = 10  # times as much as its bytes takes a row with what it was decoded to, about
T = TypeVar("T")


class QuestionKey:
    """A question, who asks it and where; hashed once.

    Args:
        parts: All of that, as they are.
    """

    __slots__ = ("_hash", "parts")

    def __init__(self, *parts: Hashable) -> None:
        self.parts, self._hash = parts, hash(parts)

    def __hash__(self) -> int:
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QuestionKey) and self.parts == other.parts


class Statement(NamedTuple):
    """A statement, and what the database said."""

    sql: str
    params: tuple[Any, ...]
    answer: list[Row] | Row | None
    first: bool  # the first row alone was asked for


class NotedTx:
    """A reading transaction that notes what it is asked and what it answers.

    It has no more of a transaction than can be noted.
    """

    def __init__(self, tx: Tx) -> None:
        self._tx, self.dialect = tx, tx.dialect
        self.statements: list[Statement] = []

    @property
    def tx(self) -> Tx:
        """Itself, as readers take it."""
        return cast(Tx, self)

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        """As of Tx."""
        rows = self._tx.rows(sql, params)
        self.statements.append(Statement(sql, tuple(params), rows, False))
        return rows

    def row(self, sql: str, params: Sequence[Any] = ()) -> Row | None:
        """As of Tx."""
        row = self._tx.row(sql, params)
        self.statements.append(Statement(sql, tuple(params), row, True))
        return row

    def weigh(self, rows: int) -> None:
        """As of Tx."""
        self._tx.weigh(rows)

    def steps(self, items: Iterable[T]) -> Iterator[T]:
        """As of Tx."""
        return self._tx.steps(items)


@dataclass(frozen=True, slots=True)
class _Reading:
    meaning: Hashable
    statements: tuple[Statement, ...]
    result: QuestionResult
    size: int

    def is_so(self, tx: Tx) -> bool:
        """Whether the database answers each statement as it did."""
        return all(
            (tx.row(sql, params) if first else tx.rows(sql, params)) == answer
            for sql, params, answer, first in self.statements
        )


class KeptReadings:
    """The readings of the last questions; usable from any thread.

    Args:
        most_bytes: How much memory they take together, about; 0 keeps nothing.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[QuestionKey, _Reading] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, asked: QuestionKey, meaning: Hashable, tx: Tx) -> QuestionResult | None:
        """What this question finds; None: the database says something else now, or nothing was kept.

        Args:
            asked: What is asked.
            meaning: All else that what it finds depends on, beside the database.
            tx: The question's own transaction.
        """
        with self._lock:
            reading = self._kept.get(asked)
            if reading is None:
                return None
            self._kept.move_to_end(asked)
        return reading.result if reading.meaning == meaning and reading.is_so(tx) else None

    def keep(
        self, asked: QuestionKey, meaning: Hashable, statements: Sequence[Statement], result: QuestionResult
    ) -> QuestionResult:
        """Keep what a question found, if it may be; the result, marked as what is found again.

        ``meaning`` is as it was before the first statement.
        """
        size = _size(statements)
        if size is None or size > self._most_bytes // 8 or not is_frozen(result):
            return result
        marked = replace(result, same=object())
        with self._lock:
            before = self._kept.pop(asked, None)
            self._bytes += size - (before.size if before is not None else 0)
            self._kept[asked] = _Reading(meaning, tuple(statements), marked, size)
            while self._bytes > self._most_bytes:
                self._bytes -= self._kept.popitem(last=False)[1].size
        return marked

    def __len__(self) -> int:
        return len(self._kept)


def _size(statements: Sequence[Statement]) -> int | None:
    """How much memory a reading takes, about, with what its rows were decoded to; None: more than is kept."""
    if sum([len(s.answer) for s in statements if s.answer and not s.first]) > MOST_ROWS:
        return None
    try:
        rows = sum([len(marshal.dumps(s.answer)) for s in statements])
    except ValueError:  # a value of a kind that is none of ours
        return None
    asked = sum([EACH + len(s.sql) + PARAMETER * len(s.params) for s in statements])
    return asked + DECODED * rows


def is_frozen(result: QuestionResult) -> bool:
    """Whether nobody could change what is found: no plain data of outside sources is in it."""
    if result.objects:
        return False
    for holding in result.holdings:
        entries = holding.entries if holding.past or holding.siblings else (holding.publication,)
        for entry in entries:
            if entry.extras or entry.manifest.extra:
                return False
    return True
