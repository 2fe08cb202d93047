"""What a question found before is found again only where nothing says otherwise: whoever asks, on every face,
after every kind of act, on both databases (ADR 0046).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from acted_region import CALLERS, NUMBERS, ActedRegion, asked, differing, forget
from asked_studies import _by, _three_trusts, _uids
from callers import caller
from member_room import member_room
from registry_room import Room, clinician, make_room
from registry_samples import NHS, grown, nhs, patient, study

from crosslight.runtime.db import Db
from crosslight.standards.access import OPEN, Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Forbidden
from registry.ask.kept_readings import KeptReadings, QuestionKey, Statement
from registry.ask.question import ByObject, ByPopulation, Patients, Question, StudyFilter
from registry.ask.results import QuestionResult
from registry.identity.model import PatientSelector
from registry.index.decoded_rows import DecodedRows


@pytest.fixture
async def room(database: Db) -> AsyncIterator[Room]:
    made = await make_room(database)
    yield made
    await made.ask.close()


@pytest.fixture
def anew(room: Room, monkeypatch: pytest.MonkeyPatch) -> list[Question]:
    """The questions that are read anew."""
    read: list[Question] = []
    really = room.ask._read_anew

    def noted(tx: Any, principal: Any, face: Any, question: Question, opened: Any) -> QuestionResult:
        result = really(tx, principal, face, question, opened)
        read.append(question)  # begun again where not all was foretold (ADR 0048)
        return result

    monkeypatch.setattr(room.ask, "_read_anew", noted)
    return read


@contextmanager
def nothing_kept(room: Room) -> Iterator[None]:
    """As a registry that was asked nothing before; what it is asked now is not kept either."""
    readings, decoded = room.ask.readings, room.index.read.decoded
    room.ask.readings, room.index.read.decoded = KeptReadings(0), DecodedRows(0)
    forget()
    yield
    room.ask.readings, room.index.read.decoded = readings, decoded


async def test_what_is_kept_is_what_is_found_anew_after_every_kind_of_act(room: Room) -> None:
    region = ActedRegion(room, seed=7)
    acts = list(region.acts)
    region.r.shuffle(acts)
    for _ in range(6):
        await region.new()
    said: dict[str, set[bytes]] = {}
    async with asked(room) as asking:
        for act in acts:
            callers = region.r.sample(list(CALLERS), 2)
            for who in callers:
                await asking.everything(who)  # so that something is kept
            await region.acts[act]()
            for who in callers:
                kept = await asking.everything(who)
                with nothing_kept(room):
                    fresh = await asking.everything(who)
                for name, body in fresh.items():
                    assert not differing(kept[name], body), f"after {act}: {who}, {name}"
                    said.setdefault(name, set()).add(body)
    for name in (f"fhir {NUMBERS[0]} ", f"qido {NUMBERS[0]} studies&includefield=all", f"xds {NUMBERS[0]}"):
        assert len(said[name]) > 3, f"{name}: acts change what is answered"


async def test_what_is_asked_again_is_read_once_and_audited_each_time(
    room: Room, anew: list[Question]
) -> None:
    await _three_trusts(room, nhs(1))
    first, again = await room.asked(_by(nhs(1))), await room.asked(_by(nhs(1)))
    assert len(anew) == 1
    assert again.holdings == first.holdings
    assert again.same is first.same is not None
    await room.audit.settle()
    acts = [act for act in await room.audit.search() if act.action == "search"]
    assert len(acts) == 2
    assert {tuple(sorted(act.studies)) for act in acts} == {tuple(sorted(_uids(first)))}


async def test_each_statement_is_made_again(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    await _three_trusts(room, nhs(1))
    await room.asked(_by(nhs(1)))
    (reading,) = room.ask.readings._kept.values()
    made: list[tuple[str, tuple[Any, ...]]] = []
    read_near = room.db.read_near

    class Heard:
        def __init__(self, tx: Any) -> None:
            self._tx = tx

        def __getattr__(self, name: str) -> Any:
            asking = getattr(self._tx, name)
            if name not in ("rows", "row"):
                return asking

            def heard(sql: str, params: Any = ()) -> Any:
                made.append((sql, tuple(params)))
                return asking(sql, params)

            return heard

    async def hearing(name: str, fn: Callable[[Any], Any], **how: Any) -> Any:
        return await read_near(name, lambda tx: fn(Heard(tx)), **how)

    monkeypatch.setattr(room.db, "read_near", hearing)
    await room.asked(_by(nhs(1)))
    assert made == [(s.sql, s.params) for s in reading.statements]
    assert any(" holding " in sql for sql, _ in made)


async def test_a_row_that_another_process_changed_is_seen(room: Room) -> None:
    await _three_trusts(room, nhs(1))
    before = await room.asked(_by(nhs(1)))
    await room.db.write("t", lambda tx: tx.execute("UPDATE holding SET revision = revision + 1"))
    after = await room.asked(_by(nhs(1)))
    assert [h.revision for h in after.holdings] == [h.revision + 1 for h in before.holdings]


async def test_each_is_asked_for_themselves_where_they_ask_and_what(room: Room, anew: list[Question]) -> None:
    await _three_trusts(room, nhs(1))
    asking: list[Principal] = [
        clinician(),
        clinician("RPC"),
        clinician("RA2", "clinician", "identity"),
        replace(clinician(), evidence="certificate"),
        OPEN,
    ]
    for n, who in enumerate(asking, 1):
        await room.asked(_by(nhs(1)), who)
        await room.asked(_by(nhs(1)), who)
        assert len(anew) == n
    anew.clear()
    for n, question in enumerate((_by(nhs(2)), _by(nhs(1), versions=True), _by(nhs(1), authority=NHS)), 1):
        await room.asked(question)
        assert len(anew) == n
    await room.asked(_by(nhs(1)), face="dicomweb")
    assert len(anew) == 4


async def test_who_may_no_longer_ask_is_refused(room: Room) -> None:
    await _three_trusts(room, nhs(1))
    await room.asked(_by(nhs(1)))
    with pytest.raises(Forbidden):
        await room.asked(_by(nhs(1)), replace(clinician(), roles=frozenset({"porter"})))


async def test_under_another_key_of_the_region_or_among_other_members_it_is_read_anew(
    room: Room, anew: list[Question]
) -> None:
    await _three_trusts(room, nhs(1))
    ids = [h.fhir_id for h in (await room.asked(_by(nhs(1)))).holdings]
    room.index.read.region_key = b"another key of the region"
    assert [h.fhir_id for h in (await room.asked(_by(nhs(1)))).holdings] != ids
    room.index.incarnation = "another"
    await room.asked(_by(nhs(1)))
    room.directory.set(replace(room.member("RPC"), code="RPX"))
    await room.asked(_by(nhs(1)))
    assert len(anew) == 4


async def test_what_was_opened_for_a_while_is_looked_up_each_time(room: Room, anew: list[Question]) -> None:
    """A disputed person by their id: what may be seen hangs on the time, so it is not kept."""
    await room.identity.settle_holders()
    home, there = room.member("RTK"), room.member("RXC")
    await room.publish(
        "RTK", study(patient(home, "A1", number=nhs(1), family="Alpha", born="19800101"), 1), 1
    )
    claims = patient(there, "B1", number=nhs(1), family="Gamma", given="Carl", born="19700303")
    await room.publish("RXC", study(claims, 2), 2)
    local = Patients(patient=PatientSelector(identifiers=(Identifier("B1", there.authority),)))
    (found,) = (await room.asked(local)).persons
    by_id = Patients(patient=PatientSelector(fhir_id=found.fhir_id))
    anew.clear()
    assert (await room.asked(by_id)).persons == (found,)
    assert (await room.asked(by_id)).persons == (found,)
    assert len(anew) == 2
    await room.clock.sleep(60 * room.ask.permits.config.disputed_minutes + 1)
    assert (await room.asked(by_id)).persons == ()


async def test_an_outside_sources_plain_data_is_not_kept(room: Room, anew: list[Question]) -> None:
    region = ActedRegion(room, seed=3)
    while True:  # until it said something of its own
        await region.outside()
        answer = await room.asked(_by(NUMBERS[0], versions=True))
        if any(entry.extras for h in answer.holdings for entry in h.entries):
            break
    assert answer.same is None
    anew.clear()
    await room.asked(_by(NUMBERS[0], versions=True))
    assert len(anew) == 1


async def test_a_population_is_walked_each_time(room: Room) -> None:
    await _three_trusts(room, nhs(1))
    kept = len(room.ask.readings)
    await room.asked(ByPopulation(filter=StudyFilter()), OPEN)
    assert len(room.ask.readings) == kept


async def test_no_more_is_kept_than_so_many_bytes(room: Room, anew: list[Question]) -> None:
    records = await _three_trusts(room, nhs(1))
    await room.asked(_by(nhs(1)))
    (one,) = room.ask.readings._kept.values()
    most = 10 * one.size
    room.ask.readings = kept = KeptReadings(most)
    questions = [ByObject(study_uids=(record.study_uid,)) for record in records]
    for _ in range(2):
        for n in range(20):
            await room.asked(_by(nhs(1), limit=n + 1))
    assert 0 < len(kept) < 20
    assert kept._bytes <= most
    for question in questions:
        await room.asked(question)
    assert kept._bytes == sum(reading.size for reading in kept._kept.values()) <= most


def test_a_reading_of_very_many_rows_is_not_kept() -> None:
    kept, result = KeptReadings(1 << 30), QuestionResult()
    many = Statement("SELECT 1", (), [(1,)] * 1001, False)
    asked = QuestionKey("asked")
    assert kept.keep(asked, "meaning", [many], result) is result
    assert len(kept) == 0
    assert kept.keep(asked, "meaning", [many._replace(answer=[(1,)] * 1000)], result).same is not None


async def test_a_glance_too_sees_what_changed(room: Room) -> None:
    records = await _three_trusts(room, nhs(1))
    who, selector = caller(clinician()), PatientSelector(identifiers=(Identifier(nhs(1)),))
    before = await room.ask.glance(who, face="portal", patient=selector)
    await room.publish("RTK", grown(records[0], 1), 9)
    room.clock.moment = room.clock.moment.replace(hour=23)  # what it was told is forgotten
    assert (await room.ask.glance(who, face="portal", patient=selector)).version != before.version


async def test_the_roster_is_of_another_revision_after_every_change(tmp_path: Path) -> None:
    async with member_room(tmp_path) as made:
        roster, seen = made.members, set[object]()

        def known() -> object:
            rows = [roster.by_id(m.id) for m in roster.everyone()]
            codes = [roster.by_code(m.code) for m in roster.everyone()]
            return repr((roster.all(), roster.foreign(), rows, codes))

        pairs = list[tuple[object, object]]()

        def note() -> None:
            pairs.append((known(), roster.revision))
            assert roster.revision not in seen
            seen.add(roster.revision)

        note()
        await made.admit("RNEW", "A new one")
        note()
        source = await roster.foreign_member("1.2.3.4.5", "system:x")
        note()
        assert roster.by_id(source.id) is not None
        async with roster.arriving("1.2.3.4.6", "system:x") as arrival:
            note()
            assert roster.by_id(arrival.member.id) is not None
        note()
        await roster.refresh()
        note()
        assert pairs[0][0] != pairs[1][0] != pairs[2][0]
