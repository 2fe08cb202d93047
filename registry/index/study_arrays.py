"""A study as a compact array without names, and back: what the codec compresses (D5, scale.md 1).

Positions are part of the row format: add at the end only, under a new format number. It is written as lists
and read as typed records, in C (ADR 0049).
"""

from __future__ import annotations

import re
from typing import Any

from crosslight.standards.ids import Identifier
from crosslight.standards.records import FrozenRecord
from crosslight.standards.study import Coded, Detail, Patient, Progress, SeriesRecord, StudyRecord, StudyTime

_PLAIN = re.compile(r"(?:0|[1-9][0-9]{0,11})\Z")  # a number that comes back as the same text
_DETAILS: tuple[Detail, ...] = ("full", "manifest", "entry")
_PROGRESS: tuple[Progress, ...] = ("complete", "arriving")
_SOP_PREFIX = "1.2.840.10008.5.1.4.1.1."


class StoredId(FrozenRecord, frozen=True, array_like=True):
    """An identifier; authority 1 is the patient's own."""

    value: str
    authority: str | int
    namespace: str = ""


class StoredSeries(FrozenRecord, frozen=True, array_like=True):
    """A series."""

    alike: int  # characters that its UID begins with like the one before it
    rest: str
    modality: str
    number: int | str
    description: str
    body_site: str
    laterality: str
    n_instances: int
    sop_classes: str | tuple[tuple[str, int], ...]  # one for all its instances, or each with its count
    time: str | StudyTime  # the clock of the study's day, or all of it
    digest: str | int


class StoredPublication(FrozenRecord, frozen=True, array_like=True):
    """What a row says of a version beside its study; digests are those of :class:`Raw`."""

    study_uid: str
    digest: str | int
    sha1: str | int
    size_bytes: int
    created: str | int  # 0: when it was submitted
    submitted: str
    replaces: tuple[int, int] | int  # a version; 0: none of ours


class StoredStudy(StoredPublication, frozen=True, array_like=True):
    """All of a row's array, format 1; 0 is what follows from the series."""

    accessions: tuple[StoredId, ...]
    orders: tuple[StoredId, ...]
    study_id: str
    description: str
    procedure_codes: tuple[Coded, ...]
    reason: str
    referrer: str
    institution: str
    time: StudyTime
    modalities: tuple[str, ...] | int
    body_sites: tuple[str, ...] | int
    n_series: tuple[int] | int
    n_instances: tuple[int] | int
    detail: int
    progress: int
    series: tuple[StoredSeries, ...]


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


def study_of(stored: StoredStudy, raw: Raw, patient: Patient) -> StudyRecord:
    """The inverse of :func:`study_array`."""
    home, series = patient.local.authority, _series_of(stored, raw)
    modalities, sites = stored.modalities, stored.body_sites
    if isinstance(modalities, int):
        modalities = tuple(sorted({s.modality for s in series if s.modality}))
    if isinstance(sites, int):
        sites = tuple(sorted({s.body_site for s in series if s.body_site}))
    n_series, n_instances = stored.n_series, stored.n_instances
    return StudyRecord(
        study_uid=stored.study_uid,
        patient=patient,
        accessions=tuple([_id_of(i, home) for i in stored.accessions]),
        orders=tuple([_id_of(i, home) for i in stored.orders]),
        study_id=stored.study_id,
        description=stored.description,
        procedure_codes=stored.procedure_codes,
        reason=stored.reason,
        referrer=stored.referrer,
        institution=stored.institution,
        time=stored.time,
        modalities=modalities,
        body_sites=sites,
        series=series,
        n_series=len(series) if isinstance(n_series, int) else n_series[0],
        n_instances=(
            sum([s.n_instances for s in series]) if isinstance(n_instances, int) else n_instances[0]
        ),
        detail=_DETAILS[stored.detail],
        progress=_PROGRESS[stored.progress],
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


def _id_of(stored: StoredId, home: str) -> Identifier:
    authority = stored.authority
    return Identifier(stored.value, home if isinstance(authority, int) else authority, stored.namespace)


def _time_array(time: StudyTime) -> list[str]:
    return [time.date, time.time, time.zone, time.zone_source]


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


def _series_of(stored: StoredStudy, raw: Raw) -> tuple[SeriesRecord, ...]:
    series, before, lower = [], stored.study_uid, raw.lower
    date, zone, source = stored.time.date, stored.time.zone, stored.time.zone_source
    for s in stored.series:
        before, clock = before[: s.alike] + s.rest, s.time
        series.append(
            SeriesRecord(
                series_uid=before,
                modality=s.modality,
                number=str(s.number),
                description=s.description,
                body_site=s.body_site,
                laterality=s.laterality,
                n_instances=s.n_instances,
                sop_classes=_sops_of(s.sop_classes, s.n_instances),
                time=(
                    StudyTime(date=date, time=clock, zone=zone, zone_source=source)
                    if isinstance(clock, str)
                    else clock
                ),
                digest=lower(s.digest),
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


def _sops_of(array: str | tuple[tuple[str, int], ...], n: int) -> tuple[tuple[str, int], ...]:
    if isinstance(array, str) and array[:1] != "=":
        return ((_SOP_PREFIX + array, n),)
    pairs = ((array, n),) if isinstance(array, str) else array
    return tuple((uid[1:] if uid.startswith("=") else _SOP_PREFIX + uid, count) for uid, count in pairs)
