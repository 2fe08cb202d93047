"""ImagingStudy: one per holding (D1), without instances (D5)."""

from __future__ import annotations

import re
from typing import Any

from crosslight.standards.fhir.facts import HoldingFacts, RegionFacts
from crosslight.standards.fhir.people import display_name, subject
from crosslight.standards.fhir.terms import (
    DCM,
    DICOM_UID,
    EXT_CONFLICT,
    EXT_CUSTODIAN,
    EXT_DETAIL,
    LATERALITY,
    SNOMED,
    V2_0203,
    Systems,
    absent,
    coding_system,
)
from crosslight.standards.fhir.times import started
from crosslight.standards.fhir.wire import Resource, prune, text, versioned
from crosslight.standards.ids import Identifier
from crosslight.standards.study import Coded, PersonName, SeriesRecord, StudyRecord

MANDATORY = frozenset({"status", "subject"})
_CODE = re.compile(r"[^\s]+( [^\s]+)*\Z")  # R4 2.24.0.1 code


def status(record: StudyRecord) -> str:
    """``registered`` while it grows (D14), then ``available``."""
    return "registered" if record.progress == "arriving" else "available"


def accession_identifier(accession: Identifier, systems: Systems) -> Resource:
    """An accession number under its issuer; without one it has no system, never a guessed one (D13)."""
    found: Resource = {
        "type": {"coding": [{"system": V2_0203, "code": "ACSN", "display": "Accession ID"}]},
        **systems.identifier(accession),
    }
    if accession.namespace:
        found["assigner"] = {"display": accession.namespace}
    return found


def _identifiers(record: StudyRecord, systems: Systems) -> list[Resource]:
    uid = {
        "use": "official",
        "type": {"coding": [{"system": DCM, "code": "110180", "display": "Study Instance UID"}]},
        "system": DICOM_UID,
        "value": f"urn:oid:{record.study_uid}",
    }
    return [uid, *(accession_identifier(a, systems) for a in record.accessions if text(a.value))]


def _based_on(record: StudyRecord, systems: Systems) -> list[Resource]:
    found = []
    for accession in record.accessions:
        if text(accession.value):
            identifier = accession_identifier(accession, systems)
            number = {"system": DCM, "code": "121022", "display": "Accession Number"}
            identifier["type"] = {"coding": [*identifier["type"]["coding"], number]}
            found.append({"type": "ServiceRequest", "identifier": identifier})
    for order in record.orders:
        if text(order.value):
            kind = {"coding": [{"system": V2_0203, "code": "PLAC", "display": "Placer Identifier"}]}
            found.append({"type": "ServiceRequest", "identifier": {"type": kind, **systems.identifier(order)}})
    return found


def modality(code: str) -> Resource:
    """A modality as Coding; an unknown one is said to be unknown (R4 wants it 1..1 on a series)."""
    return {"system": DCM, "code": code} if _CODE.match(code) else absent()


def concept(coded: Coded) -> Resource | None:
    """A code as CodeableConcept: its meaning as it came."""
    coding = prune({
        "system": coding_system(coded.scheme),
        "code": coded.value if _CODE.match(coded.value) else None,
        "display": text(coded.meaning),
    })  # fmt: skip
    if "code" not in coding:
        coding.pop("system", None)
    return prune({"coding": [coding] if coding else [], "text": text(coded.meaning)}) or None


def _number(number: str) -> int | None:
    digits = number.strip().removeprefix("+")
    return int(digits) if digits.isascii() and digits.isdecimal() and int(digits) < 1 << 31 else None


def _body_site(code: str) -> Resource | None:
    return {"code": code, "display": code} if _CODE.match(code) else None


def _laterality(code: str) -> Resource | None:
    if code not in LATERALITY:
        return None
    value, meaning = LATERALITY[code]
    return {"system": SNOMED, "code": value, "display": meaning}


def series(one: SeriesRecord) -> Resource:
    """One series; its instances are asked of the holder (D5)."""
    when = started(one.time) if one.time.date else {}
    return prune({
        "uid": one.series_uid,
        "number": _number(one.number),
        "modality": modality(one.modality),
        "description": text(one.description),
        "numberOfInstances": one.n_instances,
        "bodySite": _body_site(one.body_site),
        "laterality": _laterality(one.laterality),
        **when,
    })  # fmt: skip


def _extensions(holding: HoldingFacts, region: RegionFacts) -> list[Resource]:
    found: list[Resource] = []
    member = holding.member
    if member is not None:
        reference = {
            "reference": f"Organization/{member.organization_id}",
            "type": "Organization",
            "identifier": {"system": region.organisation_system, "value": member.code},
            "display": member.name,
        }
        found.append({"url": EXT_CUSTODIAN, "valueReference": reference})
    if holding.conflict:
        found.append({"url": EXT_CONFLICT, "valueBoolean": True})
    if holding.record.detail != "full":
        found.append({"url": EXT_DETAIL, "valueCode": holding.record.detail})
    return found


def _subject(holding: HoldingFacts, systems: Systems) -> Resource:
    if holding.person is not None:
        return subject(holding.person, systems)
    return {"type": "Patient", "identifier": systems.identifier(holding.record.patient.local)}


def imaging_study(holding: HoldingFacts, region: RegionFacts, systems: Systems) -> Resource:
    """The holding as ImagingStudy, versioned by what it shows (D12)."""
    record = holding.record
    endpoints: list[Any] = [{"reference": f"Endpoint/{region.endpoint_id}", "type": "Endpoint"}]
    if holding.member is not None and holding.member.dicomweb:
        endpoints.append({"reference": f"Endpoint/{holding.member.endpoint_id}", "type": "Endpoint"})
    known = record.detail != "entry" or record.n_series > 0
    referrer = display_name(PersonName(record.referrer))
    institution = text(record.institution)
    body = prune({
        "resourceType": "ImagingStudy",
        "id": holding.fhir_id,
        "extension": _extensions(holding, region),
        "identifier": _identifiers(record, systems),
        "status": status(record),
        "modality": [modality(code) for code in record.headline_modalities],
        "subject": _subject(holding, systems),
        **started(record.time),
        "basedOn": _based_on(record, systems),
        "referrer": {"display": referrer} if referrer else None,
        "endpoint": endpoints,
        "numberOfSeries": record.n_series if known else None,
        "numberOfInstances": record.n_instances if known else None,
        "procedureCode": [found for code in record.procedure_codes if (found := concept(code))],
        "location": {"display": institution} if institution else None,
        "description": text(record.description),
        "series": [series(one) for one in record.series],
    })  # fmt: skip
    return versioned(body, stem=f"{holding.incarnation}.{holding.revision}", updated=holding.updated)
