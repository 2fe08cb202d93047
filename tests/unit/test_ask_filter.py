"""What narrows a list of holdings: descriptions by wildcards (PS3.4 C.2.2.2.4)."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from registry_samples import member, patient, published, study

from crosslight.standards.records import changed
from registry.ask.filter import matches
from registry.ask.question import StudyFilter
from registry.identity.model import RecordKey
from registry.index.model import Holding


def _held(description: str) -> Holding:
    home = member("RTK", 1)
    record = changed(study(patient(home), 1), description=description)
    made = published(home, record, 1)
    return Holding(
        member=home.id,
        record_key=RecordKey(1),
        publication=made,
        state="approved",
        digest="",
        revision=1,
        fhir_id="f",
        updated=datetime(2026, 1, 1, tzinfo=UTC),
    )


def _kept(description: str, *patterns: str) -> bool:
    return matches(StudyFilter(descriptions=patterns), _held(description), lambda _: "RTK")


@pytest.mark.parametrize(
    ("description", "pattern", "kept"),
    [
        ("CT Thorax", "ct*", True),
        ("CT Thorax", "*THORAX", True),
        ("CT Thorax", "CT?Thorax", True),
        ("CT\nThorax", "CT*", True),
        ("CT Thorax", "CT", False),
        ("CT (Thorax)", "CT (*)", True),
        ("Schädel", "SCHÄDEL", True),
        ("", "*", True),
    ],
)
def test_a_description_by_wildcards(description: str, pattern: str, kept: bool) -> None:
    assert _kept(description, pattern) is kept


def test_no_pattern_takes_long() -> None:
    assert not _kept("a" * 64, "*a" * 30 + "*b")
