"""The series of a study, as its holder describes them by QIDO-RS (PS3.18 10.6); bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

import orjson

from crosslight.standards.problem import Malformed, TooLarge, Unavailable
from registry.enrich.config import EnrichConfig
from registry.intake.checks import MAX_SERIES
from registry.members.model import Member
from registry.reach.members import Reach

ENRICHER = "enricher"  # whose turns at members these are


class SeriesLists:
    """Asks members for the series of studies."""

    def __init__(self, reach: Reach, config: EnrichConfig) -> None:
        self._reach, self._config = reach, config

    async def read(
        self, member: Member, study_uid: str, token: str, correlation: str
    ) -> list[dict[str, Any]]:
        """Every series of the study, with all that the member indexes.

        Raises:
            CrosslightError: the member cannot be asked, or does not answer as it should.
        """
        series: list[dict[str, Any]] = []
        while True:
            query = f"includefield=all&offset={len(series)}"
            page = await self._get(member, f"studies/{quote(study_uid)}/series", query, token, correlation)
            series += page
            if not page or len(series) >= _total(series):
                return series
            if len(series) > MAX_SERIES:
                raise TooLarge("The member describes too many series.", why=f"Limit here: {MAX_SERIES}.")

    async def _get(
        self, member: Member, path: str, query: str, token: str, correlation: str
    ) -> list[dict[str, Any]]:
        headers = {"Accept": "application/dicom+json"}
        opened = self._reach.open(member, path, token, query=query, headers=headers, correlation=correlation)
        async with self._reach.lanes.turn(member, ENRICHER), opened as response:
            if response.status == 204:
                return []
            if response.status != 200:
                raise Unavailable(
                    "The member does not describe its series.", why=f"HTTP status {response.status}."
                )
            chunks, size = [], 0
            async with asyncio.timeout(self._config.timeout_s):
                async for chunk in response.content.iter_chunked(1 << 16):
                    size += len(chunk)
                    if size > self._config.max_series_bytes:
                        raise TooLarge("The list of series is too large.")
                    chunks.append(chunk)
        try:
            rows = orjson.loads(b"".join(chunks))
        except orjson.JSONDecodeError:
            raise Malformed("The list of series is not JSON.") from None
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise Malformed("The list of series is no DICOM JSON.", why="PS3.18 F.2.")
        return rows


def _total(rows: Iterable[dict[str, Any]]) -> int:
    """NumberOfStudyRelatedSeries as the rows say it; 0 where they do not."""
    for row in rows:
        value = row.get("00201206", {}).get("Value") or [0]
        return int(value[0]) if isinstance(value[0], int) else 0
    return 0
