"""Rendered resources, kept while they are asked for again: bounded, and keyed by all that they show (D6)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock

from crosslight.standards.fhir.wire import Rendered


class RenderCache:
    """Least recently used go first. For any thread.

    Args:
        max_bytes: Of rendered resources together; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max, self._size = max_bytes, 0
        self._kept: OrderedDict[Hashable, Rendered] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, render: Callable[[], Rendered]) -> Rendered:
        """What is kept under ``key``, else what ``render`` makes."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                return kept
        made = render()
        with self._lock:
            before = self._kept.pop(key, None)  # another thread may have made it meanwhile
            self._kept[key] = made
            self._size += len(made.data) - (len(before.data) if before is not None else 0)
            while self._size > self._max and self._kept:
                _, oldest = self._kept.popitem(last=False)
                self._size -= len(oldest.data)
        return made
