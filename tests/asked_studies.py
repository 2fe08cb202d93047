"""What tests of questions to the index ask of."""

from __future__ import annotations

from typing import Any

from registry_room import Room
from registry_samples import patient, study

from crosslight.standards.ids import Identifier
from crosslight.standards.records import changed
from crosslight.standards.study import StudyRecord, StudyTime
from registry.ask.question import (
    Answer,
    ByPatient,
)
from registry.identity.model import PatientSelector


def _by(number: str, *, authority: str = "", **more: Any) -> ByPatient:
    return ByPatient(patient=PatientSelector(identifiers=(Identifier(number, authority),)), **more)


def _uids(answer: Answer) -> list[str]:
    return [h.study_uid for h in answer.holdings]


async def _three_trusts(room: Room, number: str) -> list[StudyRecord]:
    """One patient at three trusts under three numbers, one study each; newest first."""
    records = []
    for n, (code, local) in enumerate((("RA2", "A1"), ("RPC", "P7"), ("RTK", "T9")), 1):
        record = study(patient(room.member(code), local, number=number), n)
        record = changed(
            record,
            time=StudyTime(date=f"202{n}0301", time="101500", zone="Europe/London", zone_source="site"),
        )
        await room.publish(code, record, n)
        records.append(record)
    return records[::-1]
