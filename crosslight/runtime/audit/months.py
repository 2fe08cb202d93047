"""The months of the audit: on PostgreSQL an act lies in its month's part, and a month is removed as a whole.

An act's number begins with the month of its time, so that its outcome, which has no other link to it, lies in
the same month whenever it comes. The database makes the parts, as their owner (``audit_make_months``).
"""

from __future__ import annotations

from crosslight.runtime.audit.shorthand import from_ms, in_ms
from crosslight.runtime.clock import Clock
from crosslight.runtime.db import Db, Tx
from crosslight.runtime.log import get_logger
from crosslight.standards.problem import StorageError

log = get_logger("audit")

MONTH_BITS = 40  # of an act's number count the acts
FIRST = 1 << MONTH_BITS  # all acts of the schema without parts have lower numbers
DAY_S = 86_400.0
NEXT = "audit_make_months"  # makes the parts of this month and the next two


def month_number(at: int) -> int:
    """What the numbers of a month's acts begin with.

    Args:
        at: A moment, in milliseconds since 1970.
    """
    moment = from_ms(at)
    return ((moment.year - 1970) * 12 + moment.month - 1) << MONTH_BITS


def month_start(at: int) -> int:
    """When the month of a moment began, both in milliseconds since 1970."""
    return in_ms(from_ms(at).replace(day=1, hour=0, minute=0, second=0, microsecond=0))


async def make_months(db: Db) -> None:
    """Have the parts of this month and the next two made. Without them acts lie in the last part.

    Never fails: it is asked again in a day.
    """
    if not db.dialect.parts:
        return
    try:
        made = await db.write("audit_months", lambda tx: tx.row(f"SELECT {NEXT}()"))
    except StorageError as error:
        log.warning("the audit's next months could not be made", error=type(error).__name__)
    else:
        if made and made[0]:
            log.info("the audit's next months are made", parts=made[0])


async def keep_months(db: Db, clock: Clock) -> None:
    """Have them made each day, until cancelled."""
    while True:
        await make_months(db)
        await clock.sleep(DAY_S)


def parts_before(tx: Tx, before: int) -> list[str]:
    """The parts of acts and outcomes whose month is over at a moment, oldest first."""
    if not tx.dialect.parts:
        return []
    last = f"{from_ms(before):%Y_%m}"
    sql = (
        "SELECT relid::regclass::text FROM unnest(ARRAY['audit_act', 'audit_outcome']) AS t,"
        " pg_partition_tree(to_regclass(t))"
        " WHERE level = 1 AND relid::regclass::text ~ '_[0-9]{4}_[0-9]{2}$'"
        " AND right(relid::regclass::text, 7) < ? ORDER BY right(relid::regclass::text, 7), 1"
    )
    return [str(row[0]) for row in tx.rows(sql, (last,))]
