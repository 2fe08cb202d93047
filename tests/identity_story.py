"""Stories of one local id: studies of RTK that come one after the other, and what is seen then."""

from __future__ import annotations

from typing import Any

from registry_room import Room, clinician
from registry_samples import NHS, patient, study

from crosslight.standards.ids import Identifier
from crosslight.standards.records import changed
from crosslight.standards.study import Patient, StudyTime
from registry.ask.question import Answer, ByPatient
from registry.identity.model import PatientRecord, PatientSelector


class Story:
    """Studies of RTK under one local id, in the order they come."""

    def __init__(self, room: Room, local: str = "UNKNOWN1") -> None:
        self.room, self.local, self.n = room, local, 0

    def header(self, number: str = "", family: str = "Alpha", given: str = "Anna", **more: str) -> Patient:
        more = {"born": "19800101", "sex": "F", **more}
        return patient(self.room.member("RTK"), self.local, number=number, family=family, given=given, **more)  # type: ignore[arg-type]

    def boris(self, number: str = "") -> Patient:
        return self.header(number, "Beta", "Boris", born="19900202", sex="M")

    async def study(self, header: Patient, *, seed: int = 0) -> str:
        self.n += 1
        number = seed or self.n
        record = changed(study(header, number), time=StudyTime(date=f"2020{number:02d}15", time="101500"))
        assert await self.room.publish("RTK", record, self.n) == "accepted"
        return record.study_uid


def asked(value: str, authority: str = NHS) -> ByPatient:
    return ByPatient(patient=PatientSelector(identifiers=(Identifier(value, authority),)))


async def sees(room: Room, question: Any, who: Any = None) -> tuple[set[str], list[str], set[str]]:
    """Studies, notices, families of the persons shown."""
    answer: Answer = await room.asked(question, who or clinician("RA2"))
    assert all(answer.person_of(h) is not None for h in answer.holdings)
    return (
        {h.study_uid for h in answer.holdings},
        [n.member_code for n in answer.disputed],
        {r.patient.name.family for p in answer.persons for r in p.records},
    )


async def pending(room: Room) -> list[PatientRecord]:
    return [r for r in await room.identity.waiting() if r.in_doubt]
