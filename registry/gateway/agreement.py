"""Whether copies of a study may stand for one another: only those that say the same of what they hold (D1).

A copy's numbers, its progress and its detail are its holder's own word. So none of them ranks it above
another: where copies differ there is no default, and whoever asks says which is meant. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from crosslight.standards.study import StudyRecord


def agree(records: Sequence[StudyRecord]) -> bool:
    """Whether all of these copies of one study hold the same, as far as each says.

    What one of them does not say is no agreement: a copy of which only the entry is known agrees with none. A
    digest is compared where both have it; who publishes over SOAP, and foreign sources, have none.
    """
    first, *others = records
    return all(_same(first, other) for other in others)


def _same(first: StudyRecord, other: StudyRecord) -> bool:
    if not first.n_instances or first.n_instances != other.n_instances:
        return False
    ours, theirs = _series(first), _series(other)
    if not ours or not theirs or ours.keys() != theirs.keys():
        return False
    return all(_equal(ours[uid], theirs[uid]) for uid in ours)


def _series(record: StudyRecord) -> Mapping[str, tuple[int, str]]:
    return {series.series_uid: (series.n_instances, series.digest) for series in record.series}


def _equal(first: tuple[int, str], other: tuple[int, str]) -> bool:
    (count, digest), (other_count, other_digest) = first, other
    return count == other_count and (digest == other_digest or not digest or not other_digest)
