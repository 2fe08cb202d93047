"""DecodedRows: what rows were decoded to, kept for as long as they say the same.

Rows are read from the database each time, and what they are compared by is all that decoding reads. So what
is found here is what decoding would give, whatever was done meanwhile and by which process: nothing is to be
told of a change, and whose question it is makes no difference (ADR 0044).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, NamedTuple

from registry.index.rows import Loaded, RowKey

MOST_BYTES = 1 << 20  # of compressed rows; decoded they take some 12 times as much
MOST_ROWS = 200  # of one statement that are kept: a walk through the index pushes nobody out


class Meaning(NamedTuple):
    """What a row's holding depends on beside the row: its member's name and secret, and the region's key."""

    source: Any
    secret: bytes
    region_key: bytes


class _Kept(NamedTuple):
    loaded: Loaded
    patient: bytes
    meaning: Meaning
    size: int


class DecodedRows:
    """The rows decoded last, by key; usable from any thread.

    Args:
        most_bytes: How many bytes of compressed rows are kept.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._bytes = 0
        self._kept: OrderedDict[RowKey, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, row: Sequence[Any], meaning: Meaning) -> Loaded | None:
        """What this row was decoded to; None: it says something else now, or was not kept.

        ``row`` is of HOLDING_COLUMNS and the patient's text.
        """
        key = (row[0], row[1], row[6])
        with self._lock:
            kept = self._kept.get(key)
            if kept is None or kept.loaded.row != row[:12] or kept.patient != row[12]:
                return None
            if kept.meaning != meaning:
                return None
            self._kept.move_to_end(key)
            return kept.loaded

    def keep(self, loaded: Loaded, patient: bytes, meaning: Meaning) -> None:
        """Keep what a row was decoded to.

        Not where it holds plain data of a foreign source beside its record: that is no frozen value.
        """
        size = len(loaded.row.body) + len(patient)
        if loaded.row.extra or size > self._most_bytes // 8:
            return
        with self._lock:
            before = self._kept.pop(loaded.row.key, None)
            self._bytes += size - (before.size if before is not None else 0)
            self._kept[loaded.row.key] = _Kept(loaded, patient, meaning, size)
            while self._bytes > self._most_bytes:
                self._bytes -= self._kept.popitem(last=False)[1].size

    def __len__(self) -> int:
        return len(self._kept)
