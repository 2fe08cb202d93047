"""The census: how a member's list and the registry's copy of it are compared without sending either (D19).

A node computes it over what it believes it has published, the registry over what it holds; where they differ
something drifted and the node reconciles. The digest of an item is its manifest's SHA-1 in hex: both roads
carry it (hash of the DocumentEntry), and it is another for every revision. XOR, so that either side keeps it
up to date without a scan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

EMPTY = bytes(32)


def census_item(study_uid: str, digest: str) -> bytes:
    """What one approved holding adds: SHA-256 of its study UID, a unit separator and its manifest's SHA-1."""
    return hashlib.sha256(f"{study_uid}\x1f{digest.lower()}".encode()).digest()


def combine(census: bytes, item: bytes) -> bytes:
    """``census`` with ``item`` added, or taken away again: XOR does both, in any order."""
    return (int.from_bytes(census, "big") ^ int.from_bytes(item, "big")).to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class Census:
    """Approved holdings of one member: count and XOR of their items."""

    studies: int = 0
    digest: bytes = EMPTY

    def with_item(self, item: bytes) -> Census:
        """With one more approved holding."""
        return Census(self.studies + 1, combine(self.digest, item))

    def without_item(self, item: bytes) -> Census:
        """With one fewer."""
        return Census(self.studies - 1, combine(self.digest, item))


def take_census(holdings: Iterable[tuple[str, str]]) -> Census:
    """The census of (study UID, manifest SHA-1) pairs."""
    total, count = 0, 0
    for study_uid, sha1 in holdings:
        total ^= int.from_bytes(census_item(study_uid, sha1), "big")
        count += 1
    return Census(count, total.to_bytes(32, "big"))
