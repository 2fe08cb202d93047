"""StudyRecord: the one model that every wire form maps to and from (ARCHITECTURE, "One index").

A value object: no behaviour beyond reading and writing itself. Mappings live beside their standard
(``dicom/``, ``xds/``, ``fhir/``). Instances are known only to the node that holds them; a record has series
(D5).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Any, Literal, Self
from zoneinfo import ZoneInfo

import msgspec
import orjson

from crosslight.standards.ids import Identifier
from crosslight.standards.records import FrozenRecord, changed

Detail = Literal["entry", "manifest", "full"]  # how much is known (D17)
Progress = Literal["arriving", "complete"]  # is it still growing? FHIR registered | available (D14)
ZoneSource = Literal["tag", "site", "none"]  # (0008,0201), the site's setting, or unknown (D22)

_WHOLE = re.compile(r"[+-]?[0-9]{1,12}\Z")
#: Modalities that are not acquisitions: kept on their series, left out of a study's headline list (fhir.md
#: 5).
SECONDARY_MODALITIES = frozenset(
    {"SR", "KO", "PR", "SEG", "REG", "RTSTRUCT", "DOC", "FID", "PLAN", "RWV", "ANN"}
)


class Coded(FrozenRecord, frozen=True, array_like=True):
    """A code: value, scheme (designator, OID or URI as its source gave it) and meaning."""

    value: str
    scheme: str = ""
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class PersonName:
    """A DICOM PN, kept as received (PS3.5 6.2); groups are alphabetic=ideographic=phonetic."""

    pn: str

    def _components(self, group: int = 0) -> list[str]:
        groups = self.pn.split("=")
        text = groups[group] if len(groups) > group else ""
        return [part.strip() for part in text.split("^")] + [""] * 5

    @property
    def family(self) -> str:
        """Family name: alphabetic if there is one, else ideographic."""
        return self._components(0)[0] or self._components(1)[0]

    @property
    def given(self) -> str:
        """Given names: alphabetic if there are any, else ideographic."""
        return self._components(0)[1] or self._components(1)[1]

    @property
    def middle(self) -> str:
        """Middle names of the alphabetic group."""
        return self._components(0)[2]

    @property
    def prefix(self) -> str:
        """Title before the name."""
        return self._components(0)[3]

    @property
    def suffix(self) -> str:
        """Suffix after the name."""
        return self._components(0)[4]


@dataclass(frozen=True, slots=True, kw_only=True)
class Patient:
    """The patient as the submitting member describes them.

    ``local`` is the id under the member's own authority: the patient record (D2). ``others`` are national
    numbers and ids of other authorities. ``traced`` says the source calls the national number traced and
    verified (D3).
    """

    local: Identifier
    others: tuple[Identifier, ...] = ()
    name: PersonName = PersonName("")
    birth_date: str = ""  # YYYYMMDD, or shorter where less is known
    sex: str = ""  # M F O, or ''
    postcode: str = ""
    traced: bool = False

    def __hash__(self) -> int:  # what texts say of a patient is made once for many studies
        return hash((self.local.value, self.local.authority, self.name.pn))


class StudyTime(FrozenRecord, frozen=True, kw_only=True, array_like=True):
    """When the study began: its text as received, its zone and where that came from (D22)."""

    date: str = ""  # DA as received
    time: str = ""  # TM as received
    zone: str = ""  # +HHMM, or an IANA name when the zone is the site's
    zone_source: ZoneSource = "none"

    def interval(self) -> tuple[datetime, datetime] | None:
        """The UTC interval [low, high) that the text stands for; None when undated or unreadable."""
        return utc_interval(self.date, self.time, self.zone)


_SECOND, _MINUTE, _HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)


def _day_after(day: date) -> date:
    return day + timedelta(days=1)


@lru_cache(maxsize=16384)
def utc_interval(da: str, tm: str, zone: str) -> tuple[datetime, datetime] | None:
    """[low, high) in UTC of a DICOM DA and TM in ``zone`` (``+0100``, an IANA name, or '' for UTC).

    A local time that a clock change skips or repeats gives the wider interval that holds every reading of it.
    """
    digits = da.replace(".", "").replace("-", "").strip()
    if len(digits) != 8 or not digits.isdecimal() or not digits.isascii():
        return None
    try:
        day = date(int(digits[:4]), int(digits[4:6]), int(digits[6:8]))
    except ValueError:
        return None
    clock = tm.replace(":", "").strip()
    clock = clock if clock.isascii() else ""
    whole, _, fraction = clock.partition(".")
    try:
        if len(whole) >= 6 and whole.isdecimal():
            second = min(int(whole[4:6]), 59)  # TM allows 60 for a leap second
            micro = int((fraction + "000000")[:6]) if fraction.isdecimal() else 0
            low_local = datetime(day.year, day.month, day.day, int(whole[:2]), int(whole[2:4]), second, micro)
            high_local = low_local + (
                _SECOND if not fraction else timedelta(microseconds=10 ** max(0, 6 - len(fraction)))
            )
        elif len(whole) == 4 and whole.isdecimal():
            low_local = datetime(day.year, day.month, day.day, int(whole[:2]), int(whole[2:4]))
            high_local = low_local + _MINUTE
        elif len(whole) == 2 and whole.isdecimal():
            low_local = datetime(day.year, day.month, day.day, int(whole[:2]))
            high_local = low_local + _HOUR
        else:
            low_local, after = datetime(day.year, day.month, day.day), _day_after(day)
            high_local = datetime(after.year, after.month, after.day)
    except (ValueError, OverflowError):
        return None
    try:
        return min(_readings(low_local, zone)), max(_readings(high_local, zone))
    except OverflowError:  # the first or the last day there is
        return None


def _readings(local: datetime, zone: str) -> list[datetime]:
    if zone[:1] in "+-" and len(zone) == 5 and zone[1:].isdecimal():
        offset = timedelta(hours=int(zone[1:3]), minutes=int(zone[3:5]))
        return [local.replace(tzinfo=UTC) - (offset if zone[0] == "+" else -offset)]
    if not zone:
        return [local.replace(tzinfo=UTC)]
    info, known = ZoneInfo(zone), local.replace(tzinfo=UTC)
    offsets = {info.utcoffset(local), info.utcoffset(local.replace(fold=1))}
    return [known - offset for offset in offsets if offset is not None]


class SeriesRecord(FrozenRecord, frozen=True, kw_only=True, array_like=True):
    """One series: what the registry keeps of it (D5)."""

    series_uid: str
    modality: str = ""
    number: str = ""  # IS as received
    description: str = ""
    body_site: str = ""  # BodyPartExamined
    laterality: str = ""
    n_instances: int = 0
    sop_classes: tuple[tuple[str, int], ...] = ()  # (SOP Class UID, how many), sorted
    time: StudyTime = StudyTime()
    digest: str = ""  # hex SHA-256 over the sorted instance UIDs and their data set digests


class StudyRecord(FrozenRecord, frozen=True, kw_only=True):
    """One study as one member holds it.

    ``description`` and the rest are text as received, any script, never trimmed inside. ``modalities`` is
    derived from the series when there are any.
    """

    study_uid: str
    patient: Patient
    accessions: tuple[Identifier, ...] = ()
    orders: tuple[Identifier, ...] = ()
    study_id: str = ""
    description: str = ""
    procedure_codes: tuple[Coded, ...] = ()
    reason: str = ""
    referrer: str = ""  # PN
    institution: str = ""
    time: StudyTime = StudyTime()
    modalities: tuple[str, ...] = ()
    body_sites: tuple[str, ...] = ()
    series: tuple[SeriesRecord, ...] = ()
    n_series: int = 0
    n_instances: int = 0
    detail: Detail = "full"
    progress: Progress = "complete"

    @property
    def headline_modalities(self) -> tuple[str, ...]:
        """Acquisition modalities; all of them where there is no acquisition."""
        acquired = tuple(m for m in self.modalities if m not in SECONDARY_MODALITIES)
        return acquired or self.modalities

    def with_series(self, series: Iterable[SeriesRecord], *, detail: Detail) -> Self:
        """This record with its series and everything that follows from them."""
        ordered = tuple(sorted(series, key=series_order))
        return changed(
            self,
            series=ordered,
            n_series=len(ordered),
            n_instances=sum(s.n_instances for s in ordered),
            modalities=tuple(sorted({s.modality for s in ordered if s.modality})) or self.modalities,
            body_sites=tuple(sorted({s.body_site for s in ordered if s.body_site})) or self.body_sites,
            detail=detail,
        )

    def digest(self) -> str:
        """Hex SHA-256 of all that this record says: equal digests publish nothing new (D14)."""
        return hashlib.sha256(orjson.dumps(record_to_json(self), option=orjson.OPT_SORT_KEYS)).hexdigest()


def whole_number(text: str, otherwise: int = 1 << 31) -> int:
    """``text`` as a whole number of DICOM (PS3.5 6.2: IS).

    What is none, as objects sometimes say, counts as ``otherwise``.
    """
    text = text.strip()
    return int(text) if _WHOLE.match(text) else otherwise


def series_order(series: SeriesRecord) -> tuple[int, str]:
    """By number, then by UID."""
    return (whole_number(series.number), series.series_uid)


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceRef:
    """One instance at the node that holds it."""

    study_uid: str
    series_uid: str
    sop_uid: str
    sop_class_uid: str
    transfer_syntax_uid: str
    number: str = ""
    frames: int = 1
    sha256: str = ""  # hex, of the data set after group 0002 (D23)
    size_bytes: int = 0  # of that data set


class ManifestFacts(FrozenRecord, frozen=True, kw_only=True):
    """What a DocumentEntry says of a manifest's bytes; fixed at the revision (D14)."""

    document_uid: str  # SOP Instance UID of the manifest = XDSDocumentEntry.uniqueId
    sha1: str  # hex; XDSDocumentEntry.hash is SHA-1 (ITI TF-3 4.2.3.2.10)
    size_bytes: int
    creation_time: str  # DTM in UTC: YYYYMMDDhhmmss
    extra: dict[str, Any] = msgspec.field(default_factory=dict)


# --- JSON: the form in which records travel and rest --------------------------------------------------------


def record_to_json(record: StudyRecord) -> dict[str, Any]:
    """A plain dict of ``record`` without empty members; the inverse is :func:`record_from_json`."""
    pruned: dict[str, Any] = _prune(record)
    return pruned


def _prune(value: Any) -> Any:
    if isinstance(value, FrozenRecord | Identifier | Patient | PersonName):
        members = {name: getattr(value, name) for name in _NAMES[type(value)]}
        return {
            name: _prune(member)
            for name, member in members.items()
            if name == "value" or member not in ("", (), 0, False)
        }
    return [_prune(member) for member in value] if isinstance(value, tuple) else value


def _time(data: dict[str, Any] | None) -> StudyTime:
    return StudyTime(**data) if data else StudyTime()


def _ids(data: Iterable[dict[str, Any]] | None) -> tuple[Identifier, ...]:
    return tuple(Identifier(**d) for d in data or ())


def series_from_json(data: dict[str, Any]) -> SeriesRecord:
    """Read one series; unknown members are ignored, so that an older registry can read a newer node."""
    known = {k: v for k, v in data.items() if k in _SERIES_FIELDS}
    known["time"] = _time(data.get("time"))
    known["sop_classes"] = tuple((uid, int(n)) for uid, n in data.get("sop_classes", ()))
    return SeriesRecord(**known)


def patient_from_json(data: dict[str, Any]) -> Patient:
    """Read a patient."""
    return Patient(
        local=Identifier(**data["local"]),
        others=_ids(data.get("others")),
        name=PersonName(data.get("name", {}).get("pn", "")),
        birth_date=data.get("birth_date", ""),
        sex=data.get("sex", ""),
        postcode=data.get("postcode", ""),
        traced=bool(data.get("traced", False)),
    )


def patient_to_json(patient: Patient) -> dict[str, Any]:
    """A plain dict of ``patient`` without empty members."""
    plain: dict[str, Any] = {"local": _id_to_json(patient.local)}
    if patient.others:
        plain["others"] = [_id_to_json(other) for other in patient.others]
    plain["name"] = {"pn": patient.name.pn} if patient.name.pn else {}
    for name in ("birth_date", "sex", "postcode", "traced"):
        if value := getattr(patient, name):
            plain[name] = value
    return plain


def _id_to_json(identifier: Identifier) -> dict[str, str]:
    plain = {"value": identifier.value}
    if identifier.authority:
        plain["authority"] = identifier.authority
    if identifier.namespace:
        plain["namespace"] = identifier.namespace
    return plain


def record_from_json(data: dict[str, Any]) -> StudyRecord:
    """Read a record; unknown members are ignored."""
    known = {k: v for k, v in data.items() if k in _STUDY_FIELDS}
    known["patient"] = patient_from_json(data["patient"])
    known["accessions"] = _ids(data.get("accessions"))
    known["orders"] = _ids(data.get("orders"))
    known["procedure_codes"] = tuple(Coded(**c) for c in data.get("procedure_codes", ()))
    known["time"] = _time(data.get("time"))
    known["modalities"] = tuple(data.get("modalities", ()))
    known["body_sites"] = tuple(data.get("body_sites", ()))
    known["series"] = tuple(series_from_json(s) for s in data.get("series", ()))
    return StudyRecord(**known)


_NAMES: dict[type[Any], tuple[str, ...]] = {
    **{kind: kind.__struct_fields__ for kind in (StudyRecord, SeriesRecord, StudyTime, Coded)},
    **{kind: tuple(f.name for f in fields(kind)) for kind in (Patient, PersonName, Identifier)},
}
_SERIES_FIELDS = frozenset(SeriesRecord.__struct_fields__)
_STUDY_FIELDS = frozenset(StudyRecord.__struct_fields__)
