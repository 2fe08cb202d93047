"""The identity officer's room: the queue, a case, deciding and taking back, and who may. Both engines."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from callers import caller, operator
from registry_room import Room, clinician, make_room
from registry_samples import NHS, nhs, patient, study

from crosslight.runtime.credentials import OPERATOR
from crosslight.runtime.db import Db
from crosslight.standards.access import OPEN, Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Conflict, CrosslightError, Forbidden, Invalid, NotFound
from crosslight.standards.records import changed
from crosslight.standards.study import Patient, StudyTime
from registry.ask.question import ByPatient
from registry.identity.cases import Case, compared, handle_of, keys_of
from registry.identity.model import PatientSelector
from registry.officer.decisions import IdentityDecisions, Officer

JO = Officer(caller=caller(clinician("RTK", "identity")), face="portal", who="jo@rtk")


@pytest.fixture
async def room(database: Db) -> Room:
    return await make_room(database)


def officers(room: Room) -> IdentityDecisions:
    return IdentityDecisions(room.db, room.identity, room.index, room.directory, room.audit, room.clock)


async def publish(room: Room, code: str, who: Patient, n: int) -> str:
    record = changed(study(who, n), time=StudyTime(date=f"2020{n:02d}15", time="101500"))
    assert await room.publish(code, record, n) == "accepted"
    return record.study_uid


async def used_again(room: Room) -> None:
    """One local id of RTK for Anna and then Boris, who is known at RXC."""
    home = room.member("RTK")
    await publish(
        room, "RTK", patient(home, "U1", number=nhs(1), family="Alpha", given="Anna", born="19800101"), 1
    )
    await publish(
        room,
        "RTK",
        patient(home, "U1", number=nhs(2), family="Beta", given="Boris", born="19900202", sex="M"),
        2,
    )
    there = room.member("RXC")
    await publish(
        room,
        "RXC",
        patient(there, "X1", number=nhs(2), family="Beta", given="Boris", born="19900202", sex="M"),
        3,
    )


async def claimed_by_two(room: Room) -> None:
    """A number that RTK's patient holds and a record of RXC claims."""
    await room.identity.settle_holders()
    await publish(
        room,
        "RTK",
        patient(room.member("RTK"), "A1", number=nhs(1), family="Alpha", given="Anna", born="19800101"),
        1,
    )
    await publish(
        room,
        "RXC",
        patient(room.member("RXC"), "B1", number=nhs(1), family="Gamma", given="Carl", born="19700303"),
        2,
    )


async def only(room: Room, who: Officer = JO) -> Case:
    queue = await officers(room).queue(who)
    [waiting] = queue.waiting
    return await officers(room).case(waiting.handle, who)


async def families(room: Room, number: str) -> set[str]:
    question = ByPatient(patient=PatientSelector(identifiers=(Identifier(number, NHS),)))
    return {r.patient.name.family for p in (await room.asked(question)).persons for r in p.records}


async def test_the_queue_names_members_and_no_patient(room: Room) -> None:
    await used_again(room)
    [one] = (await officers(room).queue(JO)).waiting
    assert (one.kind, one.member, one.others) == ("in doubt", "RTK", ("RTK",))
    assert one.since <= room.clock.now()
    assert not {"Beta", "Boris", "Anna", "U1", nhs(2)} & set(
        repr(one).replace("'", " ").replace('"', " ").split()
    )


async def test_both_sides_of_a_part_in_doubt(room: Room) -> None:
    await used_again(room)
    case = await only(room)
    assert case.subject.patient.name.family == "Beta"
    assert [(s.relation, s.member, s.patient.name.family) for s in case.others] == [
        ("the record that it came under", "RTK", "Alpha"),
        ("is one person with it", "RXC", "Beta"),
    ]
    assert [s.date for s in case.subject.studies] == ["20200215"]
    assert [s.date for s in case.others[0].studies] == ["20200115"]
    told = compared(case.subject, case.others[0])
    assert (told.name, told.birth_date, told.sex, told.numbers, told.postcode) == ("differs",) * 4 + ("same",)
    assert compared(case.subject, case.others[1]).name == "same"
    assert case.open_verdicts == ("same", "another")


async def test_a_third_person_under_one_id_is_not_said_to_claim_the_number(room: Room) -> None:
    home = room.member("RTK")
    people = (("Alpha", "Anna", "19800101"), ("Beta", "Boris", "19900202"), ("Nu", "Olga", "19330303"))
    for n, (family, given, born) in enumerate(people, 1):
        await publish(
            room, "RTK", patient(home, "U1", number=nhs(n), family=family, given=given, born=born), n
        )
    waiting = (await officers(room).queue(JO)).waiting
    cases = [await officers(room).case(one.handle, JO) for one in waiting]
    assert [[o.relation for o in case.others] for case in cases] == [
        ["the record that it came under", "in doubt under its number"]
    ] * 2
    assert [[o.handle for o in case.candidates] for case in cases] == [[cases[0].others[0].handle]] * 2
    record = await officers(room).case(cases[0].others[0].handle, JO)
    assert (record.kind, [o.relation for o in record.others]) == ("", ["in doubt under its number"] * 2)


async def test_another_person_and_taken_back(room: Room) -> None:
    await used_again(room)
    case = await only(room)
    made = await officers(room).decide(
        case.handle, "another", JO, "two people,  by the paper file", version=case.version
    )
    assert (made.kind, made.who, made.why, made.in_force) == (
        "other",
        "jo@rtk",
        "two people, by the paper file",
        True,
    )
    queue = await officers(room).queue(JO)
    assert (queue.waiting, [d.id for d in queue.decisions]) == ((), [made.id])
    decided = await officers(room).case(case.handle, JO)
    assert [d.id for d in decided.decisions] == [made.id]
    assert "another" not in decided.open_verdicts
    ended = await officers(room).end(made.short, JO, "unsure")
    assert (ended.in_force, ended.ended_who, ended.ended_why) == (False, "jo@rtk", "unsure")
    assert (await only(room)).handle == case.handle
    assert [d.in_force for d in await room.identity.decisions()] == [False]


async def test_the_same_person_needs_no_name_of_the_other_where_there_is_one(room: Room) -> None:
    await claimed_by_two(room)
    case = await only(room)
    assert (case.kind, case.subject.member, [o.relation for o in case.others]) == (
        "claims a number held by another",
        "RXC",
        ["holds the number"],
    )
    await officers(room).decide(case.handle, "same", JO, "seen the person")
    assert await families(room, nhs(1)) == {"Alpha", "Gamma"}
    assert (await officers(room).case(case.handle, JO)).moves[-1].who == "jo@rtk"
    assert (await officers(room).queue(JO)).waiting == ()


async def test_a_record_that_stands_alone_waits_no_more(room: Room) -> None:
    await claimed_by_two(room)
    case = await only(room)
    made = await officers(room).decide(case.handle, "alone", JO, "a typing error at RXC")
    queue = await officers(room).queue(JO)
    assert (queue.waiting, await room.identity.waiting(), await room.identity.waiting_count()) == ((), [], 0)
    assert await families(room, nhs(1)) == {"Alpha"}
    decided = await officers(room).case(case.handle, JO)
    assert (decided.kind, decided.open_verdicts) == ("", ())
    await officers(room).end(made.id, JO, "no")
    assert len((await officers(room).queue(JO)).waiting) == await room.identity.waiting_count() == 1


async def test_an_undisputed_record_can_be_set_apart(room: Room) -> None:
    for n, code in enumerate(("RTK", "RXC"), 1):
        await publish(room, code, patient(room.member(code), f"A{n}", number=nhs(1)), n)
    named = f"{room.member('RXC').authority}|A2"
    assert (await officers(room).case(named, JO)).others[0].relation == "is one person with it"
    await officers(room).decide(named, "alone", JO, "twins")
    question = ByPatient(patient=PatientSelector(identifiers=(Identifier(nhs(1), NHS),)))
    assert {h.member for h in (await room.asked(question)).holdings} == {room.member("RTK").id}


async def test_refusals_in_one_sentence_and_what_to_do(room: Room) -> None:
    await claimed_by_two(room)
    door, case = officers(room), await only(room)
    made = await door.decide(case.handle, "alone", JO, "a typing error")
    for kind, refused in (
        (Invalid, door.case("nonsense!", JO)),
        (Invalid, door.case("AB", JO)),
        (NotFound, door.case("0000-0000", JO)),
        (NotFound, door.case("1.2.3|nobody", JO)),
        (Conflict, door.decide(case.handle, "same", JO, "no")),
        (Conflict, door.decide(case.handle, "alone", JO, "again")),
        (Invalid, door.decide(case.handle, "alone", JO, "   ")),
        (Invalid, door.decide(case.handle, "alone", JO, "x" * 501)),
        (NotFound, door.end("00000000", JO, "x")),
        (NotFound, door.end("%", JO, "x")),
        (Invalid, door.end(made.id, JO, "")),
        (NotFound, door.unmerge(Identifier("1", "1.2.3"), JO, "x")),
        (Invalid, door.unmerge(Identifier("1"), JO, "x")),
    ):
        with pytest.raises(CrosslightError) as raised:
            await refused
        assert isinstance(raised.value, kind), raised.value
        assert raised.value.todo, raised.value
    await door.end(made.id, JO, "no")
    with pytest.raises(Conflict, match="ended before"):
        await door.end(made.id, JO, "no")
    with pytest.raises(Invalid, match="cannot be said"):
        await door.decide(case.handle, "another", JO, "x")
    stranger = await door.case(case.others[0].handle, JO)
    with pytest.raises(Invalid, match="not one that this one could be"):
        await door.decide(stranger.handle, "same", JO, "x", other=stranger.handle)


async def test_what_changed_since_it_was_shown_is_compared_once_more(room: Room) -> None:
    await claimed_by_two(room)
    case = await only(room)
    await publish(
        room,
        "RXC",
        patient(room.member("RXC"), "B1", number=nhs(1), family="Gamma", given="Carl", born="19700303"),
        4,
    )
    with pytest.raises(Conflict, match="changed since"):
        await officers(room).decide(case.handle, "same", JO, "x", version=case.version)
    assert (await only(room)).version != case.version


async def test_of_two_officers_one_decides(room: Room) -> None:
    await claimed_by_two(room)
    case = await only(room)
    door = officers(room)
    both = await asyncio.gather(
        door.decide(case.handle, "alone", JO, "one", version=case.version),
        door.decide(case.handle, "same", JO, "two", version=case.version),
        return_exceptions=True,
    )
    assert sorted(isinstance(one, Conflict) for one in both) == [False, True], both
    assert len([d for d in await room.identity.decisions() if d.in_force]) == 1


async def test_a_merge_is_undone_as_a_merge(room: Room) -> None:
    await publish(room, "RTK", patient(room.member("RTK"), "A1", number=nhs(1)), 1)
    await publish(room, "RTK", patient(room.member("RTK"), "A2", number=nhs(2)), 2)
    authority = room.member("RTK").authority
    gone = Identifier("A1", authority)
    await room.identity.merge(Identifier("A2", authority), gone, room.clock.now())
    [merge] = await room.identity.decisions()
    assert (merge.kind, merge.merge) == ("merge", True)
    with pytest.raises(Invalid, match="is a merge"):
        await officers(room).end(merge.id, JO, "x")
    with pytest.raises(Invalid, match="a merge"):
        await room.identity.end_decision(merge.id, room.clock.now(), who="x", why="x")
    await officers(room).unmerge(gone, JO, "two people")
    [merge] = await room.identity.decisions()
    assert (merge.in_force, merge.ended_who) == (False, "jo@rtk")


@pytest.mark.parametrize(
    "who", [clinician("RTK"), OPEN, Principal(subject="p", roles=frozenset({"porter"})), OPERATOR]
)
async def test_who_is_no_officer_learns_nothing_and_it_is_audited(room: Room, who: Principal) -> None:
    await claimed_by_two(room)
    case = await only(room)
    door, stranger = officers(room), Officer(caller=caller(who), face="portal", who="x")
    before = len(await room.audit.search())
    for refused in (
        door.queue(stranger),
        door.case(case.handle, stranger),
        door.case("no handle", stranger),
        door.decide(case.handle, "alone", stranger, "x"),
        door.end("00000000", stranger, "x"),
        door.unmerge(Identifier("1", "1.2.3"), stranger, "x"),
    ):
        with pytest.raises(Forbidden):
            await refused
    acts = await room.audit.search()
    assert len(acts) == before + 6
    assert {act.decision for act in acts[:6]} == {"deny"}
    assert len((await door.queue(JO)).waiting) == 1


async def test_acts_are_found_by_the_numbers_of_both(room: Room) -> None:
    await claimed_by_two(room)
    case = await only(room)
    await officers(room).decide(
        case.handle, "alone", replace(JO, face="admin", caller=operator()), "a typing error"
    )
    for number in (Identifier(nhs(1), NHS), Identifier("A1", room.member("RTK").authority)):
        acts = await room.audit.search(patient=number)
        assert {(a.face, a.action, a.text) for a in acts} >= {
            ("portal", "read", "ok"),
            ("admin", "decide", "ok"),
        }
        [act] = [a for a in acts if a.face == "admin"]
        assert (act.query["verdict"], act.query["reason"]) == ("alone", "a typing error")


@pytest.mark.parametrize("key", [1, 63, (1 << 63) - 1, 0x1234_5678_9ABC_DEF0])
def test_handles_lead_back(key: int) -> None:
    shown, whole = handle_of(key), handle_of(key, whole=True)
    least, greatest = keys_of(shown)
    assert least <= key <= greatest
    assert keys_of(whole) == (key, key)
    assert keys_of(whole.lower().replace("0", "o").replace("1", "l")) == (key, key)
    assert keys_of(f" {shown.replace('-', ' ')} ") == (least, greatest)
