"""The seam between the outbox and a road to a destination (D18)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from crosslight.standards.problem import Unavailable
from node.publish.model import Job, Result


class RoadDown(Unavailable):
    """The destination cannot be reached, or answers for nobody now. What was sent may have arrived."""


class Road(Protocol):
    """Delivers acts to one destination.

    ``together`` is the most jobs of one delivery, ``parallel`` the most deliveries at once. ``incarnation`` is what the
    destination called its database in its last answer, '' where the road does not say.
    """

    together: int
    parallel: int
    incarnation: str

    async def deliver(self, jobs: Sequence[Job]) -> list[Result]:
        """Send acts, or settle those whose fate is unknown; what became of each, in their order.

        Raises:
            RoadDown: nothing is known of what became of them.
        """
        ...
