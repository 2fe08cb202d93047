"""What a service asks of the world comes by one value."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import registry.app
from crosslight.runtime.clock import SystemClock
from crosslight.runtime.seams import system_seams
from crosslight.runtime.workers import READERS


@pytest.mark.parametrize("module", [*READERS, *registry.app.READERS_OF_MANIFESTS])
def test_what_children_are_to_find_loaded_exists(module: str) -> None:
    assert importlib.util.find_spec(module) is not None  # multiprocessing says nothing when it does not


async def test_the_real_seams_open_databases_by_file_and_by_address(tmp_path: Path) -> None:
    seams = system_seams()
    for db in (
        seams.databases.embedded(tmp_path / "a.db"),
        seams.databases.open("sqlite:b.db", base=tmp_path),
    ):
        assert await db.read("one", lambda tx: tx.row("SELECT 1")) == (1,)
        await db.close()
    await seams.workers.close()
    assert {path.name for path in tmp_path.glob("*.db")} == {"a.db", "b.db"}


async def test_a_seam_can_be_another_and_the_rest_stays() -> None:
    seams = system_seams()
    clock = SystemClock()
    other = replace(seams, clock=clock)
    assert other.clock is clock
    assert other.ids is seams.ids
    assert 0 <= seams.draw() < 1
    await seams.workers.close()


def test_the_linter_refuses_other_ways_to_the_world(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    ways = (
        "import random",
        "from uuid import uuid4",
        "import time\ntime.time()",
        "import asyncio\nasyncio.to_thread(str)",
    )
    for way in ways:
        for room, refused in (
            ("node/serve/way.py", True),
            ("registry/ask/way.py", True),
            ("crosslight/runtime/clock.py", False),
        ):
            command = [
                str(Path(sys.executable).with_name("ruff")),
                "check",
                "--select",
                "TID251",
                "--no-cache",
                "--stdin-filename",
                str(root / room),
                "-",
            ]
            done = subprocess.run(
                command, input=f"{way}\n", text=True, capture_output=True, cwd=root, check=False
            )
            assert (done.returncode == 1) is refused, (way, room, done.stdout)
