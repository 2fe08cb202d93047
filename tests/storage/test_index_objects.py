"""The index: what the standard demands of submissions, other objects, detail, and a model beside it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from index_studies import _study
from registry_room import Room, make_room
from registry_samples import grown, nhs, patient, published, study

from crosslight.runtime.db import Db
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.problem import Conflict, CrosslightError, Forbidden
from crosslight.standards.records import changed
from crosslight.standards.study import StudyRecord
from crosslight.standards.xds.mapping import views
from crosslight.standards.xds.model.metadata import (
    Association,
    DocumentEntry,
    Folder,
    SubmissionSet,
    to_plain,
)
from registry.ask.question import ByObject, ByPatient
from registry.identity.model import PatientSelector
from registry.index.model import HoldingKey
from registry.intake.registered_objects import xds_object
from registry.intake.submission import SetAvailability, StoreObjects, Withdraw


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


# --- the standard's strict side (D15) -----------------------------------------------------------------------


async def test_iti42_refuses_replays_and_takes_replacements(room: Room) -> None:
    member, record = room.member("RTK"), _study(room, code="RTK")
    first = published(member, changed(record, detail="entry", series=()), 1)
    with pytest.raises(CrosslightError) as refused:
        await room.register("RTK", first)
    assert refused.value.xds_code == "XDSUnknownPatientId"
    await room.feed("RTK", record.patient)
    await room.register("RTK", first)
    with pytest.raises(CrosslightError) as refused:
        await room.register("RTK", first)
    assert refused.value.xds_code == "XDSDuplicateUniqueIdInRegistry"
    second = published(member, changed(grown(record, 2), detail="entry", series=()), 2, replaces=1)
    await room.register("RTK", second)
    for late, code in (
        (published(member, record, 4, replaces=1), "XDSRegistryDeprecatedDocumentError"),
        (published(member, record, 5, replaces=3), "UnresolvedReferenceException"),
    ):
        with pytest.raises(CrosslightError) as refused:
            await room.register("RTK", late)
        assert refused.value.xds_code == code
    (held,) = await room.holdings("RTK")
    assert held.publication == second
    assert held.past[0].publication == changed(first, status="Deprecated")
    key = HoldingKey(held.record_key, held.study_uid, held.member)
    assert [change.key for change in room.changes if change.waits] == [key, key]
    assert await room.index.unenriched([held.member], 10) == [key]
    # one that cannot be asked hides no other
    assert await room.index.unenriched([room.member("RA2").id], 10) == []
    assert await room.index.unenriched([], 10) == []


async def test_iti57_and_iti62(room: Room) -> None:
    member, record = room.member("RTK"), _study(room, code="RTK")
    await room.feed("RTK", record.patient)
    first, second = published(member, record, 1), published(member, grown(record, 2), 2, replaces=1)
    await room.register("RTK", first)
    await room.register("RTK", second)

    async def act(what: Any) -> str:
        try:
            return (await room.acceptor.accept(room.soap("RTK", what))).outcomes[0]
        except CrosslightError as error:
            return error.xds_code

    down = SetAvailability(entry_uuid=second.entry_uuid, status="Deprecated", original="Approved")
    up = SetAvailability(entry_uuid=second.entry_uuid, status="Approved", original="Deprecated")
    assert await act(up) == "XDSMetadataVersionError"
    assert await act(replace(down, entry_uuid=first.entry_uuid)) == "XDSMetadataVersionError"
    assert (
        await act(replace(down, entry_uuid="urn:uuid:00000000-0000-4000-8000-000000000000"))
        == "UnresolvedReferenceException"
    )
    assert await act(down) == "accepted"
    assert await act(down) == "XDSMetadataVersionError"
    assert await act(up) == "accepted"
    everything = [first.entry_uuid, first.submission_uuid, first.has_member_uuid]
    everything += [second.entry_uuid, second.submission_uuid, second.has_member_uuid, second.replaces_uuid]
    assert await act(Withdraw(entry_uuids=tuple(everything[3:]))) == "ReferencesExistException"
    assert await act(Withdraw(entry_uuids=tuple(everything))) == "accepted"
    assert await room.holdings("RTK") == []
    assert await act(Withdraw(entry_uuids=tuple(everything))) == "UnresolvedReferenceException"
    other = changed(record, patient=patient(member, "H9"))
    await room.feed("RTK", other.patient)
    await room.register("RTK", published(member, other, 3))
    assert [h.record.patient.local.value for h in await room.holdings("RTK")] == ["H9"]


async def test_another_members_ids_are_refused_and_alarmed(room: Room) -> None:
    record = _study(room, code="RTK")
    await room.publish("RTK", record, 1)
    taken = (await room.holdings("RTK"))[0].publication
    mine = study(patient(room.member("RA2")), 9)
    await room.feed("RA2", mine.patient)
    clash = changed(published(room.member("RA2"), mine, 1), entry_uuid=taken.entry_uuid)
    with pytest.raises(CrosslightError) as refused:
        await room.register("RA2", clash)
    assert refused.value.xds_code == "XDSDuplicateUniqueIdInRegistry"
    assert room.acceptor.alarms == {"an id of another member's": 1}
    with pytest.raises(Forbidden):
        await room.acceptor.accept(
            room.soap("RA2", SetAvailability(entry_uuid=taken.entry_uuid, status="Deprecated"))
        )
    with pytest.raises(CrosslightError):
        await room.acceptor.accept(room.soap("RA2", Withdraw(entry_uuids=(taken.entry_uuid,))))
    assert len(await room.holdings("RTK")) == 1


def _urn(n: int) -> str:
    return f"urn:uuid:10000000-0000-4000-8000-{n:012d}"


async def test_a_foreign_sources_manifests_all_stay_and_feed_one_holding(room: Room) -> None:
    home = room.directory.set(replace(room.member("RYR"), status="foreign", secret=b""))
    record = _study(room, code="RYR")
    await room.feed("RYR", record.patient)

    def foreign(n: int, text: str, replaces: int = 0) -> Any:
        made = published(home, changed(record, description=text), n)
        return changed(
            made,
            version=None,
            entry_uuid=_urn(n),
            submission_uuid=_urn(100 + n),
            submission_uid=f"1.2.3.{n}",
            has_member_uuid=_urn(200 + n),
            replaces_entry_uuid=_urn(replaces) if replaces else "",
            replaces_uuid=_urn(300 + n) if replaces else "",
            manifest=changed(made.manifest, document_uid=f"1.2.4.{n}"),
        )

    for n, text in ((1, "first"), (2, "second")):
        await room.register("RYR", foreign(n, text))
    (held,) = await room.holdings("RYR")
    assert [(p.record.description, p.status) for p in held.entries] == [
        ("second", "Approved"),
        ("first", "Approved"),
    ]
    assert held.past == ()
    await room.register("RYR", foreign(3, "third", replaces=1))
    (held,) = await room.holdings("RYR")
    said = [(p.record.description, p.status) for p in held.entries]
    assert said == [("third", "Approved"), ("second", "Approved"), ("first", "Deprecated")]
    assert [p.succeeded_by for p in held.past] == [_urn(3)]
    found = await room.asked(ByObject(entry_uuids=(_urn(1),), versions=True))
    assert [h.study_uid for h in found.holdings] == [record.study_uid]
    found = await room.asked(ByObject(unique_ids=("1.2.4.2",), versions=True))
    assert [h.study_uid for h in found.holdings] == [record.study_uid]


async def test_every_accession_of_the_current_version_is_found(room: Room) -> None:
    """Also one that was the first before, and is the second now."""
    record = _study(room)
    old, new = record.accessions[0], Identifier("A-NEW", record.accessions[0].authority)
    await room.publish("RA2", record, 1)
    await room.publish("RA2", changed(record, accessions=(new, old)), 2)
    for accession in (old, new):
        found = await room.asked(ByObject(accessions=(accession,)))
        assert [h.study_uid for h in found.holdings] == [record.study_uid], accession


# --- other objects ------------------------------------------------------------------------------------------


def _objects(n: int, cx: str) -> list[Any]:
    document = DocumentEntry(
        entry_uuid=_urn(n), unique_id=f"1.5.{n}", patient_id=cx, hash="ab" * 20, size="7"
    )
    submission = SubmissionSet(entry_uuid=_urn(n + 1), unique_id=f"1.6.{n}", patient_id=cx)
    link = Association(
        entry_uuid=_urn(n + 2),
        type="urn:oasis:names:tc:ebxml-regrep:AssociationType:HasMember",
        source=submission.entry_uuid,
        target=document.entry_uuid,
        submission_set_status="Original",
    )
    return [document, submission, link]


async def test_other_objects_are_stored_whole_and_all_or_nothing(room: Room) -> None:
    who = patient(room.member("RA2"), number=nhs(5))
    await room.feed("RA2", who)
    cx = who.local.cx()

    async def store(*things: Any) -> str:
        act = StoreObjects(objects=tuple(xds_object(t, None) for t in things), patient_cx=cx)
        try:
            return (await room.acceptor.accept(room.soap("RA2", act))).outcomes[0]
        except CrosslightError as error:
            return error.xds_code

    first = _objects(10, cx)
    folder = Folder(entry_uuid=_urn(90), unique_id="1.7.1", patient_id=cx)
    hold = Association(
        entry_uuid=_urn(91), type=first[2].type, source=folder.entry_uuid, target=first[0].entry_uuid
    )
    assert await store(*first, folder, hold) == "accepted"
    dangling = Association(entry_uuid=_urn(95), type=first[2].type, source=_urn(10), target=_urn(99))
    assert await store(*_objects(20, cx), dangling) == "UnresolvedReferenceException"
    assert (await room.asked(ByObject(entry_uuids=(_urn(20),), versions=True))).objects == ()
    second = _objects(30, cx)
    rplc = Association(
        entry_uuid=_urn(33), type="urn:ihe:iti:2007:AssociationType:RPLC", source=_urn(30), target=_urn(10)
    )
    assert await store(*second, rplc) == "accepted"
    selector = PatientSelector(identifiers=(Identifier(nhs(5)),))
    answer = await room.asked(ByPatient(patient=selector, versions=True), face="xds")
    found = {o.entry_uuid: o for o in answer.objects}
    assert found[_urn(10)].status == "Deprecated"
    assert found[_urn(10)].body == to_plain(first[0])
    assert found[_urn(30)].status == "Approved"
    joined = [o for o in found.values() if o.links == (_urn(90), _urn(30))]
    assert len(joined) == 1, "the new document is in the folder of the old one"
    assert found[_urn(90)].body["last_update_time"] == "20260301090000"
    touching = await room.asked(ByObject(entry_uuids=(_urn(30),), versions=True))
    assert {_urn(31), _urn(32), _urn(33), _urn(90)} <= {o.entry_uuid for o in touching.objects}
    assert await store(*_objects(10, cx)) == "XDSDuplicateUniqueIdInRegistry"


# --- detail (D17) -------------------------------------------------------------------------------------------


async def test_enrichment_changes_no_xds_answer(room: Room) -> None:
    full = _study(room, code="RTK", number=nhs(6))
    entry = published(room.member("RTK"), full, 1)
    submitted = views.objects_of(entry, full.patient.local.cx())
    parsed = views.publication_from_submission(
        submitted.documents[0],
        source=entry.source,
        secret=room.member("RTK").secret,
        zone="Europe/London",
        submission=submitted.submissions[0],
        member=submitted.associations[0],
    )
    await room.feed("RTK", full.patient)
    await room.register("RTK", parsed)
    (thin,) = await room.holdings("RTK")
    assert thin.record.detail == "entry"
    key = HoldingKey(thin.record_key, thin.study_uid, thin.member)
    second = views.publication_from_submission(
        views.document_entry(
            published(room.member("RTK"), grown(full, 2), 2, replaces=1), full.patient.local.cx()
        ),
        source=entry.source,
        secret=room.member("RTK").secret,
        zone="Europe/London",
    )
    second = changed(second, replaces_entry_uuid=thin.publication.entry_uuid, replaces_uuid=_urn(7))
    assert not await room.acceptor.update_detail(key, full, entry_uuid=_urn(1)), (
        "a version that is not current is left alone"
    )
    assert await room.acceptor.update_detail(key, full, entry_uuid=entry.entry_uuid)
    (rich,) = await room.holdings("RTK")
    assert rich.record == changed(full, patient=thin.record.patient)
    assert rich.version == thin.version
    assert rich.revision == thin.revision + 1
    assert views.objects_of(rich.publication, "x") == views.objects_of(thin.publication, "x")
    assert await room.index.unenriched([room.member("RTK").id], 10) == []
    await room.register("RTK", second)
    (held,) = await room.holdings("RTK")
    assert held.past[0].publication == changed(rich.publication, status="Deprecated")
    assert await room.acceptor.update_detail(key, grown(full, 2))
    (again,) = await room.holdings("RTK")
    assert again.past == held.past, "what was superseded stays as it was submitted"
    assert again.record.series == grown(full, 2).series


async def test_the_feed_may_follow_what_soap_registered(room: Room) -> None:
    full = _study(room, code="RTK")
    await room.feed("RTK", full.patient)
    thin = changed(full, detail="entry", series=(), n_series=0, n_instances=0)
    await room.register("RTK", changed(published(room.member("RTK"), full, 1), record=thin))
    assert await room.publish("RTK", full, 1) == "already"
    (held,) = await room.holdings("RTK")
    assert (held.record, held.digest) == (full, full.digest())
    with pytest.raises(Conflict):
        await room.publish("RTK", grown(full, 3), 1)


# --- against a simple model ---------------------------------------------------------------------------------


@dataclass
class _Model:
    """What one member has, told simply: study -> (record or None, approved, newest version)."""

    studies: dict[str, tuple[StudyRecord | None, bool, int]] = field(default_factory=dict)
    past: dict[str, list[StudyRecord]] = field(default_factory=dict)

    def publish(self, record: StudyRecord, n: int) -> None:
        old, _approved, newest = self.studies.get(record.study_uid, (None, False, 0))
        if n <= newest:
            return
        chain = self.past.setdefault(record.study_uid, [])
        if old is not None and old.patient.local == record.patient.local:
            chain.insert(0, old)
        else:
            chain.clear()
        self.studies[record.study_uid] = (record, True, n)

    def change(self, uid: str, n: int, *, approved: bool | None) -> None:
        record, _, newest = self.studies.get(uid, (None, False, 0))
        if n <= newest or (record is None and approved is not None):
            return
        if approved is None:
            self.past[uid] = []
        self.studies[uid] = (record if approved is not None else None, bool(approved), n)


@pytest.mark.parametrize("seed", range(6))
async def test_any_sequence_ends_as_a_simple_model_says(room: Room, seed: int) -> None:
    r, model = random.Random(seed), _Model()
    base = [_study(room, i, local=f"H{i}") for i in range(3)]
    records = {record.study_uid: record for record in base}
    for n in range(1, 60):
        uid = r.choice(list(records))
        version = n if r.random() < 0.85 else r.randrange(1, n + 1)
        kind = r.choice(("publish", "publish", "move", "deprecate", "approve", "withdraw"))
        try:
            if kind in ("publish", "move"):
                record = grown(records[uid], 1000 * seed + n)
                if kind == "move":
                    record = changed(record, patient=patient(room.member("RA2"), f"M{r.randrange(3)}"))
                outcome = await room.publish("RA2", record, version)
                if outcome == "accepted":
                    records[uid] = record
                model.publish(record, version)
            elif kind == "withdraw":
                await room.withdraw("RA2", uid, version)
                model.change(uid, version, approved=None)
            else:
                await room.availability(
                    "RA2", uid, "Deprecated" if kind == "deprecate" else "Approved", version
                )
                model.change(uid, version, approved=kind == "approve")
        except CrosslightError as error:
            if not isinstance(error, Conflict) and error.xds_code != "UnresolvedReferenceException":
                raise
    held = {h.study_uid: h for h in await room.holdings("RA2")}
    assert held.keys() == {uid for uid, (record, _, _) in model.studies.items() if record is not None}
    for uid, holding in held.items():
        expected, approved, _ = model.studies[uid]
        assert holding.record == expected
        assert holding.state == ("approved" if approved else "deprecated")
        assert [p.publication.record for p in holding.past] == model.past[uid]


async def test_publishes_at_the_same_time_lose_nothing(room: Room) -> None:
    acts = [(code, _study(room, 100 + i, f"H{i % 7}", code)) for i, code in enumerate(["RA2", "RTK"] * 20)]
    await asyncio.gather(
        *(
            room.acceptor.accept(room.grpc(code, room.published(code, record, n)))
            for n, (code, record) in enumerate(acts, 1)
        )
    )
    assert len(await room.holdings("RA2")) == len(await room.holdings("RTK")) == 20
    assert (await room.index.census(MemberId(room.member("RA2").id))).studies == 20
