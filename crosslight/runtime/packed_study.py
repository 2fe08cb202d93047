"""A study in the index feed as one text that is read and bounded in C: ``PublishStudy.packed`` (ADR 0059).

It says what the messages of ``feed.proto`` say, all but the patient, as a JSON array by place. Who packs
tries first whether it will be read; a study of which it is not sure goes in messages, as before.
"""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Meta

from crosslight.runtime.wire import MAX_LIST, MAX_SERIES, MAX_TEXT, MAX_UID, known_zone
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError, Invalid, TooLarge
from crosslight.standards.study import (
    Coded,
    Detail,
    Patient,
    Progress,
    SeriesRecord,
    StudyRecord,
    StudyTime,
    ZoneSource,
)

#: The form that is written and read here, as ``PublishReply.packed`` tells. Another form has another number.
PACKED = 1

_UIDS = re.compile(r"(?:[0-9]++(?:\.[0-9]++)*+\n)*+\Z")  # each on a line of its own
_Uid = Annotated[str, Meta(max_length=MAX_UID)]  # its form is looked at for all together
_Text = Annotated[str, Meta(max_length=MAX_TEXT)]
_Count = Annotated[int, Meta(ge=0, lt=1 << 32)]
_Texts = Annotated[tuple[_Text, ...], Meta(max_length=MAX_LIST)]
_Value = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]
_Ids = Annotated[tuple[tuple[_Value, _Uid, _Text], ...], Meta(max_length=MAX_LIST)]


class _BoundedTime(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    date: _Text
    time: _Text
    zone: _Text
    zone_source: ZoneSource


class _BoundedSeries(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    series_uid: _Uid
    modality: _Text
    number: _Text
    description: _Text
    body_site: _Text
    laterality: _Text
    n_instances: _Count
    sop_classes: Annotated[tuple[tuple[_Uid, _Count], ...], Meta(max_length=MAX_LIST)]
    time: _BoundedTime
    digest: _Text


class _Bounded(msgspec.Struct, array_like=True, forbid_unknown_fields=True):
    """What a packed study may hold."""

    study_uid: _Uid
    accessions: _Ids
    orders: _Ids
    study_id: _Text
    description: _Text
    procedure_codes: Annotated[tuple[tuple[_Text, _Text, _Text], ...], Meta(max_length=MAX_LIST)]
    reason: _Text
    referrer: _Text
    institution: _Text
    time: _BoundedTime
    modalities: _Texts
    body_sites: _Texts
    series: Annotated[tuple[_BoundedSeries, ...], Meta(max_length=MAX_SERIES)]
    n_series: _Count
    n_instances: _Count
    detail: Detail
    progress: Progress


class _Packed(msgspec.Struct, array_like=True):
    """The same in the records' own types, read once the bounds are known to hold."""

    study_uid: str
    accessions: tuple[tuple[str, str, str], ...]
    orders: tuple[tuple[str, str, str], ...]
    study_id: str
    description: str
    procedure_codes: tuple[Coded, ...]
    reason: str
    referrer: str
    institution: str
    time: StudyTime
    modalities: tuple[str, ...]
    body_sites: tuple[str, ...]
    series: tuple[SeriesRecord, ...]
    n_series: int
    n_instances: int
    detail: Detail
    progress: Progress


_BOUNDED, _PACKED = msgspec.json.Decoder(_Bounded), msgspec.json.Decoder(_Packed)
_ENCODER = msgspec.json.Encoder()


def packed_study(record: StudyRecord) -> bytes:
    """``record`` without its patient, packed; b'' where a reader might not take it so."""
    packed = _ENCODER.encode(
        _Packed(
            study_uid=record.study_uid,
            accessions=_plain_ids(record.accessions),
            orders=_plain_ids(record.orders),
            study_id=record.study_id,
            description=record.description,
            procedure_codes=record.procedure_codes,
            reason=record.reason,
            referrer=record.referrer,
            institution=record.institution,
            time=record.time,
            modalities=record.modalities,
            body_sites=record.body_sites,
            series=record.series,
            n_series=record.n_series,
            n_instances=record.n_instances,
            detail=record.detail,
            progress=record.progress,
        )
    )
    try:
        study_from_packed(packed, record.patient)
    except CrosslightError:
        return b""
    return packed


def study_from_packed(data: bytes, patient: Patient) -> StudyRecord:
    """The study that was packed, of ``patient``.

    Raises:
        Invalid: for anything that is none. TooLarge: over the bounds of ``wire.py``.
    """
    try:
        _BOUNDED.decode(data)
        packed = _PACKED.decode(data)
    except (msgspec.DecodeError, RecursionError) as error:  # it says where and what, never a value
        why = "" if isinstance(error, RecursionError) else str(error)
        kind = TooLarge if "length <=" in why else Invalid
        raise kind("A packed study cannot be read.", why=why, where="publish.packed") from None
    time, series = packed.time, packed.series
    for zone in {time.zone, *[s.time.zone for s in series]} - {""}:
        known_zone(zone)
    _check_uids(packed)
    return StudyRecord(
        study_uid=packed.study_uid,
        patient=patient,
        accessions=tuple([Identifier(*parts) for parts in packed.accessions]),
        orders=tuple([Identifier(*parts) for parts in packed.orders]),
        study_id=packed.study_id,
        description=packed.description,
        procedure_codes=packed.procedure_codes,
        reason=packed.reason,
        referrer=packed.referrer,
        institution=packed.institution,
        time=time,
        modalities=packed.modalities,
        body_sites=packed.body_sites,
        series=series,
        n_series=packed.n_series,
        n_instances=packed.n_instances,
        detail=packed.detail,
        progress=packed.progress,
    )


def _check_uids(packed: _Packed) -> None:
    uids = {packed.study_uid, *[s.series_uid for s in packed.series]}
    uids |= {uid for s in packed.series for uid, _ in s.sop_classes}
    uids |= {parts[1] for parts in (*packed.accessions, *packed.orders) if parts[1]}
    lines = "\n".join([*uids, ""])
    if lines.count("\n") != len(uids) or _UIDS.match(lines) is None:
        raise Invalid("A UID or an authority of a packed study is none.", why="PS3.5 9.1: digits and dots.")


def _plain_ids(identifiers: tuple[Identifier, ...]) -> tuple[tuple[str, str, str], ...]:
    return tuple([(i.value, i.authority, i.namespace) for i in identifiers])
