"""How doubts and claims go on: studies that go and come back, feeds that alternate, members that correct, ids
of thousands.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from callers import caller
from identity_story import Story, asked, pending, sees
from registry_room import Room, clinician, make_room
from registry_samples import NHS, nhs, patient, study

from crosslight.runtime.db import Db, Tx
from crosslight.standards.access import Principal
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError, Invalid, NotFound
from crosslight.standards.records import changed
from crosslight.standards.study import Patient, StudyTime
from registry.ask.persons import MAX_PERSONS
from registry.ask.question import ByObject, ByPatient, ByPopulation, StudyFilter
from registry.identity.cases import checked_reason
from registry.identity.model import PatientSelector
from registry.identity.record_parts import MAX_COMPARED
from registry.identity.relink import CROWD

DECIDED = ("", "same", "another")


@pytest.fixture
async def room(database: Db) -> Room:
    return await make_room(database)


async def local(room: Room, value: str = "UNKNOWN1") -> tuple[set[str], list[str], set[str]]:
    return await sees(room, asked(value, room.member("RTK").authority))


# --- studies that go and come back --------------------------------------------------------------------------


@pytest.mark.parametrize("decided", DECIDED)
async def test_a_study_that_is_withdrawn_and_comes_back_is_whose_it_was(room: Room, decided: str) -> None:
    story = Story(room)
    anna, boris = await story.study(story.header(nhs(1))), await story.study(story.boris(nhs(2)))
    [doubt] = await pending(room)
    if decided:
        other = doubt.part_of if decided == "same" else None
        await room.identity.decide(doubt.key, other, room.clock.now(), who="ig@x", why="seen")
    before = await local(room), await sees(room, asked(nhs(1))), await sees(room, asked(nhs(2)))
    story.n = 10
    assert await room.withdraw("RTK", boris, 10) == "accepted"
    assert await pending(room) == []
    assert await local(room) == await sees(room, asked(nhs(1))) == ({anna}, [], {"Alpha"})
    if decided != "same":  # by a person's word it was Anna's number, and leads to her as any former one does
        assert await sees(room, asked(nhs(2))) == (set(), [], set())
    assert await sees(room, ByPatient(patient=PatientSelector(family="Beta", birth_date="19900202"))) == (
        set(),
        [],
        set(),
    )
    assert await story.study(story.boris(nhs(2)), seed=2) == boris
    assert (await local(room), await sees(room, asked(nhs(1))), await sees(room, asked(nhs(2)))) == before
    assert len(await pending(room)) == (not decided)


async def test_a_decision_that_ends_after_its_studies_went_leaves_nothing_to_decide(room: Room) -> None:
    story = Story(room)
    await story.study(story.header(nhs(1)))
    boris = await story.study(story.boris(nhs(2)))
    [doubt] = await pending(room)
    decision = await room.identity.decide(doubt.key, None, room.clock.now(), who="ig@x", why="two people")
    await room.withdraw("RTK", boris, 10)
    await room.identity.end_decision(decision, room.clock.now(), who="ig@x", why="unsure")
    assert (await pending(room), await room.identity.waiting_count()) == ([], 0)
    with pytest.raises(NotFound):
        await room.identity.decide(doubt.key, None, room.clock.now(), who="ig@x", why="nobody is there")
    story.n = 20
    await story.study(story.boris(nhs(2)))
    assert len(await pending(room)) == 1


async def test_a_header_that_came_before_is_compared_with_what_the_record_says_now(room: Room) -> None:
    """Each step is one field, no doubt; then a study comes with the first header, whose text the record
    knows.
    """
    story = Story(room)
    record = study(story.header(), 1)
    said = [
        story.header(),
        story.header(born="19810505"),
        story.header(born="19810505", family="Gamma", given="Gary"),
    ]
    for n, header in enumerate(said, 1):
        assert await room.publish("RTK", changed(record, patient=header), n) == "accepted"
    story.n = 10
    again = await story.study(story.header())
    assert await local(room) == ({record.study_uid}, ["RTK"], {"Gamma"})
    assert [r.patient.birth_date for r in await pending(room)] == ["19800101"]
    assert again not in (await local(room))[0]


async def test_an_open_page_is_told_of_a_new_study_of_a_part(room: Room) -> None:
    story = Story(room)
    await story.study(story.header(nhs(1)))
    await story.study(story.boris(nhs(2)))
    [doubt] = await pending(room)
    await room.identity.decide(doubt.key, None, room.clock.now(), who="ig@x", why="two people")

    async def version() -> str:
        return (
            await room.ask.glance(caller(clinician("RA2")), face="portal", patient=asked(nhs(2)).patient)
        ).version

    before = await version()
    assert await version() == before
    await story.study(story.boris(nhs(2)))
    assert await version() != before


# --- feeds that alternate -----------------------------------------------------------------------------------


@pytest.mark.parametrize("numbers", [("", ""), (nhs(1), nhs(2))])
@pytest.mark.parametrize("both", [False, True])
async def test_a_feed_that_was_wrong_and_is_corrected_leaves_things_as_they_were(
    room: Room, numbers: tuple[str, str], both: bool
) -> None:
    """``both``: there are studies of the other person under that id too."""
    story = Story(room)
    right, wrong = story.header(numbers[0]), story.boris(numbers[1])
    anna = await story.study(right)
    await room.feed("RTK", right, kind="feed")
    boris = await story.study(wrong) if both else ""
    before = (await room.asked(asked("UNKNOWN1", room.member("RTK").authority))).persons[0]
    for _ in range(3):
        await room.feed("RTK", wrong, kind="feed")
        # by the feed's word they are two persons under that id
        told_apart = ({anna, boris}, {"Alpha", "Beta"})
        assert await local(room) == (
            (told_apart[0], [], told_apart[1]) if both else (set(), ["RTK"], {"Beta"})
        )
        known = (await room.asked(ByPatient(patient=PatientSelector(fhir_id=before.fhir_id)))).persons
        assert {r.patient.name.family for p in known for r in p.records} <= {"Alpha"}, (
            "an id never leads to another person"
        )
        await room.feed("RTK", right, kind="feed")
        studies, _, families = await local(room)
        assert (studies, families) == (told_apart if both else ({anna}, {"Alpha"}))
        if numbers[0]:
            assert (await sees(room, asked(numbers[0])))[0] == {anna}
        now = (await room.asked(asked("UNKNOWN1", room.member("RTK").authority))).persons[0]
        assert (now.fhir_id, now.domain_id) == (before.fhir_id, before.domain_id)


async def test_a_corrected_header_does_not_show_whom_it_named_before(room: Room) -> None:
    story = Story(room)
    await story.study(story.header(nhs(1)))
    uid = await story.study(story.header(nhs(1)), seed=7)
    record = changed(study(story.boris(nhs(2)), 7), time=StudyTime(date="20200715", time="101500"))
    story.n += 1
    assert await room.publish("RTK", record, story.n) == "accepted"  # the study's own header is corrected
    [doubt] = await pending(room)
    await room.identity.decide(doubt.key, None, room.clock.now(), who="ig@x", why="two people")

    async def families(question: Any, who: Any) -> set[str]:
        answer = await room.asked(question, who, face="xds")
        return {p.record.patient.name.family for h in answer.holdings for p in h.entries}

    versions = ByPatient(patient=PatientSelector(identifiers=(Identifier(nhs(2), NHS),)), versions=True)
    named = ByObject(study_uids=(uid,), versions=True)
    for question in (versions, named):
        assert await families(question, clinician("RA2")) == {"Beta"}
        assert await families(question, clinician("RTK")) == {
            "Alpha",
            "Beta",
        }, "its own users and its node see every version"


async def test_what_a_person_decided_no_feed_takes_back(room: Room) -> None:
    story = Story(room)
    await story.study(story.header(nhs(1)))
    boris = await story.study(story.boris(nhs(2)))
    [doubt] = await pending(room)
    await room.identity.decide(doubt.key, None, room.clock.now(), who="ig@x", why="two people")
    await room.feed("RTK", story.boris(), kind="feed")
    await room.feed("RTK", story.header(nhs(1)), kind="feed")
    await room.feed("RTK", story.boris(), kind="feed")
    assert boris in (await sees(room, asked(nhs(2))))[0]
    assert [d.who for d in await room.identity.decisions() if d.record == doubt.key and d.in_force] == [
        "ig@x"
    ]
    with pytest.raises(Invalid):
        checked_reason("feed")


# --- members that correct, and numbers of thousands ---------------------------------------------------------


async def test_a_member_that_corrects_its_record_empties_nobody_elses_list(room: Room) -> None:
    await room.identity.settle_holders()
    kept = set()
    for n, code in enumerate(("RTK", "RXC", "RA2"), 1):  # RTK was first: the person is known by its record
        one = study(patient(room.member(code), "A1", number=nhs(1), born="19800101"), n)
        await room.publish(code, one, 1)
        kept |= {one.study_uid} if code != "RTK" else set()
    mistyped = study(patient(room.member("RTK"), "A1", number=nhs(1), born="19800102"), 9)
    await room.publish("RTK", changed(mistyped, time=StudyTime(date="20260101", time="101010")), 2)
    assert await sees(room, asked(nhs(1)), clinician("RPC")) == (kept, ["RTK"], {"Baker"})
    assert [r.member for r in await room.identity.waiting()] == [room.member("RTK").id]
    corrected = study(patient(room.member("RTK"), "A1", number=nhs(1), born="19800101"), 10)
    await room.publish("RTK", changed(corrected, time=StudyTime(date="20260102", time="101010")), 3)
    assert len((await sees(room, asked(nhs(1)), clinician("RPC")))[0]) == 5


def stranger(room: Room, n: int, number: str, value: str = "UNKNOWN") -> Patient:
    letters = "".join(chr(65 + n // 26**k % 26) for k in range(3))
    born = f"18{n % 90 + 10}{n // 90 % 12 + 1:02d}{n // 1080 % 28 + 1:02d}"
    return patient(
        room.member("RTK"),
        value,
        number=number,
        family=f"Fam{letters}",
        given=f"G{letters}",
        born=born,
        sex="MF"[n % 2],
    )


async def many(room: Room, people: Sequence[Patient], start: int) -> None:
    acts = [room.grpc("RTK", room.published("RTK", study(who, n), n)) for n, who in enumerate(people, start)]
    results = await room.acceptor.accept_many(acts)
    assert not [one for one in results if isinstance(one, CrosslightError)], (
        "no doubt and no claim holds up publication"
    )


class Reading:
    """Counts rows of patient records, claims and headers that are read and written."""

    def __init__(self, patch: pytest.MonkeyPatch, room: Room) -> None:
        self.rows: Counter[str] = Counter()
        write = room.db.write

        async def counted(name: str, fn: Any, **how: Any) -> Any:
            return await write(name, lambda tx: fn(_Counted(tx, self.rows)), **how)

        patch.setattr(room.db, "write", counted)


class _Counted:
    def __init__(self, tx: Tx, rows: Counter[str]) -> None:
        self._tx, self._rows = tx, rows

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    def rows(self, sql: str, params: Sequence[Any] = ()) -> Any:
        found = self._tx.rows(sql, params)
        for table in ("patient_record", "national_claim", "record_header", "holding"):
            self._rows[table] += len(found) if table in sql else 0
        return found

    def insert_many(self, table: str, columns: Any, rows: Sequence[Any], *more: Any) -> Any:
        self._rows[table] += len(rows)
        return self._tx.insert_many(table, columns, rows, *more)


async def test_a_local_id_of_thousands_costs_each_study_the_same(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await many(room, [stranger(room, n, nhs(n)) for n in range(MAX_COMPARED + 100)], 1)
    cost = []
    for n in (1000, 2000):
        await many(room, [stranger(room, i, nhs(i)) for i in range(n, n + 400)], n)
        with monkeypatch.context() as patch:
            reading = Reading(patch, room)
            await many(room, [stranger(room, n + 500, nhs(n + 500))], n + 500)
            cost.append(sum(reading.rows.values()))
    assert max(cost) < 60, "as few rows however many headers there are"
    assert await room.identity.waiting_count() > 1000
    last = await sees(room, asked(nhs(2500)))
    assert last == (set(), ["RTK"], set())
    assert len((await sees(room, asked(nhs(2500)), clinician("RTK")))[0]) == 1
    own = await room.asked(asked("UNKNOWN", room.member("RTK").authority), clinician("RTK"))
    assert 1 < len(own.persons) <= MAX_PERSONS + 1, "no more than people can look through, and a notice"
    assert [n.member_code for n in own.disputed] == ["RTK"]
    assert len((await local(room, "UNKNOWN"))[0]) == 1


async def test_a_number_of_thousands_costs_each_study_the_same(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    await room.identity.settle_holders()
    mine = study(patient(room.member("RXC"), "X1", number=nhs(1)), 9999)
    await room.publish("RXC", mine, 1)
    await many(room, [stranger(room, n, nhs(1), f"L{n}") for n in range(CROWD + 100)], 1)
    cost = []
    for n in (1000, 2000):
        await many(room, [stranger(room, i, nhs(1), f"L{i}") for i in range(n, n + 400)], n)
        with monkeypatch.context() as patch:
            reading = Reading(patch, room)
            await many(room, [stranger(room, n + 500, nhs(1), f"L{n + 500}")], n + 500)
            cost.append(sum(reading.rows.values()))
    assert max(cost) < 60
    assert await sees(room, asked(nhs(1)), clinician("RPC")) == ({mine.study_uid}, ["RTK"], {"Baker"})
    own = await room.asked(asked(nhs(1)), clinician("RTK"))
    assert 1 < len(own.persons) <= MAX_PERSONS + 1
    assert [n.member_code for n in own.disputed] == ["RTK"]
    assert room.identity.alarms["number claimed by two"] == 1


async def test_a_number_of_thousands_that_nobody_holds_is_nobodys(room: Room) -> None:
    await many(room, [stranger(room, n, nhs(1), f"L{n}") for n in range(CROWD + 100)], 1)
    await room.identity.settle_holders()
    await many(room, [stranger(room, 999, nhs(1), "L999")], 999)
    assert await sees(room, asked(nhs(1)), clinician("RPC")) == (set(), ["RTK"], set())
    # corrected at their source, one after the other: the last one has the number to itself
    for n in range(CROWD + 100):
        await room.feed("RTK", replace(stranger(room, n, "", f"L{n}"), others=(Identifier("", NHS),)))
    assert len((await sees(room, asked(nhs(1)), clinician("RPC")))[0]) == 1


async def test_test_patients_of_thousands_are_one_person_up_to_a_bound(room: Room) -> None:
    await room.identity.settle_holders()
    for start in (0, 150, 300, 550):
        await many(
            room,
            [patient(room.member("RTK"), f"T{n}", number=nhs(1)) for n in range(start, start + 150)],
            start + 1,
        )
    (person,) = (await room.asked(asked(nhs(1)), clinician("RPC"))).persons
    assert CROWD <= len(person.records) <= 2 * CROWD + 50


# --- readers of what changed --------------------------------------------------------------------------------


async def told_since(room: Room, since: datetime, who: Principal | None = None) -> set[str]:
    """What an incremental reader is told that has read all up to ``since``."""
    window = StudyFilter(updated=(since, None))
    return {
        h.study_uid for h in (await room.asked(ByPopulation(filter=window, order="updated"), who)).holdings
    }


async def test_who_reads_what_changed_is_told_when_a_study_becomes_somebodys(room: Room) -> None:
    story = Story(room)
    await story.study(story.header(nhs(1)))
    boris = await story.study(story.boris(nhs(2)))
    [doubt] = await pending(room)
    room.clock.moment += timedelta(hours=1)
    assert await told_since(room, room.clock.now()) == set()
    decision = await room.identity.decide(doubt.key, None, room.clock.now(), who="ig@x", why="two people")
    assert boris in await told_since(room, room.clock.now())
    room.clock.moment += timedelta(hours=1)
    await room.identity.end_decision(decision, room.clock.now(), who="ig@x", why="unsure")
    told = await told_since(room, room.clock.now())
    assert boris not in told, "in doubt it is not for others"


async def test_who_reads_what_changed_is_told_when_a_doubt_ends_by_itself(room: Room) -> None:
    story = Story(room)
    await story.study(story.header(nhs(1)))
    doubtful = await story.study(story.header(nhs(1), "Jones", born="19800102"))
    assert len(await pending(room)) == 1
    room.clock.moment += timedelta(hours=1)
    since = room.clock.now()
    await story.study(story.header(nhs(1), "Jones"))  # what lies between
    assert await pending(room) == []
    assert doubtful in await told_since(room, since)


async def test_who_reads_what_changed_is_told_when_a_number_is_somebodys_again(room: Room) -> None:
    mine = study(patient(room.member("RTK"), "A1", number=nhs(1)), 1)
    await room.publish("RTK", mine, 1)
    room.clock.moment += timedelta(hours=1)
    since = room.clock.now()
    other = patient(room.member("RXC"), "B1", number=nhs(1), family="Other", born="19990909")
    await room.publish("RXC", study(other, 2), 1)
    assert mine.study_uid not in await told_since(room, since), "contested, and so not shown to others"
    room.clock.moment += timedelta(hours=1)
    since = room.clock.now()
    await room.feed("RXC", replace(other, others=(Identifier("", NHS),)))
    assert mine.study_uid in await told_since(room, since)
