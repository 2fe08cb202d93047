"""What other organisations are given of a node's images passes its caps, on each road."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from dicomweb_answers import DICOM_PARTS
from node_serving import MEMBER, Served, ct, part10, serving
from registry_room import TestClock

from crosslight.standards.access import Principal
from node.serve.bandwidth import Bandwidth
from node.serve.config import CapConfig, ServeConfig

OTHER = Principal(subject="dr.who", roles=frozenset({"clinician"}), organisation="RXC")
OWN = Principal(subject="dr.here", roles=frozenset({"clinician"}), organisation=MEMBER.code)
LARGE: dict[str, Any] = {"Rows": 2048, "Columns": 2048, "PixelData": bytes(range(256)) * (1 << 15)}
PATHS = {
    "large": ("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1", "application/dicom"),
    "small": ("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.2", "application/dicom"),
    "study": ("/studies/1.2.1", DICOM_PARTS),
    "frame": ("/studies/1.2.1/series/1.2.1.1/instances/1.2.1.1.1/frames/1", "application/octet-stream"),
    "metadata": ("/studies/1.2.1/metadata", "application/dicom+json"),
}


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Served]:
    config = ServeConfig(while_storing_mbit_s=80)
    async with serving(tmp_path, open_mode=False, config=config) as served:
        await served.add(part10(ct(sop="1.2.1.1.1", **LARGE)), part10(ct(sop="1.2.1.1.2")))
        yield served


async def given(node: Served, path: str, accept: str, who: Principal) -> bytes:
    sent = {"Accept": accept, **node.access(who)}
    async with node.session.get(f"{node.url}/dicomweb{path}", headers=sent) as response:
        assert response.status == 200, await response.text()
        return await response.read()


def capped(node: Served, *caps: CapConfig) -> TestClock:
    clock = TestClock()
    node.serve.bandwidth = Bandwidth(caps, 0, clock, lambda: MEMBER.code)
    return clock


@pytest.mark.parametrize("road", ["kernel", "chunks"])
@pytest.mark.parametrize("what", ["large", "small", "study", "frame"])
async def test_a_cap_holds_what_others_are_given_and_nothing_of_our_own(
    node: Served, what: str, road: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if road == "chunks":
        monkeypatch.setattr("node.serve.stream.plain_socket", lambda transport: None)
    path, accept = PATHS[what]
    clock = capped(node, CapConfig(partner="RXC", mbit_s=8))
    own = await given(node, path, accept, OWN)
    assert clock.monotonic_s() == 0
    theirs = await given(node, path, accept, OTHER)
    assert len(theirs) == len(own)
    assert clock.monotonic_s() == pytest.approx(len(theirs) / 1_000_000, abs=0.3)


async def test_who_has_no_cap_waits_for_nobody(node: Served) -> None:
    clock = capped(node, CapConfig(partner="RTK", mbit_s=0.1))
    for path, accept in PATHS.values():
        await given(node, path, accept, OTHER)
    assert clock.monotonic_s() == 0


async def test_storing_here_makes_others_give_way(node: Served) -> None:
    """By the node's own parts: what is stored is told to whoever sends."""
    path, accept = PATHS["large"]
    await node.archive.catch_up()
    node.serve.bandwidth._clock = TestClock()
    node.serve.bandwidth._stored_s = float("-inf")
    await given(node, path, accept, OTHER)
    assert node.serve.bandwidth.waited_s["storing"] == 0
    await node.add(part10(ct(sop="1.2.1.1.3", number=3)))
    await node.archive.catch_up()
    await given(node, path, accept, OTHER)
    assert node.serve.bandwidth.waited_s["storing"] > 0
    (total,) = node.serve.bandwidth.gauges()
    assert total.name == "crosslight_node_held_up_seconds"
