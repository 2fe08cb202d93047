"""Configuration of what completes studies that were registered by their entry only."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import setting


@dataclass(frozen=True, slots=True)
class EnrichConfig:
    """[enrich]: completing studies that were registered over SOAP."""

    parallel: int = setting(4, "Most studies being completed at once.", low=1, high=64)
    scan_s: float = setting(10.0, "How often those that still wait are looked for.", low=0.1, high=3600)
    retry_first_s: float = setting(
        1.0, "Longest wait before a study is tried again; doubled each time.", low=0.01, high=600
    )
    retry_max_s: float = setting(300.0, "Longest wait before a study is tried again.", low=0.1, high=86400)
    lease_s: float = setting(
        60.0,
        "How long a study stays with the process that is at it, after its last sign; then another takes it.",
        low=1,
        high=3600,
    )
    timeout_s: float = setting(30.0, "How long a member's answer is waited for.", low=0.1, high=600)
    max_manifest_bytes: int = setting(64 << 20, "Largest manifest taken.", low=65536, high=1 << 30)
    max_series_bytes: int = setting(64 << 20, "Largest list of series taken.", low=65536, high=1 << 30)
