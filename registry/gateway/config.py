"""Configuration of retrieves through the registry."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import setting
from registry.reach.config import ReachConfig


@dataclass(frozen=True, slots=True)
class GatewayConfig(ReachConfig):
    """``[gateway]``: bounds of retrieves through the registry."""

    max_documents: int = setting(
        5000, "Most documents in one ITI-43 or RAD-69 request through the relay.", low=1, high=10000
    )
    resume_s: float = setting(
        30.0,
        "An answer that broke off on its way from a member goes on where it broke, if that can be had within"
        " so long; 0: it is cut off.",
        low=0,
        high=600,
    )
