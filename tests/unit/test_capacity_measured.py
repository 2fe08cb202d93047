"""Service times: what the benchmarks write of them, how old they are; a forecast beside what was measured."""

from __future__ import annotations

from dataclasses import asdict, replace
from datetime import date
from pathlib import Path

import numpy as np
import orjson
import pytest
from click.testing import CliRunner

from benchmarks.__main__ import keep_service_times
from benchmarks.dicom import _service_times
from benchmarks.meter import Result, Sample
from benchmarks.registry import FEED, SEARCH, ServiceTimesTaken
from benchmarks.report import Section, commit
from crosslight import __version__
from crosslight.standards.problem import ConfigError
from simulations.__main__ import main
from simulations.capacity import service_times
from simulations.capacity.compared import Compared
from simulations.capacity.comparison import Taken, beside, in_words
from simulations.capacity.machine import core_s, described
from simulations.capacity.queues import mg1_mean_wait_s
from simulations.capacity.service_times import Origin

TODAY = date(2026, 11, 30)
HERE = Origin(measured=TODAY, release=__version__, commit="abc1234", machine="4 cores", core_s=0.01)


def _result(rate: float, cpu_ms: float) -> Result:
    return Result((Sample(rate, 1.0, rate * cpu_ms / 1000),))


def test_the_benchmarks_keep_what_they_measured_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    before = service_times.read()
    measured = {"find_s": 0.02, "variation": 0.3, "store_cpu_s": 0.0, "picture_s": float("nan")}
    sections = [Section("a", "", "", (), measured=measured), Section("b", "", "", ())]
    assert keep_service_times(sections, path) == ["find_s", "variation"]
    kept = service_times.read(path)
    assert kept.times == replace(before.times, find_s=0.02, variation=0.3)
    new, old = kept.origins["find_s"], kept.origins["picture_s"]
    assert (new.release, new.commit) == (__version__, commit())
    assert "cores" in new.machine
    assert new.core_s > 0
    assert old == before.origins["picture_s"]


def test_every_service_time_is_measured_by_some_benchmark() -> None:
    registry = ServiceTimesTaken(
        {SEARCH: {"PostgreSQL": _result(50, 12)}, FEED: {"PostgreSQL": _result(1000, 0.8)}},
        {"current": 700.0, "each_patient": 1400.0},
        2000.0,
        [0.01, 0.02, 0.03],
        [0.01, 0.01, 0.01, 0.05],
    )
    names = (
        "C-STORE, 1 association",
        "WADO-RS, rendered",
        "WADO-RS, first byte of it",
        "WADO-RS, whole study",
    )
    node = _service_times({name: _result(100, 5) for name in names})
    measured = {**registry.measured(), **registry.sizes(), **node, "relay_s": 0.004}
    assert sorted(measured) == sorted(service_times.NAMES)
    assert (measured["find_s"], measured["find_cpu_s"]) == pytest.approx((0.02, 0.012))
    assert (measured["find_alone_s"], measured["find_alone_variation"]) == pytest.approx((0.02, 0.5))
    assert (measured["variation"], measured["store_cpu_s"]) == pytest.approx((1.0, 0.005))


def test_service_times_say_when_they_are_old(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    kept = service_times.write(dict.fromkeys(service_times.NAMES, 0.5), HERE, path)
    assert service_times.read(path) == kept
    assert kept.age(TODAY) == ""
    assert "120 days old" in kept.age(date(2027, 3, 30))
    late = service_times.write({"find_s": 0.4}, replace(HERE, measured=date(2027, 3, 30)), path)
    assert "Of the service times act_bytes, " in late.age(date(2027, 3, 30))
    assert "find_s" not in late.age(date(2027, 3, 30))
    other = service_times.write({"find_s": 0.4}, replace(HERE, release="0.1"), path)
    assert other.age(TODAY).startswith("Of the service times find_s are of release 0.1")


@pytest.mark.parametrize(
    "said", [b"", b"[]", b'{"times": {}}', b'{"times": {"find_s": {"value": 1}}}', b"{"], ids=str
)
def test_a_file_without_service_times_is_refused(tmp_path: Path, said: bytes) -> None:
    path = tmp_path / "times.json"
    path.write_bytes(said)
    with pytest.raises(ConfigError, match="service time"):
        service_times.read(path)
    ran = CliRunner().invoke(main, ["simulate", str(path), "--service-times", str(path)])
    assert ran.exit_code == 1


def test_a_value_of_no_name_or_of_nothing_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    with pytest.raises(ConfigError, match="speed is no service time"):
        service_times.write({"speed": 1.0}, HERE, path)
    with pytest.raises(ConfigError, match="find_s is missing"):
        service_times.write({"find_s": 0.0}, HERE, path)
    assert not path.exists()


def test_a_faster_core_takes_less_time_and_no_fewer_bytes() -> None:
    times = service_times.read().times
    fast, slow = asdict(times.on(2.0)), asdict(times)
    for name, value in fast.items():
        if name in ("publish_per_s", "stream_mb_s"):
            assert value == pytest.approx(2 * slow[name])
        elif name.endswith("_s"):
            assert value == pytest.approx(slow[name] / 2)
        else:
            assert value == slow[name]


def test_the_reference_work_takes_some_of_a_core() -> None:
    assert 0 < core_s() < 5
    assert " cores, " in described()


def test_a_comparison_is_kept_with_the_service_times(tmp_path: Path) -> None:
    path = tmp_path / "times.json"
    row = _compared(rate=50, most=100, apart_s=0.02)
    kept = service_times.keep_comparison([row], HERE, path)
    assert service_times.read(path) == kept
    assert kept.compared is not None
    assert kept.compared.rows == (row,)
    assert kept.compared.worst == max(abs(row.p50_error), abs(row.p95_error))
    again = service_times.write({"find_s": 0.4}, HERE, path)
    assert again.compared == kept.compared
    assert orjson.loads(path.read_bytes())["compared"]["machine"] == "4 cores"


def _taken(load: float, apart_s: float, between_s: float) -> Taken:
    # the machine did something else in one round
    answered = [np.full(50, took) for took in (0.03, 0.02, 9.0)]
    return Taken([np.full(50, apart_s)] * 3, [np.full(50, between_s) for _ in range(3)], {load: answered})


def _compared(rate: float, most: float, apart_s: float) -> Compared:
    load = rate / most
    return beside("a list", load, _taken(load, apart_s, 1 / most), np.random.default_rng(3))


def test_a_forecast_beside_what_was_measured() -> None:
    half = _compared(rate=25, most=50, apart_s=0.02)
    assert half.load == 0.5
    assert (half.measured_p50_s, half.measured_p95_s) == (0.03, 0.03)
    mean = 0.02 + mg1_mean_wait_s(25, 0.02, 0)  # M/D/1
    assert 0.02 <= half.predicted_p50_s < mean < half.predicted_p95_s
    # a tenth of a question's time is what all share: others delay it next to nothing
    mostly_apart = _compared(rate=25, most=500, apart_s=0.02)
    assert mostly_apart.predicted_p95_s == pytest.approx(0.02, rel=0.15)
    assert mostly_apart.p50_error == pytest.approx(0.02 / 0.03 - 1, abs=0.01)
    assert "at 5% load, 25.0 a second: half within 30 ms, forecast 20 ms (-33 %)" in in_words(mostly_apart)


def test_a_machine_that_is_slower_for_a_while_is_asked_less_then() -> None:
    """Each round stands beside its own calibration: what it was asked, and what it was good for."""
    taken = _taken(0.5, 0.02, 0.01)
    taken.between[2][:] = 0.1
    assert beside("a list", 0.5, taken, np.random.default_rng(3)).rate == pytest.approx(50)
    even = beside("a list", 0.5, _taken(0.5, 0.02, 0.01), np.random.default_rng(3))
    drifted = beside("a list", 0.5, taken, np.random.default_rng(3))
    assert drifted.predicted_p95_s == pytest.approx(even.predicted_p95_s, rel=0.1)


def test_pauses_of_the_disk_are_seen_in_the_95th_percentile_and_not_in_the_median() -> None:
    even, paused = _taken(0.25, 0.02, 0.01), _taken(0.25, 0.02, 0.01)
    for between in paused.between:
        between[:] = 0.005
        between[0] = 0.255  # the same in the mean
    calm, rough = (beside("a list", 0.25, taken, np.random.default_rng(3)) for taken in (even, paused))
    assert rough.rate == pytest.approx(calm.rate)
    assert rough.predicted_p95_s > 2 * calm.predicted_p95_s
    assert rough.predicted_p50_s == pytest.approx(calm.predicted_p50_s, rel=0.3)
