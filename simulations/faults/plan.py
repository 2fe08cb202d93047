"""What a seed stands for: what people and scanners do, and what fails, in the order of time."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Literal

from simulations.faults.objects import NUMBERS, Image

CODES = ("RTK", "RA2")
REGISTRY = "registry"
LENGTH_S = 240.0

Kind = Literal["store", "find", "open", "cut", "crash", "kill", "full", "slow", "skew", "suspend"]
#: What is no fault, but work.
WORK: tuple[Kind, ...] = ("store", "find", "open")


@dataclass(frozen=True, slots=True)
class PlannedAct:
    """Something that happens at a moment.

    Args:
        at_s: From the begin.
        kind: What.
        who: A node, or the registry.
        image: That is stored; for ``find`` and ``open`` its person and study.
        amount: Bytes that still pass (cut), steps until the crash (crash), seconds (slow, skew).
        for_s: How long it stays so.
    """

    at_s: float
    kind: Kind
    who: str = ""
    image: Image | None = None
    amount: float = 0.0
    for_s: float = 0.0

    def __str__(self) -> str:
        what = (
            f" {self.image.study_uid.rsplit('.', 1)[1]}/{self.image.number}" if self.image is not None else ""
        )
        more = f" {self.amount:g}" if self.amount else ""
        span = f" for {self.for_s:.0f} s" if self.for_s else ""
        return f"{self.at_s:7.1f} s {self.kind} {self.who}{what}{more}{span}"


def plan(seed: int, *, work: int = 30, faults: int = 6) -> list[PlannedAct]:
    """The acts of a seed, in the order of time."""
    dice = random.Random(f"plan {seed}")
    acts = _work(dice, work)
    stores = [act for act in acts if act.kind == "store"]
    acts += [_fault(dice, stores) for _ in range(faults)]
    return sorted(acts, key=lambda act: (act.at_s, act.kind, act.who))


def _work(dice: random.Random, count: int) -> list[PlannedAct]:
    studies: dict[int, tuple[str, int, int]] = {}  # study -> node, person, images
    acts = []
    for n in range(count):
        at_s = LENGTH_S * (n + dice.random()) / count
        if not studies or dice.random() < 0.5:
            if studies and dice.random() < 0.5:
                study = dice.choice(sorted(studies))
                code, person, images = studies[study]
            else:
                study, code = len(studies) + 1, dice.choice(CODES)
                person, images = dice.randrange(len(NUMBERS)), 0
            studies[study] = (code, person, images + 1)
            acts.append(PlannedAct(at_s, "store", code, Image(person, study, images + 1)))
        else:
            study = dice.choice(sorted(studies))
            code, person, images = studies[study]
            acts.append(
                PlannedAct(at_s, dice.choice(("find", "find", "open")), code, Image(person, study, images))
            )
    return acts


def _fault(dice: random.Random, stores: list[PlannedAct]) -> PlannedAct:
    at_s, for_s = dice.uniform(5, LENGTH_S), dice.choice((1.0, 8.0, 40.0, 90.0))
    code = dice.choice(CODES)
    service = dice.choice((*CODES, REGISTRY))
    kind: Kind = dice.choice(
        ("cut", "cut", "crash", "crash", "crash", "kill", "full", "slow", "skew", "suspend")
    )
    match kind:
        case "cut":
            return PlannedAct(at_s, kind, code, amount=dice.choice((0, dice.randrange(1, 3000))), for_s=for_s)
        case "crash" if dice.random() < 0.5:  # while an object is being stored
            store = dice.choice(stores)
            begin_s = max(0.0, store.at_s - 0.001)
            return PlannedAct(begin_s, kind, store.who, amount=dice.randrange(1, 12), for_s=for_s)
        case "kill" if dice.random() < 0.5:  # before what was stored could be told
            store = dice.choice(stores)
            return PlannedAct(store.at_s + 0.5, kind, store.who, for_s=for_s)
        case "crash":
            return PlannedAct(at_s, kind, service, amount=dice.randrange(1, 60), for_s=for_s)
        case "slow":
            return PlannedAct(at_s, kind, code, amount=dice.choice((0.2, 1.0, 4.0)), for_s=for_s)
        case "skew":
            return PlannedAct(at_s, kind, code, amount=dice.choice((-400.0, -20.0, 20.0, 400.0)), for_s=for_s)
        case _:
            return PlannedAct(at_s, kind, code if kind in ("full", "suspend") else service, for_s=for_s)
