"""Leaves of a plan that fails what it needs to fail: the shortest story to read."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from simulations.faults.plan import PlannedAct


def shrink(
    acts: Sequence[PlannedAct], fails: Callable[[Sequence[PlannedAct]], bool], *, tries: int = 200
) -> list[PlannedAct]:
    """Acts without which it still fails are left out: large parts first, then one by one.

    Args:
        acts: That fail.
        fails: Whether these do.
        tries: How often it may be asked.
    """
    kept, size = list(acts), max(1, len(acts) // 2)
    while tries > 0:
        begin, before = 0, len(kept)
        while begin < len(kept) and tries > 0:
            fewer = kept[:begin] + kept[begin + size :]
            tries -= 1
            if fewer and fails(fewer):
                kept = fewer
            else:
                begin += size
        if size == 1 and len(kept) == before:
            break
        size = max(1, size // 2)
    return kept
