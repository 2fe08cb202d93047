"""Facts for tests of the FHIR mappings."""

from __future__ import annotations

from datetime import UTC, datetime

from registry_samples import NHS, REGION

from crosslight.standards.fhir.facts import HoldingFacts, MemberFacts, PersonFacts, RecordFacts, RegionFacts
from crosslight.standards.ids import Identifier
from crosslight.standards.study import StudyRecord
from registry.members.model import Member


def region_facts() -> RegionFacts:
    return RegionFacts(
        name=REGION.name,
        home_community_id=REGION.home_community_id,
        organisation_system=REGION.organisation_system,
        dicomweb="https://region.example/dicomweb",
    )


def member_facts(member: Member) -> MemberFacts:
    return MemberFacts(
        key=str(member.id),
        code=member.code,
        name=member.name,
        repository_unique_id=member.repository_unique_id,
        retrieve_location_uid=member.retrieve_location_uid,
        dicomweb=f"https://{member.code.lower()}.example/dicomweb",
    )


def facts_of(record: StudyRecord, member: Member, number: str) -> tuple[HoldingFacts, RegionFacts]:
    """A holding of one person with one record."""
    held = member_facts(member)
    updated = datetime(2026, 1, 2, 3, tzinfo=UTC)
    national = (Identifier(number, NHS),)
    person = PersonFacts(
        fhir_id="7b1f6a5e-0000-4000-8000-000000000001",
        domain_id=national[0],
        records=(RecordFacts(patient=record.patient, member=held, national=national, updated=updated),),
    )
    holding = HoldingFacts(
        fhir_id="a0b1c2d3-0000-8000-8000-000000000001",
        incarnation="inc1",
        revision=4,
        updated=updated,
        record=record,
        member=held,
        person=person,
    )
    return holding, region_facts()
