"""What a holder answers a search with, made the region's: bounded, read, with the region's addresses."""

from __future__ import annotations

from collections.abc import AsyncIterable

import orjson

from crosslight.standards.dicom.web.json import Attributes, attributes, text_of
from crosslight.standards.problem import TooLarge, Unavailable
from registry.gateway.holders import Holder


async def bounded_body(chunks: AsyncIterable[bytes], limit: int) -> bytes:
    """The whole of an answer.

    Raises:
        TooLarge: more than ``limit`` bytes.
    """
    received, total = [], 0
    async for chunk in chunks:
        total += len(chunk)
        if total > limit:
            raise TooLarge(
                "The member's answer is too large.",
                why=f"Limit here: {limit} bytes.",
                todo="Ask for one series.",
            )
        received.append(chunk)
    return b"".join(received)


def holder_rows(body: bytes, base: str, study: str, holder: Holder) -> list[Attributes]:
    """A holder's rows with the addresses that they have under ``base``, the region's root.

    Raises:
        Unavailable: the answer is no list of rows.
    """
    try:
        rows = orjson.loads(body)
    except orjson.JSONDecodeError:
        rows = None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Unavailable("The member's answer cannot be read.", where=holder.member.code)
    for row in rows:
        series, sop = text_of(row, "SeriesInstanceUID"), text_of(row, "SOPInstanceUID")
        url = (
            f"{base}/studies/{study}"
            + (f"/series/{series}" if series else "")
            + (f"/instances/{sop}" if series and sop else "")
        )
        row |= attributes(
            RetrieveURL=url, InstanceAvailability="ONLINE", RetrieveAETitle=holder.member.endpoints.aet
        )
    return [dict(sorted(row.items())) for row in rows]
