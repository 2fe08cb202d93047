"""The census: how many studies a member has in the index, and one digest over them all (D19).

A node computes it over what it believes it has published, the registry over what it holds; where they differ something
drifted and the node reconciles. An item names a study and its manifest's SHA-1, which both roads carry (hash of the
DocumentEntry) and which is another for every revision. XOR, so that either side can keep it up to date without a scan.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

DIGEST_BYTES = 32


def census_item(study_uid: str, manifest_sha1: str) -> bytes:
    """SHA-256 over the study UID, NUL, and the lower-case hex SHA-1 of the current manifest."""
    return hashlib.sha256(f"{study_uid}\0{manifest_sha1.lower()}".encode()).digest()


def xor(one: bytes, other: bytes) -> bytes:
    """Both digests in one: adds an item, or takes it out again."""
    return bytes(a ^ b for a, b in zip(one, other, strict=True))


@dataclass(frozen=True, slots=True)
class Census:
    """Approved holdings of one member: count and XOR of their items."""

    studies: int = 0
    digest: bytes = bytes(DIGEST_BYTES)

    def with_item(self, item: bytes) -> Census:
        """With one more approved holding."""
        return Census(self.studies + 1, xor(self.digest, item))

    def without_item(self, item: bytes) -> Census:
        """With one fewer."""
        return Census(self.studies - 1, xor(self.digest, item))


def take_census(holdings: Iterable[tuple[str, str]]) -> Census:
    """The census of (study UID, manifest SHA-1) pairs."""
    total, count = 0, 0
    for study_uid, sha1 in holdings:
        total ^= int.from_bytes(census_item(study_uid, sha1), "big")
        count += 1
    return Census(count, total.to_bytes(DIGEST_BYTES, "big"))
