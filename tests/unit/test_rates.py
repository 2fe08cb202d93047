"""How often each may ask."""

from __future__ import annotations

import pytest

from crosslight.runtime import rates as module
from crosslight.runtime.clock import SystemClock
from crosslight.runtime.rates import PerMinute
from crosslight.standards.problem import OverRate


class Hand(SystemClock):
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.s = 0.0

    def monotonic_s(self) -> float:
        return self.s


def refused(rates: PerMinute, key: str) -> int | None:
    """Seconds to wait; 0 for none."""
    try:
        rates.take(key)
    except OverRate as error:
        return error.retry_after_s
    return 0


def test_a_minutes_worth_at_once_then_one_by_one() -> None:
    clock = Hand()
    rates = PerMinute("things", 6, clock)
    assert [refused(rates, "a") for _ in range(8)] == [0] * 6 + [10, 10]
    assert refused(rates, "b") == 0, "each for itself"
    clock.s = 4.5
    assert refused(rates, "a") == 6
    clock.s = 10
    assert [refused(rates, "a"), refused(rates, "a")] == [0, 10]
    clock.s = 1000
    assert [refused(rates, "a") for _ in range(7)] == [0] * 6 + [10], "never more than a minute's worth"
    assert rates.refused == 5


def test_without_bound() -> None:
    rates = PerMinute("things", 0, Hand())
    assert [refused(rates, "a") for _ in range(1000)] == [0] * 1000


def test_keys_are_bounded_and_whoever_asks_now_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_KEYS", 3)
    rates = PerMinute("things", 1, Hand())
    for key in "abc":
        rates.take(key)
    assert refused(rates, "a") == 60
    for key in "de":
        rates.take(key)
    assert refused(rates, "a") == 60
    assert len(rates._buckets) == 3
