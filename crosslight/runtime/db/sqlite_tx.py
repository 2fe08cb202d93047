"""What a store sees of SQLite within one transaction: see the package."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from crosslight.runtime.db.seam import Budget, Dialect, Row, T, insert_sql, split_statements
from crosslight.runtime.large_answers import in_steps, rest

MAX_ROWS = 64  # of one INSERT
# rows that a reader's thread fetches before it rests: SQLite lets go of the interpreter at each of them
FETCH = 250


DIALECT = Dialect(
    name="sqlite",
    for_update="",
    skip_locked="",
    lean_rows=True,
    remote=False,
    takes_nul=True,
    parts=False,
    in_found="IN ({})",
)


class SqliteTx:
    """One transaction of a connection; ``rows`` and ``rests`` as a reader's are bounded."""

    dialect = DIALECT

    def __init__(
        self, connection: sqlite3.Connection, rows: int | None = None, *, rests: bool = False
    ) -> None:
        self._c, self.weigh, self._rests = connection, Budget(rows).spend, rests

    def steps(self, items: Iterable[T]) -> Iterator[T]:
        return in_steps(items) if self._rests else iter(items)

    def execute(self, sql: str, params: Sequence[Any] = ()) -> int:
        return self._c.execute(sql, params).rowcount

    def executemany(self, sql: str, params: Iterable[Sequence[Any]]) -> None:
        self._c.executemany(sql, params)

    def insert_many(
        self, table: str, names: Sequence[str], rows: Sequence[Sequence[Any]], tail: str = ""
    ) -> int:
        placeholders, start, changed = f"({','.join('?' * len(names))})", 0, 0
        while start < len(rows):
            # Powers of two, so that few texts are prepared; one step of SQLite, and one release of the GIL,
            # for many rows.
            size = min(MAX_ROWS, 1 << (len(rows) - start).bit_length() - 1)
            sql = insert_sql(table, names, "VALUES " + ",".join([placeholders] * size), tail)
            changed += self._c.execute(
                sql, [value for row in rows[start : start + size] for value in row]
            ).rowcount
            start += size
        return changed

    def insert_numbered(
        self,
        table: str,
        names: Sequence[str],
        rows: Sequence[Sequence[Any]],
        number: str,
        above: Sequence[int],
    ) -> list[int]:
        placeholders, numbers = f"({','.join('?' * len(names))})", list[int]()
        for start in range(0, len(rows), MAX_ROWS):
            part = rows[start : start + MAX_ROWS]
            sql = insert_sql(table, names, "VALUES " + ",".join([placeholders] * len(part)), "")
            last = self._c.execute(sql, [value for row in part for value in row]).lastrowid or 0
            numbers += range(last - len(part) + 1, last + 1)  # there is one writer
        return numbers

    def update_many(
        self,
        table: str,
        keys: Sequence[str],
        names: Sequence[str],
        rows: Sequence[Sequence[Any]],
        *,
        rising: str = "",
    ) -> None:
        at = {name: f"?{i}" for i, name in enumerate((*keys, *names), 1)}
        sets, where = ", ".join(f"{n} = {at[n]}" for n in names), " AND ".join(f"{k} = {at[k]}" for k in keys)
        more = f" AND ({rising} IS NULL OR {rising} < {at[rising]})" if rising else ""
        if rows:
            self._c.executemany(f"UPDATE {table} SET {sets} WHERE {where}{more}", rows)

    def rows(self, sql: str, params: Sequence[Any] = ()) -> list[Row]:
        cursor = self._c.execute(sql, params)
        if not self._rests:
            return cursor.fetchall()
        rows = part = cursor.fetchmany(FETCH)
        while len(part) == FETCH:
            rest()
            part = cursor.fetchmany(FETCH)
            rows += part
        return rows

    def each(self, sql: str, params: Sequence[Any] = ()) -> Iterator[Row]:
        return iter(self._c.execute(sql, params))

    def row(self, sql: str, params: Sequence[Any] = ()) -> Row | None:
        row: Row | None = self._c.execute(sql, params).fetchone()
        return row

    def script(self, sql: str) -> None:
        for statement in split_statements(sql):
            self._c.execute(statement)

    def advisory_lock(self, number: int, *, exclusive: bool = True) -> None:
        """There is one writer."""

    def table_bytes(self, table: str) -> tuple[int, int]:
        indexes = [
            r[0]
            for r in self.rows(
                "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = ?", (table,)
            )
        ]
        return self._pages([table]), self._pages(indexes)

    def has_table(self, name: str) -> bool:
        row = self.row("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (name,))
        return row is not None

    def role(self) -> str:
        """A file knows nobody: its modes do."""
        return ""

    def may_rewrite(self, tables: Sequence[str]) -> bool:
        """Whoever writes the file may do anything to it."""
        return True

    def let_append(
        self,
        role: str,
        tables: Sequence[str],
        readable: Sequence[str],
        *,
        sequences: Sequence[str] = (),
        functions: Sequence[str] = (),
    ) -> None:
        """There is nobody to be let."""

    def index_bytes(self, names: Sequence[str]) -> int:
        return self._pages(names)

    def _pages(self, names: Iterable[str]) -> int:
        rows = [
            self.row("SELECT coalesce(sum(pgsize), 0) FROM dbstat WHERE name = ?", (name,)) for name in names
        ]
        return sum(int(row[0]) for row in rows if row)
