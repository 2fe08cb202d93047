"""ask over index and identity on both databases: who sees what, how complete it is, what is audited (D1-D4,
D13, D19-D22).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from callers import caller
from registry_room import Room, clinician, make_room
from registry_samples import NHS, grown, nhs, patient, published, study

from crosslight.runtime.db import Db, Tx
from crosslight.standards.access import OPEN, Face
from crosslight.standards.concern import Concern
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Forbidden, Invalid
from crosslight.standards.study import StudyRecord, StudyTime
from registry.ask.question import (
    Answer,
    ByObject,
    ByPatient,
    ByPopulation,
    DirectoryQuestion,
    Patients,
    StudyFilter,
)
from registry.identity.model import PatientSelector


@pytest.fixture
async def room(database: Db) -> AsyncIterator[Room]:
    made = await make_room(database)
    yield made
    await made.ask.close()


def _by(number: str, *, authority: str = "", **more: Any) -> ByPatient:
    return ByPatient(patient=PatientSelector(identifiers=(Identifier(number, authority),)), **more)


def _uids(answer: Answer) -> list[str]:
    return [h.study_uid for h in answer.holdings]


async def _three_trusts(room: Room, number: str) -> list[StudyRecord]:
    """One patient at three trusts under three numbers, one study each; newest first."""
    records = []
    for n, (code, local) in enumerate((("RA2", "A1"), ("RPC", "P7"), ("RTK", "T9")), 1):
        record = study(patient(room.member(code), local, number=number), n)
        record = replace(
            record,
            time=StudyTime(date=f"202{n}0301", time="101500", zone="Europe/London", zone_source="site"),
        )
        await room.publish(code, record, n)
        records.append(record)
    return records[::-1]


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
    copy = replace(first, patient=patient(room.member("RPC"), "P1", number=nhs(1)))
    await room.publish("RA2", first, 1)
    await room.publish("RPC", copy, 1)
    answer = await room.asked(_by(nhs(1)))
    assert [(h.member, h.conflict) for h in answer.holdings] == [(1, False), (2, False)]
    assert len({h.fhir_id for h in answer.holdings}) == 2
    await room.publish("RPC", grown(copy, 2), 2)
    assert [h.conflict for h in (await room.asked(_by(nhs(1)))).holdings] == [True, True]
    await room.publish("RPC", replace(grown(copy, 2), progress="arriving"), 3)
    assert [h.conflict for h in (await room.asked(_by(nhs(1)))).holdings] == [
        False,
        False,
    ], "a copy on its way is no conflict"
    await room.withdraw("RPC", copy.study_uid, 4)
    wrong = replace(first, patient=patient(room.member("RTK"), "T1", number=nhs(2), family="Elsewhere"))
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
            code, replace(record, accessions=(Identifier("1001", room.member(code).authority),)), 1
        )
    answer = await room.asked(ByObject(accessions=(Identifier("1001"),)))
    assert {h.record.accessions[0].authority for h in answer.holdings} == {
        room.member(c).authority for c in ("RA2", "RTK")
    }
    one = await room.asked(ByObject(accessions=(Identifier("1001", room.member("RTK").authority),)))
    assert [h.member for h in one.holdings] == [room.member("RTK").id]


# --- population ---------------------------------------------------------------------------------------------


async def _many(room: Room, count: int) -> list[StudyRecord]:
    records = []
    for i in range(count):
        record = study(patient(room.member("RA2" if i % 3 else "RTK"), f"L{i % 5}"), i)
        day = datetime(2025, 1, 1, tzinfo=UTC) + timedelta(days=i // 3)
        time = (
            StudyTime(date=day.strftime("%Y%m%d"), time="120000", zone="+0000", zone_source="tag")
            if i % 7
            else StudyTime()
        )
        records.append(replace(record, time=time))
    for code in ("RA2", "RTK"):
        mine = [
            (n, r)
            for n, r in enumerate(records, 1)
            if r.patient.local.authority == room.member(code).authority
        ]
        await room.acceptor.accept_many([room.grpc(code, room.published(code, r, n)) for n, r in mine])
    return records


async def _pages(room: Room, question: ByPopulation) -> list[str]:
    found: list[str] = []
    for _ in range(200):
        answer = await room.asked(question)
        assert len(answer.holdings) <= question.limit
        found += _uids(answer)
        if not answer.cursor:
            return found
        question = replace(question, cursor=answer.cursor)
    raise AssertionError("the pages do not end")


async def test_pages_give_each_study_once_newest_first(room: Room) -> None:
    records = await _many(room, 60)
    found = await _pages(room, ByPopulation(filter=StudyFilter(), limit=7))
    assert sorted(found) == sorted(r.study_uid for r in records)
    dates = {r.study_uid: r.time.date for r in records}
    order = [dates[uid] for uid in found]
    assert order == sorted(order, reverse=True), "undated studies come last"
    with pytest.raises(Invalid):
        await room.asked(ByPopulation(filter=StudyFilter(), cursor="bm9uc2Vuc2U"))
    updated = await _pages(room, ByPopulation(filter=StudyFilter(), limit=7, order="updated"))
    assert sorted(updated) == sorted(found)


@pytest.mark.parametrize("order", ["started", "updated"])
async def test_filters_find_what_a_plain_loop_finds(room: Room, order: Any) -> None:
    records = await _many(room, 60)
    codes = {room.member(c).authority: c for c in ("RA2", "RTK")}
    low, high = datetime(2025, 1, 5, tzinfo=UTC), datetime(2025, 1, 12, 12, tzinfo=UTC)
    for narrow, holds in (
        (StudyFilter(members=("RTK",)), lambda r: codes[r.patient.local.authority] == "RTK"),
        (StudyFilter(modalities=("CT", "MR")), lambda r: set(r.modalities) & {"CT", "MR"}),
        (
            StudyFilter(study_date=("20250105", "20250110")),
            lambda r: not r.time.date or "20250105" <= r.time.date <= "20250110",
        ),
        (StudyFilter(study_date=("", "20250103")), lambda r: r.time.date <= "20250103"),
        (
            StudyFilter(started=(low, high)),
            lambda r: not r.time.date or "20250105" <= r.time.date < "20250112",
        ),
        (
            StudyFilter(descriptions=("*chest*", "ct h?ad")),
            lambda r: "chest" in r.description.lower() or r.description == "CT Head",
        ),
        (StudyFilter(members=("NOPE",)), lambda r: False),
    ):
        found = await _pages(room, ByPopulation(filter=narrow, limit=5, order=order))
        assert sorted(found) == sorted(r.study_uid for r in records if holds(r)), narrow


# --- coverage (D19) -----------------------------------------------------------------------------------------


async def test_coverage_says_how_complete_an_answer_is(room: Room) -> None:
    room.live("RA2", "RPC", "RTK", "RXC", "RYR")
    answer = await room.asked(_by(nhs(1)))
    assert answer.coverage.proves_absence
    assert not answer.coverage.degraded
    presences, rtk = room.directory.presences, room.member("RTK").id
    well = presences[rtk]
    for worse, states in (
        (replace(well, reachable=False, since=room.clock.now()), ("unreachable",)),
        (replace(well, waiting=3), ("behind",)),
        (replace(well, parked=1), ("live",)),
        (replace(well, concern=Concern(anybody_refused=True)), ("live",)),
        (replace(well, clock_wrong=True, skew_ms=90_000, filling=True), ("clock", "filling")),
        (replace(well, filling=True), ("filling",)),
        (replace(well, last_heard=None, reachable=False), ("unreachable", "unknown")),
        (replace(well, census_equal=False), ("live",)),
        (replace(well, census_at=room.clock.now() - timedelta(days=1)), ("live",)),
    ):
        presences[rtk] = worse
        coverage = (await room.asked(DirectoryQuestion())).coverage
        assert [m.states for m in coverage.members if m.code == "RTK"] == [states]
        assert not coverage.proves_absence, worse
    presences[rtk] = well
    room.directory.set(replace(room.member("RTK"), status="suspended", status_since=room.clock.now()))
    (rtk_now,) = [m for m in room.ask.coverage().members if m.code == "RTK"]
    assert (rtk_now.states, rtk_now.since) == (("suspended",), room.clock.now())


# --- policy and audit (D20) ---------------------------------------------------------------------------------


async def test_every_question_is_a_pair_in_the_audit(room: Room) -> None:
    records = await _three_trusts(room, nhs(1))
    async with room.ask.question(
        caller(clinician(), "abc", "10.0.0.1"), face="portal", action="search", question=_by(nhs(1))
    ) as answer:
        (act,) = await room.audit.search(correlation="abc")
        assert act.text == "", "the act is on record before the answer leaves"
        assert len(answer.holdings) == 3
    await room.ask.close()
    for found in (
        await room.audit.search(correlation="abc"),
        await room.audit.search(patient=Identifier(nhs(1), NHS)),
        await room.audit.search(patient=Identifier(records[0].patient.local.value)),
        await room.audit.search(patient=records[1].patient.local),
        await room.audit.search(study=records[0].study_uid),
    ):
        assert [(a.text, a.decision, a.face, a.peer) for a in found] == [
            ("ok 3 given", "permit", "portal", "10.0.0.1")
        ]
        assert set(found[0].studies) == {r.study_uid for r in records}
    with pytest.raises(Forbidden):
        await room.asked(_by(nhs(1)), clinician("RA2", "porter"))
    with pytest.raises(ZeroDivisionError):
        async with room.ask.question(
            caller(clinician(), "bad"), face="fhir", action="search", question=_by(nhs(1))
        ):
            raise ZeroDivisionError
    with pytest.raises(asyncio.CancelledError):
        async with room.ask.question(
            caller(clinician(), "gone"), face="fhir", action="search", question=_by(nhs(1))
        ):
            raise asyncio.CancelledError  # who asked has hung up
    await room.ask.close()
    assert [a.text for a in await room.audit.search(correlation="gone")] == ["cut"], "cut off (D20)"
    acts = (await room.audit.search())[1:]
    assert [(a.decision, a.text) for a in acts[:2]] == [
        ("permit", "failed: ZeroDivisionError"),
        ("deny", "denied"),
    ]


async def test_a_patients_answer_costs_one_reading_transaction_and_one_write(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await _three_trusts(room, nhs(1))
    reads, writes = room.db.read, room.db.submit_write
    done: list[str] = []

    async def read(name: str, fn: Any) -> Any:
        done.append(name)
        return await reads(name, fn)

    def write(name: str, fn: Any) -> Any:
        done.append(name)
        return writes(name, fn)

    monkeypatch.setattr(room.db, "read_near", read)
    monkeypatch.setattr(room.db, "submit_write", write)
    async with room.ask.question(
        caller(clinician(), "x"), face="fhir", action="search", question=_by(nhs(1))
    ) as answer:
        assert len(answer.holdings) == 3
        assert done == ["ask", "audit"]


async def test_a_reading_function_sees_one_state(room: Room) -> None:
    record = study(patient(room.member("RA2")), 1)
    await room.publish("RA2", record, 1)
    sql = "SELECT revision FROM holding"

    def read(tx: Tx) -> list[Any]:
        before = tx.rows(sql)
        room.db.submit_write("t", lambda other: other.execute("UPDATE holding SET revision = 7")).result(30)
        return [before, tx.rows(sql)]

    before, after = await room.db.read("t", read)
    assert before == after == [(1,)]
    assert await room.db.read("t", lambda tx: tx.rows(sql)) == [(7,)]


# --- size (D5) ----------------------------------------------------------------------------------------------


async def test_a_study_stays_small(room: Room) -> None:
    for start in range(0, 2000, 500):
        batch = []
        for i in range(start, start + 500):
            record = study(patient(room.member("RA2"), f"B{i // 4}", number=nhs(i // 4)), i)
            batch.append(room.grpc("RA2", room.published("RA2", record, i + 1)))
        results = await room.acceptor.accept_many(batch)
        assert {getattr(r, "outcomes", None) for r in results} == {("accepted",)}
    found = await room.index.sizes()
    assert found["studies"] == 2000
    assert found["extras"] == 0
    assert found["body"] < 400
    assert found["changes"] < 250, "and only for some days"
    assert found["current"] < (900 if room.db.dialect.name == "postgres" else 650), (
        "small tables have half-empty pages"
    )
