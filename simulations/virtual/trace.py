"""What happened when, as lines that two runs can be compared by.

Acts by their names, and all that travels by its digest: equal traces are equal bytes on the wire, in the same
pieces and at the same times.
"""

from __future__ import annotations

import asyncio
import hashlib


class Trace:
    """The story of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, who: str, what: str) -> None:
        """Something happened now."""
        self.lines.append(f"{asyncio.get_running_loop().time():10.4f} {who}: {what}")

    def arrived(self, where: str, data: bytes) -> None:
        """``data`` came to whoever is at the end ``where`` of a connection."""
        self.note(where, f"gets {len(data)} bytes {hashlib.sha256(data).hexdigest()[:16]}")
