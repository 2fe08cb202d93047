"""What happened when, as lines that two runs can be compared by.

Acts by their names, never bytes, keys or signatures.
"""

from __future__ import annotations

import asyncio


class Trace:
    """The story of a run."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def note(self, who: str, what: str) -> None:
        """Something happened now."""
        self.lines.append(f"{asyncio.get_running_loop().time():10.4f} {who}: {what}")
