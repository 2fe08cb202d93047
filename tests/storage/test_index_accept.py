"""accept over the index on both databases: versions, life cycle, moves, clashes, detail (D1, D2, D6, D10,
D16, D17).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from index_studies import _study
from registry_room import Room, make_room
from registry_samples import grown, nhs, patient, study

from crosslight.runtime.db import Db, Tx
from crosslight.standards.ids import Identifier, Version
from crosslight.standards.problem import Conflict, CrosslightError, Forbidden, Invalid
from crosslight.standards.records import changed
from registry.ask.question import ByObject, ByPatient
from registry.identity import relink
from registry.identity.model import PatientSelector, RecordKey
from registry.intake.submission import SetAvailability


@pytest.fixture
async def room(database: Db) -> AsyncIterator[Room]:
    made = await make_room(database)
    yield made
    await made.ask.close()
    for code in ("RA2", "RTK"):
        member = made.member(code).id
        assert await made.index.census(member) == await made.index.counted(member), (
            "the census drifted from the rows"
        )


# --- versions (D10) -----------------------------------------------------------------------------------------


async def test_a_study_is_stored_as_it_was_published(room: Room) -> None:
    record = _study(room, number=nhs(1))
    act = room.published("RA2", record, 1)
    assert (await room.acceptor.accept(room.grpc("RA2", act))).outcomes == ("accepted",)
    (held,) = await room.holdings("RA2")
    assert held.publication == act.publication
    assert (held.digest, held.revision, held.state) == (record.digest(), 1, "approved")
    assert [c.kind for c in room.changes] == ["new"]
    assert await room.index.cursor(room.member("RA2").id) == Version(1, 1)


async def test_newer_wins_older_is_stale_and_a_repeat_changes_nothing(room: Room) -> None:
    first = _study(room)
    second, third = grown(first, 2), grown(grown(first, 2), 3)
    assert await room.publish("RA2", first, 1) == "accepted"
    assert await room.publish("RA2", third, 5) == "accepted"
    assert await room.publish("RA2", second, 3) == "stale"
    assert await room.publish("RA2", third, 5) == "already"
    (held,) = await room.holdings("RA2")
    assert held.record == third
    assert held.revision == 2
    assert [p.publication.record for p in held.past] == [first]
    assert held.past[0].succeeded_by == held.publication.entry_uuid
    assert held.publication.replaces_entry_uuid == held.past[0].publication.entry_uuid


async def test_one_version_with_two_contents_is_an_error_and_an_alarm(room: Room) -> None:
    record = _study(room)
    await room.publish("RA2", record, 1)
    with pytest.raises(Conflict):
        await room.publish("RA2", grown(record, 2), 1)
    assert room.acceptor.alarms == {"one version, two contents": 1}
    assert (await room.holdings("RA2"))[0].record == record


async def test_an_epoch_that_was_not_granted_is_refused(room: Room) -> None:
    record = _study(room)
    with pytest.raises(Conflict) as refused:
        await room.publish("RA2", record, 1, epoch=2)
    assert refused.value.where == "epoch"
    room.directory.set(replace(room.member("RA2"), epoch=2))
    assert await room.publish("RA2", record, 1, epoch=2) == "accepted"
    with pytest.raises(Conflict):
        await room.publish("RA2", grown(record, 2), 9, epoch=1)


async def test_a_newer_epoch_is_newer_whatever_n_says(room: Room) -> None:
    record = _study(room)
    await room.publish("RA2", record, 900)
    room.directory.set(replace(room.member("RA2"), epoch=2))
    assert await room.publish("RA2", grown(record, 2), 1, epoch=2) == "accepted"
    assert await room.index.cursor(room.member("RA2").id) == Version(2, 1)


async def test_a_batch_takes_each_act_on_its_own(room: Room) -> None:
    records = [_study(room, seed, f"H{seed}") for seed in range(6)]
    acts = [room.published("RA2", record, n) for n, record in enumerate(records, 1)]
    acts[2] = replace(acts[2], publication=changed(acts[2].publication, version=Version(7, 3)))
    acts[4] = replace(acts[4], patient=replace(records[4].patient, local=Identifier("H4", "1.2.3")))
    results = await room.acceptor.accept_many([room.grpc("RA2", act) for act in acts])
    kinds = [type(r).__name__ if isinstance(r, CrosslightError) else r.outcomes[0] for r in results]
    assert kinds == ["accepted", "accepted", "Conflict", "accepted", "Invalid", "accepted"]
    assert len(await room.holdings("RA2")) == 4


async def test_a_batch_with_an_act_that_fails_half_done_keeps_the_others(room: Room) -> None:
    records = [_study(room, seed, f"H{seed}") for seed in range(3)]
    acts = [room.published("RA2", record, n) for n, record in enumerate(records, 1)]
    unknown = SetAvailability(study_uid="1.2.3.4", status="Deprecated", version=Version(1, 9))
    both = replace(room.grpc("RA2", acts[1]), acts=(acts[1], unknown))
    results = await room.acceptor.accept_many([room.grpc("RA2", acts[0]), both, room.grpc("RA2", acts[2])])
    assert isinstance(results[1], CrosslightError)
    assert {h.study_uid for h in await room.holdings("RA2")} == {records[0].study_uid, records[2].study_uid}


async def test_a_patient_who_cannot_be_linked_leaves_nothing_behind(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relink, "MAX_CLUSTER", 3)
    for n in range(3):
        await room.feed("RTK", patient(room.member("RTK"), f"X{n}", number=nhs(1), born=f"1960010{n + 1}"))
    await room.feed("RA2", patient(room.member("RA2"), "H1"))
    records = [_study(room, 1, "H1", number=nhs(1)), _study(room, 2, "H2")]
    for _ in range(2):  # what is refused is refused again
        acts = [room.grpc("RA2", room.published("RA2", record, n)) for n, record in enumerate(records, 1)]
        results = await room.acceptor.accept_many(acts)
        assert [isinstance(one, Conflict) for one in results] == [
            True,
            False,
        ], "the source's fault: parked there, not repeated"
    found = await room.identity.find_cx(Identifier("H1", room.member("RA2").authority))
    assert found is not None
    assert found.record is not None
    assert found.record.national == ()


async def test_a_patient_who_came_from_elsewhere_meanwhile_undoes_the_whole_batch(room: Room) -> None:
    """The batch's own new record was not written: nothing may lie under its key."""
    known = patient(room.member("RA2"), "H2")
    await room.feed("RA2", known)
    records = [_study(room, 1, "H1"), study(replace(known, birth_date="19500505"), 2)]
    acts = [room.grpc("RA2", room.published("RA2", record, n)) for n, record in enumerate(records, 1)]
    insert_many = type(await room.db.read("t", _itself)).insert_many

    def first(tx: Any, table: str, names: Any, rows: Any, tail: str = "") -> int:
        if table == "patient_record" and not came:
            came.append(
                room.identity.feed_tx(tx, records[0].patient, room.member("RA2").id, room.clock.now())
            )
        return insert_many(tx, table, names, rows, tail)

    came: list[RecordKey] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(type(await room.db.read("t", _itself)), "insert_many", first)
        results = await room.acceptor.accept_many(acts)
    assert came
    assert not [one for one in results if isinstance(one, CrosslightError)]
    for record in records:
        answer = await room.asked(ByPatient(patient=PatientSelector(identifiers=(record.patient.local,))))
        assert [h.study_uid for h in answer.holdings] == [record.study_uid]


def _itself(tx: Tx) -> Tx:
    return tx


async def test_many_versions_of_one_study_in_one_batch(room: Room) -> None:
    record, versions = _study(room), []
    for n in range(1, 6):
        versions.append(record)
        record = grown(record, n)
    batch = [room.grpc("RA2", room.published("RA2", one, n)) for n, one in enumerate(versions, 1)]
    await room.acceptor.accept_many(batch[:2])
    await room.acceptor.accept_many(batch[2:])
    (held,) = await room.holdings("RA2")
    assert [held.record, *(p.publication.record for p in held.past)] == versions[::-1]


async def test_a_member_publishes_for_itself_only(room: Room) -> None:
    record = _study(room)
    other = replace(room.grpc("RA2", room.published("RA2", record, 1)), member=room.member("RTK"))
    with pytest.raises(Forbidden):
        await room.acceptor.accept(other)
    with pytest.raises(Forbidden):
        await room.acceptor.accept(room.grpc("RTK", room.published("RA2", record, 1)))
    with pytest.raises(Invalid):
        await room.publish("RA2", study(patient(room.member("RTK")), 3), 1)
    room.directory.set(replace(room.member("RA2"), status="suspended"))
    with pytest.raises(Forbidden):
        await room.publish("RA2", record, 1)
    assert await room.holdings("RA2") == []


# --- life cycle (D16) ---------------------------------------------------------------------------------------


async def test_a_deleted_study_is_deprecated_and_comes_back(room: Room) -> None:
    record = _study(room)
    await room.publish("RA2", record, 1)
    (held,) = await room.holdings("RA2")
    assert await room.availability("RA2", record.study_uid, "Deprecated", 2) == "accepted"
    assert await room.availability("RA2", record.study_uid, "Deprecated", 2) == "already"
    assert (await room.holdings("RA2"))[0].publication.status == "Deprecated"
    answer = await room.asked(ByObject(fhir_ids=(held.fhir_id,)))
    assert (answer.holdings, answer.gone) == ((), (held.fhir_id,))
    assert await room.publish("RA2", record, 1) == "already"
    assert (await room.holdings("RA2"))[0].state == "deprecated", "a replay must not bring it back"
    assert await room.availability("RA2", record.study_uid, "Approved", 4) == "accepted"
    assert await room.publish("RA2", grown(record, 2), 5) == "accepted"
    (held,) = await room.holdings("RA2")
    assert (held.state, len(held.past), held.revision) == ("approved", 1, 4)


def _rows(table: str, tx: Tx) -> list[Any]:
    return tx.rows(f"SELECT * FROM {table}")


async def test_a_withdrawn_study_leaves_hashes_only(room: Room) -> None:
    first = _study(room, number=nhs(2))
    await room.publish("RA2", first, 1)
    await room.publish("RA2", grown(first, 2), 2)
    (held,) = await room.holdings("RA2")
    names = (held.publication.entry_uuid, held.past[0].publication.entry_uuid)
    assert await room.withdraw("RA2", first.study_uid, 3) == "accepted"
    assert await room.withdraw("RA2", first.study_uid, 3) == "already"
    assert await room.publish("RA2", grown(first, 2), 2) == "stale"
    assert await room.holdings("RA2") == []
    for question in (
        ByObject(study_uids=(first.study_uid,), versions=True),
        ByObject(entry_uuids=names, versions=True),
        ByObject(accessions=first.accessions, versions=True),
        ByPatient(patient=PatientSelector(identifiers=(Identifier(nhs(2)),)), versions=True),
    ):
        assert (await room.asked(question)).holdings == ()
    assert (await room.asked(ByObject(fhir_ids=(held.fhir_id,)))).gone == (held.fhir_id,)
    for table in ("holding", "past_version"):
        assert await room.db.read("t", partial(_rows, table)) == []
    assert await room.publish("RA2", first, 7) == "accepted"
    (back,) = await room.holdings("RA2")
    assert (back.fhir_id, back.past) == (held.fhir_id, ())
    assert back.revision > held.revision, "a FHIR versionId is never used twice"
    assert (await room.asked(ByObject(fhir_ids=(held.fhir_id,)))).gone == ()


async def test_a_study_of_the_wrong_patient_moves(room: Room) -> None:
    wrong = _study(room, local="H1", number=nhs(3))
    right = changed(wrong, patient=patient(room.member("RA2"), "H2", number=nhs(4), family="Cole"))
    await room.publish("RA2", wrong, 1)
    (before,) = await room.holdings("RA2")
    assert await room.publish("RA2", right, 2) == "accepted"
    (after,) = await room.holdings("RA2")
    assert after.record == right
    assert after.past == (), "nothing of the wrong patient's chain is shown under the right one"
    assert after.publication.replaces_entry_uuid == ""
    assert after.fhir_id != before.fhir_id
    assert (await room.asked(ByObject(fhir_ids=(before.fhir_id,)))).gone == (before.fhir_id,)
    assert (
        await room.asked(ByPatient(patient=PatientSelector(identifiers=(Identifier(nhs(3)),))))
    ).holdings == ()
    assert (
        len(
            (await room.asked(ByPatient(patient=PatientSelector(identifiers=(Identifier(nhs(4)),))))).holdings
        )
        == 1
    )
    assert [(c.kind, c.record_key, c.former_key) for c in room.changes] == [
        ("new", before.record_key, None),
        ("moved", after.record_key, before.record_key),
    ]
    assert await room.publish("RA2", wrong, 3) == "accepted"
    (back,) = await room.holdings("RA2")
    assert back.fhir_id == before.fhir_id
    assert back.revision > before.revision


async def test_a_merge_moves_no_rows(room: Room) -> None:
    record = _study(room, local="H1")
    await room.publish("RA2", record, 1)
    await room.feed("RA2", patient(room.member("RA2"), "H2"))
    (before,) = await room.holdings("RA2")
    authority = room.member("RA2").authority
    await room.identity.merge(Identifier("H2", authority), Identifier("H1", authority), room.clock.now())
    survivor = grown(changed(record, patient=patient(room.member("RA2"), "H2")), 2)
    assert await room.publish("RA2", survivor, 2) == "accepted"
    (after,) = await room.holdings("RA2")
    assert (after.record_key, after.fhir_id) == (before.record_key, before.fhir_id)
    assert after.record == survivor
    assert after.past[0].publication.record == record
