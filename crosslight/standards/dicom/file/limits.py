"""Bounds of reading an untrusted object; apart from the reader, so that a configuration can name them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds of the walk (security.md 5): of work, and of memory apart from it.

    Args:
        max_depth: Levels of sequences.
        max_elements: Elements and items together: the work, which is linear in them. A segmentation of
            100,000 frames has some three million.
        max_held_elements: Elements and items of which offsets are held in memory. Sequences beyond are walked
            and let go, and walked again by whoever reads them.
        max_index_elements: As many may be in sequences that the index is made of, which are held whole, and
            at one level.
        max_fragments: Of encapsulated Pixel Data.
        max_inflated_bytes: Of a deflated data set.
        max_inflate_ratio: Inflated bytes for each deflated one.
        free_inflated_bytes: Below this the ratio does not count.
    """

    max_depth: int = 32
    max_elements: int = 20_000_000
    max_held_elements: int = 20_000
    max_index_elements: int = 500_000
    max_fragments: int = 1_000_000
    max_inflated_bytes: int = 2 << 30
    max_inflate_ratio: int = 200
    free_inflated_bytes: int = 1 << 20


LIMITS = Limits()
