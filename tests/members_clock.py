"""A clock that tests of members set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

NOW = datetime(2026, 11, 22, 3, 0, tzinfo=UTC)


class FakeClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now(self) -> datetime:
        return NOW + timedelta(seconds=self.at_s)

    def monotonic_s(self) -> float:
        return 1000 + self.at_s

    async def sleep(self, seconds: float) -> None:
        self.at_s += seconds
