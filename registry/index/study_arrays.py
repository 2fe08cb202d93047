"""A study as a compact array without names, and back: what the codec compresses (D5, scale.md 1).

Positions are part of the row format: add at the end only, under a new format number.
"""

from __future__ import annotations

import re
from typing import Any

from crosslight.standards.ids import Identifier
from crosslight.standards.study import Coded, Detail, Patient, Progress, SeriesRecord, StudyRecord, StudyTime

_PLAIN = re.compile(r"(?:0|[1-9][0-9]{0,11})\Z")  # a number that comes back as the same text
_DETAILS: tuple[Detail, ...] = ("full", "manifest", "entry")
_PROGRESS: tuple[Progress, ...] = ("complete", "arriving")
_SOP_PREFIX = "1.2.840.10008.5.1.4.1.1."


class Raw:
    """Digests lifted out of the array: 1 stands for the next 20 bytes, 2 for the next 32."""

    def __init__(self, data: bytes = b"") -> None:
        self.data, self._at = bytearray(data), 0

    def lift(self, text: str) -> str | int:
        """Take a digest out; anything else stays in the array as it is."""
        if len(text) not in (40, 64):
            return text
        try:
            data = bytes.fromhex(text)
        except ValueError:
            return text
        if data.hex() != text:  # blanks, capitals
            return text
        self.data += data
        return 1 if len(data) == 20 else 2

    def lower(self, value: str | int) -> str:
        """The inverse of :meth:`lift`, in the same order."""
        if isinstance(value, str):
            return value
        start, self._at = self._at, self._at + (20 if value == 1 else 32)
        return self.data[start : self._at].hex()


def study_array(record: StudyRecord, raw: Raw) -> list[Any]:
    """All of ``record`` but its UID and its patient; digests go into ``raw``."""
    series, home = record.series, record.patient.local.authority
    modalities, sites = (
        {s.modality for s in series if s.modality},
        {s.body_site for s in series if s.body_site},
    )
    return [
        [_id_array(i, home) for i in record.accessions],
        [_id_array(i, home) for i in record.orders],
        record.study_id,
        record.description,
        [[c.value, c.scheme, c.meaning] for c in record.procedure_codes],
        record.reason,
        record.referrer,
        record.institution,
        _time_array(record.time),
        0 if modalities and tuple(sorted(modalities)) == record.modalities else list(record.modalities),
        0 if sites and tuple(sorted(sites)) == record.body_sites else list(record.body_sites),
        0 if series and record.n_series == len(series) else [record.n_series],
        0 if series and record.n_instances == sum([s.n_instances for s in series]) else [record.n_instances],
        _DETAILS.index(record.detail),
        _PROGRESS.index(record.progress),
        _series_arrays(record, raw),
    ]


def study_of(study_uid: str, body: list[Any], raw: Raw, patient: Patient) -> StudyRecord:
    """The inverse of :func:`study_array`."""
    accessions, orders, study_id, description, codes, reason, referrer, institution = body[:8]
    time, modalities, sites, n_series, n_instances, detail, progress, arrays = body[8:16]
    started, home = _time_of(time), patient.local.authority
    series = _series_of(arrays, study_uid, started, raw)
    return StudyRecord(
        study_uid=study_uid,
        patient=patient,
        accessions=tuple(_id_of(i, home) for i in accessions),
        orders=tuple(_id_of(i, home) for i in orders),
        study_id=study_id,
        description=description,
        procedure_codes=tuple(Coded(*c) for c in codes),
        reason=reason,
        referrer=referrer,
        institution=institution,
        time=started,
        modalities=(
            tuple(modalities)
            if modalities != 0
            else tuple(sorted({s.modality for s in series if s.modality}))
        ),
        body_sites=(
            tuple(sites) if sites != 0 else tuple(sorted({s.body_site for s in series if s.body_site}))
        ),
        series=series,
        n_series=n_series[0] if n_series else len(series),
        n_instances=n_instances[0] if n_instances else sum(s.n_instances for s in series),
        detail=_DETAILS[detail],
        progress=_PROGRESS[progress],
    )


def _id_array(identifier: Identifier, home: str) -> list[Any]:
    authority: str | int = (
        1 if identifier.authority and identifier.authority == home else identifier.authority
    )
    return (
        [identifier.value, authority, identifier.namespace]
        if identifier.namespace
        else [identifier.value, authority]
    )


def _id_of(array: list[Any], home: str) -> Identifier:
    return Identifier(array[0], home if array[1] == 1 else array[1], array[2] if len(array) > 2 else "")


def _time_array(time: StudyTime) -> list[str]:
    return [time.date, time.time, time.zone, time.zone_source]


def _time_of(array: list[str]) -> StudyTime:
    return StudyTime(date=array[0], time=array[1], zone=array[2], zone_source=array[3])  # type: ignore[arg-type]  # as _time_array wrote it


def _series_arrays(record: StudyRecord, raw: Raw) -> list[Any]:
    arrays, before, lift = [], record.study_uid, raw.lift
    date, zone, source = record.time.date, record.time.zone, record.time.zone_source
    for s in record.series:
        uid, time, number = s.series_uid, s.time, s.number
        k = _common(before, uid)
        before = uid
        same_day = time.date == date and time.zone == zone and time.zone_source == source
        arrays.append(
            [
                k,
                uid[k:],
                s.modality,
                int(number) if _PLAIN.match(number) else number,
                s.description,
                s.body_site,
                s.laterality,
                s.n_instances,
                _sop_array(s),
                time.time if same_day else _time_array(time),
                lift(s.digest),
            ]
        )
    return arrays


def _series_of(arrays: list[Any], study_uid: str, started: StudyTime, raw: Raw) -> tuple[SeriesRecord, ...]:
    series, before, lower = [], study_uid, raw.lower
    date, zone, source = started.date, started.zone, started.zone_source
    for k, suffix, modality, number, description, site, laterality, n, sops, time, digest in arrays:
        before = before[:k] + suffix
        series.append(
            SeriesRecord(
                series_uid=before,
                modality=modality,
                number=str(number),
                description=description,
                body_site=site,
                laterality=laterality,
                n_instances=n,
                sop_classes=_sops_of(sops, n),
                time=(
                    StudyTime(date=date, time=time, zone=zone, zone_source=source)
                    if isinstance(time, str)
                    else _time_of(time)
                ),
                digest=lower(digest),
            )
        )
    return tuple(series)


def _common(a: str, b: str) -> int:
    """How many characters ``a`` and ``b`` begin with alike."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low


def _sop_array(series: SeriesRecord) -> Any:
    classes = series.sop_classes
    if len(classes) == 1 and classes[0][1] == series.n_instances:
        return _short(classes[0][0])
    return [[_short(uid), n] for uid, n in classes]


def _short(uid: str) -> str:
    return uid[len(_SOP_PREFIX) :] if uid.startswith(_SOP_PREFIX) else f"={uid}"


def _sops_of(array: Any, n: int) -> tuple[tuple[str, int], ...]:
    if isinstance(array, str) and array[:1] != "=":
        return ((_SOP_PREFIX + array, n),)
    pairs = [(array, n)] if isinstance(array, str) else array
    return tuple((uid[1:] if uid.startswith("=") else _SOP_PREFIX + uid, count) for uid, count in pairs)
