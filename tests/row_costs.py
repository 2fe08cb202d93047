"""What statements cost: rows that PostgreSQL reads to answer them, steps that SQLite takes. No times."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from crosslight.runtime.db import Db, Row
from crosslight.runtime.db.postgres import _PgTx
from crosslight.runtime.db.sqlite_tx import SqliteTx


class Costs:
    """Counts while it is there; ``spent`` is since the last ``reset``."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.spent = 0
        sqlite, postgres, one = SqliteTx.rows, _PgTx.rows, _PgTx.row

        def step() -> int:
            self.spent += 1
            return 0

        def sqlite_rows(tx: Any, sql: str, params: Sequence[Any] = ()) -> list[Row]:
            tx._c.set_progress_handler(step, 1)
            try:
                return sqlite(tx, sql, params)
            finally:
                tx._c.set_progress_handler(None, 0)

        def explained(tx: Any, sql: str, params: Sequence[Any]) -> None:
            ((plan,),) = postgres(tx, f"EXPLAIN (ANALYZE, TIMING OFF, FORMAT JSON) {sql}", params)
            self.spent += _read(plan[0]["Plan"] if not isinstance(plan, str) else json.loads(plan)[0]["Plan"])

        def postgres_rows(tx: Any, sql: str, params: Sequence[Any] = ()) -> list[Row]:
            explained(tx, sql, params)
            return postgres(tx, sql, params)

        def postgres_row(tx: Any, sql: str, params: Sequence[Any] = ()) -> Row | None:
            explained(tx, sql, params)
            return one(tx, sql, params)

        def sqlite_row(tx: Any, sql: str, params: Sequence[Any] = ()) -> Row | None:
            return next(iter(sqlite_rows(tx, sql, params)), None)

        monkeypatch.setattr(SqliteTx, "rows", sqlite_rows)
        monkeypatch.setattr(SqliteTx, "row", sqlite_row)
        monkeypatch.setattr(_PgTx, "rows", postgres_rows)
        monkeypatch.setattr(_PgTx, "row", postgres_row)

    def reset(self) -> int:
        """What was spent since the last time."""
        spent, self.spent = self.spent, 0
        return spent


def _read(plan: dict[str, Any]) -> int:
    """Rows that the scans of a plan read, those that they threw away too."""
    below = sum(_read(part) for part in plan.get("Plans", ()))
    if "Scan" not in plan["Node Type"]:
        return below
    thrown = plan.get("Rows Removed by Filter", 0) + plan.get("Rows Removed by Index Recheck", 0)
    return below + int((plan["Actual Rows"] + thrown) * plan["Actual Loops"])


async def analyse(db: Db) -> None:
    """Let PostgreSQL see how large its tables are, as its own daemon does."""
    if db.dialect.name == "postgres":
        await db.write("analyse", lambda tx: tx.script("ANALYZE;\n"))
