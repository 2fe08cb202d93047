"""A trust's line is slow, carries nothing for a while, and is mended."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson

from node.config import FILE
from node.membership.state import FACTS, REGION
from simulations.drills.clinic import Clinic
from simulations.drills.relay import CarryingLine, Relay
from simulations.drills.scene import Scene
from simulations.drills.site_loss import judge_refusal
from simulations.images import StudyPlan
from simulations.layout import HOST

INNER = "127.0.0.2"  # where the node listens while the line's end has its address
DELAY_S, BYTES_PER_S = 0.25, 125_000.0  # half a second there and back; 1 Mbit/s
SHOWN_WITHIN_S, BACK_WITHIN_S = 20.0, 90.0

ABOUT = (
    "All that passes between one trust and the others goes over a line of 1 Mbit/s with half a second "
    "there and back; then nothing passes at all while connections stay open, as when a digger has cut "
    "a cable; then it is mended. The others go on working, and nobody does anything at the trust."
)


async def play(scene: Scene) -> None:
    """The drill."""
    record, lost, line = scene.record, scene.lost, CarryingLine()
    here, near = scene.plan(0, lost, "CT", 0, 4), scene.plan(0, scene.others()[0], "CT", 1, 4)
    for plan in (here, near):
        await scene.send(plan)
    await record.within(
        "Two studies of a patient were listed in the region", lambda: scene.listed(here, near), 60
    )
    async with between(scene, line):
        record.did(f"{scene.name(lost)} was put behind a relay, which stands for its line to all others.")
        await record.within(
            "Over a line that is well all was well", lambda: scene.nobody_named(lost), BACK_WITHIN_S
        )
        async with Clinic(scene, 0, near) as clinic:
            await _slow(scene, clinic, line, here)
            shown, ended = await _dead(scene, clinic, line, here)
        clinic.judge()
        clinic.judge_said(lost, shown, ended)
    record.did("The relay was taken away again.")
    await record.within("All was as before", lambda: scene.nobody_named(lost), BACK_WITHIN_S)


async def _slow(scene: Scene, clinic: Clinic, line: CarryingLine, here: StudyPlan) -> None:
    record, lost = scene.record, scene.lost
    line.delay_s, line.bytes_per_s = DELAY_S, BYTES_PER_S
    begun = time.monotonic()
    record.did("The line became slow: 1 Mbit/s, half a second there and back.")
    await record.within(
        "Its study opened over the slow line, to the last byte", lambda: scene.opens(here), 60
    )
    new = scene.plan(1, lost, "CT", 2, 3)
    await scene.send(new)
    await record.within("An image that arrived meanwhile was listed", lambda: scene.listed(new), 60)
    await clinic.more()
    lost_sight = [
        v
        for v in clinic.visits
        if v.at > begun and any(f"({lost})" in w and "unreach" in w for w in v.warnings)
    ]
    record.judge(
        "It was never called unreachable for being slow",
        not lost_sight,
        f"{len([v for v in clinic.visits if v.at > begun])} answers",
    )


async def _dead(scene: Scene, clinic: Clinic, line: CarryingLine, here: StudyPlan) -> tuple[float, float]:
    """Until it is mended; from when to when each answer had to say that it is away."""
    record, lost = scene.record, scene.lost
    line.dead = True
    cut = time.monotonic()
    record.did("The line carried nothing from now on; connections stayed open.")

    async def shown() -> bool:
        return "unreachable" in await scene.said_of(lost)

    await record.within("Answers said that it cannot be reached", shown, SHOWN_WITHIN_S, since=cut)
    shown_at = time.monotonic()
    await judge_refusal(scene, here, "cannot be reached")
    late = scene.plan(1, lost, "CT", 3, 2)
    await scene.send(late)
    record.did(f"{scene.name(lost)} went on taking images in: two more.")
    await clinic.more()
    mended = time.monotonic()
    line.dead, line.delay_s, line.bytes_per_s = False, 0.0, 0.0
    record.did("The line was mended.")
    await record.within(
        "It was back in the region by itself", lambda: scene.nobody_named(lost), BACK_WITHIN_S, since=mended
    )
    await record.within(
        "What it took in meanwhile was listed", lambda: scene.listed(late), BACK_WITHIN_S, since=mended
    )
    return shown_at, mended


@asynccontextmanager
async def between(scene: Scene, line: CarryingLine) -> AsyncIterator[None]:
    """Put ``line`` between the member and all others, in both directions.

    The node listens elsewhere on this machine and the relay has its addresses; what it calls of the registry
    is the relay's too. The direct ways come back at the end.
    """
    region, code = scene.region, scene.lost
    ports, base = region.ports(code), region.port_base
    inward = {(HOST, port): (INNER, port) for port in (ports.base, ports.systems)}
    relayed = {
        base: ports.base + 5,
        base + 1: ports.base + 6,
        base + 2: ports.base + 7,
        base + 3: ports.base + 8,
    }
    outward = {(HOST, mine): (HOST, theirs) for theirs, mine in relayed.items()}
    region.kill(code)
    try:
        _rewire(scene, HOST, INNER, {str(theirs): str(mine) for theirs, mine in relayed.items()})
        async with Relay(line, inward | outward):
            await region.start(code)
            yield
            region.kill(code)
    finally:
        region.kill(code)
        _rewire(scene, INNER, HOST, {str(mine): str(theirs) for theirs, mine in relayed.items()})
        await region.start(code)


def _rewire(scene: Scene, old: str, new: str, ports: dict[str, str]) -> None:
    """Let the node listen at another address, and call the registry at other ports."""
    folder, files = scene.region.node_folder(scene.lost), scene.region.files
    config = folder / FILE
    before, mark, listen = config.read_text("utf-8").partition("[listen]")
    listen = listen.replace(f'host = "{old}"', f'host = "{new}"', 1)
    files.write_atomic(config, f"{before}{mark}{listen}".encode())
    facts = folder / REGION / FACTS
    said = orjson.loads(facts.read_bytes())
    for name, address in said["registry"].items():
        place, colon, port = address.rpartition(":")
        said["registry"][name] = f"{place}{colon}{ports.get(port, port)}"
    files.write_atomic(facts, orjson.dumps(said, option=orjson.OPT_INDENT_2))
