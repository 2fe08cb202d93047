"""What runs of faults have found, each as the shortest story that failed, so that it stays mended."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from simulations.faults.objects import Image
from simulations.faults.plan import REGISTRY, PlannedAct
from simulations.faults.run import play

IMAGE = Image(person=0, study=1, number=1)

#: Its name, the seed that found it, and its acts.
FINDINGS: Sequence[tuple[str, int, Sequence[PlannedAct]]] = (
    (
        "a registry that was away called members' lists complete as they had been before",
        407,
        (
            PlannedAct(45.4, "kill", REGISTRY, for_s=90.0),
            PlannedAct(52.3, "store", "RA2", IMAGE),
            PlannedAct(115.5, "kill", "RA2", for_s=40.0),
            PlannedAct(138.3, "find", "RA2", IMAGE),
        ),
    ),
    (
        "a member that had linked again, and said nothing yet, counted as it was before it was away",
        216,
        (
            PlannedAct(35.5, "kill", "RTK", for_s=40.0),
            PlannedAct(67.7, "slow", "RTK", amount=4.0, for_s=90.0),
            PlannedAct(68.3, "store", "RTK", IMAGE),
            PlannedAct(153.8, "find", "RTK", IMAGE),
        ),
    ),
    (
        "a node restored from a backup of before its first study published nothing until its next start",
        9,
        (
            PlannedAct(88.5, "backup", "RTK"),
            PlannedAct(143.9, "restore", "RTK", for_s=40.0),
            PlannedAct(208.1, "store", "RTK", IMAGE),
        ),
    ),
    (
        "a registry whose clock had run ahead issued directories that no node took, so a readmission failed",
        20120,
        (
            PlannedAct(0.0, "store", "RTK", IMAGE),
            PlannedAct(41.0, "skew", REGISTRY, amount=400.0, for_s=90.0),
            PlannedAct(106.1, "suspend", "RTK", amount=1.0, for_s=40.0),
        ),
    ),
)


@pytest.mark.parametrize(("what", "seed", "acts"), FINDINGS, ids=[what for what, _, _ in FINDINGS])
def test_what_was_found_stays_mended(what: str, seed: int, acts: Sequence[PlannedAct]) -> None:
    outcome = play(seed, acts)
    assert outcome.broken == "", "\n".join(outcome.trace[-40:])
