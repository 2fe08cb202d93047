"""PostgreSQL behind the database seam: see the package."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import psycopg
import psycopg.rows
from psycopg.sql import SQL, Identifier
from psycopg_pool import ConnectionPool

from crosslight.runtime.db.foretold import NotForetold
from crosslight.runtime.db.pg_columns import column, columns, register
from crosslight.runtime.db.pg_loop import PgLoopReads
from crosslight.runtime.db.pg_statements import DIALECT, statement_of
from crosslight.runtime.db.seam import (
    NEAR_STEPS,
    READ_ROWS,
    WIDE_S,
    Budget,
    Foretold,
    Row,
    T,
    TooMuch,
    Tx,
    insert_sql,
    split_statements,
    timed,
    translated,
)
from crosslight.runtime.large_answers import in_steps
from crosslight.standards.problem import Invalid, StorageError, Unavailable

_RETRYABLE = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)
_NO_TEXT = (None, "22021")  # DataError for U+0000: of psycopg itself, and character_not_in_repertoire
_MAX_TRIES = 5
PREPARE_AFTER = 2  # times that a statement was run
MAX_PREPARED = 400  # statements of a connection
EACH = 500  # rows at a time of a statement that is read as far as needed

#: A table, which need be in no parts, and its parts.
_WITH_PARTS = (
    "SELECT to_regclass(?)::oid AS relid UNION SELECT relid::oid FROM pg_partition_tree(to_regclass(?))"
)
#: Owners, those of their schema and whoever is granted more than to add and to read.
_MAY_REWRITE = (
    "SELECT bool_or(pg_has_role(c.relowner, 'USAGE') OR pg_has_role(n.nspowner, 'USAGE')"
    " OR has_table_privilege(c.oid, 'UPDATE') OR has_table_privilege(c.oid, 'DELETE')"
    " OR has_table_privilege(c.oid, 'TRUNCATE') OR has_table_privilege(c.oid, 'TRIGGER'))"
    " FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.oid IN (SELECT p.relid FROM unnest(?::text[]) AS t,"
    f" LATERAL ({_WITH_PARTS.replace('?', 't')}) AS p)"
)
#: Of a table's parts.
_PARTS = "SELECT relid::regclass::text FROM pg_partition_tree(to_regclass(?)) WHERE level > 0"
#: Of a table's columns that count by themselves, quoted.
_SEQUENCES = (
    "SELECT pg_get_serial_sequence(?, attname) FROM pg_attribute WHERE attrelid = to_regclass(?)"
    " AND attidentity <> ''"
)


class _PgTx:
    dialect = DIALECT

    def __init__(
        self,
        cursor: psycopg.Cursor[Row],
        rows: int | None = None,
        *,
        rests: bool = False,
        again: bool = False,
    ) -> None:
        self._c = cursor
        self.weigh = Budget(rows).spend
        self._rests = rests
        self._again = again

    def steps(self, items: Iterable[T]) -> Iterator[T]:
        return in_steps(items) if self._rests else iter(items)

    def execute(self, sql: str, params: Sequence[Any] = ()) -> int:
        return self._run(sql, params).rowcount

    def _run(self, sql: str, params: Sequence[Any]) -> psycopg.Cursor[Row]:
        statement = statement_of(sql)
        return self._c.execute(statement.sql, statement.params(params))

    def executemany(self, sql: str, params: Iterable[Sequence[Any]]) -> None:
        statement = statement_of(sql)
        self._c.executemany(statement.sql, [statement.params(values) for values in params])

    def insert_many(
        self, table: str, names: Sequence[str], rows: Sequence[Sequence[Any]], tail: str = ""
    ) -> int:
        if not rows:
            return 0
        marks = ",".join(["%s"] * len(names))
        if len(rows) == 1:
            return self._c.execute(insert_sql(table, names, f"VALUES ({marks})", tail), rows[0]).rowcount
        return self._c.execute(
            insert_sql(table, names, f"SELECT * FROM unnest({marks})", tail), columns(rows)
        ).rowcount

    def insert_numbered(
        self,
        table: str,
        names: Sequence[str],
        rows: Sequence[Sequence[Any]],
        number: str,
        above: Sequence[int],
    ) -> list[int]:
        if not rows:
            return []
        marks, own = ",".join(["%s"] * (1 + len(names))), ", ".join(f"v.{name}" for name in names)
        counted = f"SELECT v.{number} + nextval('{table}_{number}'), {own}"
        values = f"{counted} FROM unnest({marks}) AS v ({number}, {', '.join(names)})"
        sql = insert_sql(table, (number, *names), values, f"RETURNING {number}")
        found = self._c.execute(sql, [column(above), *columns(rows)]).fetchall()
        parts = dict.fromkeys(above)
        numbers = {int(row[0]) - max(p for p in parts if p <= row[0]): int(row[0]) for row in found}
        return [numbers[count] for count in sorted(numbers)]  # counted in the order of the rows

    def update_many(
        self,
        table: str,
        keys: Sequence[str],
        names: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        rising: str = "",
    ) -> None:
        if not rows:
            return
        both, marks = (*keys, *names), ",".join(["%s"] * (len(keys) + len(names)))
        sets, where = ", ".join(f"{n} = v.{n}" for n in names), " AND ".join(f"t.{k} = v.{k}" for k in keys)
        if rising:
            where += f" AND (t.{rising} IS NULL OR t.{rising} < v.{rising})"
        sql = f"UPDATE {table} AS t SET {sets} FROM unnest({marks}) AS v ({', '.join(both)}) WHERE {where}"
        self._c.execute(sql, columns(rows))

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        return self._run(sql, params).fetchall()

    def each(self, sql: str, params: Sequence[Any] = ()) -> Iterator[Row]:
        statement = statement_of(sql)
        with self._c.connection.cursor(name="each") as cursor:
            cursor.itersize = EACH
            yield from cursor.execute(statement.sql, statement.params(params))

    def row(self, sql: str, params: Sequence[Any] = ()) -> Row | None:
        return self._run(sql, params).fetchone()

    def script(self, sql: str) -> None:
        for statement in split_statements(sql):
            self._c.execute(statement)

    def advisory_lock(self, number: int, *, exclusive: bool = True) -> None:
        # run again beside the others, it would meet the same ones in the same order: it goes alone
        alone = exclusive or self._again
        self.rows(f"SELECT pg_advisory_xact_lock{'' if alone else '_shared'}(?)", (number,))

    def table_bytes(self, table: str) -> tuple[int, int]:
        row = self.row(
            "SELECT coalesce(sum(pg_table_size(relid)), 0), coalesce(sum(pg_indexes_size(relid)), 0)"
            f" FROM ({_WITH_PARTS}) AS t",
            (table, table),
        )
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def has_table(self, name: str) -> bool:
        row = self.row("SELECT to_regclass(?) IS NOT NULL", (name,))
        return bool(row and row[0])

    def role(self) -> str:
        row = self.row("SELECT current_user")
        return str(row[0]) if row else ""

    def may_rewrite(self, tables: Sequence[str]) -> bool:
        row = self.row(_MAY_REWRITE, (list(tables),))
        return bool(row and row[0])

    def let_append(
        self,
        role: str,
        tables: Sequence[str],
        readable: Sequence[str],
        *,
        sequences: Sequence[str] = (),
        functions: Sequence[str] = (),
    ) -> None:
        to = Identifier(role)
        parts = [row[0] for table in tables for row in self.rows(_PARTS, (table,))]  # which pg_dump reads
        for table in (*tables, *readable, *parts):
            rights = "SELECT, INSERT" if table in tables else "SELECT"
            self._c.execute(SQL("REVOKE ALL ON {} FROM {}").format(Identifier(table), to))
            self._c.execute(SQL(f"GRANT {rights} ON {{}} TO {{}}").format(Identifier(table), to))
            for (sequence,) in self.rows(_SEQUENCES, (table, table)):  # which pg_dump reads
                self._c.execute(SQL("GRANT SELECT ON SEQUENCE {} TO {}").format(SQL(sequence), to))
        for name in sequences:
            self._c.execute(SQL("GRANT USAGE, SELECT ON SEQUENCE {} TO {}").format(Identifier(name), to))
        for name in functions:
            self._c.execute(SQL("GRANT EXECUTE ON FUNCTION {}() TO {}").format(Identifier(name), to))

    def index_bytes(self, names: Sequence[str]) -> int:
        rows = [self.row("SELECT coalesce(pg_relation_size(to_regclass(?)), 0)", (name,)) for name in names]
        return sum(int(row[0]) for row in rows if row)


class PostgresDb:
    """PostgreSQL through a pool of synchronous connections, one per worker thread."""

    dialect = DIALECT

    def __init__(self, dsn: str, *, connections: int = 8, schema: str = "") -> None:
        def configure(connection: psycopg.Connection[Row]) -> None:
            register(connection)
            connection.prepare_threshold, connection.prepared_max = PREPARE_AFTER, MAX_PREPARED
            if schema:
                connection.execute(f'SET search_path TO "{schema}"')
                connection.commit()

        wide = max(1, connections // 4)
        self._pool: ConnectionPool[psycopg.Connection[Row]] = ConnectionPool(
            dsn, min_size=1, max_size=connections + wide, configure=configure, open=False, timeout=15
        )
        try:
            self._pool.open(wait=True, timeout=15)
        except Exception as error:
            self._pool.close()
            raise Unavailable(
                "PostgreSQL does not answer.", why=str(error), todo="Check [database] dsn."
            ) from error
        self._threads = ThreadPoolExecutor(connections, thread_name_prefix="postgres")
        self._wide = ThreadPoolExecutor(wide, thread_name_prefix="postgres-wide")
        self._loop = PgLoopReads(dsn, max(1, connections // 2), schema)

    def _run(
        self, fn: Callable[[Tx], T], *, read_only: bool, rows: int | None = None, wide: bool = False
    ) -> T:
        for attempt in range(_MAX_TRIES):
            try:
                with self._pool.connection() as connection:
                    # A reading function sees one state of the database, as it does on SQLite.
                    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ if read_only else None
                    connection.read_only = True if read_only else None
                    if read_only:
                        with connection.cursor() as cursor:
                            if wide:
                                cursor.execute(f"SET LOCAL statement_timeout = '{WIDE_S}s'")
                            result = fn(_PgTx(cursor, rows, rests=True))
                        # never a rollback: psycopg then forgets every statement it has prepared
                        connection.commit()
                        return result
                    with connection.transaction(), connection.cursor() as cursor:
                        return fn(_PgTx(cursor, again=attempt > 0))
            except _RETRYABLE as error:
                if attempt == _MAX_TRIES - 1:
                    raise translated(error, psycopg.OperationalError) from error
            except psycopg.OperationalError as error:
                raise translated(error, psycopg.OperationalError) from error
            except psycopg.errors.InsufficientPrivilege as error:
                raise StorageError(
                    "The database does not allow this role to do that.",
                    why="It may do what the owner of the tables granted it.",
                    todo="Do it as the owner of the tables: see database.audit_owner_url.",
                ) from error
            except psycopg.DataError as error:
                if error.sqlstate not in _NO_TEXT:
                    raise
                raise Invalid(
                    "A text holds a character that cannot be kept.", why="U+0000 is no character of a text."
                ) from None
        raise StorageError("The database kept refusing.")

    def submit_write(self, name: str, fn: Callable[[Tx], T], *, lazy: bool = False) -> Future[T]:
        return self._threads.submit(timed(name, lambda: self._run(fn, read_only=False)))

    def submit_near(self, name: str, fn: Callable[[Tx], T]) -> Future[T]:
        return self.submit_write(name, fn)

    def submit_read(self, name: str, fn: Callable[[Tx], T]) -> Future[T]:
        return self._threads.submit(timed(name, lambda: self._run(fn, read_only=True)))

    async def write(self, name: str, fn: Callable[[Tx], T], *, lazy: bool = False) -> T:
        return await asyncio.wrap_future(self.submit_write(name, fn))

    async def read_near(
        self,
        name: str,
        fn: Callable[[Tx], T],
        *,
        steps: int = NEAR_STEPS,
        foretold: Foretold | None = None,
    ) -> T:
        if foretold is not None:
            with suppress(NotForetold, TooMuch):
                return fn(await self._loop.foretold(name, foretold))
        run = timed(name, lambda: self._run(fn, read_only=True, rows=READ_ROWS))
        try:
            return await asyncio.wrap_future(self._threads.submit(run))
        except TooMuch:
            return await self.read_wide(name, fn)

    async def read_wide(self, name: str, fn: Callable[[Tx], T]) -> T:
        run = timed(name, lambda: self._run(fn, read_only=True, wide=True))
        return await asyncio.wrap_future(self._wide.submit(run))

    async def read(self, name: str, fn: Callable[[Tx], T]) -> T:
        return await asyncio.wrap_future(self.submit_read(name, fn))

    async def close(self) -> None:
        await self._loop.close()
        await asyncio.to_thread(self._threads.shutdown)
        await asyncio.to_thread(self._wide.shutdown)
        await asyncio.to_thread(self._pool.close)
