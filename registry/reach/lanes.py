"""Whose turn it is to be given something of a member: no caller takes a member from the others.

A member answers so many calls of the region at once (``connections_per_member``), and of one caller so many
(``connections_per_caller``). Who waits does so here, before anything is sent, so that waiting is never taken
for a member that does not answer.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

from crosslight.runtime.shares import ShareLimits, Shares
from crosslight.standards.ids import MemberId
from registry.members.model import Member
from registry.reach.config import ReachConfig


class MemberLanes:
    """Turns at each member.

    Args:
        config: How many.
    """

    def __init__(self, config: ReachConfig) -> None:
        self._limits = ShareLimits(
            total=config.connections_per_member,
            each=min(config.connections_per_caller, config.connections_per_member),
            patience_s=config.turn_timeout_s,
        )
        self._lanes: dict[MemberId, tuple[str, Shares]] = {}

    def turn(self, member: Member, share: str, calls: int = 1) -> AbstractAsyncContextManager[None]:
        """A turn at ``member``, as long as the block.

        Args:
            member: Who is to be called.
            share: Whose turn (:func:`crosslight.runtime.shares.share_of`).
            calls: How many calls are made within it.

        Raises:
            OverShare, Busy: there was none in time.
        """
        return self.of(member).turn(share, calls)

    def of(self, member: Member) -> Shares:
        """The turns at one member."""
        code, shares = self._lanes.get(member.id, ("", None))
        if shares is None or code != member.code:
            shares = Shares(f"retrieves from {member.name} ({member.code})", self._limits, member.code)
            self._lanes[member.id] = (member.code, shares)
        return shares
