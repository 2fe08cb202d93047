"""Superseded versions as deltas to their successors (D6). Pure.

A publication becomes plain data; of a superseded one only what differs from its successor is kept, attribute
by attribute and series by series, so that it can be filtered and rendered as it was submitted.
"""

from __future__ import annotations

from typing import Any

from crosslight.standards.ids import Version
from crosslight.standards.records import changed
from crosslight.standards.study import (
    ManifestFacts,
    Patient,
    StudyRecord,
    patient_to_json,
    record_from_json,
    record_to_json,
    series_order,
)
from crosslight.standards.xds.model.publication import Publication, Source
from registry.index.codec import fold_ids, unfold_ids

State = dict[str, Any]


def state_of(publication: Publication, digest: str, patient_n: int, secret: bytes) -> State:
    """A publication as plain data; the patient is named by its number among the record's texts."""
    record = record_to_json(publication.record)
    del record["patient"]
    series = {
        s["series_uid"]: {k: v for k, v in s.items() if k != "series_uid"} for s in record.pop("series", [])
    }
    replaces, ids = fold_ids(publication, secret)
    manifest = publication.manifest
    state: State = {
        "record": record,
        "series": series,
        "patient": patient_n,
        "digest": digest,
        "manifest": [manifest.sha1, manifest.size_bytes, manifest.creation_time],
        "submitted": publication.submission_time,
        "version": str(publication.version) if publication.version else "",
        "replaces": replaces,
        "ids": ids,
        "status": publication.status,
        "extras": publication.extras,
        "manifest_extra": manifest.extra,
    }
    order = [s.series_uid for s in publication.record.series]
    if order != [s.series_uid for s in sorted(publication.record.series, key=series_order)]:
        state["order"] = order
    return state


def publication_of(state: State, patient: Patient, source: Source, secret: bytes) -> tuple[Publication, str]:
    """The inverse of :func:`state_of`: the publication and its content digest."""
    record = record_from_json(
        {**state["record"], "patient": patient_to_json(patient), "series": _series_list(state)}
    )
    version = Version.parse(state["version"]) if state["version"] else None
    ids = unfold_ids(state["ids"], version, state["replaces"], secret, record.study_uid)
    sha1, size, created = state["manifest"]
    manifest = ManifestFacts(
        document_uid=ids.pop("document_uid"),
        sha1=sha1,
        size_bytes=size,
        creation_time=created,
        extra=state["manifest_extra"],
    )
    publication = Publication(
        source=source,
        record=_with_patient(record, patient, state),
        manifest=manifest,
        version=version,
        submission_time=state["submitted"],
        status=state["status"],
        extras=state["extras"],
        **ids,
    )
    return publication, state["digest"]


def _with_patient(record: StudyRecord, patient: Patient, state: State) -> StudyRecord:
    series = record.series if "order" in state else tuple(sorted(record.series, key=series_order))
    return changed(record, patient=patient, series=series)


def _series_list(state: State) -> list[dict[str, Any]]:
    uids = state.get("order") or list(state["series"])
    return [{"series_uid": uid, **state["series"][uid]} for uid in uids]


def packed(successor: State, own: State) -> list[Any]:
    """What is kept of ``own``: its status, which follows no successor's, and how it differs."""
    return [own["status"], delta(successor, {**own, "status": successor["status"]})]


def unpacked(successor: State, kept: list[Any]) -> State:
    """The inverse of :func:`packed`."""
    return {**undo(successor, kept[1]), "status": kept[0]}


def delta(successor: Any, own: Any) -> Any:
    """What turns ``successor`` into ``own``.

    It is ``{"-": keys it lacks, "=": values of its own, "~": nested deltas}``.
    """
    out: dict[str, Any] = {}
    missing = sorted(successor.keys() - own.keys())
    if missing:
        out["-"] = missing
    for key, value in own.items():
        if key in successor and successor[key] == value:
            continue
        if key in successor and isinstance(value, dict) and isinstance(successor[key], dict):
            out.setdefault("~", {})[key] = delta(successor[key], value)
        else:
            out.setdefault("=", {})[key] = value
    return out


def undo(successor: Any, change: Any) -> Any:
    """The state of which :func:`delta` was taken."""
    own = {k: v for k, v in successor.items() if k not in change.get("-", ())}
    own |= change.get("=", {})
    for key, nested in change.get("~", {}).items():
        own[key] = undo(successor[key], nested)
    return own
