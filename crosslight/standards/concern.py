"""Whom a member's unlisted studies concern, without saying who: keyed hashes of patient identifiers (D19).

Pure.

A member sends, for each study that waits for the registry or was refused, a hash of every identifier in its
headers, under the secret that both ends know (D9). The registry hashes the identifiers of the person asked
for in the same way: a list is not complete for that person only where a hash meets. Without the secret a hash
tells nothing.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Invalid

HASH_BYTES = 8  # that a hash of 4,096 meets another patient's by chance: once in 10^15 questions
MAX_HASHES = 4096  # of one set; a member with more says that they may be anybody's
VERSION_BYTES = 8
_PREFIX = b"crosslight concern 1\x00"  # never the input of a derived id (D9)


def patient_hash(secret: bytes, identifier: Identifier) -> bytes:
    """HMAC-SHA-256 of authority and value under the member's secret, cut to :data:`HASH_BYTES`."""
    text = f"{identifier.authority}\x00{identifier.value}".encode()
    return hmac.digest(secret, _PREFIX + text, "sha256")[:HASH_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class Concern:
    """Hashes of whom a member's unlisted studies concern.

    ``anybody_*``: there are some that cannot be told apart.

    ``waiting`` will be listed by themselves; ``refused`` need an operator.
    """

    waiting: frozenset[bytes] = field(default=frozenset(), repr=False)
    refused: frozenset[bytes] = field(default=frozenset(), repr=False)
    anybody_waiting: bool = False
    anybody_refused: bool = False

    @property
    def version(self) -> bytes:
        """A digest of the whole: equal sets have equal versions, on either end and after any restart."""
        flags = bytes([self.anybody_waiting, self.anybody_refused])
        parts = (packed(self.waiting), packed(self.refused))
        return hashlib.sha256(flags + b"".join(len(p).to_bytes(4, "big") + p for p in parts)).digest()[
            :VERSION_BYTES
        ]


def concern_of(
    secret: bytes,
    waiting: Iterable[Identifier],
    refused: Iterable[Identifier],
    *,
    anybody_waiting: bool = False,
    anybody_refused: bool = False,
) -> Concern:
    """The set for these identifiers; what is over :data:`MAX_HASHES` becomes "anybody"."""
    hashed_refused = frozenset(patient_hash(secret, i) for i in refused if i.value)
    hashed_waiting = frozenset(patient_hash(secret, i) for i in waiting if i.value)
    if len(hashed_refused) > MAX_HASHES:
        hashed_refused, anybody_refused = frozenset(), True
    if len(hashed_waiting) + len(hashed_refused) > MAX_HASHES:
        hashed_waiting, anybody_waiting = frozenset(), True
    return Concern(
        waiting=hashed_waiting,
        refused=hashed_refused,
        anybody_waiting=anybody_waiting,
        anybody_refused=anybody_refused,
    )


def packed(hashes: Collection[bytes]) -> bytes:
    """A set as bytes, in order."""
    return b"".join(sorted(hashes))


def unpacked(data: bytes) -> frozenset[bytes]:
    """The inverse of :func:`packed`.

    Raises:
        Invalid: when it is no whole number of hashes, or more than :data:`MAX_HASHES`.
    """
    if len(data) % HASH_BYTES or len(data) > MAX_HASHES * HASH_BYTES:
        raise Invalid(
            "This is no set of patient hashes.", why=f"At most {MAX_HASHES} of {HASH_BYTES} bytes each."
        )
    return frozenset(data[i : i + HASH_BYTES] for i in range(0, len(data), HASH_BYTES))
