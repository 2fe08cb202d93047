"""Numbered schema deltas with a schema version and a compat version.

A store's package holds ``deltas/NNNN_what.sql`` (both engines), or ``NNNN_what.sqlite.sql`` and
``NNNN_what.postgres.sql`` where they must differ. ``schema`` is the newest delta applied; ``compat`` the
oldest *code* that may still run against the
database: code older than ``compat`` refuses to start and names the version it needs, so that a roll-back
    never corrupts.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib import resources

from crosslight.runtime.db.seam import Db, Tx
from crosslight.standards.problem import StorageError

_LOCK = 0x43524F53_53434845  # names our lock among those of the database
_NAME = re.compile(r"(\d{4})_[a-z0-9_]+(?:\.(sqlite|postgres))?\.sql\Z")


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """What this code knows: its newest delta, and the oldest code that can use what it upgraded."""

    component: str
    schema: int
    compat: int


def _deltas(package: str, engine: str) -> list[tuple[int, str]]:
    deltas = []
    for entry in resources.files(package).joinpath("deltas").iterdir():
        match = _NAME.match(entry.name)
        if match and match.group(2) in (None, engine):
            deltas.append((int(match.group(1)), entry.read_text("utf-8")))
    return sorted(deltas)


async def migrate(db: Db, package: str, version: SchemaVersion) -> list[int]:
    """Apply the deltas of ``package`` that ``db`` lacks, each in a transaction of its own.

    The numbers applied here.

    Raises:
        StorageError: if the database was upgraded by code that this code is too old for.
    """
    component = version.component

    def known(tx: Tx) -> tuple[int, int]:
        row = tx.row("SELECT schema, compat FROM schema_version WHERE component = ?", (component,))
        return (int(row[0]), int(row[1])) if row else (0, 0)

    def prepare(tx: Tx) -> tuple[int, int]:
        tx.advisory_lock(_LOCK)  # processes that start at the same time upgrade one after the other
        tx.execute(
            "CREATE TABLE IF NOT EXISTS schema_version (component TEXT PRIMARY KEY, schema INTEGER NOT NULL, "
            "compat INTEGER NOT NULL)"
        )
        return known(tx)

    def look(tx: Tx) -> tuple[int, int]:
        return known(tx) if tx.has_table("schema_version") else (0, 0)

    current, compat = await db.read("schema_look", look)
    if current < version.schema:  # else a role that may change no schema need not
        current, compat = await db.write("schema_prepare", prepare)
    if compat > version.schema:
        raise StorageError(
            f"The database's {component} schema is at {current} and needs Crosslight with schema {compat} or"
            f" newer; this is schema {version.schema}.",
            todo="Install that version, or restore a backup taken before the upgrade.",
        )
    applied = []
    for number, sql in _deltas(package, db.dialect.name):
        if number <= current or number > version.schema:
            continue

        def apply(tx: Tx, number: int = number, sql: str = sql) -> bool:
            tx.advisory_lock(_LOCK)
            if known(tx)[0] >= number:  # another process was first
                return False
            tx.script(sql)
            tx.execute("DELETE FROM schema_version WHERE component = ?", (component,))
            tx.execute("INSERT INTO schema_version VALUES (?, ?, ?)", (component, number, version.compat))
            return True

        if await db.write(f"schema_{component}_{number:04d}", apply):
            applied.append(number)
    return applied
