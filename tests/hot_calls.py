"""Counts calls of our own Python, which tests hold to a bound; no time is measured."""

from __future__ import annotations

import functools
import gc
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = str(Path(__file__).parents[1])
OURS = tuple(f"{ROOT}/{name}/" for name in ("crosslight", "registry"))
KEEPER = type(functools.lru_cache(id))


def forget() -> None:
    """Empty what our functions keep of their last answers: a test before may have asked the same."""
    for kept in gc.get_objects():
        if type(kept) is KEEPER and kept.__module__.startswith(("crosslight.", "registry.")):
            kept.cache_clear()


class Calls:
    """Counts calls into our own code, of one thread at a time.

    A coroutine that goes on after a wait is no call: how often it waits is the machine's to say.
    """

    def __init__(self) -> None:
        self.count, self.on = 0, False
        self._begun: set[FrameType] = set()

    def note(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not frame.f_code.co_filename.startswith(OURS):
            return
        if frame.f_code.co_flags & inspect.CO_COROUTINE:
            if frame in self._begun:
                return
            self._begun.add(frame)
        self.count += 1

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count anew."""
        self.count, self.on = 0, True
        self._begun.clear()
        try:
            with self.going_on():
                yield
        finally:
            self.on = False

    @contextmanager
    def going_on(self) -> Iterator[None]:
        """Count what this thread does too, if anything is counted."""
        before = sys.getprofile()
        sys.setprofile(self.note if self.on else before)
        try:
            yield
        finally:
            sys.setprofile(before)
