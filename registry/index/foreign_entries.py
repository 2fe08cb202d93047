"""The entries of a foreign source's study: several may be current beside each other, and the row shows them
together (D1).

An entry is past when another one replaced it (RPLC) or when it was deprecated, never because a later one
came. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

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
    records = [p.record for p in publications if p.status == "Approved"]
    if len(records) < 2:
        return None
    lead = records[0]
    detail = min((r.detail for r in records), key=_DETAILS.index)
    united = replace(
        lead,
        accessions=_all(r.accessions for r in records),
        orders=_all(r.orders for r in records),
        study_id=_first(r.study_id for r in records),
        description=_first(r.description for r in records),
        procedure_codes=_all(r.procedure_codes for r in records),
        reason=_first(r.reason for r in records),
        referrer=_first(r.referrer for r in records),
        institution=_first(r.institution for r in records),
        time=next((r.time for r in records if r.time.interval() is not None), lead.time),
        modalities=tuple(sorted({m for r in records for m in r.modalities})),
        body_sites=tuple(sorted({s for r in records for s in r.body_sites})),
        progress="arriving" if any(r.progress == "arriving" for r in records) else "complete",
    )
    modalities, sites = united.modalities, united.body_sites
    united = replace(
        united.with_series(_series(records), detail=detail), modalities=modalities, body_sites=sites
    )
    return united if detail != "entry" else replace(united, n_series=0, n_instances=0)


def _series(records: Iterable[StudyRecord]) -> list[SeriesRecord]:
    found: dict[str, SeriesRecord] = {}
    for record in records:
        for series in record.series:
            held = found.get(series.series_uid)
            if held is None or series.n_instances > held.n_instances:
                found[series.series_uid] = series
    return list(found.values())


def _all(values: Iterable[tuple[T, ...]]) -> tuple[T, ...]:
    """Each once, in the order in which they are first said."""
    return tuple(dict.fromkeys(one for some in values for one in some))


def _first(texts: Iterable[str]) -> str:
    return next((text for text in texts if text), "")
