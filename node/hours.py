"""Hours of the day, local time, as configuration writes them: ``08-18``; over midnight ``22-06``."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from crosslight.standards.problem import ConfigError


@dataclass(frozen=True, slots=True)
class Hours:
    """From the hour ``first`` to before ``last``."""

    first: int
    last: int

    def hold(self, now: datetime) -> bool:
        """Whether ``now`` is within them, by this machine's zone."""
        hour = now.astimezone().hour
        if self.first <= self.last:
            return self.first <= hour < self.last
        return hour >= self.first or hour < self.last


def hours_of(text: str, where: str) -> Hours | None:
    """The hours that ``text`` says; None for ''.

    Raises:
        ConfigError: it says none; ``where`` names the key.
    """
    if not text:
        return None
    first, dash, last = text.partition("-")
    if dash and first.isdecimal() and last.isdecimal() and int(first) < 24 and int(last) <= 24:
        return Hours(int(first), int(last))
    raise ConfigError(f"{text!r} says no hours of the day.", todo="Write 08-18.", where=where)
