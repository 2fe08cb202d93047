"""D14's timing on a clock that only the test moves."""

from __future__ import annotations

import itertools

import pytest

from node.publish.schedule import Pace, Schedule

PACE = Pace(first_s=1.0, quiet_s=5.0, growing_s=60.0)


def run(schedule: Schedule, arrivals: list[float], until: float) -> list[tuple[float, str]]:
    """Deliver objects of one study at these times; when revisions are made, and what they say."""
    made: list[tuple[float, str]] = []
    now, queue = 0.0, sorted(arrivals)
    while True:
        due = schedule.next_due()
        upcoming = [t for t in (due, queue[0] if queue else None) if t is not None]
        if not upcoming or min(upcoming) > until:
            return made
        now = min(upcoming)
        while queue and queue[0] <= now:
            schedule.changed("1.2", queue.pop(0), known=False)
        for uid, progress in schedule.due(now):
            made.append((round(now, 3), progress))
            schedule.revised(uid, now, progress, changes_seen_until=now)


def test_a_short_study_is_arriving_then_complete() -> None:
    assert run(Schedule(PACE), [0.0, 0.3, 0.6], 100) == [(1.0, "arriving"), (5.6, "complete")]


def test_the_first_revision_comes_within_two_seconds() -> None:
    made = run(Schedule(PACE), [i / 10 for i in range(2000)], 300)
    assert made[0][0] <= 2.0


def test_a_growing_study_is_published_at_least_every_minute() -> None:
    arrivals = [i / 2 for i in range(400)]  # 200 s without a pause of 5 s
    made = run(Schedule(PACE), arrivals, 400)
    moments = [0.0, *(t for t, _ in made)]
    assert all(b - a <= 61 for a, b in itertools.pairwise(moments))
    assert [p for _, p in made] == ["arriving"] * (len(made) - 1) + ["complete"]
    assert made[-1][0] == pytest.approx(arrivals[-1] + 5.0)


def test_a_pause_makes_it_complete_and_more_makes_it_grow_again() -> None:
    made = run(Schedule(PACE), [0.0, 20.0, 20.1], 100)
    assert made == [(1.0, "arriving"), (5.0, "complete"), (21.0, "arriving"), (25.1, "complete")]


def test_a_study_published_before_waits_for_quiet() -> None:
    schedule = Schedule(PACE)
    schedule.changed("1.2", 10.0, known=True)
    assert schedule.due_at("1.2") == 15.0
    schedule = Schedule(PACE)
    schedule.changed("1.2", 10.0, known=False)
    assert schedule.due_at("1.2") == 11.0
    assert schedule.know("1.2")
    assert schedule.due_at("1.2") == 15.0
    assert not schedule.know("1.2")


def test_a_change_during_the_revision_is_not_lost() -> None:
    schedule = Schedule(PACE)
    schedule.changed("1.2", 0.0, known=True)
    schedule.changed("1.2", 5.2, known=True)
    schedule.revised("1.2", 5.3, "complete", changes_seen_until=5.0)
    assert schedule.due_at("1.2") == pytest.approx(10.2)


def test_found_again_after_a_restart_it_is_due_by_its_own_times() -> None:
    schedule = Schedule(PACE)
    schedule.changed("1.2", 100.0, known=True, last=20.0)
    assert schedule.due(100.0) == [("1.2", "complete")]


def test_orders_are_due_at_once_and_complete() -> None:
    schedule = Schedule(PACE)
    schedule.at_once("1.2", 50.0)
    assert schedule.due(50.0) == [("1.2", "complete")]
    schedule.postpone("1.2", 80.0)
    assert schedule.due(60.0) == []
    assert schedule.due(80.0) == [("1.2", "complete")]
    schedule.revised("1.2", 80.0, "complete", changes_seen_until=80.0)
    assert len(schedule) == 0
