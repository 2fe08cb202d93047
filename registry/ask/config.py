"""Configuration of questions: the section ``[ask]``."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import setting
from crosslight.runtime.shares import ShareLimits

WAITING = 256  # questions of one caller that wait at most; of all, eight times as many


@dataclass(frozen=True, slots=True)
class AskConfig:
    """``[ask]``: how many questions are answered at a time, and what is beyond the table of roles."""

    questions: int = setting(16, "Most questions that the index is read for at a time.", low=1, high=1024)
    questions_per_caller: int = setting(
        4, "Of these, most of one caller: a person, an app, a system.", low=1, high=1024
    )
    populations: int = setting(
        2, "Most questions that name nobody, which read much, at a time.", low=1, high=64
    )
    populations_per_caller: int = setting(1, "Of these, most of one caller.", low=1, high=64)
    turn_timeout_s: float = setting(
        20.0, "Wait for a turn; then the answer is that it is busy.", low=0.1, high=300
    )

    searches_per_minute: int = setting(
        3000, "Searches of one person or app in a minute; 0 = without bound.", low=0, high=10_000_000
    )
    searches_per_minute_of_system: int = setting(
        30_000,
        "Searches of one system or member, by its certificate, in a minute; 0 = without bound.",
        low=0,
        high=10_000_000,
    )
    order_lists: tuple[str, ...] = setting(
        [], "Codes of members whose nodes may ask for the list of a patient with an order there (ADR 0060)."
    )
    order_lists_per_minute: int = setting(
        60,
        "Such lists that one member's node may ask for in a minute.",
        low=1,
        high=10_000,
    )
    exports_per_hour: int = setting(
        600,
        "Questions that name nobody, or very many, which one caller may ask in an hour; each is a page.",
        low=1,
        high=1_000_000,
    )
    export_refusals: int = setting(
        10,
        "Such questions of one caller that may not ask them, in an hour, from which on it is an alarm.",
        low=1,
    )
    export_alarm_minutes: int = setting(60, "How long an alarm is said.", low=1, high=1440)
    kept_bytes: int = setting(
        32 << 20,
        "Memory for what questions found last, for when the same is asked again and nothing has changed;"
        " about, in bytes. 0 = none.",
        low=0,
        high=1 << 34,
    )
    disputed_minutes: int = setting(
        60,
        "How long a study of disputed identity may be opened by its own name, by whom it was shown to under"
        " its holder's own number.",
        low=1,
        high=720,
    )

    def near(self) -> ShareLimits:
        """Of questions that name somebody."""
        return self._limits(self.questions, self.questions_per_caller)

    def wide(self) -> ShareLimits:
        """Of those that name nobody."""
        return self._limits(self.populations, self.populations_per_caller)

    def _limits(self, total: int, each: int) -> ShareLimits:
        return ShareLimits(
            total=total,
            each=min(each, total),
            waiting=8 * WAITING,
            waiting_each=WAITING,
            patience_s=self.turn_timeout_s,
        )
