"""TLS towards an identity provider: the system's authorities, and the region's own where the provider is ours."""

from __future__ import annotations

import ssl
from pathlib import Path


def provider_context(bundle: Path | None) -> ssl.SSLContext:
    """A context that verifies chains and host names."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if bundle is not None:
        context.load_verify_locations(bundle)
    return context
