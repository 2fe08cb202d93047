"""Configuration of the region's DICOMweb root."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import setting


@dataclass(frozen=True, slots=True)
class DicomwebConfig:
    """``[dicomweb]``: bounds of searches, and which web pages may ask."""

    base_url: str = setting(
        "",
        "Address of /dicomweb as clients see it, when a proxy stands before this service. Empty: as each"
        " request names it.",
    )
    max_results: int = setting(500, "Most rows of one answer, whatever the client says.", low=1, high=5000)
    max_depth: int = setting(
        2000, "How far offset may go in a search that no patient bounds.", low=100, high=10000
    )
    max_answer_bytes: int = setting(
        67108864, "Largest answer of a member to a search of instances.", low=1 << 20, high=1 << 30
    )
    cors_origins: tuple[str, ...] = setting(
        [], "Origins of web viewers that may read answers, e.g. https://viewer.example."
    )
