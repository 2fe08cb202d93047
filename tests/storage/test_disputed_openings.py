"""A study of disputed identity opens for whom it was shown to, for a while.

By its names alone it opens for nobody: a Study Instance UID stands on CDs and in letters (ADR 0015, 0037).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
from registry_room import Room, clinician, make_room, room_config
from registry_samples import nhs, patient, study

from crosslight.runtime.db import Db
from crosslight.standards.access import Face, Principal
from crosslight.standards.ids import Identifier
from registry.ask.config import AskConfig
from registry.ask.permit_store import MAX_OPENINGS, PermitStore
from registry.ask.question import Answer, ByObject, ByPatient, ByPopulation, Patients, StudyFilter
from registry.identity.model import PatientSelector, PersonKey

MINUTES = 30
STRANGER, OWNER, OFFICER = clinician("RA2"), clinician("RXC"), clinician("RPC", "clinician", "identity")


class Disputed:
    """One person at RA2 and RTK, and at RXC a record that claims their number and is not theirs."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.authority = room.member("RXC").authority
        rxc = room.member("RXC")
        self.study = study(patient(rxc, "X4", number=nhs(1), family="Other", born="19991231"), 9)

    async def publish(self) -> None:
        """Both of them."""
        for n, (code, local) in enumerate((("RA2", "A1"), ("RTK", "T9")), 1):
            await self.room.publish(code, study(patient(self.room.member(code), local, number=nhs(1)), n), n)
        await self.room.publish("RXC", self.study, 1)
        (self.holding,) = await self.room.holdings("RXC")

    def names(self) -> dict[str, ByObject]:
        """Every name of its own that a study can be asked for by."""
        publication = self.holding.publication
        return {
            "StudyInstanceUID": ByObject(study_uids=(self.study.study_uid,)),
            "FHIR id": ByObject(fhir_ids=(self.holding.fhir_id,)),
            "entryUUID": ByObject(entry_uuids=(publication.entry_uuid,)),
            "uniqueId": ByObject(unique_ids=(publication.manifest.document_uid,)),
        }

    async def opens(self, who: Principal, *, face: Face = "dicomweb") -> set[str]:
        """By which of its names it opens for somebody."""
        found = set()
        for name, question in self.names().items():
            answer = await self.room.asked(question, who, face=face)
            if self.study.study_uid in {h.study_uid for h in answer.holdings}:
                found.add(name)
            else:
                assert not any(record.disputed for person in answer.persons for record in person.records)
        return found

    async def search(self, who: Principal, *, face: Face = "fhir", people: bool = False) -> Answer:
        """By the number that its own trust gave."""
        selector = PatientSelector(identifiers=(Identifier("X4", self.authority),))
        question: Any = Patients(patient=selector) if people else ByPatient(patient=selector)
        return await self.room.asked(question, who, face=face)


@pytest.fixture
async def disputed(database: Db) -> AsyncIterator[Disputed]:
    room = await make_room(database, config=room_config(ask=AskConfig(disputed_minutes=MINUTES)))
    made = Disputed(room)
    await made.publish()
    yield made
    await room.ask.close()


async def test_by_its_names_alone_it_opens_for_nobody_but_its_own(disputed: Disputed) -> None:
    assert await disputed.opens(STRANGER) == set()
    everything = set(disputed.names())
    assert await disputed.opens(OWNER) == everything
    assert await disputed.opens(OFFICER) == everything


async def test_that_something_is_in_doubt_is_told_and_where(disputed: Disputed) -> None:
    """Else an empty answer would say that there is no such study."""
    answer = await disputed.room.asked(disputed.names()["StudyInstanceUID"], STRANGER)
    assert [m.code for m in answer.coverage.members if m.identity_doubt] == ["RXC"]
    assert not answer.coverage.proves_absence


@pytest.mark.parametrize("people", [False, True])
async def test_after_a_search_by_its_own_number_it_opens_for_whoever_searched(
    disputed: Disputed, people: bool
) -> None:
    assert len((await disputed.search(STRANGER, people=people)).persons) == 1
    assert await disputed.opens(STRANGER) == set(disputed.names())
    assert await disputed.opens(clinician("RPC")) == set(), "and for nobody else"


async def test_for_some_minutes(disputed: Disputed) -> None:
    await disputed.search(STRANGER)
    disputed.room.clock.moment += timedelta(minutes=MINUTES - 1)
    assert await disputed.opens(STRANGER)
    disputed.room.clock.moment += timedelta(minutes=2)
    assert await disputed.opens(STRANGER) == set()


async def test_lists_and_what_can_be_guessed_never_show_it(disputed: Disputed) -> None:
    await disputed.search(STRANGER)
    room, own = disputed.room, disputed.study
    by_number = ByPatient(patient=PatientSelector(identifiers=(Identifier(nhs(1)),)))
    by_name = ByPatient(patient=PatientSelector(family="Other", birth_date="19991231"))
    lists: tuple[Any, ...] = (
        ByPopulation(filter=StudyFilter()),
        ByObject(accessions=own.accessions),
        by_number,
        by_name,
    )
    for question in lists:
        answer = await room.asked(question, STRANGER)
        assert own.study_uid not in {h.study_uid for h in answer.holdings}, question


async def test_a_patients_id_is_such_a_name_and_the_pages_sealed_address_is_not(disputed: Disputed) -> None:
    """An address of the page was made for its reader, after a search of theirs (ADR 0011): it still opens."""
    (person,) = (await disputed.search(OWNER)).persons
    by_id = ByPatient(patient=PatientSelector(fhir_id=person.fhir_id))
    assert (await disputed.room.asked(by_id, STRANGER)).persons == ()
    assert (await disputed.room.asked(by_id, OWNER)).holdings
    assert (await disputed.room.asked(by_id, STRANGER, face="portal")).holdings
    assert (await disputed.room.asked(by_id, STRANGER)).holdings, "the page had shown it to them"
    assert await disputed.opens(STRANGER) == set(disputed.names())
    disputed.room.clock.moment += timedelta(minutes=MINUTES + 1)
    assert (await disputed.room.asked(by_id, STRANGER)).persons == ()


async def test_a_search_that_was_refused_opens_nothing(disputed: Disputed) -> None:
    porter = Principal(subject=STRANGER.subject, roles=frozenset({"porter"}))
    with pytest.raises(Exception, match="may not"):
        await disputed.search(porter)
    assert await disputed.opens(STRANGER) == set()


async def test_one_caller_has_so_many_openings_and_the_oldest_give_way(database: Db) -> None:
    room = await make_room(database)
    store = PermitStore(database)
    await store.open()
    now = room.clock.now()
    for n in range(3):
        persons = [PersonKey(1000 * n + i) for i in range(100)]
        await store.keep_openings("a", persons, now, now + timedelta(minutes=1 + n))
    await store.keep_openings("b", [PersonKey(1)], now, now + timedelta(minutes=1))
    kept = await database.read("t", lambda tx: store.openings_tx(tx, "a", now))
    assert len(kept) == MAX_OPENINGS
    assert min(kept) >= 1000
    assert await database.read("t", lambda tx: store.openings_tx(tx, "b", now)) == {1}
    await store.end_openings()
    assert await database.read("t", lambda tx: store.openings_tx(tx, "a", now)) == frozenset()
