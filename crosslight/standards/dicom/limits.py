"""Bounds of reading an untrusted object; apart from the reader, so that a configuration can name them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the walk (security.md 5)."""

    max_depth: int = 32
    max_elements: int = 100_000
    max_items: int = 50_000
    max_fragments: int = 1_000_000
    max_inflated_bytes: int = 2 << 30
    max_inflate_ratio: int = 200
    free_inflated_bytes: int = 1 << 20  # below this the ratio does not count


LIMITS = Limits()
