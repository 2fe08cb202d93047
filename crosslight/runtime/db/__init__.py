"""One database seam for SQLite and PostgreSQL (D24, ADR 0002).

A store is a class whose methods hold named SQL. Each method gives the database a function that takes a
:class:`Tx`; the function runs in a worker thread inside one transaction::

    async def latest(self, uid: str) -> Row | None:
        return await self.db.read("latest", lambda tx: tx.row("SELECT ... WHERE uid = ?", (uid,)))

SQL is written once with ``?`` placeholders, in the subset both engines share. Where they differ a store asks
``tx.dialect`` for what it means. The *name* gives metrics and slow-query logs. On PostgreSQL a serialization
failure or deadlock runs the function again, so it must have no effect outside its transaction.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from crosslight.runtime.db.seam import Db, Dialect, EmbeddedDb, Row, Tx, split_statements
from crosslight.runtime.db.sqlite import LAZY_S, SqliteDb
from crosslight.standards.problem import ConfigError

if TYPE_CHECKING:
    from crosslight.runtime.db.postgres import PostgresDb

__all__ = ["LAZY_S", "Db", "Dialect", "EmbeddedDb", "Row", "SqliteDb", "Tx", "open_db", "split_statements"]


def open_db(url: str, *, base: Path = Path()) -> SqliteDb | PostgresDb:
    """Open ``sqlite:PATH`` (relative to ``base``) or ``postgresql://...``.

    Raises:
        ConfigError: for any other scheme.
    """
    if url.startswith("sqlite:"):
        return SqliteDb(base / url.removeprefix("sqlite:"))
    if url.startswith(("postgresql://", "postgres://")):
        from crosslight.runtime.db.postgres import PostgresDb  # not loaded where nobody uses it

        return PostgresDb(url)
    raise ConfigError(
        f"Unknown kind of database in {url.split(':', 1)[0]!r}.", todo="Use sqlite:FILE or postgresql://…"
    )
