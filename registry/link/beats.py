"""What a node says in a heartbeat, as values of the registry: times, dates, whom its studies concern."""

from __future__ import annotations

from datetime import UTC, datetime

from crosslight.pb import membership_pb2 as pb
from crosslight.standards.concern import Concern, unpacked
from crosslight.standards.problem import Invalid


def unix_ms(moment: datetime) -> int:
    """As the wire has it."""
    return int(moment.timestamp() * 1000)


def moment_of(milliseconds: int) -> datetime | None:
    """What the wire has; None for what is no moment."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        return None


def date_of(text: str) -> str:
    """A date as DICOM writes it; '' for any other text."""
    return text if text.isdecimal() and len(text) == 8 else ""


def concern_of(message: pb.Concern) -> Concern:
    """What the node says; a set that is none of ours may be anybody's.

    Its version is counted here, never believed.
    """
    try:
        waiting, refused = unpacked(message.waiting), unpacked(message.refused)
    except Invalid:
        return Concern(anybody_waiting=True, anybody_refused=True)
    return Concern(
        waiting=waiting,
        refused=refused,
        anybody_waiting=message.anybody_waiting,
        anybody_refused=message.anybody_refused,
    )
