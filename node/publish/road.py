"""The seam between publication and a registry: how it is reached, and how it is compared with (D18)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from crosslight.standards.problem import Unavailable
from node.publish.model import Acked, Job, Result


class RoadDown(Unavailable):
    """The destination cannot be reached, or answers for nobody now. What was sent may have arrived."""


class Road(Protocol):
    """Delivers acts to one destination.

    ``together`` is the most jobs of one delivery, ``parallel`` the most deliveries at once. ``incarnation``
    is what the destination called its database in its last answer, '' where the road does not say.
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


class Comparer(Protocol):
    """Compares all that was acknowledged with what the destination has (``GrpcRoad``, ``SoapRoad``)."""

    incarnation: str

    async def compare(self, pages: AsyncIterator[list[tuple[str, Acked]]]) -> dict[str, Acked | None]:
        """What the destination has differently, study by study.

        Raises RoadDown when it could not be finished.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """One registry, as publication meets it.

    Args:
        road: How it is reached.
        comparer: How it is compared with.
        granted: Whether it grants epochs, as one of ours does; otherwise the node counts its own (D18).
        hello_again: Called when the link should say Hello once more (another epoch is needed).
        closers: Called at the end: sessions and connections of the road.
    """

    road: Road
    comparer: Comparer
    granted: bool = True
    hello_again: Callable[[], None] = lambda: None
    closers: Sequence[Callable[[], Awaitable[None]]] = ()
