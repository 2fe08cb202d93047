"""No more bytes a second than are allowed, and far fewer while the department is at work."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from crosslight.runtime.clock import Clock

SLOWER: Final = 8.0  # while the department is at work
_LEAST_SLEEP_S: Final = 0.02


class GentlePace:
    """One reader's.

    Args:
        clock: Time.
        mb_per_s: Most.
        busy: Whether the department is at work.
    """

    def __init__(self, clock: Clock, mb_per_s: float, busy: Callable[[], bool]) -> None:
        self._clock, self._mb_per_s, self._busy = clock, mb_per_s, busy
        self._owed_s = 0.0

    async def spend(self, size: int) -> None:
        """Wait as long as so many bytes take."""
        self._owed_s += size / (self._mb_per_s * 1e6) * (SLOWER if self._busy() else 1.0)
        if self._owed_s >= _LEAST_SLEEP_S:
            owed, self._owed_s = self._owed_s, 0.0
            await self._clock.sleep(owed)
