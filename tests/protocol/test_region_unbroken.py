"""A way to a member that breaks off within an answer: who asked gets all of it, once, or an error."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import numpy as np
import pytest
from aiohttp import ClientError
from cutting_proxy import CuttingProxy
from gateway_region import GatewayRegion, endless_member, gateway_region
from node_serving import ct
from region_holders import DICOM_PARTS
from yarl import URL

from registry.gateway.unbroken import MOST_SHORT

STUDY = "/dicomweb/studies/1.2.7"
ONE = f"{STUDY}/series/1.2.7.1/instances/1.2.7.1.1"
EACH = 300_000  # bytes that one connection lives


@pytest.fixture
async def region(tmp_path: Path) -> AsyncIterator[GatewayRegion]:
    async with gateway_region(tmp_path, ("RTK",)) as found:
        pixels = np.random.default_rng(7).integers(0, 4096, (512, 512), "<u2").tobytes()
        images = [
            ct("1.2.7", "1.2.7.1", f"1.2.7.1.{i}", Rows=512, Columns=512, PixelData=pixels, number=i)
            for i in (1, 2, 3)
        ]
        await found.add("RTK", *images)
        yield found


async def _whole(region: GatewayRegion, path: str, accept: str, **headers: str) -> tuple[int, bytes]:
    async with region.http.get(f"{region.base}{path}", headers={"Accept": accept, **headers}) as response:
        return response.status, await response.read()


def _behind(region: GatewayRegion, proxy: CuttingProxy) -> None:
    port = URL(region.nodes["RTK"].url).port
    assert port is not None
    proxy.port = port


@pytest.mark.parametrize(
    ("path", "accept", "asked"),
    [
        (STUDY, DICOM_PARTS, {}),
        (ONE, "application/dicom", {}),
        (ONE, "application/dicom", {"Range": "bytes=1000-420000"}),
        (STUDY, DICOM_PARTS, {"If-None-Match": '"of another day"'}),
    ],
)
async def test_an_answer_that_breaks_off_again_and_again_comes_whole(
    region: GatewayRegion, path: str, accept: str, asked: dict[str, str]
) -> None:
    expected = await _whole(region, path, accept, **asked)
    async with CuttingProxy(answer_bytes=EACH) as proxy:
        _behind(region, proxy)
        with endless_member(region, "RTK", f"http://{proxy.address}"):
            assert await _whole(region, path, accept, **asked) == expected
        assert proxy.accepted > len(expected[1]) // EACH
    assert region.unbroken.resumed["RTK"] >= len(expected[1]) // EACH
    outcomes = [act.outcome.kind for act in await region.acts() if act.outcome is not None]
    assert outcomes == ["ok", "ok"], "one act of the region, however often it broke"


async def test_a_member_that_gives_a_few_bytes_at_a_time_is_given_up(region: GatewayRegion) -> None:
    async with CuttingProxy(answer_bytes=2000) as proxy:
        _behind(region, proxy)
        with endless_member(region, "RTK", f"http://{proxy.address}"):
            with pytest.raises((ClientError, ConnectionError)):
                await _whole(region, STUDY, DICOM_PARTS)
        assert MOST_SHORT <= proxy.accepted <= MOST_SHORT + 2


async def test_one_that_changed_meanwhile_is_cut_off(region: GatewayRegion) -> None:
    """Half of the study as it was and half of the study as it is are no study."""

    async def changed() -> None:
        await region.add("RTK", ct("1.2.7", "1.2.7.1", "1.2.7.1.99", number=99))

    await _cut_after(region, changed)


async def test_one_whose_member_was_suspended_is_cut_off(region: GatewayRegion) -> None:
    async def suspended() -> None:
        region.suspend("RTK")

    await _cut_after(region, suspended)


async def test_one_that_stays_away_is_cut_off_in_the_end(region: GatewayRegion) -> None:
    async def gone() -> None:
        await region.nodes["RTK"].stop()

    await _cut_after(region, gone)


async def _cut_after(region: GatewayRegion, happened: Callable[[], Awaitable[None]]) -> None:
    """Large enough that most of it is still at the member when the reader has its first bytes."""
    large = {"Rows": 2048, "Columns": 2048, "PixelData": bytes(1 << 23)}
    await region.add(
        "RTK", *(ct("1.2.7", "1.2.7.1", f"1.2.7.1.{i}", number=i, **large) for i in range(4, 12))
    )
    async with CuttingProxy() as proxy:
        _behind(region, proxy)
        with endless_member(region, "RTK", f"http://{proxy.address}"):
            async with region.http.get(f"{region.base}{STUDY}", headers={"Accept": DICOM_PARTS}) as response:
                await response.content.readexactly(1000)
                await happened()
                proxy.cut()
                with pytest.raises((ClientError, ConnectionError)):
                    await response.read()
