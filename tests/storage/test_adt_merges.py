"""AdtFeed: merges (A40) and changed numbers (A47), on both engines."""

from __future__ import annotations

import pytest
from adt_door import NHS, RTK, RXC, Door, certified, opened_door

from crosslight.runtime.db import Db
from crosslight.standards.ids import NHS_NUMBER_OID


@pytest.fixture
async def door(database: Db) -> Door:
    return await opened_door(database)


async def test_a40(door: Door) -> None:
    rtk = certified("member/RTK")
    for value in ("keep", "gone"):
        assert (await door.send(f"{value}^^^&{RTK}&ISO", rtk)).accepted
    assert (await door.send(f"b1^^^&{RXC}&ISO", certified("member/RXC"))).accepted
    pid3, mrg = f"keep^^^&{RTK}&ISO", f"gone^^^&{RTK}&ISO"
    for survivor, lost, code in (
        (pid3, "never^^^&" + RTK + "&ISO", "AE"),
        (pid3, pid3, "AE"),
        (pid3, f"b1^^^&{RXC}&ISO", "AR"),
        (pid3, "z^^^&9.9&ISO", "AE"),
    ):
        assert (await door.send(survivor, rtk, event="A40", mrg=lost)).code == code
    assert (await door.send(pid3, rtk, event="A40", mrg=mrg)).accepted
    assert (await door.send(pid3, rtk, event="A40", mrg=mrg)).code == "AE", "once is enough"
    assert (await door.send(mrg, rtk, event="A08")).code == "AE", "a merged id is fed no more"
    person = await door.person("keep", RTK)
    assert person is not None
    assert {r.patient.local.value for r in person.records} == {"keep", "gone"}
    assert await door.person("gone", RTK) is None


@pytest.mark.parametrize(
    ("sender", "code"),
    [
        ("member/RTK", "waits"),
        ("system/FEEDER", "waits"),
        ("system/BEFORE", "waits"),
        ("system/ONE", "AR"),
        ("system/PAS", "AA"),
    ],
)
async def test_national_numbers_are_merged_by_whoever_may_link(door: Door, sender: str, code: str) -> None:
    """One message would show one person's imaging as another's: to feed an authority is not enough."""
    numbers = NHS, "9990000026"
    for value, number in zip(("a1", "a2"), numbers, strict=True):
        pid3 = f"{value}^^^&{RTK}&ISO~{number}^^^NHS"
        assert (await door.send(pid3, certified("member/RTK"), more=f"||DOE^{value}||19500101|F")).accepted
    kept, gone = (f"{number}^^^&{NHS_NUMBER_OID}&ISO" for number in numbers)
    ack = await door.send(kept, certified(sender), event="A40", mrg=gone)
    assert ack.code == ("AA" if code == "waits" else code), ack.text
    assert ("identity officer" in ack.text) == (code == "waits")
    assert await door.store.waiting_count() == int(code == "waits")
    persons = [await door.person(value, RTK) for value in ("a1", "a2")]
    assert all(persons)
    keys = {person.key for person in persons if person is not None}
    assert len(keys) == (1 if code == "AA" else 2)


@pytest.mark.parametrize(
    ("sender", "code"),
    [("member/RTK", "AR"), ("system/FEEDER", "AR"), ("system/ONE", "AR"), ("system/PAS", "AA")],
)
@pytest.mark.parametrize("which", ["national kept", "national gone", "A47"])
async def test_whatever_joins_national_numbers_needs_the_grant(
    door: Door, sender: str, code: str, which: str
) -> None:
    """An A40 of one national and one local number, and an A47 of two national ones."""
    numbers = NHS, "9990000026"
    for value, number in zip(("a1", "a2"), numbers, strict=True):
        pid3 = f"{value}^^^&{RTK}&ISO~{number}^^^NHS"
        assert (await door.send(pid3, certified("member/RTK"), more=f"||DOE^{value}||19500101|F")).accepted
    first, second = (f"{number}^^^&{NHS_NUMBER_OID}&ISO" for number in numbers)
    local = f"a2^^^&{RTK}&ISO"
    kept, gone = {"national kept": (first, local), "national gone": (local, first), "A47": (first, second)}[
        which
    ]
    event = "A47" if which == "A47" else "A40"
    ack = await door.send(kept, certified(sender), event=event, mrg=gone)
    assert ack.code == code, ack.text
    persons = [await door.person(value, RTK) for value in ("a1", "a2")]
    found = {person.key for person in persons if person is not None}
    if code == "AR":
        assert all(persons), "nothing is changed"
        assert len(found) == 2
        assert await door.store.waiting_count() == 0
    else:
        assert len(found) == 1


async def test_a47_gives_a_patient_another_number(door: Door) -> None:
    rtk = certified("member/RTK")
    for value in ("old", "known"):
        assert (await door.send(f"{value}^^^&{RTK}&ISO", rtk)).accepted
    assert (await door.send(f"new^^^&{RTK}&ISO", rtk, event="A47", mrg=f"old^^^&{RTK}&ISO")).accepted
    person = await door.person("new", RTK)
    assert person is not None
    assert {(r.patient.local.value, r.active) for r in person.records} == {("new", True), ("old", False)}
    assert await door.person("old", RTK) is None
    assert (await door.send(f"known^^^&{RTK}&ISO", rtk, event="A47", mrg=f"new^^^&{RTK}&ISO")).accepted
    person = await door.person("known", RTK)
    assert person is not None
    assert len(person.records) == 3
    assert (await door.send(f"x^^^&{RTK}&ISO", rtk, event="A47", mrg=f"b1^^^&{RXC}&ISO")).code == "AR"
    assert await door.person("x", RTK) is None, "nothing is half done"
