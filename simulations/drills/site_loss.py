"""A trust's node is lost without warning, and comes back."""

from __future__ import annotations

import asyncio
import time

from simulations.drills.clinic import Clinic
from simulations.drills.scene import Scene
from simulations.images import StudyPlan
from simulations.world import fhir_studies, qido_studies

SHOWN_WITHIN_S, BACK_WITHIN_S = 15.0, 90.0
TOLD_WITHIN_S = 10.0  # whoever opens what cannot be opened waits no longer for the reason
PROVEN = "every list is current and counted"

ABOUT = (
    "One trust's node is killed without warning (kill -9), in the moment in which it has acknowledged "
    "new images, as a power cut would. The other trusts go on working. Then it is started again, and "
    "nobody does anything else."
)


async def play(scene: Scene) -> None:
    """The drill."""
    region, record, lost = scene.region, scene.record, scene.lost
    here, near = scene.plan(0, lost, "CT", 0, 4), scene.plan(0, scene.others()[0], "CT", 1, 4)
    for plan in (here, near):
        await scene.send(plan)
    record.did(f"Images of one patient were sent to {scene.name(lost)} and {scene.name(near.code)}.")
    await record.within("Both studies were listed in the region", lambda: scene.listed(here, near), 60)
    async with Clinic(scene, 0, near) as clinic:
        last = scene.plan(1, lost, "CT", 2, 3)
        await scene.send(last)
        region.kill(lost)
        pulled = time.monotonic()
        record.did(f"{scene.name(lost)} acknowledged three more images, and was killed in that moment.")
        await _away(scene, clinic, here, pulled)
        shown = time.monotonic()
        await clinic.more()
        ended = time.monotonic()
        await region.start(lost)
        record.did(f"{scene.name(lost)} was started again.")
        await record.within(
            "It was back in the region by itself",
            lambda: scene.nobody_named(lost),
            BACK_WITHIN_S,
            since=ended,
        )
        await record.within(
            "The images acknowledged in the moment of the loss were listed",
            lambda: scene.listed(last),
            BACK_WITHIN_S,
            since=ended,
        )
        await record.within(
            "They, and those from before, opened to the last byte", lambda: _all_open(scene, here, last), 30
        )
    clinic.judge()
    clinic.judge_said(lost, shown, ended)


async def _all_open(scene: Scene, *plans: StudyPlan) -> bool:
    return all(await asyncio.gather(*(scene.opens(plan) for plan in plans)))


async def _away(scene: Scene, clinic: Clinic, here: StudyPlan, pulled: float) -> None:
    """What must hold while it is away."""
    record, lost = scene.record, scene.lost

    async def shown() -> bool:
        return any(f"({lost})" in w and "unreachable" in w for w in (await scene.find(0)).warnings)

    await record.within("Answers said that it cannot be reached", shown, SHOWN_WITHIN_S, since=pulled)
    if said := await scene.said_of(lost):
        record.saw(f"The words: {said}")
    await judge_refusal(scene, here, "cannot be reached")
    if scene.who(0).authority:
        marks = await qido_studies(scene.region, scene.who(0))
        record.judge(
            "Its study stayed listed, and was not called ready to open",
            here.uid in marks and marks[here.uid] != "ONLINE",
            f"Instance Availability {marks.get(here.uid, 'missing')}",
        )
    await judge_no_claim(scene)


async def judge_refusal(scene: Scene, plan: StudyPlan, why: str) -> None:
    """Put down whether whoever opens ``plan`` is told soon that it cannot be, and at whom that lies."""
    text, took = await scene.refusal(plan)
    named = plan.code in text or scene.region.plan_of(plan.code).name in text
    scene.record.judge(
        "Whoever opened its study was told at once that it cannot be opened, and at whom that lies",
        named and why in text and took < TOLD_WITHIN_S,
        f"after {took:.1f} s: {text[:300] or 'it opened'}",
    )


async def judge_no_claim(scene: Scene) -> None:
    """Put down whether an empty list says no more than is known."""
    answer = await fhir_studies(scene.region, scene.stranger())
    said = " ".join(str(i.get("details", {}).get("text", "")) for i in answer.issues)
    scene.record.judge(
        "Of somebody without images nothing said that there are none",
        not answer.matches and PROVEN not in said and f"({scene.lost})" in said,
        said[said.rfind("Nothing") :],
    )
