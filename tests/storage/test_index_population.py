"""Questions to the index: population, coverage, policy and audit, size."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from asked_studies import _by, _three_trusts, _uids
from callers import caller
from registry_room import Room, clinician, make_room
from registry_samples import NHS, nhs, patient, study

from crosslight.runtime.db import Db, Tx
from crosslight.standards.concern import Concern
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Forbidden, Invalid
from crosslight.standards.records import changed
from crosslight.standards.study import StudyRecord, StudyTime
from registry.ask.question import (
    ByPopulation,
    DirectoryQuestion,
    StudyFilter,
)


@pytest.fixture
async def room(database: Db) -> AsyncIterator[Room]:
    made = await make_room(database)
    yield made
    await made.ask.close()


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
        records.append(changed(record, time=time))
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

    async def read(name: str, fn: Any, **_: Any) -> Any:
        done.append(name)
        return await reads(name, fn)

    def write(name: str, fn: Any) -> Any:
        done.append(name)
        return writes(name, fn)

    monkeypatch.setattr(room.db, "read_near", read)
    monkeypatch.setattr(room.db, "submit_near", write)
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
