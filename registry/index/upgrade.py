"""What a delta cannot do in SQL: rows of an earlier release are brought to what this one keeps. Once.

It belongs to delta 0003.

Several processes may start at the same time: the first one does it, in one transaction, the others wait for
their turn.
"""

from __future__ import annotations

from datetime import datetime

from crosslight.runtime.db import Tx
from crosslight.standards.ids import MemberId
from registry.index.read import Reader
from registry.index.rows import UNITED
from registry.index.write import Work
from registry.index.xds_objects import Objects

_DONE = "entries_united"


def upgrade(tx: Tx, reader: Reader, objects: Objects, now: datetime) -> bool:
    """Whether there was something to do."""
    taken = tx.execute(
        "INSERT INTO registry_meta (name, value) VALUES (?, '1') ON CONFLICT DO NOTHING", (_DONE,)
    )
    if not taken:
        return False
    objects.follow_all(tx, now)
    _unite(tx, reader, now)
    return True


def _unite(tx: Tx, reader: Reader, now: datetime) -> None:
    """Manifests that stood Approved behind a later one are shown with it."""
    sql = (
        "SELECT DISTINCT h.record_key, h.study_hash, h.member_id FROM holding h JOIN past_version p ON"
        " p.record_key = h.record_key AND p.study_hash = h.study_hash AND p.member_id = h.member_id WHERE"
        " h.version = -1"
    )
    work = Work(reader, tx, now)
    places = tx.rows(sql)
    work.lock({MemberId(place[2]) for place in places})
    for place in places:
        (loaded,) = reader.select(tx, "h.record_key = ? AND h.study_hash = ? AND h.member_id = ?", place)
        if not loaded.row.flags & UNITED and reader.with_past(tx, [loaded])[0].siblings:
            work.rearrange(
                work.entry_under(loaded.holding.member, loaded.holding.study_uid, loaded.holding.record_key)
            )
    work.flush()
