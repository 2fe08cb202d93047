"""What an earlier release, or other rules of the region, left in the tables is compared anew.

Both engines.
"""

from __future__ import annotations

from typing import Any

import pytest
from identity_story import Story, asked, pending, sees
from registry_room import Room, make_room
from registry_samples import REGION, nhs, patient, study

from crosslight.runtime.db import Db, Tx
from registry.identity.config import IdentityConfig
from registry.identity.recomparison import TOGETHER, Review


@pytest.fixture
async def room(database: Db) -> Room:
    return await make_room(database)


def review(room: Room) -> Review:
    return Review(room.db, room.identity, REGION, room.clock)


def other_rules(room: Room, *dates: str) -> None:
    room.identity.rules = IdentityConfig(placeholder_birth_dates=dates).rules()


async def test_rules_that_are_the_same_need_no_second_look(room: Room) -> None:
    assert not await review(room).begin(), "an empty database has nothing to look at"
    await Story(room).study(Story(room).header(nhs(1)))
    assert not await review(room).begin()
    other_rules(room, "19500101")
    assert await review(room).begin()
    await review(room).rest()
    assert not await review(room).begin()


async def test_what_is_in_doubt_stays_hidden_when_the_rules_change(room: Room) -> None:
    """A study's part is found by its header, which is another one where a date of birth is a placeholder
    now."""
    await review(room).begin()
    story = Story(room)
    anna = await story.study(story.header(nhs(1)))
    boris = await story.study(story.boris(nhs(2)))
    other_rules(room, "19900202")
    assert await review(room).begin()
    assert await sees(room, asked(nhs(1))) == ({anna}, ["RTK"], {"Alpha"})
    assert boris not in (await sees(room, asked(nhs(2))))[0]
    assert len(await pending(room)) == 1


async def test_what_was_decided_stays_decided_when_the_rules_change(room: Room) -> None:
    await review(room).begin()
    story = Story(room)
    anna, boris = await story.study(story.header(nhs(1))), await story.study(story.boris(nhs(2)))
    [doubt] = await pending(room)
    await room.identity.decide(doubt.key, None, room.clock.now(), who="ig@x", why="two people")
    other_rules(room, "19900202")
    await review(room).begin()
    await review(room).rest()
    assert await sees(room, asked(nhs(1))) == ({anna}, [], {"Alpha"})
    assert await sees(room, asked(nhs(2))) == ({boris}, [], {"Beta"})


async def test_what_joined_by_a_date_that_says_nothing_falls_apart(room: Room) -> None:
    for n, code in enumerate(("RTK", "RXC"), 1):
        who = patient(room.member(code), "A1", number=nhs(1), born="19500101", given=f"Given{n}")
        await room.publish(code, study(who, n), 1)
    assert len((await sees(room, asked(nhs(1))))[0]) == 2
    other_rules(room, "19500101")
    await review(room).begin()
    await review(room).rest()
    assert await sees(room, asked(nhs(1))) == (set(), ["RTK", "RXC"], set())


async def test_an_earlier_releases_mixture_is_told_apart(room: Room) -> None:
    """Before parts there were, one record took every header that came; a look that was cut short goes on."""
    count = TOGETHER + 20
    for n in range(1, count + 1):
        story = Story(room, f"UNKNOWN{n}")
        for i, header in enumerate((story.header(nhs(1000 + n)), story.boris(nhs(3000 + n)))):
            assert await room.publish("RTK", study(header, 2 * n + i), 2 * n + i) == "accepted"

    def as_before(tx: Tx) -> None:
        tx.execute(
            "DELETE FROM national_claim WHERE record_key IN (SELECT record_key FROM patient_record WHERE part"
            " > 0)"
        )
        tx.execute("DELETE FROM patient_record WHERE part > 0")
        tx.execute("DELETE FROM record_header")
        tx.execute("DELETE FROM identity_meta")
        tx.execute("UPDATE patient_record SET headers = 1, parts = 0")

    await room.db.write("as_before", as_before)
    assert len((await sees(room, asked(nhs(1001))))[0]) == 2
    assert await review(room).begin()
    write, calls = room.db.write, list[str]()

    async def cut_short(name: str, fn: Any, **how: Any) -> Any:
        calls.append(name)
        if len(calls) > 1:
            raise ConnectionError
        return await write(name, fn, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(room.db, "write", cut_short)
        with pytest.raises(ConnectionError):
            await review(room).rest()
    first = len(await pending(room))
    assert 0 < first <= TOGETHER
    await review(room).rest()
    assert len(await pending(room)) == count
    for n in (1, count):
        studies, notices, families = await sees(room, asked(nhs(1000 + n)))
        assert (len(studies), notices, families) == (1, ["RTK"], {"Alpha"})
