"""What we have open at a member right now, so that suspension can end it (D21).

What a member has open here is cut by its certificate (:class:`crosslight.runtime.peers.LivePeers`).
"""

from __future__ import annotations

from collections.abc import Callable

from crosslight.runtime.log import get_logger
from crosslight.standards.ids import MemberId

log = get_logger("members")


class LiveConnections:
    """Streams from members, by member."""

    def __init__(self) -> None:
        self._closers: dict[MemberId, list[Callable[[], None]]] = {}

    def closer(self, member: MemberId, close: Callable[[], None]) -> Callable[[], None]:
        """Call ``close`` when the member is cut off.

        Returns how to forget it.
        """
        closers = self._closers.setdefault(member, [])
        closers.append(close)

        def forget() -> None:
            if close in closers:
                closers.remove(close)

        return forget

    def count(self, member: MemberId) -> int:
        """How much is open."""
        return len(self._closers.get(member, ()))

    def cut(self, member: MemberId) -> int:
        """End all that is open at the member; how much there was."""
        found = self.count(member)
        for close in list(self._closers.pop(member, ())):
            close()
        if found:
            log.warning("connections cut", count=found)
        return found
