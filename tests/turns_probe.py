"""How much an event loop's thread does between two of its turns: counted in calls, not timed."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_TURN = asyncio.Handle._run.__code__  # what the event loop calls for everything whose turn it is


class Piece:
    """The longest piece of work so far, in calls of Python functions; resumed generators count as calls."""

    def __init__(self) -> None:
        self.longest = self._now = self.turns = 0

    def see(self, frame: FrameType, event: str, _: Any) -> None:
        """One event of the interpreter, in this thread alone."""
        if event == "call":
            if frame.f_code is _TURN:
                self._now = 0
                self.turns += 1
            self._now += 1
            self.longest = max(self.longest, self._now)


@contextmanager
def pieces() -> Iterator[Piece]:
    """Watches the thread that it is entered in."""
    piece = Piece()
    sys.setprofile(piece.see)
    try:
        yield piece
    finally:
        sys.setprofile(None)
