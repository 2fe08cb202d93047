"""Rows of what lies in the object store (``carried``), and of how far the carrying is (``carriage``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from crosslight.runtime.clock import Ids
from crosslight.runtime.db import Tx
from node.archive.fault_rows import FAULTY, STANDS, forget_fault_tx
from node.archive.model import Fault

_NOT_CARRIED: Final = "NOT EXISTS (SELECT 1 FROM carried WHERE carried.sha256 = instance.sha256)"
_WAITS: Final = f"sha256 <> x'' AND {_NOT_CARRIED}"
_FAULT: Final = "study_uid, sop_uid, sha256, dataset_offset, size_bytes"


@dataclass(frozen=True, slots=True, kw_only=True)
class CarriageState:
    """How much lies in the object store."""

    archive_id: str
    through_id: int
    objects: int  # in the object store
    bytes: int
    here_bytes: int  # of them, on the disk too
    home: bool  # whether all come back to the disk
    waiting: int  # objects that are on the disk alone
    waiting_bytes: int


def state_tx(tx: Tx, *, wanted: bool) -> CarriageState:
    """How far it is; nothing waits where no object store is ``wanted``."""
    row = tx.row("SELECT archive_id, through_id, objects, bytes, here_bytes, home FROM carriage WHERE id = 1")
    assert row is not None  # noqa: S101 - the delta that makes the table fills it
    sql = (
        "SELECT COUNT(*), COALESCE(SUM(dataset_offset + size_bytes), 0) FROM instance"
        f" WHERE id > ? AND {_WAITS} AND NOT {FAULTY}"
    )
    waiting = (tx.row(sql, (row[1],)) if wanted else None) or (0, 0)
    return CarriageState(
        archive_id=row[0],
        through_id=row[1],
        objects=row[2],
        bytes=row[3],
        here_bytes=row[4],
        home=bool(row[5]),
        waiting=waiting[0],
        waiting_bytes=waiting[1],
    )


def archive_id_tx(tx: Tx, ids: Ids) -> tuple[str, int]:
    """The archive's own id, made when it is first asked for; and how many objects lie in the object store."""
    tx.execute("UPDATE carriage SET archive_id = ? WHERE archive_id = ''", (ids.uuid4().hex,))
    archive_id, objects = tx.row("SELECT archive_id, objects FROM carriage WHERE id = 1") or ("", 0)
    return str(archive_id), int(objects)


def objects_tx(tx: Tx) -> int:
    """How many objects lie in the object store."""
    return int((tx.row("SELECT objects FROM carriage WHERE id = 1") or (0,))[0])


def waiting_tx(tx: Tx, after: int, through: int, due_unix: float, limit: int) -> list[tuple[int, Fault]]:
    """The next objects that are on the disk alone, of the rows after ``after`` up to ``through``."""
    rows = tx.rows(
        f"SELECT id, {_FAULT} FROM instance WHERE id > ? AND id <= ? AND {_WAITS} AND NOT {FAULTY}"
        f" AND {STANDS} ORDER BY id LIMIT ?",
        (after, through, due_unix, limit),
    )
    return [(row[0], Fault("damaged", *row[1:])) for row in rows]


def last_id_tx(tx: Tx) -> tuple[int, int]:
    """The newest row, and the one up to which all were looked at."""
    last = tx.row("SELECT COALESCE(MAX(id), 0) FROM instance") or (0,)
    through = tx.row("SELECT through_id FROM carriage WHERE id = 1") or (0,)
    return int(last[0]), int(through[0])


def through_tx(tx: Tx, noted: int, number: int) -> None:
    """All rows up to ``number`` were looked at; unless something was to be carried again since ``noted``."""
    tx.execute("UPDATE carriage SET through_id = ? WHERE id = 1 AND through_id = ?", (number, noted))


def here_bytes_tx(tx: Tx) -> tuple[int, bool]:
    """Bytes of what both places have; and whether all come back to the disk."""
    here, home = tx.row("SELECT here_bytes, home FROM carriage WHERE id = 1") or (0, 0)
    return int(here), bool(home)


def turn_tx(tx: Tx, *, home: bool) -> None:
    """From now on all come back to the disk, or go to the object store again."""
    tx.execute("UPDATE carriage SET home = ?, through_id = 0 WHERE id = 1", (int(home),))


def absent_tx(tx: Tx, limit: int) -> list[Fault]:
    """Objects that the disk has not and nothing is wrong with, as the faults that they would be."""
    rows = tx.rows(
        f"SELECT MIN(study_uid), MIN(sop_uid), instance.sha256, MIN(dataset_offset), MIN(size_bytes) FROM"
        f" carried JOIN instance ON instance.sha256 = carried.sha256 WHERE here = 0 AND NOT {FAULTY}"
        f" GROUP BY instance.sha256 LIMIT ?",
        (limit,),
    )
    return [Fault("damaged", *row) for row in rows]


def here_page_tx(tx: Tx, limit: int) -> list[bytes]:
    """Objects that the disk is said to have and nothing is wrong with."""
    sql = (
        "SELECT sha256 FROM carried WHERE here = 1 AND NOT EXISTS"
        " (SELECT 1 FROM fault WHERE fault.sha256 = carried.sha256) LIMIT ?"
    )
    return [row[0] for row in tx.rows(sql, (limit,))]


def forget_all_tx(tx: Tx, digests: Sequence[bytes]) -> None:
    """Rely on the object store no more for these, which the disk has."""
    tx.executemany("DELETE FROM carried WHERE sha256 = ?", [(sha256,) for sha256 in digests])


def is_whole_tx(tx: Tx, sha256: bytes) -> bool:
    """Whether the object store has an object, and nothing is known to be wrong with it."""
    sql = (
        "SELECT 1 FROM carried WHERE sha256 = ? AND NOT EXISTS"
        " (SELECT 1 FROM fault WHERE fault.sha256 = carried.sha256)"
    )
    return tx.row(sql, (sha256,)) is not None


def is_carried_tx(tx: Tx, sha256: bytes) -> bool:
    """Whether an object lies in the object store."""
    return tx.row("SELECT 1 FROM carried WHERE sha256 = ?", (sha256,)) is not None


def add_tx(tx: Tx, sha256: bytes, size: int, *, here: bool, now_unix: float) -> bool:
    """An object lies in the object store, whole; False where no row of an instance names it (any more)."""
    if tx.row("SELECT 1 FROM instance WHERE sha256 = ? LIMIT 1", (sha256,)) is None:
        return False
    tx.execute(
        "INSERT INTO carried (sha256, size, here, used_unix) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (sha256) DO UPDATE SET here = excluded.here, used_unix = excluded.used_unix",
        (sha256, size, int(here), now_unix),
    )
    return True


def note_tx(tx: Tx, sha256: bytes, size: int, now_unix: float) -> None:
    """An object was found whole in the object store; what is known of it already stays."""
    if not is_carried_tx(tx, sha256):
        add_tx(tx, sha256, size, here=False, now_unix=now_unix)


def forget_tx(tx: Tx, sha256: bytes) -> None:
    """An object does not lie in the object store any more, or not whole: what is here is to be carried."""
    if tx.execute("DELETE FROM carried WHERE sha256 = ?", (sha256,)):
        tx.execute(
            "UPDATE carriage SET through_id = MIN(through_id, (SELECT COALESCE(MIN(id) - 1, through_id) FROM"
            " instance WHERE sha256 = ?)) WHERE id = 1",
            (sha256,),
        )


def here_tx(tx: Tx, changed: Sequence[tuple[bytes, bool]], now_unix: float) -> None:
    """Objects came to the disk, or went from it."""
    for sha256, here in changed:
        tx.execute(
            "UPDATE carried SET here = ?, used_unix = ? WHERE sha256 = ? AND here <> ?",
            (int(here), now_unix, sha256, int(here)),
        )


def used_tx(tx: Tx, study_uids: Sequence[str], now_unix: float) -> None:
    """Studies were opened: what the disk has of them goes last."""
    for study_uid in study_uids:
        tx.execute(
            "UPDATE carried SET used_unix = ? WHERE here = 1 AND sha256 IN"
            " (SELECT sha256 FROM instance WHERE study_uid = ?)",
            (now_unix, study_uid),
        )


def eldest_tx(tx: Tx, limit: int) -> list[tuple[bytes, int, str]]:
    """(digest, size, a study) of what both places have and was not used for longest."""
    rows = tx.rows(
        "SELECT sha256, size, (SELECT study_uid FROM instance WHERE instance.sha256 = carried.sha256 LIMIT 1)"
        " FROM carried WHERE here = 1 AND NOT EXISTS (SELECT 1 FROM fault WHERE fault.sha256 ="
        " carried.sha256) ORDER BY used_unix LIMIT ?",
        (limit,),
    )
    return [(row[0], row[1], row[2] or "") for row in rows]


def below_tx(tx: Tx, prefix: str) -> list[tuple[bytes, bool]]:
    """Digests that begin with two hex digits, and whether the disk is said to have each."""
    span = (bytes.fromhex(prefix) + bytes(31), bytes.fromhex(prefix) + b"\xff" * 31)
    rows = tx.rows("SELECT sha256, here FROM carried WHERE sha256 BETWEEN ? AND ?", span)
    return [(row[0], bool(row[1])) for row in rows]


def healed_here_tx(tx: Tx, sha256: bytes) -> bool:
    """A whole file on the disk heals an object: what the object store has is not relied on.

    Whether there was something to heal.
    """
    if healed := forget_fault_tx(tx, sha256):
        forget_tx(tx, sha256)
    return healed
