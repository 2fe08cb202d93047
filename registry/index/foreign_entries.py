"""The entries of a foreign source's study: several may be current beside each other (D1).

The row shows them together.

An entry is past when another one replaced it (RPLC) or when it was deprecated, never because a later one
came. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from crosslight.standards.records import changed
from crosslight.standards.study import Detail, SeriesRecord, StudyRecord
from crosslight.standards.xds.model.publication import Publication
from registry.index.past_versions import State

T = TypeVar("T")
_DETAILS: tuple[Detail, ...] = ("entry", "manifest", "full")


def arranged(states: Sequence[State]) -> list[State]:
    """The same entries, one that leads first: the newest Approved, the newest of all where none is."""
    lead = next((state for state in states if state["status"] == "Approved"), states[0])
    return [lead, *(state for state in states if state is not lead)]


def with_status(states: Sequence[State], entry_uuid: str, status: str) -> list[State]:
    """The same entries, one of them Approved or Deprecated."""
    return [
        {**state, "status": status} if state["ids"]["entry_uuid"] == entry_uuid else state for state in states
    ]


def together(publications: Sequence[Publication]) -> StudyRecord | None:
    """What the Approved entries of a study, the leading one first, say together; None where one says it all.

    A series that several manifests name is told by the one that names most of it: a manifest of key images
    names a part. Counts of the study are left out until every manifest was read, for until then they would be
    of a part.
    """
    records = [publication.record for publication in publications if publication.status == "Approved"]
    if len(records) < 2:
        return None
    lead = records[0]
    detail = min((record.detail for record in records), key=_DETAILS.index)
    united = changed(
        lead,
        accessions=_all(record.accessions for record in records),
        orders=_all(record.orders for record in records),
        study_id=_first(record.study_id for record in records),
        description=_first(record.description for record in records),
        procedure_codes=_all(record.procedure_codes for record in records),
        reason=_first(record.reason for record in records),
        referrer=_first(record.referrer for record in records),
        institution=_first(record.institution for record in records),
        time=next((record.time for record in records if record.time.interval() is not None), lead.time),
        modalities=tuple(sorted({modality for record in records for modality in record.modalities})),
        body_sites=tuple(sorted({site for record in records for site in record.body_sites})),
        progress="arriving" if any(record.progress == "arriving" for record in records) else "complete",
    )
    modalities, sites = united.modalities, united.body_sites
    united = changed(
        united.with_series(_series(records), detail=detail), modalities=modalities, body_sites=sites
    )
    return united if detail != "entry" else changed(united, n_series=0, n_instances=0)


def _series(records: Iterable[StudyRecord]) -> list[SeriesRecord]:
    by_uid: dict[str, SeriesRecord] = {}
    for record in records:
        for series in record.series:
            known = by_uid.get(series.series_uid)
            if known is None or series.n_instances > known.n_instances:
                by_uid[series.series_uid] = series
    return list(by_uid.values())


def _all(values: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    """Each once, in the order in which they are first said."""
    return tuple(dict.fromkeys(value for group in values for value in group))


def _first(texts: Iterable[str]) -> str:
    return next((text for text in texts if text), "")
