"""How often each may ask: so many a minute of one key, all of them at once if it likes (a token bucket).

Shares (:mod:`crosslight.runtime.shares`) bound what is done at a time; this bounds how much is done in all,
so that nobody goes through a region's numbers one by one. Of one process: several allow several times as
much.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.standards.problem import OverRate

log = get_logger("rates")

MOST_KEYS = 20_000


@dataclass(slots=True)
class _Bucket:
    left: float
    at_s: float
    told_s: float = float("-inf")


class PerMinute:
    """Bounds one thing for each key.

    Args:
        name: What is asked, for errors, logs and metrics: *requests to join*.
        per_minute: How often; 0 = without bound.
        clock: Time.

    Attributes:
        refused: How often somebody was refused, since the start.
    """

    def __init__(self, name: str, per_minute: int, clock: Clock) -> None:
        self.name, self.per_minute, self._clock = name, per_minute, clock
        self._buckets: dict[str, _Bucket] = {}  # the one used last at the end
        self.refused = 0

    def take(self, key: str) -> None:
        """One more of ``key``.

        Raises:
            OverRate: too often; it says when there is room again.
        """
        if not self.per_minute:
            return
        now_s, each_s = self._clock.monotonic_s(), 60 / self.per_minute
        bucket = self._buckets.pop(key, None) or _Bucket(float(self.per_minute), now_s)
        bucket.left = min(float(self.per_minute), bucket.left + (now_s - bucket.at_s) / each_s)
        bucket.at_s = now_s
        self._buckets[key] = bucket
        if len(self._buckets) > MOST_KEYS:  # that of whoever has been away longest, which is the fullest
            del self._buckets[next(iter(self._buckets))]
        if bucket.left >= 1:
            bucket.left -= 1
            return
        self.refused += 1
        if now_s - bucket.told_s >= 60:
            bucket.told_s = now_s
            log.warning("asked too often", what=self.name, who=key, per_minute=self.per_minute)
        raise self._refusal((1 - bucket.left) * each_s)

    def give_back(self, key: str) -> None:
        """What :meth:`take` took turned out to be of the kind that is not bounded."""
        if (bucket := self._buckets.get(key)) is not None:
            bucket.left = min(float(self.per_minute), bucket.left + 1)

    def _refusal(self, wait_s: float) -> OverRate:
        refusal = OverRate(
            f"Too many {self.name} in a minute.",
            why=f"Limit here, for each who asks: {self.per_minute} a minute.",
            todo="Wait a moment, or ask the region's operator.",
        )
        refusal.retry_after_s = max(1, math.ceil(wait_s))
        return refusal
