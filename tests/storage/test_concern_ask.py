"""Completeness concerns the patient asked for: studies of others that wait do not make a list less than
complete (D19).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from callers import caller
from registry_room import Room, clinician, make_room
from registry_samples import NHS, nhs, patient, study

from crosslight.runtime.db import Db
from crosslight.standards.access import Principal
from crosslight.standards.concern import Concern, concern_of
from crosslight.standards.ids import Identifier, Oid
from crosslight.standards.problem import Forbidden
from crosslight.standards.records import changed
from registry.ask.coverage import MemberCoverage
from registry.ask.question import ByObject, ByPatient, ByPopulation, Patients, Question, StudyFilter
from registry.identity.model import PatientSelector

NUMBER, OTHERS = nhs(1), nhs(2)


@pytest.fixture
async def room(database: Db) -> AsyncIterator[Room]:
    made = await make_room(database)
    made.live("RA2", "RPC", "RTK", "RXC", "RYR")
    for code, local in (("RA2", "A1"), ("RTK", "T9")):
        await made.publish(
            code, study(patient(made.member(code), local, number=NUMBER), 1 if code == "RA2" else 2), 1
        )
    yield made
    await made.ask.close()


def tell(
    room: Room, code: str, waiting: list[Identifier], refused: list[Identifier] | None = None, **more: Any
) -> None:
    """What a member's heartbeat says."""
    member = room.member(code)
    known = room.directory.presences[member.id]
    refused = refused or []
    concern = concern_of(member.secret, waiting, refused, **more)
    room.directory.presences[member.id] = replace(
        known, waiting=len(waiting), parked=len(refused), concern=concern
    )


async def part(room: Room, question: Question, code: str = "RTK") -> MemberCoverage:
    answer = await room.asked(question)
    return next(m for m in answer.coverage.members if m.code == code)


def by(value: str, authority: str = NHS) -> ByPatient:
    return ByPatient(patient=PatientSelector(identifiers=(Identifier(value, authority),)))


async def test_a_list_is_behind_for_the_patient_whose_study_waits_and_for_nobody_else(room: Room) -> None:
    rtk, ra2 = room.member("RTK"), room.member("RA2")
    fhir_id = (await room.asked(by(NUMBER))).persons[0].fhir_id
    questions: list[Question] = [
        by(NUMBER),
        by(NUMBER, ""),
        by(f"{NUMBER[:3]} {NUMBER[3:6]} {NUMBER[6:]}", ""),
        by("T9", rtk.authority),
        by("A1", ra2.authority),
        by("A1", ""),
        Patients(patient=PatientSelector(fhir_id=fhir_id)),
        ByPatient(patient=PatientSelector(fhir_id=fhir_id)),
    ]
    own = [
        Identifier(NUMBER, NHS),  # of a study under a local number that nobody here knows yet
        Identifier("T9", rtk.authority),  # of one without a national number
        Identifier("A1", ra2.authority),  # of one that came from another trust
    ]
    for question in questions:
        tell(
            room,
            "RTK",
            [Identifier(OTHERS, NHS), Identifier("NOID-0F", rtk.authority), Identifier("T9", ra2.authority)],
        )
        known = await part(room, question)
        assert (known.states, known.waits, known.waiting) == (("live",), "nobody", 3), question
        assert (await room.asked(question)).coverage.proves_absence
        for identifier in own:
            tell(room, "RTK", [Identifier(OTHERS, NHS), identifier])
            known = await part(room, question)
            assert (known.states, known.waits) == (("behind",), "patient"), (question, identifier)
            assert not (await room.asked(question)).coverage.proves_absence
        assert (await part(room, question, "RA2")).states == ("live",)


async def test_a_bare_number_is_tried_under_every_authority_that_is_the_members_own(room: Room) -> None:
    agreed = Oid("1.2.826.0.1.77")
    room.directory.set(replace(room.member("RTK"), authorities=(agreed,)))
    question = by("A1", "")  # known here as RA2's
    tell(room, "RTK", [Identifier("A1", "1.2.826.0.1.78")])
    assert (await part(room, question)).states == ("live",)
    for authority in (agreed, room.member("RTK").authority):
        tell(room, "RTK", [Identifier("A1", authority)])
        assert (await part(room, question)).waits == "patient", "it is a patient of this number too"


async def test_a_refused_study_is_told_to_its_own_patient_alone(room: Room) -> None:
    tell(room, "RTK", [], [Identifier(OTHERS, NHS)])
    known = await part(room, by(NUMBER))
    assert (known.states, known.refused, known.parked) == (("live",), "nobody", 1)
    assert (await room.asked(by(NUMBER))).coverage.proves_absence
    its = (await room.asked(by(OTHERS))).coverage
    assert not its.proves_absence
    assert "RTK;state=behind;" in its.header()
    assert ";refused=patient" in its.header()
    known = next(m for m in room.ask.coverage().members if m.code == "RTK")
    assert (known.states, known.refused, known.parked) == (
        ("live",),
        "anybody",
        1,
    ), "the operator's fact, nobody's list"
    assert not room.ask.coverage().proves_absence


@pytest.mark.parametrize(
    "question",
    [
        ByPatient(patient=PatientSelector(family="Smith", birth_date="19550214")),
        Patients(patient=PatientSelector(family="Nobody", birth_date="19000101")),
        by("T4711", ""),  # a local number that nobody here has: it may be under any issuer
        ByPatient(patient=PatientSelector(fhir_id="5d1f1c9e-0000-4000-8000-000000000001")),
        ByPopulation(filter=StudyFilter()),
        ByObject(study_uids=("1.2.3",)),
    ],
    ids=["name", "no such name", "bare number", "no such person", "population", "object"],
)
async def test_a_question_that_may_be_about_anybody_counts_anybodys_studies(
    room: Room, question: Question
) -> None:
    tell(room, "RTK", [Identifier(OTHERS, NHS)])
    known = await part(room, question)
    assert (known.states, known.waits) == (("behind",), "anybody")
    tell(room, "RTK", [])
    assert (await part(room, question)).states == ("live",)


async def test_who_does_not_say_whose_its_studies_are_is_behind_for_everybody(room: Room) -> None:
    rtk = room.member("RTK").id
    well = room.directory.presences[rtk]
    for presence, states, proves in (
        (replace(well, waiting=1), ("behind",), False),  # an older node
        (replace(well, concern=Concern(anybody_waiting=True)), ("behind",), False),  # more than a set holds
        (replace(well, concern=Concern(), filling=True), ("filling",), False),
        # an unreadable object in quarantine
        (replace(well, concern=Concern(anybody_refused=True)), ("live",), False),
        # two withdrawals for safety, of whom nothing is said
        (replace(well, concern=Concern(), waiting=2), ("live",), True),
    ):
        room.directory.presences[rtk] = presence
        answer = await room.asked(by(NUMBER))
        assert [m.states for m in answer.coverage.members if m.code == "RTK"] == [states], presence
        assert answer.coverage.proves_absence is proves, presence


async def test_the_etags_states_follow_all_that_is_said(room: Room) -> None:
    keys = []
    for waiting, refused in (([], []), ([NUMBER], []), ([], [NUMBER]), ([NUMBER], [NUMBER])):
        tell(room, "RTK", [Identifier(n, NHS) for n in waiting], [Identifier(n, NHS) for n in refused])
        keys.append((await room.asked(by(NUMBER))).coverage.states_key())
    rtk = room.member("RTK").id
    room.directory.presences[rtk] = replace(
        room.directory.presences[rtk], concern=Concern(), parked=0, census_equal=None
    )
    keys.append((await room.asked(by(NUMBER))).coverage.states_key())  # absence is proven no more
    assert len(set(keys)) == 5
    room.clock.moment += timedelta(seconds=5)
    assert (await room.asked(by(NUMBER))).coverage.states_key() == keys[-1], "no times in it"


# --- what an open page looks at -----------------------------------------------------------------------------


async def test_a_glance_changes_with_the_answer_and_is_no_audited_act(room: Room) -> None:
    person = (await room.asked(by(NUMBER))).persons[0]
    selector = PatientSelector(fhir_id=person.fhir_id)
    acts = len(await room.audit.search(limit=100))

    async def glance(study_uid: str = "") -> str:
        return (
            await room.ask.glance(caller(clinician()), face="portal", patient=selector, study_uid=study_uid)
        ).version

    versions = [await glance()]
    rtk = room.member("RTK")
    first = study(patient(rtk, "T9", number=NUMBER), 2)
    one = [await glance(first.study_uid)]

    async def moved(why: str, *, of_first: bool) -> None:
        versions.append(await glance())
        assert versions[-1] not in versions[:-1], why
        assert versions[-1] == await glance(), why
        one.append(await glance(first.study_uid))
        assert (one[-1] != one[-2]) is of_first, why

    await room.publish("RTK", study(patient(rtk, "T9", number=NUMBER), 3), 2)
    await moved("a new study", of_first=False)
    await room.publish("RTK", changed(first, description="Changed"), 3)
    await moved("a changed study", of_first=True)
    await room.publish("RYR", study(patient(room.member("RYR"), "Y1", number=OTHERS), 2), 1)
    await moved("another patient's holding of the same study: a conflict", of_first=True)
    await room.withdraw("RTK", first.study_uid, 4)
    await moved("a withdrawn study", of_first=True)
    await room.feed("RXC", patient(room.member("RXC"), "X1", number=NUMBER))
    await moved("another record", of_first=True)
    await room.publish("RYR", study(patient(room.member("RYR"), "Y2", number=nhs(3)), 9), 2)
    assert await glance() == versions[-1], "nothing of another patient"
    assert len(await room.audit.search(limit=100)) == acts
    with pytest.raises(Forbidden):
        await room.ask.glance(
            caller(Principal(subject="porter", roles=frozenset({"porter"}))), face="portal", patient=selector
        )
