"""Which holdings say another thing than the same study elsewhere (D1)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from crosslight.runtime.db import Tx
from crosslight.standards.ids import MemberId
from registry.index.read import Reader
from registry.index.rows import ARRIVING, DEPRECATED, Loaded, RowKey, chunks, marks
from registry.index.statements import TWICE

PersonsOf = Callable[[Collection[Loaded]], dict[RowKey, int]]  # row -> whose study it is


def in_conflict(
    reader: Reader,
    tx: Tx,
    loaded: Iterable[Loaded],
    persons_of: PersonsOf,
    foreign: Callable[[MemberId], bool],
) -> set[RowKey]:
    """Keys of those holdings whose study is held elsewhere with another patient, count or digest (D1).

    A member's is compared with members' alone, an outside source's with all: who may register any UID marks
    itself and no member. Decided when asked: links between patients change without any holding changing.
    """
    known = {holding.row.key: holding for holding in loaded}
    places: dict[int, set[RowKey]] = {}
    for batch in chunks(_held_twice(tx, {key[1] for key in known})):
        sql = (
            "SELECT record_key, study_hash, member_id FROM holding"
            f" WHERE study_hash IN ({marks(batch)}) AND flags & 1 = 0"
        )
        for record, study, member in tx.rows(sql, batch):
            places.setdefault(study, set()).add((record, study, member))
    elsewhere = [study for study, keys in places.items() if any(key not in known for key in keys)]
    for batch in chunks(elsewhere):
        for holding in reader.select(
            tx, f"h.study_hash IN ({marks(batch)}) AND h.flags & {DEPRECATED} = 0", batch
        ):
            known.setdefault(holding.row.key, holding)
    studies: dict[str, list[Loaded]] = {}
    for holding in known.values():
        if not holding.row.flags & DEPRECATED:
            studies.setdefault(holding.holding.study_uid, []).append(holding)
    shared = [holdings for holdings in studies.values() if len(holdings) > 1]
    if not shared:
        return set()
    persons = persons_of([holding for holdings in shared for holding in holdings])
    marked = {h.row.key for holdings in shared if _differ(holdings, persons) for h in holdings}
    for holdings in shared:
        ours = [holding for holding in holdings if not foreign(holding.holding.member)]
        if ours and not _differ(ours, persons):
            marked -= {holding.row.key for holding in ours}
    return marked


def _held_twice(tx: Tx, studies: Collection[int]) -> list[int]:
    """Those of these studies that have several holdings."""
    shared: list[int] = []
    for batch in chunks(studies):
        shared += [int(row[0]) for row in tx.rows(TWICE.format(marks(batch)), batch)]
    return shared


def _differ(holdings: Sequence[Loaded], persons: dict[RowKey, int]) -> bool:
    if len({persons.get(holding.row.key) for holding in holdings}) > 1:
        return True
    settled = [holding.holding.record for holding in holdings if not holding.row.flags & ARRIVING]
    counts = {record.n_instances for record in settled if record.n_instances}
    described = {
        frozenset((s.series_uid, s.digest) for s in record.series)
        for record in settled
        if record.detail == "full" and record.series and all(s.digest for s in record.series)
    }
    return len(counts) > 1 or len(described) > 1
