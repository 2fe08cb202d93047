"""Patient: the region's view of one person (D2, D3, D7)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from crosslight.standards.dicom.record.record import number_of
from crosslight.standards.fhir.facts import PersonFacts, RecordFacts
from crosslight.standards.fhir.terms import (
    EXT_DIFFERS,
    EXT_TRACED,
    NAME_REPRESENTATION,
    NHS_NOT_TRACED,
    NHS_VERIFICATION,
    NHS_VERIFICATION_CODES,
    NHS_VERIFIED,
    V2_0203,
    Systems,
)
from crosslight.standards.fhir.times import birth_date
from crosslight.standards.fhir.wire import Resource, prune, text, versioned
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier
from crosslight.standards.study import Patient, PersonName

GENDER = {"M": "male", "F": "female", "O": "other"}
_REPRESENTATIONS = ("ABC", "IDE", "SYL")  # alphabetic, ideographic, phonetic groups (PS3.5 6.2.1.1)


def _group(group: str, representation: str | None) -> Resource | None:
    parts = [part.strip() for part in group.split("^")] + [""] * 5
    family, given, middle, prefix, suffix = parts[:5]
    shown = " ".join(part for part in (prefix, given, middle, family, suffix, *parts[5:]) if part)
    if not shown:
        return None
    name = prune(
        {
            "text": shown,
            "family": text(family),
            "given": [part for part in (given, middle) if part],
            "prefix": [prefix] if prefix else [],
            "suffix": [suffix] if suffix else [],
        }
    )
    if representation:
        return {"extension": [{"url": NAME_REPRESENTATION, "valueCode": representation}], **name}
    return name


def human_names(name: PersonName) -> list[Resource]:
    """A DICOM PN as HumanNames: one for each group that says something, in PN's order."""
    groups = name.pn.split("=")
    several = sum(1 for group in groups if group.strip(" ^")) > 1
    in_groups = [
        _group(group, _REPRESENTATIONS[i] if several else None) for i, group in enumerate(groups[:3])
    ]
    return [human_name for human_name in in_groups if human_name]


@lru_cache(maxsize=1024)
def display_name(name: PersonName) -> str | None:
    """How a reference shows a PN."""
    names = human_names(name)
    return str(names[0]["text"]) if names else None


def _verification(authority: str, traced: bool) -> Resource:
    if authority != NHS_NUMBER_OID:
        return {"url": EXT_TRACED, "valueBoolean": traced}
    code, meaning = NHS_VERIFIED if traced else NHS_NOT_TRACED
    coding = {"system": NHS_VERIFICATION_CODES, "code": code, "display": meaning}
    return {"url": NHS_VERIFICATION, "valueCodeableConcept": {"coding": [coding]}}


def national_identifier(number: Identifier, systems: Systems, *, traced: bool | None) -> Resource:
    """A national number; ``traced`` None leaves its verification unsaid (in references)."""
    kind = "NH" if number.authority == NHS_NUMBER_OID else "NI"
    head: Resource = {"extension": [_verification(number.authority, traced)]} if traced is not None else {}
    return head | {
        "use": "official",
        "type": {"coding": [{"system": V2_0203, "code": kind}]},
        **systems.identifier(number),
    }


def _local_identifier(record: RecordFacts, systems: Systems) -> Resource:
    identifier: Resource = {
        "use": "usual",
        "type": {"coding": [{"system": V2_0203, "code": "MR"}]},
        **systems.identifier(record.patient.local),
    }
    if record.member is not None:
        identifier["assigner"] = {
            "reference": f"Organization/{record.member.organization_id}",
            "display": record.member.name,
        }
    return identifier


def _identifiers(person: PersonFacts, systems: Systems) -> list[Resource]:
    traced: dict[Identifier, bool] = {}
    for record in person.records:
        for number in record.national:
            traced[number] = traced.get(number, False) or record.patient.traced
    identifiers = [national_identifier(number, systems, traced=yes) for number, yes in traced.items()]
    if person.domain_id not in traced:
        if systems.is_national(person.domain_id.authority):
            identifiers.insert(0, national_identifier(person.domain_id, systems, traced=False))
        else:
            identifiers.append({"use": "secondary", **systems.identifier(person.domain_id)})
    seen: dict[Identifier, Resource] = {}
    shown = {(number.authority, number.value) for number in (*traced, person.domain_id)}
    for record in person.records:  # one that a system fed has the national number itself for a local one
        local = record.patient.local
        if (local.authority, local.value) not in shown:
            seen.setdefault(local, _local_identifier(record, systems))
        if (original := number_of(record.patient)[1]) is not None:
            seen.setdefault(original, {"use": "secondary", **systems.identifier(original)})
    return identifiers + list(seen.values())


def differing(records: tuple[RecordFacts, ...]) -> list[str]:
    """Which demographics are not the same in all records: ``name``, ``birthDate``, ``gender`` (D3)."""

    def several(values: set[str]) -> bool:
        return len(values - {""}) > 1

    patients = [record.patient for record in records]
    fields = []
    if several({p.name.pn.strip().casefold() for p in patients}):
        fields.append("name")
    if several({p.birth_date.strip() for p in patients}):
        fields.append("birthDate")
    if several({p.sex.strip() for p in patients}):
        fields.append("gender")
    return fields


def patient(person: PersonFacts, systems: Systems, *, incarnation: str) -> Resource:
    """The person as Patient: demographics of the first record, every identifier, every distinct name."""
    banner: Patient = person.records[0].patient
    names: dict[str, list[Resource]] = {}
    for record in person.records:
        names.setdefault(record.patient.name.pn.strip(), human_names(record.patient.name))
    extensions: list[Any] = [{"url": EXT_DIFFERS, "valueCode": what} for what in differing(person.records)]
    if person.differs and not extensions:
        extensions = [{"url": EXT_DIFFERS, "valueCode": "name"}]
    body = prune(
        {
            "resourceType": "Patient",
            "id": person.fhir_id,
            "extension": extensions,
            "identifier": _identifiers(person, systems),
            "active": True,
            "name": [human_name for group in names.values() for human_name in group],
            "gender": GENDER.get(banner.sex),
            "birthDate": birth_date(banner.birth_date),
        }
    )
    moments = [record.updated for record in person.records if record.updated is not None]
    return versioned(body, stem=incarnation, updated=max(moments, default=None))


def subject(person: PersonFacts, systems: Systems) -> Resource:
    """A reference to the person: id, the current domain id, and the banner's name."""
    domain = person.domain_id
    national = systems.is_national(domain.authority)
    named = national_identifier(domain, systems, traced=None) if national else systems.identifier(domain)
    return prune(
        {
            "reference": f"Patient/{person.fhir_id}",
            "type": "Patient",
            "identifier": named,
            "display": display_name(person.records[0].patient.name) if person.records else None,
        }
    )
