"""The index feed's messages and our values: protobuf <-> StudyRecord, Patient, ManifestFacts, Version.

What comes from the wire is checked for shape and bounds here; whether it may be stored is ``registry/intake/accept.py``'s.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeVar, get_args
from zoneinfo import ZoneInfo

from crosslight.pb import feed_pb2 as pb
from crosslight.standards.ids import Identifier, Version, checked_uid, is_uid
from crosslight.standards.problem import Invalid, TooLarge
from crosslight.standards.study import (
    Coded,
    Detail,
    ManifestFacts,
    Patient,
    PersonName,
    Progress,
    SeriesRecord,
    StudyRecord,
    StudyTime,
    ZoneSource,
)

MAX_SERIES = 20_000
MAX_LIST = 1_000  # identifiers, codes, modalities of one study
MAX_TEXT = 10_240  # characters of one value: LT's limit (PS3.5 6.2)

_SHA1 = re.compile(r"[0-9a-f]{40}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_DTM = re.compile(r"[0-9]{4}([0-9]{2}){0,5}\Z")
_OFFSET = re.compile(r"[+-][0-9]{4}\Z")
T = TypeVar("T")


def _bounded(items: Iterable[T], limit: int, where: str) -> tuple[T, ...]:
    found = tuple(items)
    if len(found) > limit:
        raise TooLarge(f"Too many values of {where}.", why=f"Limit here: {limit}.", where=where)
    return found


def _text(value: str, where: str) -> str:
    if len(value) > MAX_TEXT:
        raise TooLarge(f"{where} is too long.", why=f"Limit here: {MAX_TEXT} characters.", where=where)
    return value


# --- to the wire ---------------------------------------------------------------------------------------------------


def version_to_pb(version: Version) -> pb.Version:
    """A version."""
    return pb.Version(epoch=version.epoch, n=version.n)


def identifier_to_pb(identifier: Identifier) -> pb.Identifier:
    """An identifier."""
    return pb.Identifier(value=identifier.value, authority=identifier.authority, namespace=identifier.namespace)


def patient_to_pb(patient: Patient) -> pb.Patient:
    """A patient."""
    return pb.Patient(
        local=identifier_to_pb(patient.local),
        others=[identifier_to_pb(other) for other in patient.others],
        name=patient.name.pn,
        birth_date=patient.birth_date,
        sex=patient.sex,
        postcode=patient.postcode,
        traced=patient.traced,
    )


def _time_to_pb(time: StudyTime) -> pb.StudyTime:
    return pb.StudyTime(date=time.date, time=time.time, zone=time.zone, zone_source=time.zone_source)


def _series_to_pb(series: SeriesRecord) -> pb.Series:
    return pb.Series(
        series_uid=series.series_uid,
        modality=series.modality,
        number=series.number,
        description=series.description,
        body_site=series.body_site,
        laterality=series.laterality,
        n_instances=series.n_instances,
        sop_classes=[pb.SopClassCount(uid=uid, count=count) for uid, count in series.sop_classes],
        time=_time_to_pb(series.time),
        digest=series.digest,
    )


def study_to_pb(record: StudyRecord) -> pb.Study:
    """A study with its series."""
    return pb.Study(
        study_uid=record.study_uid,
        patient=patient_to_pb(record.patient),
        accessions=[identifier_to_pb(i) for i in record.accessions],
        orders=[identifier_to_pb(i) for i in record.orders],
        study_id=record.study_id,
        description=record.description,
        procedure_codes=[pb.Coded(value=c.value, scheme=c.scheme, meaning=c.meaning) for c in record.procedure_codes],
        reason=record.reason,
        referrer=record.referrer,
        institution=record.institution,
        time=_time_to_pb(record.time),
        modalities=record.modalities,
        body_sites=record.body_sites,
        series=[_series_to_pb(s) for s in record.series],
        n_series=record.n_series,
        n_instances=record.n_instances,
        detail=record.detail,
        progress=record.progress,
    )


def manifest_to_pb(facts: ManifestFacts) -> pb.Manifest:
    """What a DocumentEntry says of a manifest."""
    return pb.Manifest(
        document_uid=facts.document_uid, sha1=facts.sha1, size_bytes=facts.size_bytes, creation_time=facts.creation_time
    )


# --- from the wire -------------------------------------------------------------------------------------------------


def version_from_pb(message: pb.Version) -> Version:
    """A version.

    Raises:
        Invalid: out of the ranges of derived ids (D9).
    """
    if message.epoch >= 1 << 8 or message.n >= 1 << 24:
        raise Invalid("A version out of range.", why="D9: the epoch has 8 bits, n has 24.", where="version")
    return Version(message.epoch, message.n)


def identifier_from_pb(message: pb.Identifier, where: str) -> Identifier:
    """An identifier.

    Raises:
        Invalid: without a value, or under an authority that is no OID.
    """
    if not message.value:
        raise Invalid(f"{where} has no value.", where=where)
    if message.authority and not is_uid(message.authority):
        raise Invalid(f"The authority of {where} is not an OID.", where=where)
    return Identifier(value=_text(message.value, where), authority=message.authority, namespace=_text(message.namespace, where))


def _identifiers(messages: Iterable[pb.Identifier], where: str) -> tuple[Identifier, ...]:
    return tuple(identifier_from_pb(m, where) for m in _bounded(messages, MAX_LIST, where))


def patient_from_pb(message: pb.Patient) -> Patient:
    """A patient."""
    return Patient(
        local=identifier_from_pb(message.local, "patient.local"),
        others=_identifiers(message.others, "patient.others"),
        name=PersonName(_text(message.name, "patient.name")),
        birth_date=_text(message.birth_date, "patient.birth_date"),
        sex=_text(message.sex, "patient.sex"),
        postcode=_text(message.postcode, "patient.postcode"),
        traced=message.traced,
    )


def _time_from_pb(message: pb.StudyTime) -> StudyTime:
    source: ZoneSource = "none"
    for known in get_args(ZoneSource):
        if message.zone_source == known:
            source = known
    return StudyTime(
        date=_text(message.date, "time.date"),
        time=_text(message.time, "time.time"),
        zone=_zone(message.zone),
        zone_source=source,
    )


def _zone(text: str) -> str:
    """An offset or an IANA name that we know; anything else would fail when the interval is asked for (D22)."""
    if not text or _OFFSET.match(text):
        return text
    try:
        ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        raise Invalid("The time zone is not known.", why="D22: +HHMM or an IANA name.", where="time.zone") from None
    return text


def _series_from_pb(message: pb.Series) -> SeriesRecord:
    return SeriesRecord(
        series_uid=checked_uid(message.series_uid, "series.series_uid"),
        modality=_text(message.modality, "series.modality"),
        number=_text(message.number, "series.number"),
        description=_text(message.description, "series.description"),
        body_site=_text(message.body_site, "series.body_site"),
        laterality=_text(message.laterality, "series.laterality"),
        n_instances=message.n_instances,
        sop_classes=tuple(
            (checked_uid(c.uid, "series.sop_classes"), c.count)
            for c in _bounded(message.sop_classes, MAX_LIST, "series.sop_classes")
        ),
        time=_time_from_pb(message.time),
        digest=_text(message.digest, "series.digest"),
    )


def _texts(values: Iterable[str], where: str) -> tuple[str, ...]:
    return tuple(_text(v, where) for v in _bounded(values, MAX_LIST, where))


def study_from_pb(message: pb.Study) -> StudyRecord:
    """A study.

    Raises:
        Invalid: where a UID, an identifier or a state is none.
        TooLarge: over the bounds of this module.
    """
    details: tuple[Detail, ...] = get_args(Detail)
    progresses: tuple[Progress, ...] = get_args(Progress)
    detail = next((d for d in details if d == message.detail), None)
    progress = next((p for p in progresses if p == message.progress), None)
    if detail is None or progress is None:
        raise Invalid("A study without its detail or progress.", why="D14, D17.", where="study.detail")
    codes = _bounded(message.procedure_codes, MAX_LIST, "study.procedure_codes")
    return StudyRecord(
        study_uid=checked_uid(message.study_uid, "study.study_uid"),
        patient=patient_from_pb(message.patient),
        accessions=_identifiers(message.accessions, "study.accessions"),
        orders=_identifiers(message.orders, "study.orders"),
        study_id=_text(message.study_id, "study.study_id"),
        description=_text(message.description, "study.description"),
        procedure_codes=tuple(Coded(_text(c.value, "code"), _text(c.scheme, "code"), _text(c.meaning, "code")) for c in codes),
        reason=_text(message.reason, "study.reason"),
        referrer=_text(message.referrer, "study.referrer"),
        institution=_text(message.institution, "study.institution"),
        time=_time_from_pb(message.time),
        modalities=_texts(message.modalities, "study.modalities"),
        body_sites=_texts(message.body_sites, "study.body_sites"),
        series=tuple(_series_from_pb(s) for s in _bounded(message.series, MAX_SERIES, "study.series")),
        n_series=message.n_series,
        n_instances=message.n_instances,
        detail=detail,
        progress=progress,
    )


def manifest_from_pb(message: pb.Manifest) -> ManifestFacts:
    """What a DocumentEntry says of a manifest.

    Raises:
        Invalid: where the hash, the UID or the time is none.
    """
    if not _SHA1.match(message.sha1):
        raise Invalid("The manifest's hash is not a SHA-1.", why="ITI TF-3 4.2.3.2.10.", where="manifest.sha1")
    return ManifestFacts(
        document_uid=checked_uid(message.document_uid, "manifest.document_uid"),
        sha1=message.sha1,
        size_bytes=message.size_bytes,
        creation_time=checked_dtm(message.creation_time, "manifest.creation_time"),
    )


def checked_dtm(text: str, where: str) -> str:
    """A DTM (ITI TF-3 Table 4.2.3.1.7-2).

    Raises:
        Invalid: for anything else.
    """
    if not _DTM.match(text):
        raise Invalid(f"{where} is not a DTM.", why="ITI TF-3 4.2.3.1.7: YYYY[MM[DD[hh[mm[ss]]]]].", where=where)
    return text


def checked_digest(text: str) -> str:
    """A record's digest (D14).

    Raises:
        Invalid: if it is not a SHA-256 in lower-case hex.
    """
    if not _SHA256.match(text):
        raise Invalid("The record's digest is not a SHA-256.", where="publish.digest")
    return text
