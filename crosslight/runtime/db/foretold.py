"""Statements that a reading will make, asked for as one.

A reading makes its statements one after the other, for what one finds is what the next is asked about. Where
each is a round trip to another process, that costs more than what they find. So whoever knows what a reading
will ask says so before, as :class:`ForetoldStep` after step, each with the very text that the reading will
use. One statement finds what all of them find, at one moment, and the reading is then given those answers
(:class:`ForetoldTx`): to exactly the statements that were foretold, and only where their parameters are what
was found. Whatever else it asks was not foretold, and the reading is begun again without. So a wrong
foretelling costs time, and no reading is ever told what its own statement would not have said (ADR 0048).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple, cast

from crosslight.runtime.db.seam import Answers, Dialect, Row, T, Tx

#: Letter -> the type of a column: whole numbers of any size, texts, bytes, truth.
KINDS = {"i": "BIGINT", "t": "TEXT", "b": "BYTEA", "o": "BOOLEAN"}
MOST = 60  # rows of one step: with more, it and what hangs on it were not foretold


class NotForetold(Exception):
    """Something is asked that was not foretold. Outside the tree of errors, for nobody is ever told of it."""


class Given(NamedTuple):
    """A parameter that is known before: which of those that are given."""

    n: int


class Keys(NamedTuple):
    """A list of parameters: what columns of steps before find, sorted and each once."""

    columns: tuple[tuple[str, int], ...]


class ForetoldStep(NamedTuple):
    """A statement that will be made.

    Attributes:
        name: Of ours, by which later steps name it.
        sql: Its text, as the reading has it, but with ``{}`` in place of the marks of each list.
        params: What its ``?`` and ``{}`` stand for, in their order.
        kinds: Its columns, a letter of :data:`KINDS` for each.
    """

    name: str
    sql: str
    params: tuple[Given | Keys, ...]
    kinds: str


@dataclass(frozen=True, slots=True)
class ForetoldSteps:
    """The steps of a reading, and what is given to them. At least one step."""

    steps: tuple[ForetoldStep, ...]
    given: tuple[Any, ...]

    def sql(self, dialect: Dialect) -> str:
        """The one statement."""
        return _united(self.steps, dialect.in_found)

    @property
    def params(self) -> list[Any]:
        """Of the one statement."""
        return [self.given[p.n] for step in self.steps for p in step.params if isinstance(p, Given)]

    def answers(self, rows: Iterable[Row]) -> Answers:
        """(statement, parameters) -> what it would have found, from what the one statement found."""
        getters = _getters(self.steps)
        found: list[list[Row]] = [[] for _ in self.steps]
        for row in rows:
            found[row[0]].append(getters[row[0]](row))
        by_name = {step.name: rows for step, rows in zip(self.steps, found, strict=True)}
        answers: dict[tuple[str, tuple[Any, ...]], list[Row]] = {}
        for step, rows in zip(self.steps, found, strict=True):
            if len(rows) > MOST:
                continue
            params, counts = list[Any](), list[int]()
            for p in step.params:
                if isinstance(p, Given):
                    params.append(self.given[p.n])
                    continue
                keys = {row[n] for name, n in p.columns for row in by_name[name]} - {None}
                counts.append(len(keys))
                params += sorted(keys)
            if 0 not in counts:  # nobody asks for an empty list
                answers[_text(step.sql, tuple(counts)), tuple(params)] = rows
        return answers


@lru_cache(maxsize=1000)
def _text(sql: str, counts: tuple[int, ...]) -> str:
    for count in counts:
        sql = sql.replace("{}", ",".join("?" * count), 1)
    return sql


def _slots(steps: Sequence[ForetoldStep]) -> dict[str, range]:
    """Letter -> the columns of the united rows that hold its kind; before them is the step's number."""
    slots, at = {}, 1
    for letter in KINDS:
        width = max(step.kinds.count(letter) for step in steps)
        slots[letter] = range(at, at + width)
        at += width
    return slots


def _places(kinds: str, slots: Mapping[str, range]) -> list[int]:
    """Where in a united row the columns of a step stand."""
    taken = dict.fromkeys(KINDS, 0)
    places = []
    for letter in kinds:
        places.append(slots[letter][taken[letter]])
        taken[letter] += 1
    return places


@lru_cache(maxsize=100)
def _getters(steps: tuple[ForetoldStep, ...]) -> list[Callable[[Row], Row]]:
    slots = _slots(steps)
    getters = list[Callable[[Row], Row]]()
    for step in steps:
        places = _places(step.kinds, slots)
        if len(places) == 1:
            getters.append(lambda row, place=places[0]: (row[place],))  # type: ignore[misc]  # bound now
        else:
            getters.append(itemgetter(*places))
    return getters


@lru_cache(maxsize=100)
def _united(steps: tuple[ForetoldStep, ...], in_found: str) -> str:
    """One statement: each step is a table, and each row of the answer is a row of one of them."""
    slots = _slots(steps)
    empty = [f"CAST(NULL AS {KINDS[letter]})" for letter, of in slots.items() for _ in of]
    tables, parts = [], []
    for n, step in enumerate(steps):
        sql = step.sql
        for p in step.params:
            if isinstance(p, Keys):
                keys = " UNION ".join(f"SELECT c{column} FROM s_{name}" for name, column in p.columns)
                sql = sql.replace("IN ({})", in_found.format(keys), 1)
        columns = ", ".join(f"c{i}" for i in range(len(step.kinds)))
        tables.append(f"s_{step.name} ({columns}) AS (SELECT * FROM ({sql}) AS q LIMIT {MOST + 1})")
        values = list(empty)
        for i, place in enumerate(_places(step.kinds, slots)):
            values[place - 1] = f"c{i}"
        parts.append(f"SELECT {n}, {', '.join(values)} FROM s_{step.name}")
    return f"WITH {', '.join(tables)} {' UNION ALL '.join(parts)}"


class Foretelling:
    """Makes :class:`ForetoldSteps`, step by step."""

    def __init__(self) -> None:
        self._steps: list[ForetoldStep] = []
        self._given: list[Any] = []

    def given(self, value: Any) -> Given:
        """A parameter that is known before."""
        self._given.append(value)
        return Given(len(self._given) - 1)

    def step(self, name: str, sql: str, params: Iterable[Given | Keys], kinds: str) -> None:
        """As of ForetoldStep."""
        self._steps.append(ForetoldStep(name, sql, tuple(params), kinds))

    def done(self) -> ForetoldSteps:
        """What was said."""
        return ForetoldSteps(tuple(self._steps), tuple(self._given))


class ForetoldTx:
    """A reading transaction that knows some answers before it is asked.

    Args:
        dialect: Of the database.
        answers: Those.
        weigh: As of Tx.
        behind: What answers all else; None: nothing does.
    """

    def __init__(
        self,
        dialect: Dialect,
        answers: Answers,
        weigh: Callable[[int], None],
        behind: Tx | None = None,
    ) -> None:
        self.dialect, self.weigh = dialect, weigh
        self._answers, self._behind = answers, behind

    @property
    def tx(self) -> Tx:
        """Itself, as readers take it."""
        return cast(Tx, self)

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        """As of Tx."""
        found = self._answers.get((sql, tuple(params)))
        if found is not None:
            return found
        if self._behind is None:
            raise NotForetold
        return self._behind.rows(sql, params)

    def row(self, sql: str, params: Sequence[Any] = ()) -> Row | None:
        """As of Tx."""
        found = self._answers.get((sql, tuple(params)))
        if found is not None:
            return found[0] if found else None
        if self._behind is None:
            raise NotForetold
        return self._behind.row(sql, params)

    def steps(self, items: Iterable[T]) -> Iterator[T]:
        """As of Tx."""
        return iter(items)
