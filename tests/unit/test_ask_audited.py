"""What the audit says of a question: all that was asked by, and nothing that was not."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any

import pytest

from crosslight.standards.ids import Identifier
from registry.ask.ask import plain
from registry.ask.question import (
    ByObject,
    ByPatient,
    ByPopulation,
    DirectoryQuestion,
    Patients,
    Question,
    StudyFilter,
)
from registry.identity.model import NameTest, PatientSelector

NUMBER = Identifier("9434765919", "2.16.840.1.113883.2.1.4.1")
WHO = PatientSelector(
    identifiers=(NUMBER, Identifier("H1", namespace="RTK")), names=(NameTest("family", "O"),)
)
MOMENT = datetime(2026, 1, 2, tzinfo=UTC)
NARROW = StudyFilter(
    modalities=("CT", ""),
    accessions=(Identifier("A1"),),
    study_date=("", "20260101"),
    started=(None, MOMENT),
    updated=(MOMENT, None),
)


def _of_all_fields(value: Any) -> Any:
    """The same by way of a copy of all that a question has."""
    if isinstance(value, dict):
        kept = {name: member for name, member in value.items() if member not in ("", (), None, {}, False)}
        return {name: _of_all_fields(member) for name, member in kept.items()}
    return [_of_all_fields(member) for member in value] if isinstance(value, list | tuple) else value


@pytest.mark.parametrize(
    "question",
    [
        ByPatient(patient=WHO),
        ByPatient(
            patient=PatientSelector(fhir_id="x"), filter=NARROW, versions=True, limit=3, offset=0, order="O"
        ),
        ByPatient(patient=PatientSelector(), offset=1),
        ByObject(fhir_ids=("a",), accessions=(NUMBER,), versions=True),
        ByPopulation(filter=NARROW, limit=0, ascending=True),
        Patients(patient=PatientSelector(family="O'Brien", birth_date="19610203")),
        DirectoryQuestion(),
    ],
)
def test_what_was_asked_by_is_all_that_is_said(question: Question) -> None:
    assert plain(question) == _of_all_fields(asdict(question))


def test_a_part_that_says_nothing_is_empty() -> None:
    assert plain(ByPatient(patient=PatientSelector(fhir_id="x"))) == {
        "patient": {"fhir_id": "x"},
        "filter": {},
    }
