"""How long things wait: closed forms where there are some, and a queue that is played where not."""

from __future__ import annotations

import heapq
from dataclasses import dataclass
from math import exp, inf, lgamma, log

import numpy as np
from numpy.typing import NDArray

Seconds = NDArray[np.float64]


def erlang_c(load: float, servers: int) -> float:
    """Probability of having to wait in M/M/c (Erlang C); ``load`` in erlangs, below ``servers``."""
    if load >= servers:
        return 1.0
    if load <= 0:
        return 0.0
    top = servers * log(load) - lgamma(servers + 1) + log(servers / (servers - load))
    below = [k * log(load) - lgamma(k + 1) for k in range(servers)]
    peak = max(top, *below)
    return exp(top - peak) / (sum(exp(term - peak) for term in below) + exp(top - peak))


def mmc_mean_wait_s(rate: float, service_s: float, servers: int) -> float:
    """Mean wait in M/M/c, seconds; infinite at full load."""
    load = rate * service_s
    return inf if load >= servers else erlang_c(load, servers) * service_s / (servers - load)


def mmc_wait_quantile_s(rate: float, service_s: float, servers: int, part: float) -> float:
    """The wait that ``part`` of the arrivals in M/M/c do not exceed, seconds."""
    load = rate * service_s
    if load >= servers:
        return inf
    waits = erlang_c(load, servers)
    return 0.0 if waits <= 1 - part else log(waits / (1 - part)) * service_s / (servers - load)


def mg1_mean_wait_s(rate: float, service_s: float, variation: float) -> float:
    """Mean wait in M/G/1 (Pollaczek and Khinchine); ``variation`` is standard deviation over mean."""
    load = rate * service_s
    return inf if load >= 1 else rate * service_s**2 * (1 + variation**2) / (2 * (1 - load))


@dataclass(frozen=True, slots=True)
class WorkTime:
    """How long one thing keeps a server busy: log-normal.

    Args:
        mean_s: In the mean, seconds.
        variation: Standard deviation over mean; 0 is always the same.
    """

    mean_s: float
    variation: float = 1.0

    def draw(self, random: np.random.Generator, count: int) -> Seconds:
        """So many service times, seconds."""
        if self.variation <= 0 or self.mean_s <= 0:
            return np.full(count, self.mean_s)
        spread = np.log1p(self.variation**2)
        return random.lognormal(log(self.mean_s) - spread / 2, np.sqrt(spread), count)


def arrivals(random: np.random.Generator, rate: float, count: int) -> Seconds:
    """So many arrivals of a Poisson stream, seconds from its begin."""
    return np.cumsum(random.exponential(1 / rate, count))


def waits(at: Seconds, service: Seconds, servers: int) -> Seconds:
    """How long each waits, first come first served, before one of ``servers`` is free, seconds."""
    free = [0.0] * servers
    waited = np.empty_like(at)
    for i, (moment, busy) in enumerate(zip(at.tolist(), service.tolist(), strict=True)):
        begin = max(moment, heapq.heappop(free))
        waited[i] = begin - moment
        heapq.heappush(free, begin + busy)
    return waited


def loss_bound_bits_per_s(rtt_s: float, loss: float) -> float:
    """What one TCP stream of today reaches on a lossy line (Mathis 1997, with segments of 1,460 bytes)."""
    return inf if loss <= 0 or rtt_s <= 0 else 1460 * 8 / rtt_s * (1.5 / loss) ** 0.5
