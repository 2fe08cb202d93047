"""The forecast beside a region that runs: the same questions at the same rate, predicted and measured.

Each question is asked apart (that is what it takes when nobody else asks), by several clients without a pause
(the times between two answers are what one takes of what all share, pauses for the disk included), and by
Poisson streams at parts of the most. All in turn and several times over, since a machine is not the same from
minute to minute; what was measured is the median of the rounds. What people would have waited then stands
beside what the queue of the forecast says from the first two alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from simulations.capacity.compared import Compared
from simulations.capacity.queues import Seconds, arrivals, waits
from simulations.capacity.running import Asker, RunningRegion, ask_at, between_answers

CLIENTS = 8
APART = 0.05  # of the most: that nobody waits for another
PLAYED = 20_000
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How much is asked of each question.

    Args:
        rounds: Times over. apart: Questions apart in each. full: Questions without a pause.
        asked: Questions of each stream. loads: Of the streams, as parts of the most.
    """

    rounds: int = 6
    apart: int = 25
    full: int = 160
    asked: int = 150
    loads: tuple[float, ...] = (0.2, 0.4, 0.6)


@dataclass(slots=True)
class Taken:
    """What one question took, seconds, round by round."""

    apart: list[Seconds] = field(default_factory=list)
    between: list[Seconds] = field(default_factory=list)  # two answers, when asked without a pause
    streams: dict[float, list[Seconds]] = field(default_factory=dict)  # by the load


async def compare(
    region: RunningRegion, seed: int, say: Say, effort: Effort | None = None
) -> tuple[Compared, ...]:
    """Ask, and predict.

    Raises:
        Unavailable: if the region does not answer as it should.
    """
    effort = effort or Effort()
    random, rows = np.random.default_rng(seed), list[Compared]()
    for name, ask in (await region.questions()).items():
        taken = await _measured(name, ask, effort, random, say)
        rows += [beside(name, load, taken, random) for load in effort.loads]
    return tuple(rows)


async def _measured(name: str, ask: Asker, effort: Effort, random: np.random.Generator, say: Say) -> Taken:
    await between_answers(ask, effort.full, CLIENTS)  # connections and caches are those of a region that runs
    taken = Taken()
    for number in range(effort.rounds):
        say(f"{name}: round {number + 1} of {effort.rounds}")
        taken.between.append(await between_answers(ask, effort.full, CLIENTS))
        most = 1 / float(taken.between[-1].mean())
        taken.apart.append(await ask_at(ask, arrivals(random, APART * most, effort.apart)))
        for load in effort.loads:
            answered = await ask_at(ask, arrivals(random, load * most, effort.asked))
            taken.streams.setdefault(load, []).append(answered)
    return taken


def _of_rounds(rounds: Sequence[Seconds]) -> tuple[float, float]:
    """Half and 95 of 100, each the median of the rounds."""
    half, most = np.median([np.quantile(one, (0.5, 0.95)) for one in rounds], axis=0)
    return float(half), float(most)


def beside(name: str, load: float, taken: Taken, random: np.random.Generator) -> Compared:
    """One load and its forecast: each round's stream stands beside what that round's own calibration says.

    Args:
        name: Of the question. load: Part of the most. taken: What it took.
        random: For what is drawn.
    """
    apart, rates = np.concatenate(taken.apart), [load / float(each.mean()) for each in taken.between]
    predicted = []
    for rate, between in zip(rates, taken.between, strict=True):
        work, alone = random.choice(between, PLAYED), random.choice(apart, PLAYED)
        predicted.append(waits(arrivals(random, rate, PLAYED), work, 1) + alone)
    measured_p50, measured_p95 = _of_rounds(taken.streams[load])
    predicted_p50, predicted_p95 = _of_rounds(predicted)
    return Compared(
        question=name,
        load=load,
        rate=float(np.median(rates)),
        measured_p50_s=measured_p50,
        measured_p95_s=measured_p95,
        predicted_p50_s=predicted_p50,
        predicted_p95_s=predicted_p95,
    )


def in_words(row: Compared) -> str:
    """One line of it."""
    parts: Mapping[str, tuple[float, float, float]] = {
        "half": (row.measured_p50_s, row.predicted_p50_s, row.p50_error),
        "95 of 100": (row.measured_p95_s, row.predicted_p95_s, row.p95_error),
    }
    said = "; ".join(
        f"{name} within {1000 * measured:.0f} ms, forecast {1000 * predicted:.0f} ms ({100 * error:+.0f} %)"
        for name, (measured, predicted, error) in parts.items()
    )
    return f"{row.question} at {row.load:.0%} load, {row.rate:.1f} a second: {said}"
