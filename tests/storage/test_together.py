"""Submissions that wait at the same time: committed together, each with an outcome of its own, none seeing
half of another.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace

from registry_room import Room, make_room
from registry_samples import grown, nhs, patient, published, study

from crosslight.runtime.db import Db
from crosslight.standards.ids import Version
from crosslight.standards.problem import CrosslightError
from crosslight.standards.records import changed
from crosslight.standards.xds.model.publication import Publication
from registry.intake.grouping import first_group, names_of
from registry.intake.submission import Acceptance, Publish, SetAvailability


async def _room(database: Db) -> Room:
    room = await make_room(database)
    for code in ("RA2", "RTK"):
        for n in range(4):
            await room.feed(code, patient(room.member(code), f"H{n}", number=nhs(n)))
    return room


def _publication(room: Room, code: str, n: int, *, local: str = "H1") -> Publication:
    home = room.member(code)
    return published(home, study(patient(home, local, number=nhs(int(local[1:]))), 1000 * home.id + n), n)


async def _outcomes(room: Room, submissions: list[tuple[str, Publication]]) -> list[str]:
    """Of submissions at the same time: accepted, or the code of the refusal."""
    done = await asyncio.gather(*(room.register(code, p) for code, p in submissions), return_exceptions=True)
    told = []
    for one in done:
        assert isinstance(one, Acceptance | CrosslightError), one
        told.append(one.outcomes[0] if isinstance(one, Acceptance) else one.xds_code)
    return told


def _transactions(room: Room) -> list[str]:
    """Names of the writes from now on."""
    seen: list[str] = []
    write = room.db.write

    async def counted(name: str, fn: object, **how: bool) -> object:
        seen.append(name)
        return await write(name, fn, **how)  # type: ignore[arg-type]

    room.db.write = counted  # type: ignore[method-assign, assignment]
    return seen


async def test_many_are_committed_in_few_transactions(database: Db) -> None:
    room = await _room(database)
    seen = _transactions(room)
    some = [
        (code, _publication(room, code, n, local=f"H{n % 4}"))
        for code in ("RA2", "RTK")
        for n in range(1, 15)
    ]
    assert await _outcomes(room, some) == ["accepted"] * len(some)
    assert len(seen) <= 4
    for code in ("RA2", "RTK"):
        held = await room.holdings(code)
        assert {h.publication.entry_uuid for h in held} == {p.entry_uuid for c, p in some if c == code}
        assert await room.index.census(room.member(code).id) == await room.index.counted(room.member(code).id)
        assert await room.index.cursor(room.member(code).id) == Version(1, 14)


async def test_the_same_submission_at_the_same_time_is_accepted_once(database: Db) -> None:
    room = await _room(database)
    one, other = _publication(room, "RA2", 1), _publication(room, "RA2", 2)
    told = await _outcomes(room, [("RA2", one), ("RA2", one), ("RA2", other), ("RA2", one)])
    assert sorted(told) == ["XDSDuplicateUniqueIdInRegistry"] * 2 + ["accepted"] * 2


async def test_one_that_is_refused_does_not_hold_up_the_others(database: Db) -> None:
    room = await _room(database)
    good = [_publication(room, "RA2", n) for n in range(1, 5)]
    unknown = changed(
        good[1],
        replaces_entry_uuid=good[3].entry_uuid,
        replaces_uuid=good[1].entry_uuid.replace("01", "06", 1),
    )
    alien = changed(good[2], source=room.member("RTK").source)
    told = await _outcomes(room, [("RA2", good[0]), ("RA2", unknown), ("RA2", alien), ("RA2", good[3])])
    assert [told[0], told[3]] == ["accepted", "accepted"]
    assert "accepted" not in told[1:3]
    assert len(await room.holdings("RA2")) == 2


async def test_versions_of_one_study_at_the_same_time_keep_their_order(database: Db) -> None:
    room = await _room(database)
    first = _publication(room, "RA2", 1)
    second = published(room.member("RA2"), grown(first.record, 2), 2, replaces=1)
    assert await _outcomes(room, [("RA2", first), ("RA2", second)]) == ["accepted", "accepted"]
    (held,) = await room.holdings("RA2")
    assert held.publication.entry_uuid == second.entry_uuid
    assert [p.publication.entry_uuid for p in held.past] == [first.entry_uuid]


def _named(*names: str) -> frozenset[str]:
    return frozenset(names)


def test_who_may_go_together() -> None:
    waiting = [_named("a", "b"), _named("b", "c"), _named("d"), None, _named("e")]
    assert first_group(waiting, 64) == [0, 2, 4]
    assert first_group(waiting[1:], 64) == [0, 1, 3]
    assert first_group(waiting, 2) == [0, 2]
    assert first_group([None, _named("a")], 64) == [0]
    assert first_group([], 64) == []


async def test_what_deprecates_goes_alone(database: Db) -> None:
    room = await _room(database)
    act = SetAvailability(entry_uuid="urn:uuid:1", status="Deprecated")
    assert names_of(room.soap("RA2", act)) is None
    one = _publication(room, "RA2", 1)
    publish = Publish(publication=one, digest=one.manifest.sha1, patient_cx="x")
    names = names_of(room.soap("RA2", publish))
    assert names is not None
    assert {
        one.entry_uuid,
        one.manifest.document_uid,
        f"{room.member('RA2').id} {one.record.study_uid}",
    } <= names
    assert names_of(room.grpc("RA2", publish)) is None
    foreign = changed(
        one, replaces_entry_uuid="urn:uuid:6c8b4f4a-0000-4000-8000-000000000001", replaces_uuid="urn:uuid:2"
    )
    assert names_of(room.soap("RA2", replace(publish, publication=foreign))) is None
