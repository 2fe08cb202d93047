"""What a seed stands for: what people and scanners do, and what fails, in the order of time."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from simulations.faults.objects import HOSPITALS, NUMBERS, Image
from simulations.virtual.region import DIRECTORY_S, GRACE_S

REGISTRY = "registry"
LENGTH_S = 240.0

Kind = Literal[
    "store", "find", "open", "ask",
    "cut", "lose", "late", "crash", "kill", "full", "slow", "skew", "suspend", "backup", "restore",
]  # fmt: skip
#: What is no fault, but work.
WORK: tuple[Kind, ...] = ("store", "find", "open", "ask")
#: How often each fault comes, beside the others.
FAULTS: tuple[Kind, ...] = (
    "cut", "cut", "lose", "late", "late", "crash", "crash", "crash", "kill", "full", "slow", "skew",
    "suspend", "suspend", "restore",
)  # fmt: skip
TOLD_WITHIN_S = 30.0  # an absence is no claim before
SPANS_S = (1.0, 8.0, 40.0, 90.0)
LIMIT_EVERY = 8  # seeds: one of so many goes on until a directory is past its limit
#: Whoever is cut off believes its directory no longer (ADR 0035).
LIMIT_S = DIRECTORY_S + GRACE_S


@dataclass(frozen=True, slots=True)
class PlannedAct:
    """Something that happens at a moment.

    Args:
        at_s: From the begin.
        kind: What.
        who: A node, or the registry.
        image: That is stored; for the other work its person and study.
        amount: Bytes that still pass (cut), steps until the crash (crash), seconds (slow, late, skew; ask:
            the token's age), 1 where the member is readmitted (suspend).
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


def members(seed: int) -> tuple[str, ...]:
    """The members of a seed's region: two, or each third time three."""
    return HOSPITALS if seed % 3 == 0 else HOSPITALS[:2]


def plan(seed: int, *, work: int = 32, faults: int = 7) -> list[PlannedAct]:
    """The acts of a seed, in the order of time."""
    dice, codes = random.Random(f"plan {seed}"), members(seed)
    acts = _work(dice, codes, work)
    stores = [act for act in acts if act.kind == "store"]
    for _ in range(faults):
        acts += _fault(dice, codes, stores)
    if seed % LIMIT_EVERY == 0:
        acts += _to_the_limit(codes, acts)
    return sorted(acts, key=lambda act: (act.at_s, act.kind, act.who))


def _work(dice: random.Random, codes: Sequence[str], count: int) -> list[PlannedAct]:
    studies: dict[int, tuple[str, int, int]] = {}  # study -> node, person, images
    acts = []
    for n in range(count):
        at_s = LENGTH_S * (n + dice.random()) / count
        if not studies or dice.random() < 0.5:
            if studies and dice.random() < 0.5:
                study = dice.choice(sorted(studies))
                code, person, images = studies[study]
            else:
                study, code = len(studies) + 1, dice.choice(codes)
                person, images = dice.randrange(len(NUMBERS)), 0
            studies[study] = (code, person, images + 1)
            acts.append(PlannedAct(at_s, "store", code, Image(person, study, images + 1)))
        else:
            study = dice.choice(sorted(studies))
            code, person, images = studies[study]
            kind: Kind = dice.choice(("find", "find", "open", "ask"))
            age_s = dice.choice((0.0, 8.0, 40.0)) if kind == "ask" else 0.0
            acts.append(PlannedAct(at_s, kind, code, Image(person, study, images), amount=age_s))
    return acts


def _fault(dice: random.Random, codes: Sequence[str], stores: list[PlannedAct]) -> list[PlannedAct]:
    at_s, for_s, kind = dice.uniform(5, LENGTH_S), dice.choice(SPANS_S), dice.choice(FAULTS)
    code, service, store = dice.choice(codes), dice.choice((*codes, REGISTRY)), dice.choice(stores)
    at_a_store = dice.random() < 0.5
    match kind:
        case "cut":
            passing = dice.choice((0, dice.randrange(1, 3000)))
            return [PlannedAct(at_s, kind, code, amount=passing, for_s=for_s)]
        case "lose":
            return [PlannedAct(store.at_s, kind, store.who, for_s=20.0)]
        case "late":
            return [
                PlannedAct(store.at_s, kind, store.who, amount=dice.choice((2.0, 12.0, 45.0)), for_s=20.0)
            ]
        case "crash" if at_a_store:  # while an object is being stored
            begin_s = max(0.0, store.at_s - 0.001)
            return [PlannedAct(begin_s, kind, store.who, amount=dice.randrange(1, 12), for_s=for_s)]
        case "crash":
            return [PlannedAct(at_s, kind, service, amount=dice.randrange(1, 60), for_s=for_s)]
        case "kill" if at_a_store:  # before what was stored could be told, or right after it was
            if dice.random() < 0.5:
                return [PlannedAct(store.at_s + 0.5, kind, store.who, for_s=for_s)]
            return _without_registry(PlannedAct(store.at_s + 1.1, kind, REGISTRY, for_s=for_s), stores)
        case "kill" if service == REGISTRY:
            return _without_registry(PlannedAct(at_s, kind, service, for_s=for_s), stores)
        case "slow":
            return [PlannedAct(at_s, kind, code, amount=dice.choice((0.2, 1.0, 4.0)), for_s=for_s)]
        case "skew":
            ahead_s = dice.choice((-400.0, -20.0, 20.0, 400.0))
            return [PlannedAct(at_s, kind, service, amount=ahead_s, for_s=for_s)]
        case "suspend":
            return [PlannedAct(at_s, kind, code, amount=float(at_a_store), for_s=for_s)]
        case "restore":
            before_s = dice.uniform(1, at_s - 1)
            return [PlannedAct(before_s, "backup", service), PlannedAct(at_s, kind, service, for_s=for_s)]
        case _:
            return [PlannedAct(at_s, kind, service, for_s=for_s)]


def _to_the_limit(codes: Sequence[str], acts: list[PlannedAct]) -> list[PlannedAct]:
    """A node is cut off, another member is suspended, and the node is asked until long after it must know.

    It cannot hear of it, so it must let nobody in by a certificate when its directory is past its limit.
    """
    known = {act.who for act in acts if act.kind == "suspend"}  # the node may have heard of these
    stored = {act.who: act.image for act in acts if act.kind == "store"}
    pairs = [(away, other) for other in codes if other not in known for away in stored if away != other]
    if not pairs:
        return []
    (away, other), begin_s, for_s = pairs[0], LENGTH_S + 1, LIMIT_S + 150
    image = stored[away]
    asks = [PlannedAct(begin_s + LIMIT_S * part, "ask", away, image) for part in (0.3, 0.8, 1.02, 1.05, 1.1)]
    return [
        PlannedAct(begin_s, "cut", away, for_s=for_s),
        PlannedAct(begin_s + 1, "suspend", other, amount=1.0, for_s=for_s),
        *asks,
    ]


def _without_registry(act: PlannedAct, stores: list[PlannedAct]) -> list[PlannedAct]:
    """What came meanwhile is asked for as soon as the registry is back, before anybody has told of it."""
    back_s = act.at_s + act.for_s
    meanwhile = [store for store in stores if act.at_s < store.at_s < back_s - TOLD_WITHIN_S]
    return [act, *(PlannedAct(back_s + 0.3, "find", store.who, store.image) for store in meanwhile[:2])]
