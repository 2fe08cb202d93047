"""How long the audit is kept, and by whom it may be changed: what its owner does, and no service.

On PostgreSQL the tables are their owner's, and the service's own role may add rows and read them, nothing
else. Whoever may write a SQLite file may change what is in it; there the triggers stop mistakes and
statements, not the file's owner.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import timedelta
from functools import partial

from crosslight.runtime.audit.act import About
from crosslight.runtime.audit.log import AuditLog
from crosslight.runtime.audit.months import NEXT, month_start, parts_before
from crosslight.runtime.audit.printing import audit_lines
from crosslight.runtime.audit.query import in_ms_of
from crosslight.runtime.audit.shorthand import from_ms, in_ms
from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock, instant
from crosslight.runtime.config import setting
from crosslight.runtime.db import Db, Row, Tx
from crosslight.runtime.operators import AT_THE_MACHINE
from crosslight.standards.problem import Invalid

NAMES = ("audit_said", "audit_study", "audit_authority", "audit_whom")
APPENDED = ("audit_act", "audit_outcome", *NAMES, "audit_patient_whom")
OLDER = ("audit_entry", "audit_patient", "audit_patient_act")  # of older releases
READ = (*OLDER, "audit_secret", "audit_expiry", "schema_version")
TABLES = (*APPENDED, *OLDER, "audit_secret", "audit_expiry")
COUNTED = "audit_act_seq"
STEP = 5_000  # rows that are read, or removed, in one transaction
_COLUMNS = (
    "seq, kind, correlation, at, face, action, who, decision, rule, peer, query, outcome, patients, studies"
)


@dataclass(frozen=True, slots=True)
class AuditConfig:
    """[audit]: how long acts are kept."""

    keep_years: int = setting(
        8,
        "Years for which each act is kept: `audit expire` refuses to remove younger ones. Nothing is removed"
        " by itself.",
        low=0,
        high=100,
    )


@dataclass(frozen=True, slots=True)
class Expired:
    """What an expiry is about: how many acts, when the first and the last were, and what they said.

    ``before`` is the first day of a month, and ``digest`` the SHA-256 of all acts before it, in their order
    and as ``audit --json`` has each (of releases before 0.3: of their rows), for whoever kept a copy.
    """

    before: str
    acts: int
    oldest: str
    newest: str
    digest: str


async def is_protected(db: Db) -> bool:
    """Whether the role that ``db`` is opened as can do no more to the audit than to add and to read."""
    return not await db.read("audit_protected", lambda tx: tx.may_rewrite(TABLES))


async def grant(owner: Db, role: str) -> None:
    """Let ``role`` add rows to the audit and read it."""

    def write(tx: Tx) -> None:
        tx.let_append(role, APPENDED, READ, sequences=(COUNTED,), functions=(NEXT,))

    await owner.write("audit_grant", write)


class Keeping:
    """The audit as its owner has it.

    Args:
        db: Opened as the owner of its tables.
        clock: Time.
        keep_years: For which acts are kept at least.
    """

    def __init__(self, db: Db, clock: Clock, keep_years: int) -> None:
        self._db, self._clock, self._audit = db, clock, AuditLog(db, clock)
        self._keep = timedelta(days=365.25 * keep_years)

    def _months(self, before: str) -> str:
        """The beginning of the month in which ``before`` lies.

        Raises:
            Invalid: acts from before it must be kept.
        """
        first = month_start(in_ms_of(before))
        youngest = self._clock.now() - self._keep
        if first > month_start(in_ms(youngest)):
            raise Invalid(
                "Acts from before that day must be kept yet.",
                why=f"They are kept for audit.keep_years, which is up to {youngest:%Y-%m}-01 today.",
                todo="Name a day that is not after it, or change audit.keep_years as your schedule allows.",
            )
        return f"{from_ms(first):%Y-%m-%d}"

    async def look(self, before: str) -> Expired:
        """What there is of the months that were over on the day ``before`` (ISO 8601, UTC).

        Raises:
            Invalid: it must be kept yet.
        """
        return await self._look(self._months(before))

    async def _look(self, before: str) -> Expired:
        digest, after, acts, oldest, newest = hashlib.sha256(), 0, 0, "", ""
        while rows := await self._db.read("audit_expired", partial(_older, before, after)):
            for row in rows:
                digest.update("\x1f".join(str(value) for value in row).encode("utf-8", "surrogatepass"))
                digest.update(b"\x1e")
                acts += row[1] == "act"
            oldest, newest, after = oldest or str(rows[0][3]), str(rows[-1][3]), int(rows[-1][0])
        while page := await self._audit.older_than(before, after, STEP):
            for line in audit_lines(page):
                digest.update(line)
            oldest, newest, after = oldest or page[0].at, page[-1].at, page[-1].seq
            acts += len(page)
        return Expired(before, acts, oldest, newest, digest.hexdigest())

    async def expire(self, before: str, by: Caller) -> Expired:
        """Remove the months that were over on the day ``before``, each as a whole.

        That it was, by whom, how much and a digest of what it said stay for good.

        Raises:
            Invalid: they must be kept yet.
            StorageError: this role may not do it, or somebody reads the audit; it can be done again.
        """
        before = self._months(before)
        expired = await self._look(before)
        said = {"before": before, "from": expired.oldest, "to": expired.newest, "digest": expired.digest}
        about = About(query=said | {"acts": expired.acts})
        async with self._audit.act(by, "admin", "expire", about, decision=AT_THE_MACHINE) as act:
            await self._db.write(
                "audit_expiry", partial(_expires, before, expired, instant(self._clock.now()))
            )
            removed = await self._db.write("audit_expire_months", partial(_remove_parts, before))
            for remove in (_remove_older, _remove):
                while count := await self._db.write("audit_expire", partial(remove, before)):
                    removed += count
            await self._db.write("audit_expire_names", partial(_remove_names, before))
            act.done(acts=expired.acts, rows=removed)
        return expired


def _older(before: str, after: int, tx: Tx) -> list[Row]:
    return tx.rows(
        f"SELECT {_COLUMNS} FROM audit_entry WHERE at < ? AND seq > ? ORDER BY seq LIMIT ?",
        (before, after, STEP),
    )


def _expires(before: str, expired: Expired, at: str, tx: Tx) -> None:
    tx.execute(
        "INSERT INTO audit_expiry (at, before, before_ms, acts, oldest, newest, digest)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (at, before, in_ms_of(before), expired.acts, expired.oldest, expired.newest, expired.digest),
    )


def _remove_parts(before: str, tx: Tx) -> int:
    """Remove the parts of months that are over; how many acts and outcomes were in them.

    Waits a moment for who reads, for behind it all acts of others wait.
    """
    rows = 0
    for part in parts_before(tx, in_ms_of(before)):
        rows += int((tx.row(f"SELECT count(*) FROM {part}") or (0,))[0])
        tx.execute("SET LOCAL lock_timeout = '5s'")
        tx.execute(f"DROP TABLE {part}")
    return rows


def _remove_older(before: str, tx: Tx) -> int:
    """Remove the oldest rows; how many. The patients go first: what they belong to says that they may."""
    chosen = "SELECT seq FROM audit_entry WHERE at < ? ORDER BY seq LIMIT ?"
    tx.execute(f"DELETE FROM audit_patient WHERE seq IN ({chosen})", (before, STEP))
    return tx.execute(f"DELETE FROM audit_entry WHERE seq IN ({chosen})", (before, STEP))


def _remove(before: str, tx: Tx) -> int:
    """As for older ones: an act and its outcome are two rows."""
    chosen, params = "SELECT seq FROM audit_act WHERE at < ? ORDER BY seq LIMIT ?", (in_ms_of(before), STEP)
    tx.execute(f"DELETE FROM audit_patient_act WHERE act IN ({chosen})", params)
    outcomes = tx.execute(f"DELETE FROM audit_outcome WHERE act IN ({chosen})", params)
    return outcomes + tx.execute(f"DELETE FROM audit_act WHERE seq IN ({chosen})", params)


def _remove_names(before: str, tx: Tx) -> None:
    """Names of years that are over."""
    chosen = "SELECT number FROM audit_whom WHERE until <= ?"
    tx.execute(f"DELETE FROM audit_patient_whom WHERE whom IN ({chosen})", (in_ms_of(before),))
    for table in NAMES:
        tx.execute(f"DELETE FROM {table} WHERE until <= ?", (in_ms_of(before),))
