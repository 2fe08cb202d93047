"""Configuration of the change feed."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import setting


@dataclass(frozen=True, slots=True)
class ChangesConfig:
    """[changes]: the feed of what changed, for enrichment, open pages and whoever subscribes."""

    keep_days: int = setting(
        7, "How many days changes are kept; who asks later has to compare.", low=1, high=366
    )
    poll_s: float = setting(
        1.0, "How often a process looks for changes that another one committed.", low=0.05, high=60
    )
