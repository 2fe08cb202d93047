"""ImagingStudy: one per holding (D1), without instances (D5), as bytes.

What rows share (codes, their person, their member) is written once and spliced; the rest goes through one
``orjson.dumps``, so that no text is ever escaped by hand (D6).
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

import orjson

from crosslight.standards.fhir.facts import HoldingFacts, MemberFacts, PersonFacts, RegionFacts
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
from crosslight.standards.fhir.wire import Rendered, Resource, prune, render_versioned, text
from crosslight.standards.ids import Identifier
from crosslight.standards.study import Coded, PersonName, SeriesRecord, StudyRecord
from crosslight.standards.tables.dicom_codes import BODY_SITES

MANDATORY = frozenset({"status", "subject"})
_CODE = re.compile(r"[^\s]+( [^\s]+)*\Z")  # R4 2.24.0.1 code


def _fragment(value: Any) -> orjson.Fragment:
    """``value`` written once, to be spliced wherever it stands."""
    return orjson.Fragment(orjson.dumps(value))


_STUDY_UID_TYPE = _fragment({"coding": [{"system": DCM, "code": "110180", "display": "Study Instance UID"}]})
_ACCESSION_TYPE = {"system": V2_0203, "code": "ACSN", "display": "Accession ID"}
_ACCESSION = _fragment({"coding": [_ACCESSION_TYPE]})
_ACCESSION_OF_ORDER = _fragment(
    {"coding": [_ACCESSION_TYPE, {"system": DCM, "code": "121022", "display": "Accession Number"}]}
)
_PLACER = _fragment({"coding": [{"system": V2_0203, "code": "PLAC", "display": "Placer Identifier"}]})


def status(record: StudyRecord) -> str:
    """``registered`` while it grows (D14), then ``available``."""
    return "registered" if record.progress == "arriving" else "available"


def accession_identifier(
    accession: Identifier, systems: Systems, kind: orjson.Fragment = _ACCESSION
) -> Resource:
    """An accession number under its issuer; without one it has no system, never a guessed one (D13)."""
    identifier: Resource = {"type": kind, **systems.identifier(accession)}
    if accession.namespace:
        identifier["assigner"] = {"display": accession.namespace}
    return identifier


def _identifiers(record: StudyRecord, systems: Systems) -> list[Resource]:
    uid = {
        "use": "official",
        "type": _STUDY_UID_TYPE,
        "system": DICOM_UID,
        "value": f"urn:oid:{record.study_uid}",
    }
    return [uid, *(accession_identifier(a, systems) for a in record.accessions if text(a.value))]


def _based_on(record: StudyRecord, systems: Systems) -> list[Resource]:
    accessions = (
        accession_identifier(a, systems, _ACCESSION_OF_ORDER) for a in record.accessions if text(a.value)
    )
    orders = ({"type": _PLACER, **systems.identifier(order)} for order in record.orders if text(order.value))
    return [{"type": "ServiceRequest", "identifier": identifier} for identifier in (*accessions, *orders)]


@lru_cache(maxsize=512)
def modality(code: str) -> orjson.Fragment:
    """A modality as Coding; an unknown one is said to be unknown (R4 wants it 1..1 on a series)."""
    return _fragment({"system": DCM, "code": code} if _CODE.match(code) else absent())


@lru_cache(maxsize=4096)
def concept(coded: Coded) -> orjson.Fragment | None:
    """A code as CodeableConcept: its meaning as it came."""
    coding = prune(
        {
            "system": coding_system(coded.scheme),
            "code": coded.value if _CODE.match(coded.value) else None,
            "display": text(coded.meaning),
        }
    )
    if "code" not in coding:
        coding.pop("system", None)
    body = prune({"coding": [coding] if coding else [], "text": text(coded.meaning)})
    return _fragment(body) if body else None


@lru_cache(maxsize=1024)  # most series bear a small number
def _number(number: str) -> int | None:
    digits = number.strip().removeprefix("+")
    if len(digits) > 10 or not digits.isascii() or not digits.isdecimal():
        return None
    return int(digits) if int(digits) < 1 << 31 else None


@lru_cache(maxsize=1024)
def _place(body_site: str, laterality: str) -> Resource:
    """``bodySite`` and ``laterality``, as far as there are.

    A term without a code in PS3.16 comes as it is, without a system.
    """
    place: Resource = {}
    if (known := BODY_SITES.get(body_site.strip().upper())) is not None:
        place["bodySite"] = _fragment({"system": SNOMED, "code": known[0], "display": known[1]})
    elif _CODE.match(body_site):
        place["bodySite"] = _fragment({"code": body_site, "display": body_site})
    if laterality in LATERALITY:
        value, meaning = LATERALITY[laterality]
        place["laterality"] = _fragment({"system": SNOMED, "code": value, "display": meaning})
    return place


def series(record: SeriesRecord) -> Resource:
    """One series; its instances are asked of the holder (D5)."""
    resource: Resource = {"uid": record.series_uid}
    if (number := _number(record.number)) is not None:
        resource["number"] = number
    resource["modality"] = modality(record.modality)
    if record.description.strip():
        resource["description"] = record.description
    resource["numberOfInstances"] = record.n_instances
    resource |= _place(record.body_site, record.laterality)
    if record.time.date:
        resource |= started(record.time)
    return resource


class StudyWriter:
    """Writes holdings as ImagingStudy, versioned by what they show (D12).

    For one answer: it keeps what its rows share.
    """

    def __init__(self, region: RegionFacts, systems: Systems) -> None:
        self.region, self._systems = region, systems
        self._subjects: dict[str, orjson.Fragment] = {}
        self._members: dict[tuple[str, bool], tuple[Resource, orjson.Fragment | None]] = {}
        self._regional = _endpoint(region.endpoint_id)

    def write(self, holding: HoldingFacts) -> Rendered:
        """One holding."""
        record, systems = holding.record, self._systems
        custodian, endpoints = self._member(holding.member, alone=holding.conflict)
        extensions = [custodian] if custodian else []
        if holding.conflict:
            extensions.append({"url": EXT_CONFLICT, "valueBoolean": True})
        if record.detail != "full":
            extensions.append({"url": EXT_DETAIL, "valueCode": record.detail})
        referrer = display_name(PersonName(record.referrer)) if record.referrer else None
        known = record.detail != "entry" or record.n_series > 0
        body: Resource = {
            "extension": extensions or None,
            "identifier": _identifiers(record, systems),
            "status": status(record),
            "modality": [modality(code) for code in record.headline_modalities] or None,
            "subject": self._subject(holding),
            **started(record.time),
            "basedOn": _based_on(record, systems) or None,
            "referrer": {"display": referrer} if referrer else None,
            "endpoint": endpoints,
            "numberOfSeries": record.n_series if known else None,
            "numberOfInstances": record.n_instances if known else None,
            "procedureCode": [procedure for code in record.procedure_codes if (procedure := concept(code))]
            or None,
            "location": {"display": record.institution} if text(record.institution) else None,
            "description": text(record.description),
            "series": [series(series_record) for series_record in record.series] or None,
        }
        body = {name: value for name, value in body.items() if value is not None}
        stem = f"{holding.incarnation}.{holding.revision}"
        return render_versioned("ImagingStudy", holding.fhir_id, body, stem=stem, updated=holding.updated)

    def _member(self, member: MemberFacts | None, *, alone: bool) -> tuple[Resource, orjson.Fragment | None]:
        """The custodian's extension and the endpoints, through the gateway first.

        None where there is no road to it. ``alone``: the region's own root has no default for a study on
        which holders do not agree, so it is had at the holder's.
        """
        key = (member.key if member is not None else "", alone)
        if key not in self._members:
            regional = member is None or (member.shows_images and not (alone and member.dicomweb))
            roads = [self._regional] if regional else []
            roads += [_endpoint(member.endpoint_id)] if member is not None and member.dicomweb else []
            custodian = _custodian(member, self.region) if member is not None else {}
            self._members[key] = (custodian, _fragment(roads) if roads else None)
        return self._members[key]

    def _subject(self, holding: HoldingFacts) -> Any:
        person: PersonFacts | None = holding.person
        if person is None:
            return {"type": "Patient", "identifier": self._systems.identifier(holding.record.patient.local)}
        if person.fhir_id not in self._subjects:
            self._subjects[person.fhir_id] = _fragment(subject(person, self._systems))
        return self._subjects[person.fhir_id]


def _endpoint(endpoint_id: str) -> Resource:
    return {"reference": f"Endpoint/{endpoint_id}", "type": "Endpoint"}


def _custodian(member: MemberFacts, region: RegionFacts) -> Resource:
    reference = {
        "reference": f"Organization/{member.organization_id}",
        "type": "Organization",
        "identifier": member.identifier(region.organisation_system),
        "display": member.name,
    }
    return {"url": EXT_CUSTODIAN, "valueReference": _fragment(reference)}


def imaging_study(holding: HoldingFacts, region: RegionFacts, systems: Systems) -> Resource:
    """One holding as :class:`StudyWriter` writes it, as plain data."""
    resource: Resource = orjson.loads(StudyWriter(region, systems).write(holding).data)
    return resource
