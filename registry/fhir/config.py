"""Configuration of the FHIR face."""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.config import setting


@dataclass(frozen=True, slots=True)
class FhirConfig:
    """``[fhir]``: bounds of search answers."""

    base_url: str = setting(
        "",
        "Address of /fhir as clients see it, when a proxy stands before this service. Empty: as each request"
        " names it.",
    )
    dicomweb_url: str = setting(
        "",
        "Address of the region's DICOMweb root as clients see it. Empty: /dicomweb beside the FHIR address.",
    )
    default_count: int = setting(50, "Entries on a page when the client does not say.", low=1, high=1000)
    max_count: int = setting(200, "Most entries on a page, whatever the client says.", low=1, high=1000)
    page_token_ttl_s: int = setting(3600, "How long the link to a next page works.", low=60, high=86400)
    render_cache_bytes: int = setting(
        33554432, "Memory for rendered pages of studies that are asked for again.", low=0, high=1 << 34
    )
    max_form_bytes: int = setting(65536, "Largest body of POST _search.", low=1024, high=1 << 20)
