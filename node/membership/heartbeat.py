"""The heartbeat that a node sends on its link, written as messages of ``membership.proto``."""

from __future__ import annotations

from crosslight.pb import membership_pb2 as pb
from crosslight.standards.concern import Concern, packed
from node.membership.model import NodeStatus


def heartbeat_message(status: NodeStatus, now_ms: int) -> pb.Heartbeat:
    """``status`` without its concern, which is long and travels only when it has changed."""
    beat = pb.Heartbeat(
        sent_unix_ms=now_ms,
        epoch=status.epoch,
        acked_n=status.acked_n,
        waiting=status.waiting,
        parked=status.parked,
        quarantined=status.quarantined,
        filling=status.filling,
        indexed_from=status.indexed_from,
        concern_version=status.concern.version if status.concern is not None else b"",
    )
    if status.census is not None and status.census_at is not None:
        taken_ms = int(status.census_at.timestamp() * 1000)
        beat.census.CopyFrom(
            pb.Census(studies=status.census.studies, digest=status.census.digest, taken_unix_ms=taken_ms)
        )
    return beat


def concern_message(concern: Concern) -> pb.Concern:
    """Whom the unlisted studies concern, as hashes packed into two byte strings (D19)."""
    return pb.Concern(
        version=concern.version,
        waiting=packed(concern.waiting),
        refused=packed(concern.refused),
        anybody_waiting=concern.anybody_waiting,
        anybody_refused=concern.anybody_refused,
    )
