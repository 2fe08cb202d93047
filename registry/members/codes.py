"""Organisation codes are one whatever their case: ``rtk`` is no other member than ``RTK``."""

from __future__ import annotations

from crosslight.runtime.db import Tx
from crosslight.standards.problem import Conflict


def refuse_another_case_tx(tx: Tx, code: str) -> None:
    """Whether nobody has this code in another spelling.

    Raises:
        Conflict: if somebody has.
    """
    sql = "SELECT code FROM member_code WHERE lower(code) = ? AND code <> ? AND valid_until IS NULL"
    row = tx.row(sql, (code.lower(), code))
    if row is not None:
        raise Conflict(
            f"There is a member {row[0]}.",
            why="Codes that differ by case only are one code.",
            todo=f"Invite {row[0]}.",
        )
