"""Statements in PostgreSQL's words, and how it differs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from crosslight.runtime.db.pg_columns import column
from crosslight.runtime.db.seam import Dialect

MAX_TEXTS = 2000  # of statements that are kept converted

DIALECT = Dialect(
    name="postgres",
    for_update=" FOR UPDATE",
    skip_locked=" SKIP LOCKED",
    lean_rows=False,
    remote=True,
    takes_nul=False,
    parts=True,
    in_found="= ANY (ARRAY ({}))",
)
_LIST = re.compile(r"IN \(\?(?:,\?)*\)")


class PgStatement:
    """A statement in PostgreSQL's words.

    An IN list is one array, so that its text, and its plan, do not depend on its length.
    """

    __slots__ = ("_lists", "sql")

    def __init__(self, sql: str) -> None:
        self._lists = [
            (sql.count("?", 0, match.start()), match.group().count("?")) for match in _LIST.finditer(sql)
        ]
        self.sql = _LIST.sub("= ANY(?)", sql).replace("%", "%%").replace("?", "%s")

    def params(self, params: Sequence[Any]) -> Sequence[Any]:
        if not self._lists:
            return params
        gathered: list[Any] = []
        at = 0
        for start, count in self._lists:
            gathered += params[at:start]
            gathered.append(column(params[start : start + count]))
            at = start + count
        gathered += params[at:]
        return gathered


_statements: dict[str, PgStatement] = {}


def statement_of(sql: str) -> PgStatement:
    statement = _statements.get(sql)
    if statement is None:
        statement = PgStatement(sql)
        if len(_statements) < MAX_TEXTS:
            _statements[sql] = statement
    return statement
