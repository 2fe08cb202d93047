"""Connections to the members' port that came to nothing.

gRPC's own library checks certificates, and tells nobody whom it refuses. It says that a handshake begins; a
connection that is good makes a call. Those of which no call came are counted: from where they were is known
to nobody but the firewall.
"""

from __future__ import annotations

import threading
from collections import deque

from crosslight.runtime.clock import Clock
from crosslight.runtime.refusals import Noted

GRACE_S = 30.0  # from the beginning of a handshake to the first call
MAX_CONNECTIONS = 4096  # that are remembered; a member has one or two
REFUSED = "A connection of nodes ended before a call: it showed no certificate of the region."


class Handshakes:
    """Tells ``noted`` of handshakes that no call followed."""

    def __init__(self, clock: Clock, noted: Noted) -> None:
        self._clock, self._noted = clock, noted
        self._lock = threading.Lock()
        self._begun: deque[float] = deque(maxlen=1 << 16)
        self._called: dict[str, None] = {}

    def began(self) -> None:
        """A handshake begins; from gRPC's threads."""
        with self._lock:
            self._begun.append(self._clock.monotonic_s())

    def called(self, connection: str) -> None:
        """A call came over a connection, so its handshake was good; ``context.peer()`` names it."""
        with self._lock:
            if connection in self._called:
                return
            self._called[connection] = None
            if len(self._called) > MAX_CONNECTIONS:
                del self._called[next(iter(self._called))]
            if self._begun:
                self._begun.popleft()  # one of them, whichever

    def linked(self) -> None:
        """A member begins a link: before it, it looked whether the gateway answers, without a call.

        An older node made none: then one connection more goes uncounted.
        """
        with self._lock:
            if self._begun:
                self._begun.popleft()

    def settle(self, grace_s: float = GRACE_S) -> None:
        """Tell of those that no call followed in time."""
        late_s, late = self._clock.monotonic_s() - grace_s, 0
        with self._lock:
            while self._begun and self._begun[0] <= late_s:
                self._begun.popleft()
                late += 1
        for _ in range(late):
            self._noted("feed", REFUSED, "")
