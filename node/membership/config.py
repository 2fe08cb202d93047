"""Configuration of a node's membership: how it keeps in touch with the region's registry."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import setting


@dataclass(frozen=True, slots=True)
class RegionConfig:
    """[region]: the link to the registry. Who the node is and where the registry is, it learns by joining."""

    heartbeat_s: float = setting(2.0, "How often the node tells the registry that it lives.", low=0.05, high=60)
    missed_acks: int = setting(4, "After so many heartbeats without an answer the link is made anew.", low=2, high=100)
    reconnect_min_s: float = setting(0.2, "First pause before a lost link is tried again; it doubles.", low=0.01, high=60)
    reconnect_max_s: float = setting(3.0, "Longest pause before a lost link is tried again.", low=0.05, high=300)
    connect_timeout_s: float = setting(5.0, "How long one attempt to reach the registry may take.", low=0.2, high=60)
    max_message_bytes: int = setting(8 << 20, "Largest gRPC message from the registry.", low=65536, high=256 << 20)
    max_skew_warn_s: float = setting(2.0, "Clock difference to the registry from which on a warning is logged.", low=0.1)
