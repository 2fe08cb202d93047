"""The drills as they are typed: all of them on a demo that runs, and one that has to fail."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scenario_demo import STORY_S, Demo, Told
from scenario_processes import Finished, signal_to, wait_for

from simulations.drills.table import DRILLS

ALL_S = 480.0  # longest on a busy machine; it takes some two minutes on an idle one
NAMES = [one.name for one in DRILLS]
pytestmark = [pytest.mark.scenario, pytest.mark.timeout(2 * STORY_S + ALL_S)]


@dataclass(frozen=True)
class Played:
    """All drills on one demo."""

    done: Finished
    drills: dict[str, dict[str, Any]]
    page: str
    before: dict[str, Any]
    after: dict[str, Any]
    held: dict[str, str]  # member -> studies before


async def held(told: Told) -> dict[str, str]:
    """How many studies each member has, by its own count."""
    counts = {}
    for node in told["nodes"]:
        answer = await told.http("GET", node["metrics"])
        found = re.search(rb"^crosslight_node_studies (\S+)$", answer.body, re.M)
        assert found
        counts[node["code"]] = found.group(1).decode()
    return counts


@pytest.fixture(scope="module")
def played(secured: Demo, tmp_path_factory: pytest.TempPathFactory) -> Played:
    before, folder = secured.up(), tmp_path_factory.mktemp("drills")
    counted = asyncio.run(held(before))
    files = ("--json", str(folder / "drills.json"), "--report", str(folder / "drills.html"))
    done = secured.family.run(
        "simulations", "drill", "--all", "--demo", str(secured.json_path), *files, within_s=ALL_S
    )
    assert (folder / "drills.json").exists(), done.output
    told = json.loads((folder / "drills.json").read_bytes())
    page = (folder / "drills.html").read_text("utf-8")
    drills = {one["drill"]: one for one in told["drills"]}
    return Played(done, drills, page, before.content, secured.told().content, counted)


@pytest.mark.parametrize("name", NAMES)
def test_the_region_passes(played: Played, name: str) -> None:
    drill = played.drills[name]
    failed = [one for one in drill["expectations"] if not one["held"]]
    assert not failed, f"{failed}\n{played.done.output}"
    assert drill["passed"]
    assert len(drill["expectations"]) >= 10
    assert drill["seconds"] > 0
    assert [one for one in drill["expectations"] if one["took_s"] is not None], "nothing was measured"


def test_the_verdict_is_told_everywhere(played: Played) -> None:
    assert played.done.status == 0, played.done.output
    verdict = f"All {len(NAMES)} drills passed."
    assert verdict in played.done.output
    assert verdict in played.page


def test_a_demo_that_goes_on_lists_what_it_listed_before(played: Played) -> None:
    assert played.after["patients"] == played.before["patients"]


async def test_no_order_and_no_study_of_a_drill_is_left(played: Played, secured: Demo) -> None:
    assert not list((secured.data / "orders").glob("*"))
    assert await held(secured.told()) == played.held
    for node in played.after["nodes"]:
        assert "127.0.0.2" not in Path(node["data"], "node.toml").read_text("utf-8")


def test_a_region_that_does_not_hold_fails_the_drill(secured: Demo, tmp_path: Path) -> None:
    """One member is frozen while another is suspended: what it let in before is not cut there."""
    told, out = secured.up(), tmp_path / "drill.json"
    frozen = told.node("RYR")["pid"]
    arguments = ("drill", "cut-off", "--demo", str(secured.json_path), "--json", str(out))
    running = secured.family.start(tmp_path / "drill.log", "simulations", *arguments)
    try:
        wait_for("the connections are open", lambda: "and kept." in running.output, 60)
        signal_to(frozen, signal.SIGSTOP)
        wait_for("it was looked at", lambda: "readmitted it" in running.output, 60)
    finally:
        signal_to(frozen, signal.SIGCONT)
    assert running.process.wait(120) == 1, running.output
    (drill,) = json.loads(out.read_bytes())["drills"]
    failed = {one["what"] for one in drill["expectations"] if not one["held"]}
    assert not drill["passed"]
    assert "Its certificate was refused at every other trust and at the registry" in failed
    assert "Its connections that were open before were cut within five seconds" in failed
    assert len(failed) == 2, "what the others do holds"
    assert "1 of 1 drills failed" in running.output
