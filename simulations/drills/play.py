"""One drill from its beginning to its verdict."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from crosslight.standards.problem import CrosslightError
from simulations.drills.record import Record
from simulations.drills.scene import Scene
from simulations.region import DemoRegion

if TYPE_CHECKING:
    from simulations.drills.table import Drill


async def play_one(drill: Drill, region: DemoRegion, say: Callable[[str], None], *, clear: bool) -> Record:
    """Play ``drill`` on ``region``; its record, whatever comes of it.

    Args:
        clear: Delete its studies afterwards, in a region that goes on.
    """
    record = Record(drill.name, drill.title, drill.about, say)
    scene = Scene(region, record, number=int(datetime.now(UTC).timestamp()) % 10_000_000)
    try:
        await drill.play(scene)
    except Exception as error:  # noqa: BLE001 - a fault of one drill must not cost the verdicts of the others
        problem = (
            error
            if isinstance(error, CrosslightError)
            else CrosslightError(type(error).__name__, why=str(error))
        )
        record.broke_off(problem)
    finally:
        record.end()
        if clear:
            await scene.clear()
    return record
