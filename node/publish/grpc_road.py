"""The gRPC road to our registry (``feed.proto``; D10, D15).

Acts go in batches to its IndexFeed, and after a loss all that it acknowledged is compared. The feed is
idempotent: an act whose fate is unknown is sent again as it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import grpc

from crosslight.pb import feed_pb2 as pb
from crosslight.pb import feed_pb2_grpc as pb_grpc
from crosslight.runtime.packed_study import PACKED, packed_study
from crosslight.runtime.waiting import call_given_up
from crosslight.runtime.wire import (
    identifier_from_pb,
    manifest_to_pb,
    patient_to_pb,
    study_to_pb,
    version_from_pb,
    version_to_pb,
)
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import CrosslightError
from node.publish.decide import after
from node.publish.model import Acked, DeliveryRefused, Disagreement, Done, Job, Later, Result
from node.publish.road import RoadDown

MAX_REQUEST_BYTES = 3 << 20  # below gRPC's own limit of 4 MiB
COMPARE_PAGE = 2_000

ChannelSource = Callable[[], grpc.aio.Channel | None]


def act_to_pb(job: Job, *, packs: bool = False) -> pb.Act:
    """One act as the feed says it; ``packs``: the registry reads packed studies."""
    act = job.act
    message = pb.Act(version=version_to_pb(act.version), study_uid=job.study_uid)
    if act.kind == "withdraw":
        message.withdraw.SetInParent()
    elif act.kind in ("approve", "deprecate"):
        message.availability.approved = act.kind == "approve"
    else:
        revision = job.revision
        if revision is None or revision.record is None:
            raise ValueError("a publish has its revision")
        packed = packed_study(revision.record) if packs else b""
        if packed:
            message.publish.packed = packed
            message.publish.study.patient.CopyFrom(patient_to_pb(revision.record.patient))
        else:
            message.publish.study.CopyFrom(study_to_pb(revision.record))
        message.publish.manifest.CopyFrom(manifest_to_pb(revision.manifest))
        message.publish.submission_time = revision.submission_time
        message.publish.digest = revision.digest
    return message


def result_of(job: Job, reply: pb.ActResult) -> Result:
    """What an answer means for a job."""
    outcome = reply.outcome
    if outcome in (pb.ActResult.ACCEPTED, pb.ActResult.ALREADY):
        return Done(after(job.act, job.acked, job.revision))
    if outcome == pb.ActResult.REFUSED and reply.error_code == "UnresolvedReferenceException":
        return Disagreement("the registry does not have what it acknowledged")
    if outcome == pb.ActResult.REFUSED:
        return DeliveryRefused(reply.error_code or "XDSRegistryError", reply.message)
    if outcome == pb.ActResult.STALE:
        return Disagreement(reply.message or "the registry has a newer version")
    if outcome == pb.ActResult.EPOCH:
        return Disagreement(reply.message or "the registry expects another epoch", whole=True)
    return Later(reply.message or "the registry asks to try again", patience=True)


class GrpcRoad:
    """Publishes through the channel of the link to our registry.

    Args:
        channel: Gives the channel of the moment, None while there is none.
        metadata: Sent with every call (open mode: ``crosslight-member``).
        batch: Most acts in one message.
        timeout_s: How long an answer is waited for.
    """

    parallel = 1

    def __init__(
        self,
        channel: ChannelSource,
        *,
        metadata: Sequence[tuple[str, str]] = (),
        batch: int = 100,
        timeout_s: float = 30.0,
    ) -> None:
        self._channel, self._metadata, self._timeout_s = channel, tuple(metadata), timeout_s
        self.together = batch
        self.incarnation = ""
        self._packs = False  # the last answer said that packed studies are read there

    def _stub(self) -> Any:
        channel = self._channel()
        if channel is None:
            raise RoadDown("There is no link to the registry.")
        return pb_grpc.IndexFeedStub(channel)  # type: ignore[no-untyped-call]  # generated

    async def deliver(self, jobs: Sequence[Job]) -> list[Result]:
        """As ``Road.deliver``; a batch too large for one message goes in several."""
        results: list[Result] = []
        batch: list[tuple[Job, pb.Act]] = []
        size = 0
        for job in jobs:
            act = act_to_pb(job, packs=self._packs)
            if batch and size + act.ByteSize() > MAX_REQUEST_BYTES:
                results += await self._send(batch)
                batch, size = [], 0
            batch.append((job, act))
            size += act.ByteSize()
        if batch:
            results += await self._send(batch)
        return results

    async def _send(self, batch: list[tuple[Job, pb.Act]]) -> list[Result]:
        request = pb.PublishRequest(acts=[act for _, act in batch])
        self._packs = False
        try:
            reply = await self._stub().Publish(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.aio.AioRpcError as error:
            if error.code() == grpc.StatusCode.RESOURCE_EXHAUSTED and len(batch) == 1:
                return [DeliveryRefused("XDSRegistryOutOfResources", "The study is too large for the feed.")]
            raise RoadDown("The registry's feed does not answer.", why=error.code().name) from None
        except asyncio.CancelledError:
            if call_given_up():
                raise RoadDown("The link was lost while the registry's feed was waited for.") from None
            raise
        if len(reply.results) != len(batch):
            raise RoadDown("The registry's feed answered for another number of acts.")
        self.incarnation, self._packs = reply.incarnation, reply.packed == PACKED
        results = [result_of(job, result) for (job, _), result in zip(batch, reply.results, strict=True)]
        if self._packs:
            return results
        # an older registry has taken its place, which did not see what was packed
        return [
            Later("the registry reads no packed studies")
            if act.publish.packed and isinstance(result, DeliveryRefused)
            else result
            for (_, act), result in zip(batch, results, strict=True)
        ]

    async def compare(self, pages: AsyncIterator[list[tuple[str, Acked]]]) -> dict[str, Acked | None]:
        """What the registry has differently from what it acknowledged, study by study (None: nothing).

        Args:
            pages: All that was acknowledged, each study once.

        Raises:
            RoadDown: the comparison could not be finished; nothing may be concluded.
        """

        async def requests() -> AsyncIterator[pb.CompareRequest]:
            async for page in pages:
                for start in range(0, len(page), COMPARE_PAGE):
                    yield pb.CompareRequest(
                        held=[_held(uid, acked) for uid, acked in page[start : start + COMPARE_PAGE]]
                    )

        differing: dict[str, Acked | None] = {}
        try:
            call = self._stub().Compare(requests(), metadata=self._metadata)
            async for reply in call:
                self.incarnation = reply.incarnation
                for study_uid in (*reply.send, *reply.unknown_here):
                    differing.setdefault(study_uid, None)
                for version_held in reply.have:
                    differing[version_held.study_uid] = _acked(version_held)
        except grpc.aio.AioRpcError as error:
            raise RoadDown("The comparison with the registry was cut off.", why=error.code().name) from None
        except asyncio.CancelledError:
            if call_given_up():
                raise RoadDown("The link was lost while the registry compared.") from None
            raise
        except CrosslightError as error:
            raise RoadDown("The registry's comparison cannot be read.", why=error.what) from None
        return differing


def _held(study_uid: str, acked: Acked) -> pb.HeldVersion:
    return pb.HeldVersion(
        study_uid=study_uid,
        version=version_to_pb(acked.version),
        digest=acked.sha1,
        approved=acked.status == "Approved",
    )


def _acked(version_held: pb.HeldVersion) -> Acked:
    version = version_from_pb(version_held.version)
    return Acked(
        version=version,
        digest="",
        sha1=version_held.digest,
        status="Approved" if version_held.approved else "Deprecated",
        patient=identifier_from_pb(version_held.patient, "patient")
        if version_held.patient.value
        else Identifier(""),
        chain=(version,),
    )
