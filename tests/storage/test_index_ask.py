"""ask over index and identity on both databases: who sees what, how complete it is, what is audited (D1-D4,
D13, D19-D22).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from asked_studies import _by, _three_trusts, _uids
from registry_room import Room, clinician, make_room
from registry_samples import NHS, grown, nhs, patient, published, study

from crosslight.runtime.db import Db
from crosslight.standards.access import OPEN, Face
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Invalid
from crosslight.standards.records import changed
from registry.ask.question import (
    ByObject,
    ByPatient,
    ByPopulation,
    Patients,
    StudyFilter,
)
from registry.identity.model import PatientSelector


@pytest.fixture
async def room(database: Db) -> AsyncIterator[Room]:
    made = await make_room(database)
    yield made
    await made.ask.close()


# --- persons (D2-D4) ----------------------------------------------------------------------------------------


async def test_one_patient_of_three_trusts_by_any_number(room: Room) -> None:
    records = await _three_trusts(room, nhs(1))
    expected = [r.study_uid for r in records]
    for asked in (
        Identifier(nhs(1)),
        Identifier(nhs(1), NHS),
        Identifier("T9", room.member("RTK").authority),
    ):
        answer = await room.asked(ByPatient(patient=PatientSelector(identifiers=(asked,))))
        assert _uids(answer) == expected
        assert len(answer.persons) == 1
        assert answer.persons[0].domain_id == Identifier(nhs(1), NHS)
        assert {h.conflict for h in answer.holdings} == {False}
    by_name = await room.asked(ByPatient(patient=PatientSelector(family="BAKER", birth_date="19610203")))
    assert _uids(by_name) == expected
    by_id = await room.asked(ByPatient(patient=PatientSelector(fhir_id=by_name.persons[0].fhir_id)))
    assert _uids(by_id) == expected
    assert by_id.person_of(by_id.holdings[0]) == by_id.persons[0]


async def test_a_disputed_record_is_a_notice_and_its_own_users_see_it(room: Room) -> None:
    records = await _three_trusts(room, nhs(1))
    other = study(patient(room.member("RXC"), "X4", number=nhs(1), family="Other", born="19991231"), 9)
    await room.publish("RXC", other, 1)
    expected = [r.study_uid for r in records]

    async def sees(who: Any, face: Face = "fhir", question: Any = None) -> tuple[list[str], list[str]]:
        answer = await room.asked(question or _by(nhs(1)), who, face=face)
        return _uids(answer), [n.member_code for n in answer.disputed]

    assert await sees(clinician("RA2")) == (expected, ["RXC"])
    assert await sees(OPEN) == (expected, ["RXC"]), "the open demo shows the same three"
    apart: tuple[Face, ...] = ("fhir", "portal")
    for face in apart:
        uids, notices = await sees(clinician("RXC"), face)
        assert (set(uids), notices) == ({other.study_uid, *expected}, ["RXC"])
        uids, notices = await sees(clinician("RA2", "identity"), face)
        assert (set(uids), notices) == ({other.study_uid, *expected}, ["RXC"])
    alone: tuple[Face, ...] = ("xds", "dicomweb")
    for face in alone:
        assert await sees(clinician("RXC"), face) == (expected, ["RXC"]), "a number leads to one person there"
    own = _by("X4", authority=room.member("RXC").authority)
    assert await sees(clinician("RA2"), question=own) == ([other.study_uid], [])
    answer = await room.asked(own)
    assert [m.code for m in answer.coverage.members if m.identity_doubt] == ["RXC"]
    assert answer.persons[0].records[0].disputed
    by_name = ByPatient(patient=PatientSelector(family="Other", birth_date="19991231"))
    assert await sees(clinician("RA2"), question=by_name) == ([], ["RXC"])
    assert await sees(clinician("RXC"), question=by_name) == ([other.study_uid], [])
    assert await sees(clinician("RA2"), question=ByPopulation(filter=StudyFilter())) == (expected, [])
    assert other.study_uid in (await sees(clinician("RXC"), question=ByPopulation(filter=StudyFilter())))[0]
    accession = ByObject(accessions=other.accessions)
    assert await sees(clinician("RA2"), question=accession) == ([], []), "accession numbers can be guessed"
    assert await sees(clinician("RXC"), question=accession) == ([other.study_uid], [])
    assert (await sees(clinician("RA2"), question=ByObject(study_uids=(other.study_uid,))))[0] == [
        other.study_uid
    ]


async def test_a_subsumed_number_answers_iti18_empty_and_leads_people_to_the_survivor(room: Room) -> None:
    authority = room.member("RA2").authority
    for n, local in enumerate(("H1", "H2"), 1):
        await room.publish("RA2", study(patient(room.member("RA2"), local), n), n)
    await room.identity.merge(Identifier("H1", authority), Identifier("H2", authority), room.clock.now())
    assert _uids(await room.asked(_by("H2", authority=authority), face="xds")) == []
    assert (
        len(_uids(await room.asked(_by("H2", authority=authority))))
        == len(_uids(await room.asked(_by("H2"))))
        == 2
    )
    assert len(_uids(await room.asked(_by("H1", authority=authority)))) == 2


async def test_demographics(room: Room) -> None:
    await _three_trusts(room, nhs(1))
    answer = await room.asked(
        Patients(patient=PatientSelector(family="Baker", given="Ann", birth_date="19610203"))
    )
    assert [p.domain_id.value for p in answer.persons] == [nhs(1)]
    assert answer.holdings == ()
    with pytest.raises(Invalid):
        await room.asked(Patients(patient=PatientSelector(family="Baker")))


# --- holders and conflicts (D1) -----------------------------------------------------------------------------


async def test_holdings_of_one_study_that_differ_are_marked(room: Room) -> None:
    first = study(patient(room.member("RA2"), "A1", number=nhs(1)), 1)
    copy = changed(first, patient=patient(room.member("RPC"), "P1", number=nhs(1)))
    await room.publish("RA2", first, 1)
    await room.publish("RPC", copy, 1)
    answer = await room.asked(_by(nhs(1)))
    assert [(h.member, h.conflict) for h in answer.holdings] == [(1, False), (2, False)]
    assert len({h.fhir_id for h in answer.holdings}) == 2
    await room.publish("RPC", grown(copy, 2), 2)
    assert [h.conflict for h in (await room.asked(_by(nhs(1)))).holdings] == [True, True]
    await room.publish("RPC", changed(grown(copy, 2), progress="arriving"), 3)
    assert [h.conflict for h in (await room.asked(_by(nhs(1)))).holdings] == [
        False,
        False,
    ], "a copy on its way is no conflict"
    await room.withdraw("RPC", copy.study_uid, 4)
    wrong = changed(first, patient=patient(room.member("RTK"), "T1", number=nhs(2), family="Elsewhere"))
    await room.publish("RTK", wrong, 1)
    assert [h.conflict for h in (await room.asked(_by(nhs(1)))).holdings] == [True], (
        "another patient's, not in this answer"
    )
    assert [h.conflict for h in (await room.asked(ByObject(study_uids=(first.study_uid,)))).holdings] == [
        True,
        True,
    ]
    await room.availability("RTK", first.study_uid, "Deprecated", 2)
    assert [h.conflict for h in (await room.asked(_by(nhs(1)))).holdings] == [False]


# --- names (D13) --------------------------------------------------------------------------------------------


async def test_every_name_leads_to_its_holding(room: Room) -> None:
    first = study(patient(room.member("RA2"), number=nhs(1)), 1)
    await room.publish("RA2", first, 1)
    await room.publish("RA2", grown(first, 2), 2)
    await room.publish("RA2", study(patient(room.member("RA2")), 77), 3)
    old, new = published(room.member("RA2"), first, 1), published(room.member("RA2"), first, 2, replaces=1)
    uuids = (old.entry_uuid, old.submission_uuid, old.has_member_uuid, new.entry_uuid, new.replaces_uuid)
    for name in uuids:
        assert _uids(await room.asked(ByObject(entry_uuids=(name,), versions=True))) == [first.study_uid]
    for name in (old.manifest.document_uid, old.submission_uid, new.manifest.document_uid):
        assert _uids(await room.asked(ByObject(unique_ids=(name,), versions=True))) == [first.study_uid]
    assert _uids(await room.asked(ByObject(unique_ids=(old.manifest.document_uid,)))) == [], (
        "superseded: only with versions"
    )
    assert _uids(await room.asked(ByObject(unique_ids=(new.manifest.document_uid,)))) == [first.study_uid]
    never = published(room.member("RA2"), first, 9)
    assert _uids(await room.asked(ByObject(entry_uuids=(never.entry_uuid,), versions=True))) == []
    number = first.accessions[0]
    assert _uids(await room.asked(ByObject(accessions=(Identifier(number.value),)))) == [first.study_uid]
    assert _uids(await room.asked(ByObject(accessions=(number,)))) == [first.study_uid]
    assert _uids(await room.asked(ByObject(accessions=(Identifier(number.value, "1.2.3"),)))) == []


async def test_an_accession_without_issuer_answers_per_issuer(room: Room) -> None:
    for n, code in enumerate(("RA2", "RTK"), 1):
        record = study(patient(room.member(code), number=nhs(n)), n)
        await room.publish(
            code, changed(record, accessions=(Identifier("1001", room.member(code).authority),)), 1
        )
    answer = await room.asked(ByObject(accessions=(Identifier("1001"),)))
    assert {h.record.accessions[0].authority for h in answer.holdings} == {
        room.member(c).authority for c in ("RA2", "RTK")
    }
    one = await room.asked(ByObject(accessions=(Identifier("1001", room.member("RTK").authority),)))
    assert [h.member for h in one.holdings] == [room.member("RTK").id]
