"""What is kept of a look is what a fresh look would find: nothing that changes an open page is missed (ADR
0031).
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest
from callers import caller
from identity_generator import Generator
from identity_story import Story, pending
from registry_room import Room, TestClock, clinician, make_room
from registry_samples import REGION, nhs, patient, study

from crosslight.runtime.db import Db, Tx
from crosslight.standards.problem import CrosslightError
from registry.ask.ask import Ask
from registry.ask.freshness import KEPT_S, MOST, Glances, Looked
from registry.identity.model import PatientSelector, PersonKey, RecordKey
from registry.index.change_follower import Follower
from registry.index.config import ChangesConfig
from registry.index.model import Change


class Pages:
    """Every person's page, open all the time, at a registry that follows its feed; and another that keeps
    nothing.
    """

    def __init__(self, room: Room) -> None:
        self.room = room
        self.fresh = Ask(
            room.db,
            room.index,
            room.identity,
            room.directory,
            room.audit,
            room.clock,
            REGION,
            room.ask.permits,
        )
        self.follower = Follower(
            room.index.changes, room.clock, ChangesConfig(), room.identity.person_keys_tx
        )
        self.follower.tell(room.ask.glances.changed, room.ask.glances.forget)
        self.open: set[str] = set()
        self.said: dict[str, str] = {}
        self.kept = self.changed = 0

    async def look(self) -> None:
        """All pages ask; what they are told is what a fresh look finds."""
        while await self.follower.look():
            pass
        self.open |= set(await self.room.db.read("t", self._all))
        for fhir_id in sorted(self.open):
            asked: dict[str, Any] = {"face": "portal", "patient": PatientSelector(fhir_id=fhir_id)}
            who = caller(clinician())
            self.kept += (
                self.room.ask.glances.get((who.principal, "portal", asked["patient"], "")) is not None
            )
            told, fresh = await self.room.ask.glance(who, **asked), await self.fresh.glance(who, **asked)
            assert told == fresh
            self.changed += self.said.get(fhir_id, told.version) != told.version
            self.said[fhir_id] = told.version

    @staticmethod
    def _all(tx: Tx) -> list[str]:
        return [row[0] for row in tx.rows("SELECT fhir_id FROM patient_record")]


@pytest.fixture
async def room(database: Db) -> Room:
    return await make_room(database)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(3))
async def test_pages_are_told_what_a_fresh_look_would_find(room: Room, seed: int) -> None:
    """People's records change as in life; then they are merged, decided on, taken back, withdrawn."""
    made = Generator(seed, {code: room.member(code) for code in ("RTK", "RXC")}).studies_of(50)
    pages, r, versions = Pages(room), random.Random(seed), Counter[str]()
    if seed:
        await room.identity.settle_holders()
    for one in made:
        versions[one.code] += 1
        await room.publish(one.code, one.record, versions[one.code])
        await pages.look()
    for one in r.sample(made, 6):
        room.clock.moment += timedelta(seconds=1)
        await room.feed(one.code, one.record.patient, kind=r.choice(("header", "feed")))
        await pages.look()
    decisions = []
    for record in (await room.identity.waiting())[:4]:
        other = r.choice([record.part_of, None])
        room.clock.moment += timedelta(seconds=1)
        decisions.append(
            await room.identity.decide(record.key, other, room.clock.now(), who="ig@x", why="a reason")
        )
        await pages.look()
    locals_ = sorted({one.record.patient.local for one in made if one.code == "RTK"})[:6]
    for survivor, gone in zip(locals_[::2], locals_[1::2], strict=True):
        room.clock.moment += timedelta(seconds=1)
        try:
            await room.identity.merge(survivor, gone, room.clock.now())
        except CrosslightError:
            continue
        await pages.look()
        room.clock.moment += timedelta(seconds=1)
        await room.identity.unmerge(gone, room.clock.now(), who="ig@x", why="undone")
        await pages.look()
    for decision in decisions:
        room.clock.moment += timedelta(seconds=1)
        await room.identity.end_decision(decision, room.clock.now(), who="ig@x", why="undone")
        await pages.look()
    for one in r.sample(made, 8):
        versions[one.code] += 1
        await room.withdraw(one.code, one.record.study_uid, versions[one.code])
        await pages.look()
    assert pages.changed > 20
    assert pages.kept > 10 * pages.changed, "most pages were told without a look"


async def test_a_claim_that_comes_and_goes_is_told_to_whoever_holds_the_number(room: Room) -> None:
    """And a study that is another patient's too, and an officer's decision on a part."""
    pages, home, there = Pages(room), room.member("RTK"), room.member("RXC")
    await room.identity.settle_holders()
    await room.publish("RTK", study(patient(home, "T1", number=nhs(1)), 1), 1)
    await pages.look()
    other = patient(there, "X1", number=nhs(1), family="Other", given="Body", born="19990909")
    for told in (
        other,
        patient(there, "X1", number=nhs(2), family="Other", given="Body", born="19990909"),
        other,
    ):
        room.clock.moment += timedelta(seconds=1)
        await room.feed("RXC", told, kind="feed")
        await pages.look()
    await room.publish("RXC", study(patient(there, "X9", number=nhs(9)), 1), 1)
    await pages.look()
    story = Story(room)
    story.n = 10
    await story.study(story.header(nhs(5)))
    await story.study(story.boris(nhs(6)))
    await pages.look()
    for doubt in await pending(room):
        if doubt.part_of is not None:
            room.clock.moment += timedelta(seconds=1)
            await room.identity.decide(doubt.key, None, room.clock.now(), who="ig@x", why="two people")
    await pages.look()
    await story.study(story.boris(nhs(6)))
    await pages.look()


async def test_a_page_of_whom_nothing_changes_reads_no_row(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    pages = Pages(room)
    await room.publish("RA2", study(patient(room.member("RA2"), "H1", number=nhs(1)), 1), 1)
    await pages.look()
    reads: list[str] = []
    near = room.db.read_near

    async def counted(name: str, *how: Any, **more: Any) -> Any:
        reads.append(name)
        return await near(name, *how, **more)

    monkeypatch.setattr(room.db, "read_near", counted)
    who, (fhir_id,) = caller(clinician()), pages.open
    for _ in range(5):
        await room.ask.glance(who, face="portal", patient=PatientSelector(fhir_id=fhir_id))
    assert reads == []
    room.live("RA2")
    live = await room.ask.glance(who, face="portal", patient=PatientSelector(fhir_id=fhir_id))
    assert not {m.code for m in live.coverage.members if m.reachable} ^ {"RA2"}, (
        "how the trusts are is always as of now"
    )
    await room.ask.glance(caller(clinician("RTK")), face="portal", patient=PatientSelector(fhir_id=fhir_id))
    assert reads == ["glance"], "what one may see is nobody else's answer"
    room.clock.moment += timedelta(seconds=KEPT_S)
    await room.ask.glance(who, face="portal", patient=PatientSelector(fhir_id=fhir_id))
    assert reads == ["glance", "glance"], "nothing is believed for long"


# --- what is kept -------------------------------------------------------------------------------------------

ONE, TWO = RecordKey(1), RecordKey(2)


def _looked(version: str = "v") -> Looked:
    return Looked(version, frozenset(), (), frozenset({ONE}), frozenset({PersonKey(1)}), frozenset({7}))


def _change(record: RecordKey, person: int = 99) -> Change:
    return Change(kind="linked", member=None, record_key=record, person=PersonKey(person))


def test_a_look_that_a_change_overtakes_is_not_kept() -> None:
    glances = Glances(TestClock())
    glances.keep("a", _looked(), glances.begin())
    assert glances.get("a") is None, "nothing is kept before the feed is followed"
    glances.forget()
    ticket = glances.begin()
    glances.changed([_change(ONE)])
    glances.keep("a", _looked(), ticket)
    assert glances.get("a") is None
    ticket = glances.begin()
    glances.changed([_change(TWO)])
    glances.keep("a", _looked(), ticket)
    assert glances.get("a") is not None
    glances.changed([_change(TWO, person=1)])
    assert glances.get("a") is None, "another record of this person's"
    ticket = glances.begin()
    glances.forget()
    glances.keep("a", _looked(), ticket)
    assert glances.get("a") is None, "what was missed may concern it"


def test_what_is_kept_is_bounded() -> None:
    glances = Glances(TestClock())
    glances.forget()
    for n in range(MOST + 10):
        glances.keep(n, _looked(), glances.begin())
    assert sum(glances.get(n) is not None for n in range(MOST + 10)) == MOST


async def test_a_look_under_way_while_the_feed_tells_is_as_good_as_one_after(room: Room) -> None:
    """Many looks and many publications at once: whoever asks after all is still sees what is."""
    pages, home = Pages(room), room.member("RA2")
    await room.publish("RA2", study(patient(home, "H1", number=nhs(1)), 1), 1)
    await pages.look()

    async def publish() -> None:
        for n in range(2, 12):
            await room.publish("RA2", study(patient(home, "H1", number=nhs(1)), n), n)
            await pages.follower.look()

    async def look() -> None:
        for _ in range(30):
            for fhir_id in pages.open:
                await room.ask.glance(
                    caller(clinician()), face="portal", patient=PatientSelector(fhir_id=fhir_id)
                )
            await asyncio.sleep(0)

    await asyncio.gather(publish(), look(), look())
    await pages.look()
