"""What is to be done again when: one agenda for each member, so that one that cannot be reached costs a look. Pure."""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass

from registry.index.model import HoldingKey

KEPT = 20_000  # of one member; what waits beyond is found by a scan when these are done


@dataclass(slots=True)
class Try:
    """One that waits."""

    attempts: int = 0
    not_before_s: float = 0.0
    again: bool = False  # woken since the run under way began


class Agenda:
    """Of one member: keys by the time of their next try."""

    def __init__(self) -> None:
        self.tries: dict[HoldingKey, Try] = {}
        self._heap: list[tuple[float, HoldingKey]] = []  # with entries that do not count any more

    def add(self, key: HoldingKey) -> Try:
        """As it stands there, or new and due at once."""
        one = self.tries.get(key)
        if one is None:
            one = Try()
            if len(self.tries) < KEPT:
                self.tries[key] = one
                self.put(key, one, 0.0)
        return one

    def put(self, key: HoldingKey, one: Try, at_s: float) -> None:
        """Try it again at ``at_s``."""
        one.not_before_s = at_s
        heapq.heappush(self._heap, (at_s, key))

    def take(self, now_s: float) -> HoldingKey | None:
        """The next that is due; it stands no more in line until it is put there again."""
        while self._heap and self._heap[0][0] <= now_s:
            at_s, key = heapq.heappop(self._heap)
            if self._counts(at_s, key):
                return key
        return None

    def next_s(self) -> float | None:
        """When the next is due; None: nothing stands in line."""
        while self._heap and not self._counts(*self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else None

    def _counts(self, at_s: float, key: HoldingKey) -> bool:
        one = self.tries.get(key)
        return one is not None and one.not_before_s == at_s

    def at_once(self, running: Iterable[HoldingKey]) -> None:
        """All but ``running`` are due."""
        under_way = set(running)
        for one in self.tries.values():
            one.not_before_s = 0.0
        self._heap = sorted((0.0, key) for key in self.tries if key not in under_way)
