"""How often the demo's nodes look at archives of others: as a story needs, not as a hospital would."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

#: Oldest study of any chapter, and room.
_BACK_DAYS: Final = 3 * 365

#: For folders and object stores.
LISTED: Final = {"look_every_s": 2.0, "settle_s": 0.0, "read_per_s": 500.0}


def asked() -> dict[str, Any]:
    """For archives that are asked: DICOMweb and DIMSE."""
    return {
        "earliest": f"{datetime.now(UTC) - timedelta(days=_BACK_DAYS):%Y%m01}",
        "newest_days": 60,
        "look_every_s": 2.0,
        "studies_per_minute": 6000,
        "compare_every_h": 10 / 3600,
    }
