"""A holding, a person and their systems as FHIR tests have them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from fhir_facts import member_facts, region_facts
from registry_samples import NHS, REGION, member, nhs, patient, study

from crosslight.standards.fhir.facts import HoldingFacts, PersonFacts, RecordFacts
from crosslight.standards.fhir.terms import (
    Systems,
)
from crosslight.standards.ids import Identifier
from crosslight.standards.study import StudyRecord

SYSTEMS = Systems(REGION)
REGION_FACTS = region_facts()
RTK = member("RTK", 3)
RTK_FACTS = member_facts(RTK)
NUMBER = nhs(1)


def person(*records: RecordFacts, number: str = NUMBER) -> PersonFacts:
    return PersonFacts(
        fhir_id="7b1f6a5e-0000-4000-8000-000000000001", domain_id=Identifier(number, NHS), records=records
    )


def record_facts(record: StudyRecord, *, national: bool = True) -> RecordFacts:
    numbers = (Identifier(NUMBER, NHS),) if national else ()
    return RecordFacts(
        patient=record.patient, member=RTK_FACTS, national=numbers, updated=datetime(2026, 1, 2, tzinfo=UTC)
    )


def holding(record: StudyRecord, **changes: Any) -> HoldingFacts:
    facts = HoldingFacts(
        fhir_id="a0b1c2d3-0000-8000-8000-000000000001",
        incarnation="inc1",
        revision=4,
        updated=datetime(2026, 1, 2, 3, tzinfo=UTC),
        record=record,
        member=RTK_FACTS,
        person=person(record_facts(record)),
    )
    return replace(facts, **changes)


def ct(seed: int = 7) -> StudyRecord:
    return study(patient(RTK, "H1", number=NUMBER), seed, modality="CT")
