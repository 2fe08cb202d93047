"""What was rendered, kept while it is asked for again: bounded, and keyed by all that it shows (D6)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, Protocol, TypeVar


class HasBytes(Protocol):
    """What is rendered, by its bytes."""

    @property
    def data(self) -> bytes:
        """The bytes."""
        ...


R = TypeVar("R", bound=HasBytes)


def _always(_: object) -> bool:
    return True


class RenderCache(Generic[R]):
    """Least recently used go first. For any thread.

    Args:
        max_bytes: Of what was rendered together; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max, self._size = max_bytes, 0
        self._kept: OrderedDict[Hashable, R] = OrderedDict()
        self._lock = Lock()

    def get(self, key: Hashable, render: Callable[[], R], holds: Callable[[R], bool] = _always) -> R:
        """What is kept under ``key``, if it ``holds``; else what ``render`` makes, in its place."""
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None and holds(kept):
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
