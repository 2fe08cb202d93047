"""Follows what becomes of the listed studies after the story, by whoever's hand.

So the endpoints file stays true.

A node's metrics say that something changed and is published, its DICOMweb what. One that does not answer is
left as it was.
"""

from __future__ import annotations

import asyncio
import re

from crosslight.client.dicomweb import value
from crosslight.client.http import HttpClient
from crosslight.standards.problem import CrosslightError
from simulations.region import DemoRegion

TIMEOUT_S = 3.0
_GAUGE = re.compile(r"^crosslight_node_(studies|instances|waiting) (\S+)$", re.M)
_STUDY_UID, _INSTANCES = "0020000D", "00201208"


class Watch:
    """Looks at every node of ``region`` through ``http``, which stays open."""

    def __init__(self, region: DemoRegion, http: HttpClient) -> None:
        self._region, self._http = region, http
        self._seen: dict[str, dict[str, float]] = {}

    async def look(self) -> bool:
        """Follow all nodes; whether a listed study is gone, back, or has another number of images."""
        return any(await asyncio.gather(*(self._node(code) for code in self._region.topology.codes)))

    async def _node(self, code: str) -> bool:
        try:
            async with asyncio.timeout(TIMEOUT_S):
                gauges = await self._gauges(code)
                if gauges.get("waiting") or gauges == self._seen.get(code):
                    return False
                instances_of = await self._held(code, self._region.ledger.listed_at(code))
        except (CrosslightError, TimeoutError, ValueError):
            return False
        self._seen[code] = gauges
        return self._region.ledger.follow(code, instances_of)

    async def _gauges(self, code: str) -> dict[str, float]:
        body, _ = await self._http.get(f"{self._region.node_base(code)}/metrics", accept="text/plain")
        return {name: float(number) for name, number in _GAUGE.findall(body.decode("utf-8", "replace"))}

    async def _held(self, code: str, uids: list[str]) -> dict[str, int]:
        if not uids:
            return {}
        async with self._region.node_dicomweb(code) as client:
            rows, _ = await client.search("studies", StudyInstanceUID=",".join(uids), includefield=_INSTANCES)
        return {value(row, _STUDY_UID): int(value(row, _INSTANCES) or 0) for row in rows}
