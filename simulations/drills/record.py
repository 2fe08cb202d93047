"""What a drill leaves behind: what was done and seen and when, and what had to hold with its verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from crosslight.standards.problem import CrosslightError
from simulations.world import StoryError, until


@dataclass(frozen=True, slots=True)
class ProtocolLine:
    """One line of the protocol."""

    at: datetime
    kind: Literal["done", "seen"]
    text: str


@dataclass(frozen=True, slots=True)
class Judged:
    """Something that had to hold.

    Attributes:
        what: In plain words, as it ought to be.
        held: Whether it was so.
        seen: What was seen instead, or beside it.
        took_s: How long it took, where that is what counts.
        within_s: How long it might take.
    """

    what: str
    held: bool
    seen: str = ""
    took_s: float | None = None
    within_s: float | None = None


@dataclass
class Record:
    """The protocol of one drill.

    Args:
        name: The drill's, as it is typed.
        title: As a heading.
        about: What it does, in plain words.
        say: Told each line as it is written, for whoever watches.
    """

    name: str
    title: str
    about: str
    say: Callable[[str], None] = field(default=lambda text: None, repr=False)
    entries: list[ProtocolLine] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)
    started: datetime = field(default_factory=lambda: datetime.now(UTC))
    ended: datetime | None = None

    @property
    def passed(self) -> bool:
        """Whether all that had to hold did; a drill that judged nothing has not passed."""
        return bool(self.judged) and all(one.held for one in self.judged)

    @property
    def seconds(self) -> float:
        """How long it was played."""
        return ((self.ended or datetime.now(UTC)) - self.started).total_seconds()

    def did(self, text: str) -> None:
        """Something was done to the region."""
        self._line("done", text)

    def saw(self, text: str) -> None:
        """Something was seen."""
        self._line("seen", text)

    def _line(self, kind: Literal["done", "seen"], text: str) -> None:
        self.entries.append(ProtocolLine(datetime.now(UTC), kind, text))
        self.say(text)

    def judge(self, what: str, held: bool, seen: str = "") -> None:
        """Put down whether something held."""
        self.judged.append(Judged(what, held, seen))
        self._line("seen", f"{what}: {'yes' if held else 'NO'}{f' ({seen})' if seen else ''}")

    async def within(
        self,
        what: str,
        check: Callable[[], Awaitable[bool]],
        within_s: float,
        *,
        since: float | None = None,
        seen: str = "",
    ) -> bool:
        """Wait until ``check`` is true and put down how long that took; whether it was in time.

        Args:
            since: ``time.monotonic`` of the moment that counts; now without one.
            seen: What to put down beside it where it held.
        """
        began = time.monotonic() if since is None else since
        left_s = max(0.0, began + within_s - time.monotonic())
        try:
            async with asyncio.timeout(left_s):  # a look that hangs is no look
                await until(what, check, within_s=left_s)
        except (StoryError, TimeoutError) as error:
            why = error.why if isinstance(error, StoryError) else "no answer"
            self.judged.append(Judged(what, False, why or "not so", None, within_s))
            self._line("seen", f"{what}: NOT within {within_s:.0f} s")
            return False
        took = time.monotonic() - began
        self.judged.append(Judged(what, True, seen, took, within_s))
        self._line("seen", f"{what}: after {took:.1f} s")
        return True

    def broke_off(self, error: CrosslightError) -> None:
        """The drill could not be played to its end, so it has failed."""
        self.judge("The drill could be played to its end", False, f"{error.what} {error.why}".strip()[:500])

    def end(self) -> None:
        """No more happens."""
        self.ended = datetime.now(UTC)

    def plain(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {
            "drill": self.name,
            "title": self.title,
            "passed": self.passed,
            "started": self.started.isoformat(),
            "seconds": round(self.seconds, 1),
            "expectations": [
                {
                    "what": one.what,
                    "held": one.held,
                    "seen": one.seen,
                    "took_s": None if one.took_s is None else round(one.took_s, 2),
                    "within_s": one.within_s,
                }
                for one in self.judged
            ],
            "protocol": [{"at": e.at.isoformat(), "kind": e.kind, "text": e.text} for e in self.entries],
        }
