"""Bounded caches of what follows from immutable bytes, keyed by their digest.

Whoever looks something up has passed the access check before.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable

from crosslight.standards.dicom.pixels.frames import FrameLayout


class ByteCache:
    """Byte strings, least recently used ones out first, at most ``max_bytes`` together."""

    def __init__(self, max_bytes: int) -> None:
        self._max, self._size = max_bytes, 0
        self._items: OrderedDict[Hashable, bytes] = OrderedDict()

    def get(self, key: Hashable) -> bytes | None:
        """The value, if it is still there."""
        value = self._items.get(key)
        if value is not None:
            self._items.move_to_end(key)
        return value

    def put(self, key: Hashable, value: bytes) -> None:
        """Keep ``value`` unless it would take more than an eighth of the room."""
        if len(value) > self._max // 8:
            return
        self._size += len(value) - len(self._items.pop(key, b""))
        self._items[key] = value
        while self._size > self._max:
            _, old = self._items.popitem(last=False)
            self._size -= len(old)

    @property
    def size_bytes(self) -> int:
        """What is held now."""
        return self._size


class LayoutCache:
    """Frame layouts of the last ``count`` objects, with at most ``spans`` spans (some 200 bytes each)."""

    def __init__(self, count: int, spans: int = 200_000) -> None:
        self._count, self._most, self._left = count, spans, spans
        self._items: OrderedDict[str, FrameLayout] = OrderedDict()

    def get(self, sha256: str) -> FrameLayout | None:
        """The layout, if it is still there."""
        layout = self._items.get(sha256)
        if layout is not None:
            self._items.move_to_end(sha256)
        return layout

    def put(self, sha256: str, layout: FrameLayout) -> None:
        """Keep one, unless it is too large by itself."""
        if len(layout.spans) > self._most:
            return
        known = self._items.pop(sha256, None)
        self._left += (len(known.spans) if known is not None else 0) - len(layout.spans)
        self._items[sha256] = layout
        while self._items and (len(self._items) > self._count or self._left < 0):
            self._left += len(self._items.popitem(last=False)[1].spans)
