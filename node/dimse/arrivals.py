"""Which connections and associations there is room for: bounded for all, for each address and each caller.

An address may have some connections that have not asked for an association yet; where it has all of its own,
or all there is, the oldest of those gives way. So whoever opens many and says nothing shuts nobody out. Of
several threads at once.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from crosslight.runtime.shares import Place, Places, peer_share
from node.dimse.config import DimseConfig

SPARE = 16  # connections beyond the associations, still negotiating or being refused


class Arrival:
    """A connection that was let in."""

    def __init__(self) -> None:
        self.asked = False  # for an association
        self.place: Place | None = None
        self.association: Place | None = None


class Arrivals:
    """Rooms for connections and associations of one listener.

    Args:
        config: How many.
    """

    def __init__(self, config: DimseConfig) -> None:
        self._lock = threading.RLock()
        most = config.max_associations
        self._connections = Places("DICOM connections", most + SPARE, config.max_connections_per_address)
        self._associations = Places("associations", most, config.max_associations_per_caller)

    @property
    def connected(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def connect(self, cut: Callable[[], None], address: str) -> Arrival:
        """Let a connection in; ``cut`` ends it, without waiting.

        Raises:
            OverShare, Busy: there is no room for it.
        """
        arrival = Arrival()
        with self._lock:
            arrival.place = self._connections.enter(peer_share(address), cut, lambda: not arrival.asked)
        return arrival

    def ask(self, arrival: Arrival, title: str, address: str) -> None:
        """Let a connection have an association.

        Raises:
            OverShare, Busy: there is no room for one more of this caller, or of all.
        """
        with self._lock:
            arrival.association = self._associations.enter(f"{title} {peer_share(address)}", lambda: None)
            arrival.asked = True

    def leave(self, arrival: Arrival) -> None:
        """It has ended."""
        with self._lock:
            if arrival.place is not None:
                self._connections.leave(arrival.place)
            if arrival.association is not None:
                self._associations.leave(arrival.association)
