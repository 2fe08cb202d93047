"""The queues of the forecast beside closed forms, where there are some."""

from __future__ import annotations

from math import inf, isinf

import numpy as np
import pytest

from simulations.capacity.queues import (
    WorkTime,
    arrivals,
    erlang_c,
    loss_bound_bits_per_s,
    mg1_mean_wait_s,
    mmc_mean_wait_s,
    mmc_wait_quantile_s,
    waits,
)

COUNT = 60_000


def _exponential(random: np.random.Generator, mean_s: float) -> np.ndarray:
    return random.exponential(mean_s, COUNT)


@pytest.mark.parametrize(
    ("load", "servers", "known"),
    [(0.5, 1, 0.5), (0.9, 1, 0.9), (2.0, 3, 0.4444), (8.0, 10, 0.4092), (0.0, 4, 0.0), (5.0, 4, 1.0)],
)
def test_erlang_c_is_as_tables_have_it(load: float, servers: int, known: float) -> None:
    assert erlang_c(load, servers) == pytest.approx(known, abs=2e-4)


@pytest.mark.parametrize(("load", "servers"), [(0.5, 1), (0.8, 1), (1.6, 2), (3.2, 4), (11.0, 16)])
def test_a_played_queue_waits_as_m_m_c_does(load: float, servers: int) -> None:
    random = np.random.default_rng(7)
    rate, service_s = load / 0.01, 0.01
    played = waits(arrivals(random, rate, COUNT), _exponential(random, service_s), servers)
    assert played.mean() == pytest.approx(mmc_mean_wait_s(rate, service_s, servers), rel=0.1, abs=5e-5)
    wanted = mmc_wait_quantile_s(rate, service_s, servers, 0.95)
    assert float(np.quantile(played, 0.95)) == pytest.approx(wanted, rel=0.2, abs=4e-4)


@pytest.mark.parametrize("variation", [0.0, 0.6, 1.0, 2.0])
@pytest.mark.parametrize("load", [0.3, 0.7])
def test_a_played_queue_waits_as_pollaczek_and_khinchine_say(load: float, variation: float) -> None:
    random = np.random.default_rng(11)
    service = WorkTime(0.02, variation)
    played = waits(arrivals(random, load / 0.02, COUNT), service.draw(random, COUNT), 1)
    assert played.mean() == pytest.approx(mg1_mean_wait_s(load / 0.02, 0.02, variation), rel=0.15)


@pytest.mark.parametrize("variation", [0.0, 0.4, 1.5])
def test_service_times_have_their_mean_and_variation(variation: float) -> None:
    drawn = WorkTime(0.05, variation).draw(np.random.default_rng(3), COUNT)
    assert drawn.mean() == pytest.approx(0.05, rel=0.02)
    assert drawn.std() / drawn.mean() == pytest.approx(variation, rel=0.05, abs=1e-6)


def test_what_does_not_keep_up_waits_for_ever() -> None:
    assert isinf(mmc_mean_wait_s(400, 0.01, 4))
    assert isinf(mg1_mean_wait_s(100, 0.01, 1))
    assert mmc_wait_quantile_s(500, 0.01, 4, 0.5) == inf


def test_one_stream_on_a_lossy_line_is_slower_than_the_line() -> None:
    assert loss_bound_bits_per_s(0.035, 0) == inf
    assert loss_bound_bits_per_s(0.035, 0.002) == pytest.approx(9.1e6, rel=0.02)
