"""The registry is away for a day while 10,000 studies come: nothing is lost, and its index is the archive.

With TLS, by both roads; the day passes on everybody's clock.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from archive_fixture import MovedClock
from whole_region import Home, Whole, until, whole_region

from benchmarks.objects import tiny_studies
from crosslight.runtime.seams import system_seams
from node.holdings import Received
from registry.app import RegistryApp
from registry.config import read_config

MEANWHILE = {"RTK": 10_000, "RYR": 300}  # studies that come while it is away; RTK is on the feed, RYR on SOAP
BEFORE = 20
AT_ONCE = 8
FOUND_WITHIN_S, PAGE = 600.0, 100
pytestmark = [pytest.mark.scenario, pytest.mark.timeout(1500)]


async def add(home: Home, files: list[bytes]) -> None:
    """Receive objects, some at a time."""
    left = iter(files)

    async def some() -> None:
        for data in left:
            staged = home.app.archive.stage()
            staged.write(data)
            result = await home.app.archive.ingest_async(staged, Received(road="import", peer="test"))
            assert result.state == "stored", result

    await asyncio.gather(*(some() for _ in range(AT_ONCE)))


async def published(home: Home) -> bool:
    """Whether all that is held was told, and taken."""
    now = await home.app.publisher.status()
    assert now.parked == 0, await home.app.publisher.parked()
    return now.waiting == 0 and home.app.publisher.reviser.settled and not now.held_up


async def listed(region: Whole, home: Home, uids: list[str]) -> dict[str, int]:
    """These studies as the index has them of a member: how many instances each."""
    member = region.registry.members.by_code(home.code)
    assert member is not None
    found: dict[str, int] = {}
    for start in range(0, len(uids), PAGE):
        page = uids[start : start + PAGE]
        await region.enriched(*page)
        for holding in await region.holdings(*page):
            assert (holding.member, holding.state) == (member.id, "approved")
            assert holding.study_uid not in found
            found[holding.study_uid] = holding.record.n_instances
    return found


async def test_a_day_without_the_registry(tmp_path: Path) -> None:
    clock = MovedClock()
    async with whole_region(tmp_path, {"RTK": "grpc", "RYR": "soap"}, clock=clock, secured=True) as region:
        coming, studies = dict[str, list[bytes]](), 0
        for code, more in MEANWHILE.items():  # no study of one is another's
            studies, others = studies + BEFORE + more, studies
            coming[code] = tiny_studies(studies, code)[0][others:]
        for code, files in coming.items():
            await add(region.homes[code], files[:BEFORE])
            await region.homes[code].settled()
        await region.registry.stop()
        clock.ahead += timedelta(hours=12)
        for code, files in coming.items():
            await add(region.homes[code], files[BEFORE:])
        clock.ahead += timedelta(hours=12)

        folder = tmp_path / "registry"
        region.registry = RegistryApp(folder, read_config(folder), system_seams(clock=clock))
        try:
            await region.registry.start()
            for code, home in region.homes.items():
                await until(partial(published, home), FOUND_WITHIN_S)
                held = await home.app.parts.archive.study_uids(limit=20_000)
                assert len(held) == len(coming[code])
                assert await listed(region, home, held) == dict.fromkeys(held, 1)
        finally:
            await region.registry.stop()
