"""What a submission costs, in calls of our own Python: as test_hot_paths.py, for what comes in.

Counted are reading, checking and answering, and the transactions, which threads of their own run.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, TypeVar

import aiohttp
import pytest
from callers import caller
from hot_calls import Calls, forget
from registry_room import Room, make_room
from registry_samples import nhs, patient, published, study
from room_faces import room_faces

from crosslight.pb import feed_pb2 as pb
from crosslight.runtime.db import SqliteDb, Tx
from crosslight.runtime.packed_study import packed_study
from crosslight.runtime.wire import manifest_to_pb, patient_to_pb
from crosslight.standards.access import Principal
from crosslight.standards.xds.mapping.views import objects_of
from crosslight.standards.xds.wire.ebrim_write import render_submit_objects
from crosslight.standards.xds.wire.soap import render_envelope
from registry.ihe.iti42 import ACTION_REQUEST
from registry.intake.submission import Submission
from registry.link.feed import act_from_pb

T = TypeVar("T")
SOAP = "application/soap+xml; charset=UTF-8"
#: Calls for one study more in a batch of the feed, and for one submission by itself.
FEED, SUBMISSION = 238, 1160


class CountedDb(SqliteDb):
    """Counts what its writer's thread does too."""

    calls = Calls()

    async def write(self, name: str, fn: Callable[[Tx], T], *, lazy: bool = False) -> T:
        def counted(tx: Tx) -> T:
            with self.calls.going_on():
                return fn(tx)

        return await super().write(name, counted, lazy=lazy)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    forget()
    db = CountedDb(tmp_path / "t.sqlite")
    yield await make_room(db)
    await db.close()


def _acts(room: Room, first: int, count: int) -> list[pb.Act]:
    """Studies of one patient each, as a node says them."""
    acts, home = [], room.member("RA2")
    for n in range(first, first + count):
        record = study(patient(home, f"H{n}", number=nhs(n)), n, modality="US", instances=3)
        said = published(home, record, n)
        act = pb.Act(version=pb.Version(epoch=1, n=n), study_uid=record.study_uid)
        act.publish.study.patient.CopyFrom(patient_to_pb(record.patient))
        act.publish.packed = packed_study(record)
        act.publish.manifest.CopyFrom(manifest_to_pb(said.manifest))
        act.publish.submission_time = said.submission_time
        act.publish.digest = hashlib.sha256(record.study_uid.encode()).hexdigest()
        acts.append(act)
    return acts


async def _feed(room: Room, acts: list[pb.Act]) -> None:
    home = room.member("RA2")
    principal = Principal(subject="RA2", roles=frozenset({"member"}), organisation="RA2", member=home.id)
    submissions = [
        Submission(
            member=home,
            caller=caller(principal),
            acts=(act_from_pb(act, home),),
            road="grpc",
            strict=False,
        )
        for act in acts
    ]
    for outcome in await room.acceptor.accept_many(submissions):
        assert not isinstance(outcome, Exception), outcome


async def test_a_study_more_in_the_feed_costs_no_more_calls_than_it_did(room: Room) -> None:
    calls, spent = CountedDb.calls, dict[int, list[int]]()
    await _feed(room, _acts(room, 1, 12))
    first = 100
    for count in (20, 60) * 3:
        acts = _acts(room, first, count)
        first += count
        with calls.counting():
            await _feed(room, acts)
        spent.setdefault(count, []).append(calls.count)
    each = (min(spent[60]) - min(spent[20])) / 40
    assert each <= FEED, f"{each} calls for each study"


async def test_a_submission_by_iti_42_costs_no_more_calls_than_it_did(room: Room) -> None:
    home, calls, spent = room.member("RA2"), CountedDb.calls, list[int]()
    who = patient(home, "H1", number=nhs(1))
    await room.publish("RA2", study(who, 1), 1)
    async with room_faces(room, kind="systems") as served, aiohttp.ClientSession() as http:
        for n in range(2, 10):
            record = study(who, n, modality="US", instances=3)
            body = render_submit_objects(objects_of(published(home, record, n), who.local.cx()))
            to = f"{served.base}/xds/registry"
            envelope = render_envelope(ACTION_REQUEST, body, message_id="urn:uuid:1", to=to)
            headers: dict[str, Any] = {"Content-Type": f'{SOAP}; action="{ACTION_REQUEST}"'}
            with calls.counting():
                async with http.post(to, data=envelope, headers=headers) as response:
                    assert b"ResponseStatusType:Success" in await response.read()
            spent.append(calls.count)
    assert min(spent) <= SUBMISSION, f"{min(spent)} calls"
