"""A merge of two national numbers (A40) that its sender may not decide: it waits for a person, or for a
second member that says the same. On both engines; finding H3."""

from __future__ import annotations

import asyncio

import pytest
from adt_door import NHS, RTK, RXC, Door, Members, certified, opened_door
from callers import caller
from registry_room import clinician

from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.db import Db
from crosslight.standards.hl7.ack import Ack
from crosslight.standards.ids import NHS_NUMBER_OID, Identifier
from crosslight.standards.problem import Conflict
from registry.identity.cases import Case
from registry.index.store import IndexStore
from registry.officer.decisions import IdentityDecisions, Officer

OTHER = "9990000026"
JO = Officer(caller=caller(clinician("RTK", "identity")), face="portal", who="jo@rtk")


@pytest.fixture
async def door(database: Db) -> Door:
    return await opened_door(database)


@pytest.fixture
async def officers(door: Door, database: Db) -> IdentityDecisions:
    clock = SystemClock()
    index = IndexStore(database, Members(), clock, SystemIds())
    await index.open()
    return IdentityDecisions(database, door.store, index, Members(), door.audit, clock)


def cx(number: str) -> str:
    return f"{number}^^^&{NHS_NUMBER_OID}&ISO"


async def known(door: Door, *, born: str = "19500101") -> None:
    """A patient of each member, under each number."""
    for value, number, authority, sender, date in (
        ("a1", NHS, RTK, "RTK", "19500101"),
        ("b1", OTHER, RXC, "RXC", born),
    ):
        pid3 = f"{value}^^^&{authority}&ISO~{number}^^^NHS"
        sent = await door.send(pid3, certified(f"member/{sender}"), more=f"||DOE^{value}||{date}|F")
        assert sent.accepted


async def merge(door: Door, sender: str, kept: str = NHS, gone: str = OTHER) -> Ack:
    return await door.send(cx(kept), certified(sender), event="A40", mrg=cx(gone))


async def persons(door: Door) -> int:
    found = [await door.person("a1", RTK), await door.person("b1", RXC)]
    assert all(found)
    return len({person.key for person in found if person is not None})


async def waiting(officers: IdentityDecisions) -> Case:
    queue = await officers.queue(JO)
    assert [line.kind for line in queue.waiting] == ["said to be one person with another"]
    assert queue.total == 1
    return await officers.case(queue.waiting[0].handle, JO)


async def test_a_second_member_says_the_same(door: Door) -> None:
    await known(door)
    for _ in range(2):  # again by the same: no second source
        ack = await merge(door, "member/RTK")
        assert ack.code == "AA"
        assert "identity officer" in ack.text
    assert await persons(door) == 2
    assert await door.store.waiting_count() == 1
    assert "identity officer" in (await merge(door, "system/FEEDER")).text, "a system is no second member"
    assert await persons(door) == 2
    ack = await merge(door, "member/RXC")
    assert (ack.code, ack.text) == ("AA", "")
    assert await persons(door) == 1
    assert await door.store.waiting_count() == 0
    [decision] = await door.store.decisions()
    assert (decision.merge, decision.why) == (True, "A40 of two members")
    acts = [act for act in await door.audit.search() if act.query.get("event") == "A40"]
    assert [act.text for act in acts].count("ok 1 fed") == 1
    assert len([act for act in acts if "1 waits" in act.text]) == 3


async def test_other_dates_of_birth_wait_for_a_person(door: Door) -> None:
    await known(door, born="19510202")
    for sender in ("member/RTK", "member/RXC"):
        assert "identity officer" in (await merge(door, sender)).text
    assert await persons(door) == 2
    assert await door.store.waiting_count() == 1


async def test_an_officer_says_that_they_are_one(door: Door, officers: IdentityDecisions) -> None:
    await known(door)
    await merge(door, "member/RTK")
    case = await waiting(officers)
    assert case.merge is not None
    assert (case.merge.survivor.value, case.merge.gone.value) == (NHS, OTHER)
    assert case.open_verdicts == ("same", "another")
    both = await asyncio.gather(
        officers.decide(case.handle, "same", JO, "by their files", version=case.version),
        officers.decide(case.handle, "another", JO, "by their files", version=case.version),
        return_exceptions=True,
    )
    assert sorted(isinstance(one, Conflict) for one in both) == [False, True], both
    made = next(one for one in both if not isinstance(one, BaseException))
    assert (made.who, made.why) == ("jo@rtk", "by their files")
    assert await persons(door) == (1 if made.merge else 2)
    assert (await officers.queue(JO)).waiting == ()


async def test_one_person_and_undone(door: Door, officers: IdentityDecisions) -> None:
    await known(door)
    await merge(door, "member/RTK")
    case = await waiting(officers)
    made = await officers.decide(case.handle, "same", JO, "one", version=case.version)
    assert made.merge
    assert await persons(door) == 1
    await officers.unmerge(Identifier(OTHER, NHS_NUMBER_OID), JO, "two after all")
    assert await persons(door) == 2
    again = await waiting(officers)
    await merge(door, "member/RXC")
    assert await persons(door) == 2, "what a person undid no feed does again"
    await officers.decide(again.handle, "another", JO, "two")
    assert (await officers.queue(JO)).total == 0


async def test_an_officer_says_that_they_are_two(door: Door, officers: IdentityDecisions) -> None:
    await known(door)
    await merge(door, "member/RTK")
    case = await waiting(officers)
    other = await officers.case(case.others[0].handle, JO)
    assert other.merge == case.merge, "it is seen from both sides"
    made = await officers.decide(case.handle, "another", JO, "two people", version=case.version)
    assert "two people" in made.says()
    assert await persons(door) == 2
    assert (await officers.queue(JO)).waiting == ()
    ack = await merge(door, "member/RTK")
    assert ack.code == "AE"
    assert "two people" in ack.text
    ack = await merge(door, "member/RXC")
    assert "identity officer" in ack.text, "another source: a person looks again"
    assert await persons(door) == 2
    await officers.decide((await waiting(officers)).handle, "another", JO, "still two")
    await officers.end(made.id, JO, "not sure")
    assert (await officers.queue(JO)).total == 0


@pytest.mark.parametrize(
    ("kept", "gone", "code"), [(NHS, NHS, "AE"), (NHS, "9990000034", "AE"), ("9990000034", NHS, "AE")]
)
async def test_what_cannot_be_merged_is_refused_at_once(door: Door, kept: str, gone: str, code: str) -> None:
    await known(door)
    assert (await merge(door, "member/RTK", kept, gone)).code == code
    assert await door.store.waiting_count() == 0
