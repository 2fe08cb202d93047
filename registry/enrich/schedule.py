"""What is to be done again when: an agenda for each member, so that an unreachable one costs a look. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from registry.index.imaging_documents import DocumentKey
from registry.index.model import HoldingKey

#: A holding that knows only its entry, or a document of an unknown study.
Waiting = HoldingKey | DocumentKey
KEPT = 20_000  # of one member; what waits beyond is found by a scan when these are done


@dataclass(slots=True)
class Try:
    """How often a key was tried, and when it is tried again."""

    attempts: int = 0
    not_before_s: float = 0.0
    again: bool = False  # woken since the run under way began


class Agenda:
    """What waits for one member, by the time of its next try."""

    def __init__(self) -> None:
        self.tries: dict[Waiting, Try] = {}
        self._heap: list[tuple[float, int, Waiting]] = []  # with entries that do not count any more
        self._put = 0  # so that of two that are due at once the first comes first

    def add(self, key: Waiting) -> Try:
        """The state of ``key``; where it is new here, it is due at once."""
        attempt = self.tries.get(key)
        if attempt is None:
            attempt = Try()
            if len(self.tries) < KEPT:
                self.tries[key] = attempt
                self.put(key, attempt, 0.0)
        return attempt

    def put(self, key: Waiting, attempt: Try, at_s: float) -> None:
        """Try ``key`` again at ``at_s``."""
        attempt.not_before_s = at_s
        self._put += 1
        heapq.heappush(self._heap, (at_s, self._put, key))

    def take(self, now_s: float) -> Waiting | None:
        """The next that is due; it stands no more in line until it is put there again."""
        while self._heap and self._heap[0][0] <= now_s:
            at_s, _, key = heapq.heappop(self._heap)
            if self._counts(at_s, key):
                return key
        return None

    def next_s(self) -> float | None:
        """When the next is due; None: nothing stands in line."""
        while self._heap and not self._counts(self._heap[0][0], self._heap[0][2]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _counts(self, at_s: float, key: Waiting) -> bool:
        attempt = self.tries.get(key)
        return attempt is not None and attempt.not_before_s == at_s

    def at_once(self, running: Iterable[Waiting]) -> None:
        """All but ``running`` are due."""
        under_way = set(running)
        for attempt in self.tries.values():
            attempt.not_before_s = 0.0
        self._heap = [
            (0.0, place, key)
            for place, key in enumerate(self.tries, -len(self.tries))
            if key not in under_way
        ]
