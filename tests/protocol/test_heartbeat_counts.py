"""What a heartbeat says of objects that were answered a moment ago (D19, ADR 0051)."""

from __future__ import annotations

from pathlib import Path

from road_studies import image
from whole_region import whole_region


async def test_a_study_waits_from_the_answer_on(tmp_path: Path) -> None:
    """Its rows follow its file: a heartbeat between the two must not say that nothing waits."""
    async with whole_region(tmp_path, {"RTK": "grpc"}) as region:
        home = region.homes["RTK"]
        await home.settled()
        home.hold()
        for number in (1, 2, 3):
            await home.add([image(number)])
            assert (await home.app.parts.publication.voice.status()).waiting == number
