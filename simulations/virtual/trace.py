"""What happened when, as lines that two runs can be compared by.

Acts by their names, and all that travels by its digest: equal traces are equal bytes on the wire, in the same
pieces and at the same times.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter


class Trace:
    """The story of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.happened: Counter[str] = Counter()  # faults that did something

    def note(self, who: str, what: str) -> None:
        """Something happened now."""
        self.lines.append(f"{asyncio.get_running_loop().time():10.4f} {who}: {what}")

    def fault(self, kind: str, where: str) -> None:
        """A fault has met something: it is no longer only planned."""
        self.happened[kind] += 1
        self.note(where, f"fault: {kind}")

    def arrived(self, where: str, data: bytes) -> None:
        """``data`` came to whoever is at the end ``where`` of a connection."""
        self.note(where, f"gets {len(data)} bytes {hashlib.sha256(data).hexdigest()[:16]}")
