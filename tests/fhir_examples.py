"""Searches and a CT as FHIR tests have them."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

from fhir_facts import facts_of
from registry_samples import REGION, member, nhs, patient, study

from crosslight.standards.fhir.match import StudyMatcher
from crosslight.standards.fhir.search import (
    Grammar,
    SearchRequest,
    parse_search,
)
from crosslight.standards.fhir.terms import Systems
from crosslight.standards.records import changed
from crosslight.standards.study import StudyRecord
from registry.fhir.table import IMAGING_STUDY

GRAMMAR = Grammar(zone="Europe/London", base="https://r.example/fhir", default_count=50, max_count=200)
SYSTEMS = Systems(REGION)
RTK = member("RTK", 3)
NUMBER = nhs(1)
NHS_SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"


def search(*pairs: tuple[str, str], lenient: bool = False) -> SearchRequest:
    return parse_search(IMAGING_STUDY, pairs, replace(GRAMMAR, lenient=lenient))


def ct(**changes: Any) -> StudyRecord:
    return changed(study(patient(RTK, "H1", number=NUMBER), 7, modality="CT"), **changes)


def holds(record: StudyRecord, *pairs: tuple[str, str], updated: datetime | None = None) -> bool:
    facts, region = facts_of(record, RTK, NUMBER)
    facts = replace(facts, updated=updated or facts.updated)
    return StudyMatcher(region, SYSTEMS).matches(facts, search(*pairs).criteria)
