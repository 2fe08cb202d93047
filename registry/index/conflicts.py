"""Which holdings say another thing than the same study elsewhere (D1)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from crosslight.runtime.db import Tx
from registry.index.read import Reader
from registry.index.rows import ARRIVING, DEPRECATED, Loaded, chunks, marks

PersonsOf = Callable[[Collection[Loaded]], dict[tuple[int, int, int], int]]  # row -> whose study it is


def in_conflict(
    reader: Reader, tx: Tx, loaded: Iterable[Loaded], persons_of: PersonsOf
) -> set[tuple[int, int, int]]:
    """Keys of those holdings whose study is held elsewhere with another patient, count or digest (D1).

    Decided when asked: links between patients change without any holding changing.
    """
    known = {one.row.key: one for one in loaded}
    places: dict[int, set[tuple[int, int, int]]] = {}
    for part in chunks({key[1] for key in known}):
        sql = (
            f"SELECT record_key, study_hash, member_id FROM holding WHERE study_hash IN ({marks(part)}) AND"
            " flags & 1 = 0"
        )
        for row in tx.rows(sql, part):
            places.setdefault(row[1], set()).add((row[0], row[1], row[2]))
    elsewhere = [study for study, keys in places.items() if any(key not in known for key in keys)]
    for part in chunks(elsewhere):
        for one in reader.select(tx, f"h.study_hash IN ({marks(part)}) AND h.flags & {DEPRECATED} = 0", part):
            known.setdefault(one.row.key, one)
    studies: dict[str, list[Loaded]] = {}
    for one in known.values():
        if not one.row.flags & DEPRECATED:
            studies.setdefault(one.holding.study_uid, []).append(one)
    shared = [holdings for holdings in studies.values() if len(holdings) > 1]
    if not shared:
        return set()
    persons = persons_of([one for holdings in shared for one in holdings])
    return {one.row.key for holdings in shared if _differ(holdings, persons) for one in holdings}


def _differ(holdings: Sequence[Loaded], persons: dict[tuple[int, int, int], int]) -> bool:
    if len({persons.get(one.row.key) for one in holdings}) > 1:
        return True
    settled = [one.holding.record for one in holdings if not one.row.flags & ARRIVING]
    counts = {record.n_instances for record in settled if record.n_instances}
    described = {
        frozenset((s.series_uid, s.digest) for s in record.series)
        for record in settled
        if record.detail == "full" and record.series and all(s.digest for s in record.series)
    }
    return len(counts) > 1 or len(described) > 1
