"""``crosslight demo --once``: the five steps hold, in the regions that the project describes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from scenario_demo import STORY_S, TOPOLOGIES, Demo, assert_story_told
from scenario_processes import wait_for

pytestmark = [pytest.mark.scenario, pytest.mark.timeout(2 * STORY_S)]
soak = pytest.mark.skipif(not os.environ.get("CROSSLIGHT_SOAK"), reason="make soak")


def test_surrey_and_sussex(secured: Demo) -> None:
    assert secured.first is not None
    assert_story_told(secured.first)
    assert secured.json_path.exists()  # --once with --json leaves the truth for others to read
    for word in (
        "RTK Ashford",
        "RA2 Royal Surrey",
        "clinician-ra2",
        f"127.0.0.1:{secured.base + 12}",
        "/xds/registry",
        "title DEMO",
    ):
        assert word in secured.first.output, f"{word} is not in the table"


def play(folder: Path, region: str, members: int) -> None:
    demo = Demo(folder, ("--region", str(TOPOLOGIES / f"{region}.toml")), members=members)
    try:
        assert_story_told(demo.once())
        assert not demo.family.alive()
    finally:
        demo.close()


def test_north_central_london(tmp_path: Path) -> None:
    play(tmp_path, "north_central_london", 6)


@soak
@pytest.mark.soak
@pytest.mark.parametrize(("region", "members"), [("scotland", 15), ("emory", 11)])
def test_other_regions_soak(tmp_path: Path, region: str, members: int) -> None:
    play(tmp_path, region, members)


def test_a_demo_cut_off_while_it_is_made_is_made_anew(tmp_path: Path) -> None:
    demo = Demo(tmp_path)
    try:
        running = demo.start()
        wait_for("nodes joining", lambda: (demo.data / "nodes").exists(), 60)
        running.process.kill()
        running.process.wait()
        wait_for("no child left of a demo that was killed", lambda: not demo.family.alive(), 10)
        assert not (demo.data / "demo.json").exists()
        half_made = (demo.data / "registry" / "registry.toml").read_bytes()

        running = demo.start(stale=b"of an earlier run")
        wait_for(
            f"the region is up\n{running.output}",
            lambda: "processes are up" in running.output or not running.alive,
            120,
        )
        assert running.alive, running.output
        assert not demo.json_path.exists(), "what is told now would not be true"
        assert (demo.data / "registry" / "registry.toml").read_bytes() != half_made, (
            "new accounts: a new region"
        )
        assert running.stop() == 130, "ended before its story was over"
        assert not demo.family.alive()
    finally:
        demo.close()
