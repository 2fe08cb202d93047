"""What to send next: the life cycle on the wire (D16) as a pure function of what should be there and what is.

A publish that cannot follow directly on what is there needs another act first; that act takes the version
just below the publish's own. The reviser sees to it that this number was never used for the same study
(:func:`version_for`).
"""

from __future__ import annotations

from dataclasses import replace

from crosslight.standards.ids import Identifier, Version
from node.publish.model import Acked, Delivery, Revision, Want


def same_patient(first: Identifier, second: Identifier) -> bool:
    """Whether two local ids are one patient record: authority (or, lacking one, namespace) and value (D2)."""
    if first.authority or second.authority:
        return (first.authority, first.value) == (second.authority, second.value)
    return (first.namespace, first.value) == (second.namespace, second.value)


def next_act(want: Want, acked: Acked | None) -> Delivery | None:
    """The next act that leads from ``acked`` to ``want``; None when nothing is left to do."""
    if want.kind == "withdraw":
        return Delivery(kind="withdraw", version=want.version) if acked is not None else None
    if want.kind == "deprecate":
        approved = acked is not None and acked.status == "Approved"
        return Delivery(kind="deprecate", version=want.version) if approved else None
    if acked is None:
        return Delivery(kind="fresh", version=want.version)
    before = Version(want.version.epoch, want.version.n - 1)
    if not same_patient(acked.patient, want.patient):
        return Delivery(kind="withdraw", version=before)
    if acked.status == "Deprecated":
        return Delivery(kind="approve", version=before)
    if acked.version == want.version or (acked.digest and acked.digest == want.digest):
        return None
    return Delivery(kind="replace", version=want.version, replaces=acked.version)


def after(act: Delivery, acked: Acked | None, revision: Revision | None) -> Acked | None:
    """What is there once ``act`` has been acknowledged."""
    if act.kind == "withdraw":
        return None
    if act.kind == "approve":
        return replace(acked, status="Approved") if acked else None
    if act.kind == "deprecate":
        return replace(acked, status="Deprecated") if acked else None
    if revision is None:
        raise ValueError("a publish has a revision")
    return Acked(
        version=revision.version,
        digest=revision.digest,
        sha1=revision.manifest.sha1,
        status="Approved",
        patient=revision.patient,
        chain=(*(acked.chain if acked and act.kind == "replace" else ()), revision.version),
    )


def version_for(next_n: int, epoch: int, last: Version | None) -> Version:
    """The version of a new revision: n, or n + 1 where n - 1 is the same study's last (see the module)."""
    if last is not None and last == Version(epoch, next_n - 1):
        return Version(epoch, next_n + 1)
    return Version(epoch, next_n)
