"""A trust's clock is wrong by twenty minutes, fast and slow, and set right."""

from __future__ import annotations

import time

from simulations.drills.clinic import Clinic
from simulations.drills.scene import Scene
from simulations.drills.site_loss import judge_refusal
from simulations.images import StudyPlan
from simulations.orders import NONE, Order

OFF_S = 20 * 60.0
WITHIN_S = 60.0

ABOUT = (
    "One trust's node is started with a clock that is twenty minutes fast, then with one that is "
    "twenty minutes slow, then with the right time. Tokens, certificates and the order of events "
    "depend on clocks; a wrong one must be seen, must harm nobody else, and must lose nothing."
)


async def play(scene: Scene) -> None:
    """The drill."""
    region, record, lost = scene.region, scene.record, scene.lost
    here, near = scene.plan(0, lost, "CT", 0, 4), scene.plan(0, scene.others()[0], "CT", 1, 4)
    for plan in (here, near):
        await scene.send(plan)
    await record.within(
        "Two studies of a patient were listed in the region", lambda: scene.listed(here, near), 60
    )
    taken = []
    async with Clinic(scene, 0, near) as clinic:
        try:
            for nth, (ahead_s, word) in enumerate(((OFF_S, "fast"), (-OFF_S, "slow")), 2):
                taken.append(await _wrong(scene, clinic, here, ahead_s, word, nth))
        finally:  # also when somebody ends the drill: a demo goes on
            region.kill(lost)
            region.order(lost, NONE)
            await region.start(lost)
        right = time.monotonic()
        record.did(f"{scene.name(lost)} was started with the right time.")
        await record.within("It was well in the region by itself", lambda: scene.nobody_named(lost), WITHIN_S)
        await record.within(
            "All that it took in with a wrong clock was listed",
            lambda: scene.listed(*taken),
            WITHIN_S,
            since=right,
        )
        await record.within("Its study opened again, to the last byte", lambda: scene.opens(here), WITHIN_S)
    clinic.judge()


async def _wrong(
    scene: Scene, clinic: Clinic, here: StudyPlan, ahead_s: float, word: str, nth: int
) -> StudyPlan:
    region, record, lost = scene.region, scene.record, scene.lost
    region.kill(lost)
    region.order(lost, Order(clock_ahead_s=ahead_s))
    await region.start(lost, until="live")  # it is ready only until its link says what time it is
    begun = time.monotonic()
    record.did(f"{scene.name(lost)} was started with a clock that is twenty minutes {word}.")

    async def shown() -> bool:
        return "clock is off by" in await scene.said_of(lost)

    await record.within(f"Answers said that its clock is wrong ({word})", shown, WITHIN_S, since=begun)
    shown_at = time.monotonic()
    await judge_refusal(scene, here, "clock")
    taken = scene.plan(1, lost, "CT", nth, 2)
    await scene.send(taken)
    record.did("It went on taking images in: two more.")
    await clinic.more()
    clinic.judge_said(lost, shown_at, time.monotonic())
    return taken
