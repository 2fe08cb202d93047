"""Packed studies in the feed say what messages say; old nodes and old registries go on working (ADR 0059)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc.aio
import pytest
from hypothesis import given
from publish_records import make_record, records
from registry_samples import member, nhs, patient, published, study

from crosslight.pb import feed_pb2 as pb
from crosslight.pb import feed_pb2_grpc as pb_grpc
from crosslight.runtime import wire
from crosslight.runtime.packed_study import PACKED, packed_study, study_from_packed
from crosslight.standards.ids import Version
from crosslight.standards.problem import CrosslightError, Invalid, TooLarge
from crosslight.standards.records import changed
from crosslight.standards.study import StudyRecord
from node.publish.grpc_road import GrpcRoad, act_to_pb
from node.publish.model import Delivery, Done, Job, Later, Revision
from registry.intake.submission import Publish
from registry.link.feed import act_from_pb, refused

HOME = member("RA2", 1)
RECORD = make_record("1.2.3")


@given(records)
def test_a_packed_study_says_what_its_messages_say(record: StudyRecord) -> None:
    packed = packed_study(record)
    assert packed, "whatever crosses in messages can be packed"
    read = study_from_packed(packed, record.patient)
    assert read == record == wire.study_from_pb(wire.study_to_pb(record))
    assert read.digest() == record.digest()


def _array(record: StudyRecord = RECORD) -> list[Any]:
    return list(json.loads(packed_study(record)))


def _with(value: Any, *place: int) -> bytes:
    array: Any = _array()
    part = array
    for step in place[:-1]:
        part = part[step]
    part[place[-1]] = value
    return json.dumps(array).encode()


LONG = "1" * (wire.MAX_TEXT + 1)
TIME, SERIES = 9, 12
SERIES_ITEM = _array()[SERIES][0]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\xff", Invalid),
        (b"{}", Invalid),
        (b"[]", Invalid),
        (b"[" * 100_000, Invalid),
        (json.dumps([*_array(), "more"]).encode(), Invalid),
        (json.dumps([*_array()[:-1], [[[[]]]]]).encode(), Invalid),
        (_with("not-a-uid", 0), Invalid),
        (_with("1.2\n", 0), Invalid),
        (_with("", 0), Invalid),
        (_with(LONG, 4), TooLarge),
        (_with([["1", "not an oid", ""]], 1), Invalid),
        (_with([["", "", ""]], 1), Invalid),
        (_with([["1", "", ""]] * (wire.MAX_LIST + 1), 1), TooLarge),
        (_with(["CT"] * (wire.MAX_LIST + 1), 10), TooLarge),
        (_with("Mars/Olympus", TIME, 2), Invalid),
        (_with("guessed", TIME, 3), Invalid),
        (_with([SERIES_ITEM] * (wire.MAX_SERIES + 1), SERIES), TooLarge),
        (_with("x", SERIES, 0, 0), Invalid),
        (_with(LONG, SERIES, 0, 3), TooLarge),
        (_with(1 << 32, SERIES, 0, 6), Invalid),
        (_with(-1, SERIES, 0, 6), Invalid),
        (_with(10**400, 13), Invalid),
        (_with([["1.2", 1]] * (wire.MAX_LIST + 1), SERIES, 0, 7), TooLarge),
        (_with("../../etc/passwd", SERIES, 0, 8, 2), Invalid),
        (_with("some", 15), Invalid),
        (packed_study(RECORD).replace(b'"1.2.3"', b'"\\ud800"', 1), Invalid),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value.__name__,
)
def test_hostile_bytes_are_refused_as_messages_are(data: bytes, kind: type[CrosslightError]) -> None:
    with pytest.raises(kind) as told:
        study_from_packed(data, RECORD.patient)
    assert LONG not in str(told.value)
    assert "Olympus" not in str(told.value)


@pytest.mark.parametrize("padded", ["1.2.3 ", "1.2.3\0"])
def test_what_a_reader_might_not_take_so_is_not_packed(padded: str) -> None:
    assert packed_study(changed(RECORD, study_uid=padded)) == b""
    assert packed_study(changed(RECORD, description=LONG)) == b""


# --- between releases ---------------------------------------------------------------------------------------


@dataclass
class Registry:
    """Answers as one of this release does, or as one before it, which knows no packed studies."""

    reads: bool = True
    seen: list[bool] = field(default_factory=list)  # whether each act came packed

    async def Publish(self, request: pb.PublishRequest, context: Any) -> pb.PublishReply:
        results = []
        for act in request.acts:
            self.seen.append(bool(act.publish.packed))
            if not self.reads:
                act.publish.ClearField("packed")  # an unknown field
            try:
                read = act_from_pb(act, HOME)
            except CrosslightError as error:
                results.append(refused(act.version, error))
                continue
            assert isinstance(read, Publish)
            assert read.publication.record.series
            results.append(pb.ActResult(version=act.version, outcome=pb.ActResult.ACCEPTED))
        return pb.PublishReply(incarnation="i", results=results, packed=PACKED if self.reads else 0)

    async def Compare(self, requests: Any, context: Any) -> AsyncIterator[pb.CompareReply]:
        yield pb.CompareReply()


@asynccontextmanager
async def _road_to(registry: Registry) -> AsyncIterator[GrpcRoad]:
    server = grpc.aio.server()
    add: Any = pb_grpc.add_IndexFeedServicer_to_server
    add(registry, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield GrpcRoad(lambda: channel)
    await server.stop(0)


def _job(n: int) -> Job:
    record = study(patient(HOME, "H1", number=nhs(1)), n)
    said = published(HOME, record, n)
    revision = Revision(
        version=Version(1, n),
        study_uid=record.study_uid,
        patient=record.patient.local,
        record=record,
        manifest=said.manifest,
        submission_time=said.submission_time,
        digest=record.digest(),
    )
    return Job(
        study_uid=record.study_uid,
        act=Delivery(kind="publish", version=Version(1, n)),
        acked=None,
        unsettled=False,
        attempts=0,
        revision=revision,
    )


async def test_a_node_packs_once_the_registry_has_said_that_it_reads_it() -> None:
    registry = Registry()
    async with _road_to(registry) as road:
        for n in (1, 2, 3):
            (result,) = await road.deliver([_job(n)])
            assert isinstance(result, Done)
    assert registry.seen == [False, True, True]


async def test_a_node_never_packs_for_an_older_registry() -> None:
    registry = Registry(reads=False)
    async with _road_to(registry) as road:
        for n in (1, 2):
            (result,) = await road.deliver([_job(n)])
            assert isinstance(result, Done)
    assert registry.seen == [False, False]


async def test_a_registry_that_goes_back_to_an_older_release_refuses_nothing_for_good() -> None:
    registry = Registry()
    async with _road_to(registry) as road:
        await road.deliver([_job(1)])
        registry.reads = False
        (result,) = await road.deliver([_job(2)])
        assert isinstance(result, Later)
        (result,) = await road.deliver([_job(2)])
        assert isinstance(result, Done)
    assert registry.seen == [False, True, False]


def test_an_older_node_s_messages_are_read() -> None:
    job = _job(1)
    plain, packed = (act_from_pb(act_to_pb(job, packs=packs), HOME) for packs in (False, True))
    assert plain == packed
