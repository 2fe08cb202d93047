"""How fast others of the region are given this trust's images: caps by partner and hour, and while we store.

What is sent to people and systems of this trust is never held up. Who waits here does so between pieces of
what it is given, holding no thread; a partner's retrieves share its cap, piece by piece.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass, field

from aiohttp import web

from crosslight.runtime.clock import Clock
from crosslight.runtime.health import Total
from node.hours import Hours, hours_of
from node.serve.config import CapConfig
from node.serve.release import GRANT, GrantKind

MBIT = 125_000  # bytes
SLICE_S = 0.1  # of a cap is sent at a time, so that several who share it take turns
LEAST_BYTES = 1 << 14
LOOK_S = 1.0  # how often whoever waits looks whether the cap still holds
STORING_S = 2.0  # after an object was stored, so long the department counts as storing
_REGION: frozenset[GrantKind] = frozenset({"access", "release", "certificate"})


@dataclass(slots=True)
class _Line:
    """Bytes at a rate, one after the other."""

    free_at_s: float = 0.0
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class _Cap:
    partner: str
    hours: Hours | None
    bytes_per_s: float


class Bandwidth:
    """The caps of one node.

    Args:
        caps: By partner and hour; of several that hold the lowest counts.
        while_storing_mbit_s: For all partners together while objects are stored here; 0: no cap.
        clock: Time.
        code: This node's organisation, which has no cap.

    Attributes:
        waited_s: How long answers were held up since the start, by what: ``partner``, ``storing``.
    """

    def __init__(
        self,
        caps: Sequence[CapConfig],
        while_storing_mbit_s: float,
        clock: Clock,
        code: Callable[[], str] = lambda: "",
    ) -> None:
        self._caps = [_Cap(c.partner, hours_of(c.hours, "serve.caps.hours"), c.mbit_s * MBIT) for c in caps]
        self._while_storing = while_storing_mbit_s * MBIT
        self._clock, self._code = clock, code
        self._lines: dict[str, _Line] = {}
        self._stored_s = float("-inf")
        self.waited_s = {"partner": 0.0, "storing": 0.0}

    def stored(self, study_uid: str = "") -> None:
        """An object was stored here. From any thread."""
        self._stored_s = self._clock.monotonic_s()

    def partner_of(self, request: web.Request) -> str:
        """Under whose cap the answer to a request is; '' for this trust's own, and for whoever is unknown."""
        grant = request.get(GRANT)
        if grant is None:
            return ""
        principal = grant.principal
        if grant.kind not in _REGION or (principal.organisation and principal.organisation == self._code()):
            return ""
        return str(principal.organisation or principal.subject.removeprefix("system:"))

    def _holding(self, partner: str) -> dict[str, float]:
        """The caps that hold now for a partner: by line, bytes in a second."""
        rates: dict[str, float] = {}
        now = self._clock.now()
        own = [
            cap
            for cap in self._caps
            if cap.partner in ("*", partner) and (cap.hours is None or cap.hours.hold(now))
        ]
        if own:
            rates[f"partner {partner}"] = min(cap.bytes_per_s for cap in own)
        if self._while_storing and self._clock.monotonic_s() - self._stored_s < STORING_S:
            rates["storing"] = self._while_storing
        return rates

    async def take(self, partner: str, most: int) -> int:
        """Wait until bytes may be sent to ``partner``; how many of ``most``."""
        if not partner or not most:
            return most
        while rates := self._holding(partner):
            count = min(most, max(LEAST_BYTES, int(min(rates.values()) * SLICE_S)))
            async with AsyncExitStack() as turns:
                lines = {name: self._lines.setdefault(name, _Line()) for name in rates}
                for line in lines.values():
                    await turns.enter_async_context(line.lock)
                if await self._free(lines):
                    now_s = self._clock.monotonic_s()
                    for name, line in lines.items():
                        line.free_at_s = max(line.free_at_s, now_s) + count / rates[name]
                    return count
        return most

    async def take_all(self, partner: str, size: int) -> None:
        """Wait until so many bytes may be sent at once."""
        while size > 0:
            size -= await self.take(partner, size)

    async def _free(self, lines: dict[str, _Line]) -> bool:
        """Wait for the moment when all lines are free; False where it is looked again which caps hold."""
        name, last = max(lines.items(), key=lambda item: item[1].free_at_s)
        wait_s = last.free_at_s - self._clock.monotonic_s()
        if wait_s <= 0:
            return True
        self.waited_s["storing" if name == "storing" else "partner"] += min(wait_s, LOOK_S)
        await self._clock.sleep(min(wait_s, LOOK_S))
        return wait_s <= LOOK_S

    async def paced(
        self, partner: str, chunks: AsyncGenerator[bytes] | AsyncGenerator[bytearray]
    ) -> AsyncGenerator[bytes]:
        """``chunks``, as fast as ``partner`` may have them."""
        async with aclosing(chunks):
            async for chunk in chunks:
                at = 0
                while at < len(chunk):
                    count = await self.take(partner, len(chunk) - at)
                    yield bytes(chunk[at : at + count]) if count < len(chunk) else chunk  # type: ignore[misc]  # written only
                    at += count

    def gauges(self) -> list[Total]:
        """Metrics."""
        waited: dict[tuple[str, ...], float] = {(why,): seconds for why, seconds in self.waited_s.items()}
        return [
            Total(
                "crosslight_node_held_up_seconds",
                "Answers to other organisations held up by a cap.",
                waited,
                ("cap",),
            )
        ]
