"""Reading Key Object Selection documents (PS3.3 A.35.4; RAD TF-3 4.68).

Manifests, rejection notes, and any other.

Liberal: signed and MADO manifests are read too. Does not decide what a note or a returning manifest means for
an archive (D16).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any, Literal

import pydicom

from crosslight.standards.birth_date import birth_date
from crosslight.standards.ids import Identifier, checked_uid, is_uid
from crosslight.standards.problem import CrosslightError, Malformed, TooLarge, kind_as_sentence
from crosslight.standards.study import Coded, Patient, PersonName, StudyTime

KEY_OBJECT_SELECTION = "1.2.840.10008.5.1.4.1.1.88.59"  # Key Object Selection Document Storage
MAX_INSTANCES = 200_000

TITLE_MANIFEST = Coded("113030", "DCM", "Manifest")
#: Document titles (PS3.16 CID 7010, 7011) of manifests; MADOTEMP001 is the trial code of the MADO profile
#: (ihe.md 4.3).
MANIFEST_TITLES = {("113030", "DCM"), ("113031", "DCM"), ("MADOTEMP001", "99IHE")}
#: Titles by which a KOS rejects what it references (PS3.16 CID 7011; RAD TF IOCM).
REJECTION_TITLES = {
    ("113001", "DCM"): "Rejected for Quality Reasons",
    ("113037", "DCM"): "Rejected for Patient Safety Reasons",
    ("113038", "DCM"): "Incorrect Modality Worklist Entry",
    ("113039", "DCM"): "Data Retention Policy Expired",
}

Role = Literal["manifest", "rejection", "other"]


def role_of_title(title: Coded) -> Role:
    """What a KOS with this document title is: a manifest, a rejection note, or content such as key images."""
    key = (title.value, title.scheme)
    if key in REJECTION_TITLES:
        return "rejection"
    return "manifest" if key in MANIFEST_TITLES else "other"


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestSeries:
    """Where the objects of one series can be had."""

    study_uid: str
    series_uid: str
    retrieve_ae_title: str = ""
    retrieve_location_uid: str = ""
    retrieve_url: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestInstance:
    """One referenced object."""

    study_uid: str
    series_uid: str
    sop_class_uid: str
    sop_uid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """A KOS as read. ``study_uid`` is the study that it belongs to; references may name others."""

    document_uid: str
    study_uid: str
    series_uid: str
    title: Coded
    series: tuple[ManifestSeries, ...]
    instances: tuple[ManifestInstance, ...]
    patient: Patient | None  # None where it names no patient id
    accessions: tuple[Identifier, ...] = ()
    orders: tuple[Identifier, ...] = ()
    time: StudyTime = StudyTime()
    description: str = ""

    @property
    def role(self) -> Role:
        """Manifest, rejection note or other content."""
        return role_of_title(self.title)


def _value(ds: Any, keyword: str) -> str:
    value = ds.get(keyword)
    if isinstance(value, pydicom.multival.MultiValue):
        return "\\".join(str(item) for item in value)
    return "" if value is None else str(value)


def _items(ds: Any, keyword: str) -> list[Any]:
    return list(ds.get(keyword) or [])


def _read_issuer(ds: Any, keyword: str) -> tuple[str, str]:
    """(namespace, OID) of an issuer sequence."""
    for item in _items(ds, keyword):
        oid = _value(item, "UniversalEntityID").strip(" \0")
        iso = _value(item, "UniversalEntityIDType").strip(" \0") in ("ISO", "")
        return _value(item, "LocalNamespaceEntityID").strip(" \0"), oid if iso and is_uid(oid) else ""
    return "", ""


def _read_patient_id(ds: Any) -> Identifier | None:
    value = _value(ds, "PatientID").strip(" \0")
    if not value:
        return None
    namespace = _value(ds, "IssuerOfPatientID").strip(" \0")
    local, oid = _read_issuer(ds, "IssuerOfPatientIDQualifiersSequence")
    return Identifier(value=value, authority=oid, namespace=namespace or local)


def _read_patient(ds: Any) -> Patient | None:
    local = _read_patient_id(ds)
    if local is None:
        return None
    others = (_read_patient_id(item) for item in _items(ds, "OtherPatientIDsSequence"))
    return Patient(
        local=local,
        others=tuple(dict.fromkeys(o for o in others if o is not None and o != local)),
        name=PersonName(_value(ds, "PatientName")),
        birth_date=birth_date(_value(ds, "PatientBirthDate").strip(" \0")),
        sex=_value(ds, "PatientSex").strip(" \0"),
    )


def _read_requests(ds: Any) -> tuple[tuple[Identifier, ...], tuple[Identifier, ...]]:
    accessions: list[Identifier] = []
    orders: list[Identifier] = []
    for source in (ds, *_items(ds, "ReferencedRequestSequence")):
        namespace, oid = _read_issuer(source, "IssuerOfAccessionNumberSequence")
        if value := _value(source, "AccessionNumber").strip(" \0"):
            accessions.append(Identifier(value=value, authority=oid, namespace=namespace))
        namespace, oid = _read_issuer(source, "OrderPlacerIdentifierSequence")
        if value := _value(source, "PlacerOrderNumberImagingServiceRequest").strip(" \0"):
            orders.append(Identifier(value=value, authority=oid, namespace=namespace))
    return tuple(dict.fromkeys(accessions)), tuple(dict.fromkeys(orders))


def _read_title(ds: Any) -> Coded:
    for item in _items(ds, "ConceptNameCodeSequence"):
        return Coded(
            _value(item, "CodeValue").strip(" \0"),
            _value(item, "CodingSchemeDesignator").strip(" \0"),
            _value(item, "CodeMeaning").strip(" \0"),
        )
    return Coded("")


def _evidence_series(ds: Any) -> Iterator[tuple[str, Any]]:
    for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence"):
        for study in _items(ds, keyword):
            study_uid = checked_uid(_value(study, "StudyInstanceUID"), "StudyInstanceUID of the evidence")
            for series in _items(study, "ReferencedSeriesSequence"):
                yield study_uid, series


def _references(ds: Any, max_instances: int) -> tuple[list[ManifestSeries], dict[str, ManifestInstance]]:
    series: list[ManifestSeries] = []
    instances: dict[str, ManifestInstance] = {}
    for study_uid, item in _evidence_series(ds):
        where = ManifestSeries(
            study_uid=study_uid,
            series_uid=checked_uid(_value(item, "SeriesInstanceUID"), "SeriesInstanceUID of the evidence"),
            retrieve_ae_title=_value(item, "RetrieveAETitle").strip(" \0"),
            retrieve_location_uid=_value(item, "RetrieveLocationUID"),
            retrieve_url=_value(item, "RetrieveURL").strip(" \0"),
        )
        series.append(where)
        for reference in _items(item, "ReferencedSOPSequence"):
            instance = ManifestInstance(
                study_uid=study_uid,
                series_uid=where.series_uid,
                sop_class_uid=checked_uid(
                    _value(reference, "ReferencedSOPClassUID"), "ReferencedSOPClassUID"
                ),
                sop_uid=checked_uid(
                    _value(reference, "ReferencedSOPInstanceUID"), "ReferencedSOPInstanceUID"
                ),
            )
            instances[instance.sop_uid] = instance
            if len(instances) > max_instances:
                raise TooLarge(
                    "The manifest references too many objects.", why=f"Limit here: {max_instances}."
                )
    return series, instances


def parse_manifest(data: bytes, *, max_instances: int = MAX_INSTANCES) -> Manifest:
    """Read a KOS: a manifest, a rejection note, or any other.

    Args:
        data: A Part 10 file; its size is the caller's bound. Run it in a bounded worker when it came from
            elsewhere (D27).
        max_instances: More references than this are refused.

    Raises:
        Malformed: if it is no KOS; TooLarge over ``max_instances``; Invalid where a UID is none.
    """
    try:
        return _parse(data, max_instances)
    except CrosslightError:
        raise
    except Exception as error:  # noqa: BLE001 - pydicom raises many kinds on hostile bytes, some only on access
        raise Malformed("The manifest cannot be read.", why=kind_as_sentence(error)) from None


def _parse(data: bytes, max_instances: int) -> Manifest:
    ds = pydicom.dcmread(BytesIO(data), force=True)
    if _value(ds, "SOPClassUID") != KEY_OBJECT_SELECTION:
        raise Malformed(
            "The manifest is not a Key Object Selection document.", why="RAD TF-3 4.68: SOP Class of the KOS."
        )
    series, instances = _references(ds, max_instances)
    accessions, orders = _read_requests(ds)
    zone = _value(ds, "TimezoneOffsetFromUTC").strip(" \0")
    return Manifest(
        document_uid=checked_uid(_value(ds, "SOPInstanceUID"), "SOPInstanceUID"),
        study_uid=checked_uid(_value(ds, "StudyInstanceUID"), "StudyInstanceUID"),
        series_uid=checked_uid(_value(ds, "SeriesInstanceUID"), "SeriesInstanceUID"),
        title=_read_title(ds),
        series=tuple(series),
        instances=tuple(instances.values()),
        patient=_read_patient(ds),
        accessions=accessions,
        orders=orders,
        time=StudyTime(
            date=_value(ds, "StudyDate").strip(" \0"),
            time=_value(ds, "StudyTime").strip(" \0"),
            zone=zone,
            zone_source="tag" if zone else "none",
        ),
        description=_value(ds, "StudyDescription"),
    )
