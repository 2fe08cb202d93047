"""What stores see of a database, and what both engines share: see the package."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, TypeVar

from crosslight.runtime.log import get_logger
from crosslight.runtime.machine_errors import database_trouble
from crosslight.standards.problem import StorageError, kind_as_sentence

Row = tuple[Any, ...]
Engine = Literal["sqlite", "postgres"]
#: (statement, parameters) -> what it finds
Answers = Mapping[tuple[str, tuple[Any, ...]], list[Row]]
T = TypeVar("T")
log = get_logger("db")

SLOW_S = 1.0
NEAR_STEPS = 20_000  # of SQLite's virtual machine: about a millisecond
NEAR_ROWS = 60  # that something is made of: a few milliseconds
READ_ROWS = 500  # beyond, a reading is for the lane of those that read much
WIDE_STEPS = 200_000_000  # of SQLite's virtual machine: some ten seconds
WIDE_S = 10  # of one statement of PostgreSQL


class TooMuch(Exception):
    """What is read is more than this lane is for: it is begun again in a wider one.

    Outside the tree of errors, for nobody is ever told of it.
    """


class Budget:
    """How many rows a reading may make something of; None: any."""

    __slots__ = ("_left",)

    def __init__(self, rows: int | None) -> None:
        self._left = rows

    def spend(self, rows: int) -> None:
        """Raises :class:`TooMuch` beyond it."""
        if self._left is not None:
            self._left -= rows
            if self._left < 0:
                raise TooMuch


@dataclass(frozen=True, slots=True)
class Dialect:
    """How an engine differs where that is a store's business.

    Each store asks for what it means, none for an engine's name.

    Attributes:
        name: Which of the ``deltas/`` are for it.
        for_update: What a SELECT ends with so that its rows stay as they are; '' where there is one writer
            anyway.
        skip_locked: What follows ``for_update`` to pass over rows that others hold, rather than to wait for
            them.
        lean_rows: A row takes little more room than its values, so that many small ones are cheaper than one
            more index.
        remote: Each statement is a round trip to another process.
        takes_nul: A text may hold U+0000.
        parts: A large table lies in parts that are removed as a whole.
        in_found: How a list is asked for that another SELECT finds, so that an index is used for each.
    """

    name: Engine
    for_update: str
    skip_locked: str
    lean_rows: bool
    remote: bool
    takes_nul: bool
    parts: bool
    in_found: str


class Tx(Protocol):
    """One transaction. ``?`` are the placeholders on both engines."""

    dialect: Dialect

    def execute(self, sql: str, params: Sequence[Any] = ()) -> int:
        """Run a statement; the number of rows it changed."""
        ...

    def executemany(self, sql: str, params: Iterable[Sequence[Any]]) -> None:
        """Run a statement for each set of parameters."""
        ...

    def insert_many(
        self, table: str, names: Sequence[str], rows: Sequence[Sequence[Any]], tail: str = ""
    ) -> int:
        """Insert rows into ``table`` in one statement; how many. ``tail`` is its ON CONFLICT clause.

        The same key must not stand in two of the rows where ``tail`` updates.
        """
        ...

    def insert_numbered(
        self,
        table: str,
        names: Sequence[str],
        rows: Sequence[Sequence[Any]],
        number: str,
        above: Sequence[int],
    ) -> list[int]:
        """Insert rows whose column ``number`` the database counts; the numbers, in the order of the rows.

        Where tables lie in parts the sequence ``TABLE_NUMBER`` counts, and to each is added what the numbers
        of its row's part begin with (``above``).
        """
        ...

    def update_many(
        self,
        table: str,
        keys: Sequence[str],
        names: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        rising: str = "",
    ) -> None:
        """Set ``names`` of the rows that ``keys`` name, whose values come first in ``rows``; each row once.

        ``rising`` is one of ``names``: rows where it is as high already stay as they are.
        """
        ...

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        """All rows of a bounded query."""
        ...

    def each(self, sql: str, params: Sequence[Any] = ()) -> Iterator[Row]:
        """The rows of a query, read from the database as they are asked for.

        The statement ends where they are no longer.
        """
        ...

    def weigh(self, rows: int) -> None:
        """Say that something dear will be made of so many rows, before it is.

        Near readings that find much go to a thread.
        """
        ...

    def steps(self, items: Iterable[T]) -> Iterator[T]:
        """The same things, of which something dear is made one by one.

        In a reader's thread with rests for others.
        """
        ...

    def row(self, sql: str, params: Sequence[Any] = ()) -> Row | None:
        """The first row, or None."""
        ...

    def script(self, sql: str) -> None:
        """Several statements: schema deltas only."""
        ...

    def advisory_lock(self, number: int, *, exclusive: bool = True) -> None:
        """Hold the lock of this number to the end of the transaction, after waiting for all who hold it.

        Unless ``exclusive`` only for one who does so exclusively. Nothing to wait for where there is one
        writer anyway.

        A transaction that is run again after a deadlock holds it exclusively whatever is asked, so that it
        ends.
        """
        ...

    def table_bytes(self, table: str) -> tuple[int, int]:
        """How many bytes a table takes: its rows, its indexes. For benchmarks and operators."""
        ...

    def has_table(self, name: str) -> bool:
        """Whether there is a table of this name."""
        ...

    def role(self) -> str:
        """As whom the database knows us; '' where it knows nobody."""
        ...

    def may_rewrite(self, tables: Sequence[str]) -> bool:
        """Whether this role could change or remove rows of these tables, or the tables and their triggers."""
        ...

    def let_append(
        self,
        role: str,
        tables: Sequence[str],
        readable: Sequence[str],
        *,
        sequences: Sequence[str] = (),
        functions: Sequence[str] = (),
    ) -> None:
        """Let ``role`` add rows to ``tables`` and read them, and read ``readable``; no more. As their owner.

        It may take numbers of ``sequences``, and call ``functions`` (without parameters). Nothing where the
        database knows nobody.
        """
        ...

    def index_bytes(self, names: Sequence[str]) -> int:
        """How many bytes these indexes take together; those that this engine's tables lack take none."""
        ...


class Foretold(Protocol):
    """Statements that a reading will make, as one: see ``foretold.py``."""

    def sql(self, dialect: Dialect) -> str:
        """The one statement."""
        ...

    @property
    def params(self) -> list[Any]:
        """Of the one statement."""
        ...

    def answers(self, rows: Iterable[Row]) -> Answers:
        """What each statement would have found, from what the one statement found."""
        ...


class Db(Protocol):
    """A database.

    ``read`` and ``write`` run ``fn`` in one transaction; ``write`` is durable when it returns.
    """

    dialect: Dialect

    async def read(self, name: str, fn: Callable[[Tx], T]) -> T:
        """Run a reading function."""
        ...

    async def read_near(
        self,
        name: str,
        fn: Callable[[Tx], T],
        *,
        steps: int = NEAR_STEPS,
        foretold: Foretold | None = None,
    ) -> T:
        """As ``read``, of what is mostly short.

        An embedded database runs it in the caller's own thread, on the event loop. What takes more
        ``steps``, would wait for a lock, or weighs more than :data:`NEAR_ROWS`, is begun again in a
        reader's thread, and beyond :data:`READ_ROWS` in the lane of :meth:`read_wide`: ``fn`` may run three
        times. A remote one does so where ``foretold`` says what ``fn`` will ask: that is asked as one
        statement, on the event loop; where ``fn`` asks something else, it is begun again in a thread.
        """
        ...

    async def read_wide(self, name: str, fn: Callable[[Tx], T]) -> T:
        """As ``read``, of what may read much: bounded, and in a lane where it holds up only its like.

        Raises:
            StorageError: beyond :data:`WIDE_STEPS` or :data:`WIDE_S`.
        """
        ...

    async def write(self, name: str, fn: Callable[[Tx], T], *, lazy: bool = False) -> T:
        """Run a writing function and commit.

        A ``lazy`` one may wait a moment, to be committed together with the next that is not: nobody waits for
        it.
        """
        ...

    def submit_write(self, name: str, fn: Callable[[Tx], T], *, lazy: bool = False) -> Future[T]:
        """As ``write``, for callers in threads (DIMSE): ``.result()`` returns after the commit."""
        ...

    def submit_near(self, name: str, fn: Callable[[Tx], T]) -> Future[T]:
        """As ``submit_write``, of what is short, from the event loop.

        An embedded database runs it there, and waits for the disk alone in a thread; or has the writer run
        it, where that is busy.
        """
        ...

    def submit_read(self, name: str, fn: Callable[[Tx], T]) -> Future[T]:
        """As ``read``, for callers in threads."""
        ...

    async def close(self) -> None:
        """Finish what is queued, and close."""
        ...


class EmbeddedDb(Db, Protocol):
    """A database in one file, which nobody but this service writes."""

    def read_here(self, fn: Callable[[Tx], T]) -> T:
        """Run a look-up of one row or so in the caller's own thread, whichever that is.

        One at a time for all threads; it sees what was committed when it began.
        """
        ...

    async def backup_to(self, target: Path) -> None:
        """Copy the database, as it is at one moment, into the new file ``target``."""
        ...


def insert_sql(table: str, names: Sequence[str], what: str, tail: str) -> str:
    """An INSERT of ``what``: VALUES or a SELECT."""
    return f"INSERT INTO {table} ({', '.join(names)}) {what} {tail}"


def split_statements(sql: str) -> list[str]:
    """The statements of a delta: separated by ``;`` at a line's end, comments (``--``) removed.

    What stands between two ``$$`` is one text.
    """
    statements, begun = [""], False
    for line in (line.split("--", 1)[0].rstrip() for line in sql.splitlines()):
        statements[-1] += line + "\n"
        begun ^= line.count("$$") % 2 == 1
        if line.endswith(";") and not begun:
            statements.append("")
    return [s.strip().removesuffix(";") for s in statements if s.strip().rstrip(";")]


def timed(name: str, call: Callable[..., T]) -> Callable[..., T]:
    """``call``, logged when it is slow."""

    def run(*args: Any) -> T:
        started = time.monotonic()
        try:
            return call(*args)
        finally:
            note_slow(name, started)

    return run


def note_slow(name: str, started: float) -> None:
    """Log what began at ``started`` (monotonic), if it was slow."""
    took = time.monotonic() - started
    if took > SLOW_S:
        log.warning("slow query", query=name, seconds=round(took, 3))


def translated(error: BaseException, kind: type[BaseException] = sqlite3.DatabaseError) -> BaseException:
    """The engine's own error as ours, where it is of the ``kind`` that says so.

    The database could not do it now, or is broken.

    What breaks a rule of the tables is a fault of the program and stays as it is.
    """
    if not isinstance(error, kind) or isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError):
        return error
    if isinstance(error, sqlite3.Error):
        return database_trouble(error)
    wrapped = StorageError(
        "The database could not do this now.", why=kind_as_sentence(error), todo="Try again."
    )
    wrapped.__cause__ = error
    return wrapped
