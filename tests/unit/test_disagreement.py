"""A registry that disagrees again and again is not asked without a pause, and other studies go on.

The registry's fault is switched in here, never in the product.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from registry.intake.batch import Batch
from simulations.faults.objects import Image
from simulations.virtual.loop import run_virtually
from simulations.virtual.network import Network
from simulations.virtual.region import VirtualRegion, until, virtual_region
from simulations.virtual.trace import Trace

CODE = "RTK"
QUARREL = Image(person=0, study=1, number=1)
LATER = Image(person=0, study=1, number=2)
OTHER = Image(person=1, study=2, number=1)
WATCHED_S = 1800.0


async def listed(region: VirtualRegion, image: Image) -> int:
    """How many images the region knows of its study."""
    studies = await region.json(f"dicomweb/studies?StudyInstanceUID={image.study_uid}")
    return int(studies[0]["00201208"]["Value"][0]) if studies else 0


def calls(trace: Trace, method: str) -> int:
    """So many calls of the node."""
    return sum(f"{CODE}: calls" in line and line.endswith(method) for line in trace.lines)


@pytest.mark.parametrize("kind", ["stale", "epoch"])
def test_a_registry_that_disagrees_for_ever_is_asked_less_and_less(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trace, wrong = Trace(), False
    ordered, granted = Batch._ordered, Batch._granted

    def always_stale(self: Any, submission: Any, member: Any, entry: Any, act: Any, version: Any) -> Any:
        answer = ordered(self, submission, member, entry, act, version)
        return "stale" if wrong and answer is None and entry.now is not None else answer

    def another_epoch(self: Any, member: Any, version: Any) -> None:
        granted(self, member, replace(version, epoch=version.epoch + 1) if wrong else version)

    async def main() -> None:
        async with virtual_region(tmp_path, [CODE], 1) as region:
            await region.store(CODE, QUARREL.part10(CODE))
            await until(lambda: listed(region, QUARREL))
            nonlocal wrong
            wrong = True
            before = calls(trace, "Publish")
            await region.store(CODE, LATER.part10(CODE))
            await asyncio.sleep(WATCHED_S)
            published, compared = calls(trace, "Publish") - before, calls(trace, "Compare")
            assert 3 < published < 40, published
            assert 3 <= compared < 30, compared
            await region.store(CODE, OTHER.part10(CODE))
            if kind == "stale":  # it is one study's matter: another is not held up by it
                await until(lambda: listed(region, OTHER), within_s=30.0, every_s=5.0)
            wrong = False
            await until(lambda: _all(region), within_s=700.0, every_s=5.0)

    async def _all(region: VirtualRegion) -> bool:
        return await listed(region, LATER) == 2 and await listed(region, OTHER) == 1

    if kind == "stale":
        monkeypatch.setattr(Batch, "_ordered", always_stale)
    else:
        monkeypatch.setattr(Batch, "_granted", another_epoch)
    run_virtually(lambda loop: Network(loop, trace), main)
