"""The forecast beside a demo region that runs. How far it is off is told, and is no test's matter."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner
from scenario_demo import STORY_S, TOPOLOGIES, Demo

from simulations.__main__ import main
from simulations.capacity import service_times
from simulations.capacity.running import LIST, PICTURE

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(2 * STORY_S)]


def test_a_running_region_is_asked_and_the_error_is_told_and_kept(opened: Demo, tmp_path: Path) -> None:
    times, report = tmp_path / "times.json", tmp_path / "report.html"
    shutil.copy(service_times.FILE, times)
    asked = ["--compare", str(opened.json_path), "--rounds", "1", "--keep", "--service-times", str(times)]
    region = str(TOPOLOGIES / "surrey_sussex.toml")
    ran = CliRunner().invoke(main, ["simulate", region, "--years", "1", "--out", str(report), *asked])
    assert ran.exit_code == 0, ran.output
    compared = service_times.read(times).compared
    assert compared is not None
    assert [row.question for row in compared.rows] == [LIST] * 3 + [PICTURE] * 3
    for row in compared.rows:
        assert 0 < row.measured_p50_s <= row.measured_p95_s
        assert 0 < row.predicted_p50_s <= row.predicted_p95_s
    assert ran.output.count("forecast") >= 6
    assert f"off by {100 * compared.worst:.0f} % at most" in " ".join(report.read_text("utf-8").split())


def test_a_region_that_does_not_answer_ends_in_words(opened: Demo, tmp_path: Path) -> None:
    told = tmp_path / "demo.json"
    text = opened.json_path.read_text("utf-8")
    port = str(json.loads(text)["registry"]["fhir"]).split(":")[2].split("/")[0]
    told.write_text(text.replace(f":{port}/", ":1/"), "utf-8")
    region = str(TOPOLOGIES / "surrey_sussex.toml")
    for content in (told, Path(region)):
        ran = CliRunner().invoke(main, ["simulate", region, "--compare", str(content)])
        assert ran.exit_code == 1
        assert ("does not answer" if content == told else "no file of crosslight demo") in ran.output
