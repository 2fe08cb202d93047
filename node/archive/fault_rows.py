"""Rows of what is missing or damaged (``fault``), and of how far the reading of all objects is (``care``)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from crosslight.runtime.db import Tx
from node.archive.model import Fault

#: Whether a row of ``instance`` is of an object that is missing or damaged.
FAULTY: Final = "EXISTS (SELECT 1 FROM fault WHERE fault.sha256 = instance.sha256)"
_AT_ONCE = 500  # SOP Instance UIDs of one statement
#: Rows of the bin whose files are being purged, or may be at any moment, are nobody's fault.
STANDS = "sha256 <> x'' AND (binned = 0 OR binned IN (SELECT id FROM bin WHERE deleted_unix > ?))"


@dataclass(frozen=True, slots=True, kw_only=True)
class CareState:
    """How far the reading of every object is. Times are Unix; 0 = never."""

    began_unix: float  # of the reading that goes on, or of the last one
    last_id: int
    through_id: int
    objects: int  # of this reading, as are the next two
    bytes: int
    faults: int
    whole_unix: float  # end of the last whole reading
    whole_objects: int
    whole_bytes: int
    whole_faults: int
    standing: int  # objects that are missing or damaged now

    @property
    def going(self) -> bool:
        """Whether a reading has begun and not ended."""
        return self.last_id < self.through_id

    @property
    def share(self) -> float:
        """The part that is read, 0 to 1."""
        return self.last_id / self.through_id if self.through_id else 0.0


def state_tx(tx: Tx) -> CareState:
    """The reading of now."""
    row = tx.row(
        "SELECT began_unix, last_id, through_id, objects, bytes, faults, whole_unix, whole_objects,"
        " whole_bytes, whole_faults, (SELECT COUNT(*) FROM fault) FROM care WHERE id = 1"
    )
    assert row is not None  # noqa: S101 - the delta that makes the table fills it
    names = CareState.__dataclass_fields__
    return CareState(**dict(zip(names, row, strict=True)))


def begin_tx(tx: Tx, now_unix: float) -> None:
    """A reading begins: of all rows that there are now."""
    tx.execute(
        "UPDATE care SET began_unix = ?, last_id = 0, objects = 0, bytes = 0, faults = 0,"
        " through_id = (SELECT COALESCE(MAX(id), 0) FROM instance) WHERE id = 1",
        (now_unix,),
    )


def page_tx(tx: Tx, after: int, through: int, due_unix: float, limit: int) -> list[tuple[int, Fault]]:
    """The next rows after the row ``after``, each as the fault that it would be."""
    rows = tx.rows(
        f"SELECT id, study_uid, sop_uid, sha256, dataset_offset, size_bytes FROM instance WHERE id > ?"
        f" AND id <= ? AND {STANDS} ORDER BY id LIMIT ?",
        (after, through, due_unix, limit),
    )
    return [(row[0], Fault("damaged", *row[1:])) for row in rows]


def read_tx(tx: Tx, last_id: int, objects: int, size: int, faults: int) -> None:
    """So many more objects were read, up to the row ``last_id``."""
    tx.execute(
        "UPDATE care SET last_id = MAX(last_id, ?), objects = objects + ?, bytes = bytes + ?,"
        " faults = faults + ? WHERE id = 1",
        (last_id, objects, size, faults),
    )


def end_tx(tx: Tx, now_unix: float) -> None:
    """The reading is whole."""
    tx.execute(
        "UPDATE care SET last_id = through_id, whole_unix = ?, whole_objects = objects, whole_bytes = bytes,"
        " whole_faults = faults WHERE id = 1",
        (now_unix,),
    )


# --- faults -------------------------------------------------------------------------------------------------


def add_fault_tx(tx: Tx, fault: Fault, due_unix: float, now_unix: float) -> bool:
    """An object is missing or damaged; False where no row that stays names it (any more)."""
    if not stands_tx(tx, fault.sha256, due_unix):
        return False
    tx.execute(
        "INSERT INTO fault (sha256, kind, found_unix) VALUES (?, ?, ?) ON CONFLICT (sha256) DO UPDATE SET"
        " kind = excluded.kind",
        (fault.sha256, fault.kind, now_unix),
    )
    return True


def stands_tx(tx: Tx, sha256: bytes, due_unix: float) -> bool:
    """Whether a row that stays names this object: none that has been in the bin since before ``due_unix``."""
    sql = f"SELECT 1 FROM instance WHERE sha256 = ? AND {STANDS} LIMIT 1"
    return tx.row(sql, (sha256, due_unix)) is not None


def forget_fault_tx(tx: Tx, sha256: bytes) -> bool:
    """It is whole again; whether it was not."""
    return bool(tx.execute("DELETE FROM fault WHERE sha256 = ?", (sha256,)))


def forget_strays_tx(tx: Tx) -> None:
    """Forget faults of objects that no row names any more."""
    tx.execute(
        "DELETE FROM fault WHERE NOT EXISTS (SELECT 1 FROM instance WHERE instance.sha256 = fault.sha256)"
    )


def faults_tx(tx: Tx, limit: int) -> list[tuple[Fault, float]]:
    """What is missing or damaged, the newest first, and when that was found."""
    rows = tx.rows(
        "SELECT fault.kind, MIN(i.study_uid), MIN(i.sop_uid), fault.sha256, MIN(i.dataset_offset),"
        " MIN(i.size_bytes), fault.found_unix FROM fault JOIN instance i ON i.sha256 = fault.sha256"
        " GROUP BY fault.sha256 ORDER BY fault.found_unix DESC, fault.sha256 LIMIT ?",
        (limit,),
    )
    return [(Fault(*row[:6]), row[6]) for row in rows]


def faulty_tx(tx: Tx, sop_uids: Sequence[str]) -> set[str]:
    """Those of these instances whose objects are missing or damaged."""
    faulty: set[str] = set()
    for start in range(0, len(sop_uids), _AT_ONCE):
        page = sop_uids[start : start + _AT_ONCE]
        marks = ",".join("?" * len(page))
        sql = f"SELECT sop_uid FROM instance WHERE sop_uid IN ({marks}) AND binned = 0 AND {FAULTY}"
        faulty.update(row[0] for row in tx.rows(sql, page))
    return faulty
