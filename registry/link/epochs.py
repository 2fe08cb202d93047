"""Which epoch a node publishes under, and whether it must compare first: D10 as a pure function.

The registry's *cursor* is the newest version of the member that it has acknowledged; the node says what it
remembers as acknowledged. Where the two disagree one of them has lost its memory, and version numbers of
before must not be used again.
"""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.standards.ids import Version
from crosslight.standards.problem import Conflict

MAX_EPOCH = 255  # eight bits of a derived id (D9)
MAX_LOST = 4096  # acknowledgements that one broken link can have lost


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSays:
    """What a node's Hello says."""

    epoch: int  # 0: none was granted yet
    acked_n: int  # the highest number acknowledged in it
    made_n: int = 0  # the highest number made in it
    incarnation: str = ""  # the registry's database that acknowledged
    state_id: str = ""  # the node's own database


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistrySays:
    """What the registry knows of the member."""

    epoch: int  # newest granted
    cursor: Version | None
    incarnation: str
    state_id: str = ""  # of the node's database, as it last said; '' = it just joined


@dataclass(frozen=True, slots=True)
class EpochDecision:
    """The epoch to publish under; whether to compare and re-send first; and why, for the log."""

    epoch: int
    reconcile: bool
    why: str


def decide(node: NodeSays, registry: RegistrySays) -> EpochDecision:
    """Continue, or grant a new epoch above any that either side has seen (D10).

    Raises:
        Conflict: when all epochs of this member are used up.
    """
    restored_node = bool(registry.state_id) and node.state_id != registry.state_id
    if restored_node:
        return _grant(node, registry, "the node's database is another one than before")
    if node.epoch < registry.epoch:
        used = registry.cursor is not None and registry.cursor.epoch >= registry.epoch
        if used:
            return _grant(node, registry, "the node has forgotten its epoch")
        fresh = node.epoch == 0 and node.acked_n == 0 and registry.cursor is None
        return EpochDecision(
            registry.epoch, not fresh, "joined" if fresh else "takes the epoch granted before"
        )
    if node.epoch == 0:
        return _grant(node, registry, "no epoch granted yet")
    if registry.cursor is not None and registry.cursor.epoch > node.epoch:
        return _grant(node, registry, "the registry has acknowledged a newer epoch")
    acked = registry.cursor.n if registry.cursor is not None and registry.cursor.epoch == node.epoch else 0
    if node.acked_n < acked:
        lost = acked - node.acked_n
        if node.made_n < acked or lost > MAX_LOST:
            return _grant(node, registry, "the node has forgotten what was acknowledged")
        if node.incarnation in ("", registry.incarnation):
            return EpochDecision(node.epoch, False, "acknowledgements were lost on the way")
    if node.incarnation and node.incarnation != registry.incarnation:
        return EpochDecision(node.epoch, True, "the registry's database is another one than before")
    if node.acked_n > acked or node.epoch > registry.epoch:
        return EpochDecision(node.epoch, True, "the registry has forgotten what it acknowledged")
    return EpochDecision(node.epoch, False, "agreed")


def _grant(node: NodeSays, registry: RegistrySays, why: str) -> EpochDecision:
    seen = max(node.epoch, registry.epoch, registry.cursor.epoch if registry.cursor else 0)
    if seen >= MAX_EPOCH:
        raise Conflict(
            "This member has used up its epochs.",
            why="An epoch has eight bits and a new one is granted whenever a node lost its memory.",
            todo=(
                "Invite it under a new member entry; its old studies are withdrawn when the old entry is"
                " suspended."
            ),
        )
    return EpochDecision(seen + 1, registry.cursor is not None or node.acked_n > 0, why)
