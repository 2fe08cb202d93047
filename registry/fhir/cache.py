"""Rendered resources, kept while they are asked for again: bounded, and keyed by all that they show (D6)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable

from crosslight.standards.fhir.wire import Rendered


class RenderCache:
    """Least recently used go first.

    Args:
        max_bytes: Of rendered resources together; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max, self._size = max_bytes, 0
        self._kept: OrderedDict[Hashable, Rendered] = OrderedDict()

    def get(self, key: Hashable, render: Callable[[], Rendered]) -> Rendered:
        """What is kept under ``key``, else what ``render`` makes."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            return found
        found = render()
        self._kept[key] = found
        self._size += len(found.data)
        while self._size > self._max and self._kept:
            _, gone = self._kept.popitem(last=False)
            self._size -= len(gone.data)
        return found
