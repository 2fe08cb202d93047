"""The index feed's messages and our values: protobuf <-> StudyRecord, Patient, ManifestFacts, Version.

What comes from the wire is checked for shape and bounds here; whether it may be stored is
``registry/intake/accept.py``'s.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sized
from functools import lru_cache
from typing import TypeVar, get_args
from zoneinfo import ZoneInfo

from crosslight.pb import feed_pb2 as pb
from crosslight.standards.birth_date import birth_date
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
MAX_UID = 64

_SHA1 = re.compile(r"[0-9a-f]{40}\Z")
_SHA256 = re.compile(r"[0-9a-f]{64}\Z")
_DTM = re.compile(r"[0-9]{4}([0-9]{2}){0,5}\Z")
_OFFSET = re.compile(r"[+-][0-9]{4}\Z")
C = TypeVar("C", bound=Sized)
_ZONE_SOURCES, _DETAILS, _PROGRESSES = (frozenset(get_args(kind)) for kind in (ZoneSource, Detail, Progress))


def _bounded(items: C, where: str, limit: int = MAX_LIST) -> C:
    if len(items) > limit:
        raise TooLarge(f"Too many values of {where}.", why=f"Limit here: {limit}.", where=where)
    return items


def _check_texts(where: str, *texts: str) -> None:
    if max(map(len, texts), default=0) > MAX_TEXT:
        raise TooLarge(
            f"A text of {where} is too long.", why=f"Limit here: {MAX_TEXT} characters.", where=where
        )


@lru_cache(maxsize=4096)
def _is_common_uid(text: str) -> bool:
    """``is_uid`` of what comes again and again: authorities, SOP classes."""
    return is_uid(text)


# --- to the wire --------------------------------------------------------------------------------------------


def version_to_pb(version: Version) -> pb.Version:
    """A version as the message that the feed carries."""
    return pb.Version(epoch=version.epoch, n=version.n)


def identifier_to_pb(identifier: Identifier) -> pb.Identifier:
    """An identifier as the message that the feed carries."""
    return pb.Identifier(
        value=identifier.value, authority=identifier.authority, namespace=identifier.namespace
    )


def patient_to_pb(patient: Patient) -> pb.Patient:
    """A patient as the message that the feed carries."""
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
        procedure_codes=[
            pb.Coded(value=c.value, scheme=c.scheme, meaning=c.meaning) for c in record.procedure_codes
        ],
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
        document_uid=facts.document_uid,
        sha1=facts.sha1,
        size_bytes=facts.size_bytes,
        creation_time=facts.creation_time,
    )


# --- from the wire ------------------------------------------------------------------------------------------


def version_from_pb(message: pb.Version) -> Version:
    """A version.

    Raises:
        Invalid: out of the ranges of derived ids (D9).
    """
    if message.epoch >= 1 << 8 or message.n >= 1 << 24:
        raise Invalid("A version out of range.", why="The epoch has 8 bits, n has 24.", where="version")
    return Version(message.epoch, message.n)


def identifier_from_pb(message: pb.Identifier, where: str) -> Identifier:
    """An identifier.

    Raises:
        Invalid: without a value, or under an authority that is no OID. TooLarge: over the bounds of this
            module.
    """
    value, authority, namespace = message.value, message.authority, message.namespace
    if not value:
        raise Invalid(f"{where} has no value.", where=where)
    if authority and (len(authority) > MAX_UID or not _is_common_uid(authority)):
        raise Invalid(f"The authority of {where} is not an OID.", where=where)
    if len(value) > MAX_TEXT or len(namespace) > MAX_TEXT:
        raise TooLarge(f"{where} is too long.", why=f"Limit here: {MAX_TEXT} characters.", where=where)
    return Identifier(value, authority, namespace)


def _identifiers(messages: Collection[pb.Identifier], where: str) -> tuple[Identifier, ...]:
    if not messages:
        return ()
    return tuple([identifier_from_pb(message, where) for message in _bounded(messages, where)])


def patient_from_pb(message: pb.Patient) -> Patient:
    """A patient.

    Raises:
        Invalid: as :func:`identifier_from_pb`. TooLarge: over the bounds of this module.
    """
    name = message.name
    born = message.birth_date
    sex = message.sex
    postcode = message.postcode
    _check_texts("patient", name, born, sex, postcode)
    return Patient(
        local=identifier_from_pb(message.local, "patient.local"),
        others=_identifiers(message.others, "patient.others"),
        name=PersonName(name),
        birth_date=birth_date(born),
        sex=sex,
        postcode=postcode,
        traced=message.traced,
    )


def _time_from_pb(message: pb.StudyTime) -> StudyTime:
    date = message.date
    time = message.time
    zone = message.zone
    source = message.zone_source
    if len(date) > MAX_TEXT or len(time) > MAX_TEXT:
        raise TooLarge("A time is too long.", why=f"Limit here: {MAX_TEXT} characters.", where="time")
    return StudyTime(
        date=date,
        time=time,
        zone=known_zone(zone) if zone else "",
        zone_source=source if source in _ZONE_SOURCES else "none",  # type: ignore[arg-type]  # one of them
    )


@lru_cache(maxsize=1024)
def known_zone(text: str) -> str:
    """An offset or an IANA name that we know.

    Anything else would fail when the interval is asked for (D22).

    Raises:
        Invalid: for anything else.
    """
    if _OFFSET.match(text):
        return text
    try:
        ZoneInfo(text)
    except (ValueError, OSError, KeyError):
        raise Invalid(
            "The time zone is not known.", why="It is +HHMM or an IANA name.", where="time.zone"
        ) from None
    return text


def _sop_class(message: pb.SopClassCount) -> tuple[str, int]:
    uid = message.uid
    if len(uid) > MAX_UID or not _is_common_uid(uid):
        uid = checked_uid(uid, "series.sop_classes")
    return (uid, message.count)


def _sop_classes(messages: Collection[pb.SopClassCount]) -> tuple[tuple[str, int], ...]:
    return tuple([_sop_class(message) for message in _bounded(messages, "series.sop_classes")])


def _series_from_pb(message: pb.Series) -> SeriesRecord:
    modality, number, description, body_site = (
        message.modality,
        message.number,
        message.description,
        message.body_site,
    )
    laterality, digest, sops = message.laterality, message.digest, message.sop_classes
    _check_texts("series", modality, number, description, body_site, laterality, digest)
    return SeriesRecord(
        series_uid=checked_uid(message.series_uid, "series.series_uid"),
        modality=modality,
        number=number,
        description=description,
        body_site=body_site,
        laterality=laterality,
        n_instances=message.n_instances,
        sop_classes=(_sop_class(sops[0]),) if len(sops) == 1 else _sop_classes(sops),
        time=_time_from_pb(message.time),
        digest=digest,
    )


def _coded(message: pb.Coded) -> Coded:
    value, scheme, meaning = message.value, message.scheme, message.meaning
    _check_texts("code", value, scheme, meaning)
    return Coded(value, scheme, meaning)


def _texts(values: Collection[str], where: str) -> tuple[str, ...]:
    texts = tuple(_bounded(values, where))
    _check_texts(where, *texts)
    return texts


def study_from_pb(message: pb.Study) -> StudyRecord:
    """A study.

    Raises:
        Invalid: where a UID, an identifier or a state is none.
        TooLarge: over the bounds of this module.
    """
    detail, progress = message.detail, message.progress
    if detail not in _DETAILS or progress not in _PROGRESSES:
        raise Invalid("A study without its detail or progress.", where="study.detail")
    study_id, description, reason = message.study_id, message.description, message.reason
    referrer, institution = message.referrer, message.institution
    _check_texts("study", study_id, description, reason, referrer, institution)
    return StudyRecord(
        study_uid=checked_uid(message.study_uid, "study.study_uid"),
        patient=patient_from_pb(message.patient),
        accessions=_identifiers(message.accessions, "study.accessions"),
        orders=_identifiers(message.orders, "study.orders"),
        study_id=study_id,
        description=description,
        procedure_codes=tuple(
            [_coded(c) for c in _bounded(message.procedure_codes, "study.procedure_codes")]
        ),
        reason=reason,
        referrer=referrer,
        institution=institution,
        time=_time_from_pb(message.time),
        modalities=_texts(message.modalities, "study.modalities"),
        body_sites=_texts(message.body_sites, "study.body_sites"),
        series=tuple([_series_from_pb(s) for s in _bounded(message.series, "study.series", MAX_SERIES)]),
        n_series=message.n_series,
        n_instances=message.n_instances,
        detail=detail,  # type: ignore[arg-type]  # looked up above
        progress=progress,  # type: ignore[arg-type]  # looked up above
    )


def manifest_from_pb(message: pb.Manifest) -> ManifestFacts:
    """What a DocumentEntry says of a manifest.

    Raises:
        Invalid: where the hash, the UID or the time is none.
    """
    if not _SHA1.match(message.sha1):
        raise Invalid(
            "The manifest's hash is not a SHA-1.", why="ITI TF-3 4.2.3.2.10.", where="manifest.sha1"
        )
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
        raise Invalid(
            f"{where} is not a DTM.", why="ITI TF-3 4.2.3.1.7: YYYY[MM[DD[hh[mm[ss]]]]].", where=where
        )
    return text


def checked_digest(text: str) -> str:
    """A record's digest (D14).

    Raises:
        Invalid: if it is not a SHA-256 in lower-case hex.
    """
    if not _SHA256.match(text):
        raise Invalid("The record's digest is not a SHA-256.", where="publish.digest")
    return text
