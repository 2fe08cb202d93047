"""One person is never another: local ids used again, feeds and headers, who holds a number, how people
decide. Both engines.
"""

from __future__ import annotations

import pytest
from identity_story import Story, asked, pending, sees
from registry_room import Room, clinician, make_room
from registry_samples import NHS, nhs, patient, study

from crosslight.runtime.db import Db
from crosslight.standards.access import OPEN
from crosslight.standards.ids import Identifier
from registry.ask.question import ByObject, ByPatient, ByPopulation, StudyFilter
from registry.identity.model import PatientSelector


@pytest.fixture
async def room(database: Db) -> Room:
    return await make_room(database)


async def test_a_local_id_used_again_is_doubt_on_the_study_and_not_on_the_record(room: Room) -> None:
    story = Story(room)
    anna = await story.study(story.header(nhs(1)))
    boris = await story.study(story.boris(nhs(2)))
    rtk = room.member("RTK").authority
    for question, studies, families in (
        (asked(nhs(1)), {anna}, {"Alpha"}),
        (asked(nhs(2)), set(), set()),
        (asked("UNKNOWN1", rtk), {anna}, {"Alpha"}),
        (ByPatient(patient=PatientSelector(family="Beta", birth_date="19900202")), set(), set()),
    ):
        assert await sees(room, question) == (studies, ["RTK"], families), question
        assert await sees(room, question, OPEN) == (studies, ["RTK"], families), question
    for who in (clinician("RTK"), clinician("RA2", "identity")):
        assert await sees(room, asked(nhs(2)), who) == ({boris}, ["RTK"], {"Beta"})
        assert (await sees(room, asked(nhs(1)), who))[0] == {anna, boris}
    for hidden in (ByObject(study_uids=(boris,)), ByPopulation(filter=StudyFilter(study_uids=(boris,)))):
        assert (await sees(room, hidden))[0] == set()
        assert (await sees(room, hidden, clinician("RTK")))[0] == {boris}
    [doubt] = await pending(room)
    assert (doubt.patient.name.family, doubt.patient.birth_date, doubt.national) == (
        "Beta",
        "19900202",
        (Identifier(nhs(2), NHS),),
    )


async def test_a_second_study_without_a_number_is_in_doubt_too(room: Room) -> None:
    story = Story(room)
    anna = await story.study(story.header(nhs(1)))
    await story.study(story.boris())
    assert await sees(room, asked(nhs(1))) == ({anna}, ["RTK"], {"Alpha"})


#: What one person's headers may say one after the other, without doubt, in any order.
NO_CHANGE = {
    "marriage": [{}, {"family": "Jones"}],
    "marriage, then a corrected date": [{}, {"family": "Jones"}, {"family": "Jones", "born": "19800102"}],
    "another number by correction": [{}, {"number": nhs(5)}],
    "a number that becomes known": [{"number": ""}, {}],
    "a birth date that becomes known": [{"born": ""}, {}],
    "a placeholder date that becomes known": [{"born": "19000101", "family": "Jones"}, {}],
    "trauma": [{"number": "", "family": "Unknown", "given": "Male", "born": "19000101", "sex": ""}, {}],
    "trauma with a code name": [
        {"number": "", "family": "ZZTrauma", "given": "Whiskey", "born": "", "sex": "M"},
        {"sex": "M"},
    ],
    "newborn": [{"given": "Baby", "number": ""}, {"given": "Emma"}],
    "case, accents, punctuation": [{"family": "O'Brien-Møller"}, {"family": "OBRIEN MOLLER"}],
    "names the other way round": [{"family": "Nguyen", "given": "Anh"}, {"family": "Anh", "given": "Nguyen"}],
    "an initial": [{"given": "A"}, {}],
    "sex corrected": [{"sex": "M"}, {}],
}
DOUBT = {
    "number and birth date": [{}, {"number": nhs(5), "born": "19810505"}],
    "name and birth date": [{"number": ""}, {"number": "", "family": "Beta", "born": "19810505"}],
    "name and sex": [{"number": ""}, {"number": "", "given": "Boris", "sex": "M"}],
    "sex and birth date": [{"number": ""}, {"number": "", "sex": "M", "born": "19810505"}],
    "a new number after transition": [{}, {"number": nhs(5), "given": "Adam", "sex": "M"}],
    "number and nothing of the name": [
        {"born": ""},
        {"born": "", "number": nhs(5), "family": "Beta", "given": "Boris"},
    ],
}


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", NO_CHANGE)
async def test_what_is_no_change(room: Room, name: str, backwards: bool) -> None:
    story = Story(room)
    said = [story.header(**{"number": nhs(1), **one}) for one in NO_CHANGE[name]]
    for i, header in reversed(list(enumerate(said))) if backwards else enumerate(said):
        await story.study(header, seed=i + 1)
    assert await pending(room) == []
    answer = await room.asked(asked("UNKNOWN1", room.member("RTK").authority))
    assert len(answer.holdings) == len(said)
    assert len(answer.persons) == 1


@pytest.mark.parametrize("backwards", [False, True])
@pytest.mark.parametrize("name", DOUBT)
async def test_what_is_doubt(room: Room, name: str, backwards: bool) -> None:
    story = Story(room)
    said = [story.header(**{"number": nhs(1), **one}) for one in DOUBT[name]]
    for header in reversed(said) if backwards else said:
        await story.study(header)
    assert len(await pending(room)) == 1
    answer = await room.asked(asked("UNKNOWN1", room.member("RTK").authority))
    assert len(answer.holdings) == 1


async def test_what_lies_between_ends_a_doubt(room: Room) -> None:
    story = Story(room)
    await story.study(story.header(nhs(1)))
    await story.study(story.header(nhs(1), "Jones", born="19800102"))
    assert len(await pending(room)) == 1
    await story.study(story.header(nhs(1), "Jones"))
    assert await pending(room) == []
    assert len((await sees(room, asked(nhs(1))))[0]) == 3


async def test_no_number_and_birth_date_that_a_header_contradicts_in_both(room: Room) -> None:
    story = Story(room)  # each step is one field; first and last differ in number and date
    first = await story.study(story.header(nhs(1)))
    second = await story.study(story.header(nhs(1), born="19800102"))
    third = await story.study(story.header(nhs(2), born="19800102"))
    assert await sees(room, asked(nhs(1))) == ({first, second}, ["RTK"], {"Alpha"})
    assert await sees(room, asked(nhs(2))) == (set(), ["RTK"], set())
    assert (await sees(room, asked(nhs(2)), clinician("RTK")))[0] == {third}


async def test_deciding_the_same_person_and_taking_it_back(room: Room) -> None:
    story = Story(room)
    anna, boris = (
        await story.study(story.header(nhs(1))),
        await story.study(story.boris(nhs(2))),
    )
    [doubt] = await pending(room)
    decision = await room.identity.decide(
        doubt.key, doubt.part_of, room.clock.now(), who="ig@x", why="seen the paper file"
    )
    for number in (nhs(1), nhs(2)):
        assert await sees(room, asked(number)) == ({anna, boris}, [], {"Alpha", "Beta"})
    third = await story.study(story.boris(nhs(2)))
    assert third in (await sees(room, asked(nhs(1))))[0], "what comes later with that header follows"
    await room.identity.end_decision(decision, room.clock.now(), who="ig@x", why="was wrong")
    assert await sees(room, asked(nhs(1))) == ({anna}, ["RTK"], {"Alpha"})
    assert await sees(room, asked(nhs(2))) == (set(), ["RTK"], set())


async def test_deciding_another_person(room: Room) -> None:
    story = Story(room)
    anna, boris = (
        await story.study(story.header(nhs(1))),
        await story.study(story.boris(nhs(2))),
    )
    elsewhere = study(
        patient(
            room.member("RXC"), "X1", number=nhs(2), family="Beta", given="Boris", born="19900202", sex="M"
        ),
        77,
    )
    await room.publish("RXC", elsewhere, 1)
    assert await sees(room, asked(nhs(2))) == (
        {elsewhere.study_uid},
        ["RTK"],
        {"Beta"},
    ), "in doubt it is seen by nobody else"
    [doubt] = await pending(room)
    decision = await room.identity.decide(doubt.key, None, room.clock.now(), who="ig@x", why="two people")
    assert await sees(room, asked(nhs(1))) == ({anna}, [], {"Alpha"})
    assert await sees(room, asked(nhs(2))) == ({boris, elsewhere.study_uid}, [], {"Beta"})
    third = await story.study(story.boris(nhs(2)))
    assert third in (await sees(room, asked(nhs(2))))[0]
    local = asked("UNKNOWN1", room.member("RTK").authority)
    both = await room.asked(local, clinician("RA2"), face="fhir")
    assert {p.domain_id.value for p in both.persons} == {
        nhs(1),
        nhs(2),
    }, "the number that both show finds both"
    for face in ("dicomweb", "xds"):
        alone = await room.asked(local, clinician("RA2"), face=face)  # type: ignore[arg-type]
        assert {h.study_uid for h in alone.holdings} == {anna}, "there nobody could tell them apart"
    history = await room.identity.history(doubt.key)
    assert [event.who for event in history][-1] == "ig@x"
    await room.identity.end_decision(decision, room.clock.now(), who="ig@x", why="unsure")
    assert await sees(room, asked(nhs(2))) == ({elsewhere.study_uid}, ["RTK"], {"Beta"})


async def test_a_feed_decides_where_birth_date_or_number_agrees(room: Room) -> None:
    story = Story(room)
    anna = await story.study(story.header(nhs(1)))
    boris = await story.study(story.boris(nhs(2)))
    before = (await room.asked(asked(nhs(1)))).persons[0].fhir_id
    await room.feed("RTK", story.boris(nhs(2)), kind="feed")
    assert await sees(room, asked(nhs(2))) == ({boris}, [], {"Beta"})
    assert await sees(room, asked(nhs(1))) == (
        {anna},
        [],
        {"Alpha"},
    ), "by the feed's word the earlier studies are another person's"
    assert (await room.asked(asked(nhs(1)))).persons[0].fhir_id == before, (
        "who was known by an id goes on being known by it"
    )
    assert (await sees(room, asked("UNKNOWN1", room.member("RTK").authority)))[0] == {
        anna,
        boris,
    }, "told apart, as two persons"


async def test_a_feed_never_takes_along_studies_whose_header_says_another(room: Room) -> None:
    story = Story(room)
    anna = await story.study(story.header(nhs(1)))
    await room.feed("RTK", story.boris(nhs(2)), kind="feed")
    assert await sees(room, asked(nhs(2))) == (set(), ["RTK"], {"Beta"})
    assert await sees(room, asked(nhs(1))) == (
        set(),
        ["RTK"],
        set(),
    ), "nothing else agrees with the feed: a person decides"
    assert (await sees(room, asked(nhs(1)), clinician("RTK")))[0] == {anna}


async def test_headers_never_change_what_a_feed_feeds(room: Room) -> None:
    story = Story(room, "H1")
    await room.feed("RTK", story.header(nhs(1), "Smith"), kind="feed")
    await story.study(story.header("", "Smyth"))
    await story.study(story.header(nhs(1), "Alpha", "Anna"))
    other = await story.study(story.boris(nhs(2)))
    studies, notices, families = await sees(room, asked(nhs(1)))
    assert (len(studies), notices, families) == (2, ["RTK"], {"Smith"})
    assert other not in studies
    # marriage; then the old name comes back in a header
    await room.feed("RTK", story.header(nhs(1), "Jones"), kind="feed")
    await story.study(story.header(nhs(1), "Smith"))
    assert len((await sees(room, asked(nhs(1))))[0]) == 3
    await story.study(patient(room.member("RTK"), "H2", number=nhs(3)))
    await story.study(patient(room.member("RTK"), "H2", number=nhs(3), family="Other"))
    assert (await sees(room, asked(nhs(3))))[2] == {"Baker"}, (
        "the authority is fed: headers change none of its records"
    )


async def test_who_is_not_named_says_nothing_against_a_record(room: Room) -> None:
    story = Story(room)
    await story.study(story.header(nhs(1)))
    await room.feed("RTK", story.boris(nhs(2)))
    assert (await sees(room, asked(nhs(1))))[2] == {"Alpha"}
    await room.feed("RTK", story.header(nhs(1), "Jones"))
    assert (await sees(room, asked(nhs(1))))[2] == {"Jones"}


async def test_another_sex_and_no_common_given_name_join_only_by_a_person(room: Room) -> None:
    for code, given, sex in (("RTK", "Anna", "F"), ("RXC", "Boris", "M")):
        await room.publish(
            code,
            study(patient(room.member(code), "T1", number=nhs(1), given=given, sex=sex), int(sex == "M") + 1),
            1,
        )
    await room.identity.settle_holders()
    answer = await room.asked(asked(nhs(1)))
    assert len({int(p.key) for p in answer.persons}) == len(answer.persons) <= 1
    assert answer.disputed


async def test_whoever_holds_a_number_goes_on_holding_it(room: Room) -> None:
    await room.identity.settle_holders()
    mine = study(patient(room.member("RTK"), "A1", number=nhs(1)), 1)
    await room.publish("RTK", mine, 1)
    for n, code in enumerate(("RXC", "RA2", "RYR"), 2):  # more members, and traced by their own word
        other = patient(
            room.member(code), f"B{n}", number=nhs(1), family="Stranger", born="19990909", traced=True
        )
        await room.publish(code, study(other, n), 1)
        assert await sees(room, asked(nhs(1)), clinician("RPC")) == (
            {mine.study_uid},
            sorted(("RXC", "RA2", "RYR")[: n - 1]),
            {"Baker"},
        )
    assert room.identity.alarms["number claimed by two"] == 3
    await room.publish(
        "RXC", study(patient(room.member("RXC"), "B9", number=nhs(1), family="Third", born="19770707"), 9), 2
    )
    assert room.identity.alarms["number claimed by two"] == 3, "one for a member and a number"
    claims = [r for r in await room.identity.waiting() if r.disputed]
    assert len(claims) == 4


async def test_while_an_index_is_filled_a_tie_is_nobodys(room: Room) -> None:
    await room.publish("RTK", study(patient(room.member("RTK"), "A1", number=nhs(1)), 1), 1)
    await room.publish(
        "RXC", study(patient(room.member("RXC"), "B1", number=nhs(1), family="Other", born="19990909"), 2), 1
    )
    assert await sees(room, asked(nhs(1))) == (set(), ["RTK", "RXC"], set())


async def test_a_person_gives_a_number_to_who_claims_it(room: Room) -> None:
    await room.identity.settle_holders()
    await room.publish("RTK", study(patient(room.member("RTK"), "A1", number=nhs(1)), 1), 1)
    right = study(patient(room.member("RXC"), "B1", number=nhs(1), family="Right", born="19990909"), 2)
    await room.publish("RXC", right, 1)
    holder = (await room.asked(asked(nhs(1)))).persons[0].records[0]
    decision = await room.identity.decide(
        holder.key, None, room.clock.now(), who="ig@x", why="mistyped there"
    )
    assert await sees(room, asked(nhs(1))) == ({right.study_uid}, ["RTK"], {"Right"})
    await room.identity.end_decision(decision, room.clock.now(), who="ig@x", why="no")
    assert await sees(room, asked(nhs(1))) == (
        {right.study_uid},
        ["RTK"],
        {"Right"},
    ), "whoever holds it goes on holding it"


async def test_a_number_merged_away_is_shown_no_more(room: Room) -> None:
    await room.publish("RTK", study(patient(room.member("RTK"), "A1", number=nhs(1)), 1), 1)
    await room.publish("RXC", study(patient(room.member("RXC"), "B1", number=nhs(2)), 2), 1)
    await room.identity.merge(Identifier(nhs(2), NHS), Identifier(nhs(1), NHS), room.clock.now())
    answer = await room.asked(asked(nhs(2)))
    assert len(answer.holdings) == 2
    assert {n.value for p in answer.persons for r in p.records for n in r.national} == {nhs(2)}


async def test_a_notice_says_whether_a_record_claims_the_number(room: Room) -> None:
    """Studies in doubt under a patient's own local number claim no number of theirs, and are not said to."""
    await room.identity.settle_holders()
    story = Story(room)
    await story.study(story.header(nhs(1)))
    await story.study(story.boris(nhs(2)))
    for question, claims in (
        (asked(nhs(1)), False),
        (asked("UNKNOWN1", room.member("RTK").authority), False),
        (asked(nhs(2)), True),
    ):
        assert [n.claims for n in (await room.asked(question)).disputed] == [claims], question
    other = patient(room.member("RXC"), "B1", number=nhs(1), family="Gamma", given="Carl", born="19700303")
    await room.publish("RXC", study(other, 9), 1)
    answer = await room.asked(asked(nhs(1)))
    assert [(n.member_code, n.claims) for n in answer.disputed] == [("RTK", False), ("RXC", True)]
    assert answer.held
    assert not (await room.asked(asked("B1", room.member("RXC").authority))).held
