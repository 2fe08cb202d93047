"""What the region's signed directory says of whoever shows a certificate, and how long it may be believed.

It is believed past its end: a node goes on when its registry is away. But a suspension of the meantime is not
in it, so after a second limit nobody comes in by a certificate alone (ADR 0035).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final, Literal

from crosslight.standards.access import Grants
from crosslight.standards.directory import DirectoryDocument
from node.membership.state import RegionState

#: ``none``: there is no region. ``missing``: joined, and no directory has come yet. ``ended``: past its end.
#: ``old``: past the second limit too.
DirectoryAge = Literal["none", "missing", "fresh", "ended", "old"]
#: When nothing that the directory says of a certificate's holder can be relied on.
UNHEARD: Final[frozenset[DirectoryAge]] = frozenset({"missing", "old"})


def age_of(directory: DirectoryDocument | None, now: datetime, grace: timedelta) -> DirectoryAge:
    """How a region's directory stands ``now``; ``grace`` is the time after its end until the second limit."""
    if directory is None:
        return "missing"
    over_s = now.timestamp() - directory.expires
    if over_s <= 0:
        return "fresh"
    return "ended" if over_s <= grace.total_seconds() else "old"


class RegionWord:
    """As :class:`crosslight.runtime.peers.Standing`: of the directory as it is now."""

    def __init__(self, state: RegionState) -> None:
        self._state = state
        self._read: DirectoryDocument | None = None
        self._statuses: dict[str, str] = {}

    def _directory(self) -> DirectoryDocument | None:
        directory = self._state.directory
        if directory is not self._read:
            self._statuses = {m.code: m.status for m in directory.members} if directory else {}
            self._read = directory  # last: another thread may look meanwhile
        return directory

    @property
    def community(self) -> str:
        return self._state.region.home_community_id

    def member_status(self, code: str) -> tuple[str, str]:
        """As of Standing; before the first directory everybody is active, and the gate lets nobody in by it.

        The reason of a suspension is not told to other members.
        """
        if self._directory() is None:
            return "active", ""
        return self._statuses.get(code, ""), ""

    def is_system(self, name: str) -> bool:
        """Whether the directory names it; one of a registry before 0.3 names none, and none is refused."""
        directory = self._directory()
        return directory is None or directory.grants_of(name) is not None

    def system_grants(self, name: str) -> Grants:
        directory = self._directory()
        return (directory.grants_of(name) if directory is not None else None) or Grants()

    def is_withdrawn(self, serial: str) -> bool:
        directory = self._directory()
        return directory is not None and serial in directory.withdrawn_certificates
