"""Attribute sets (``variant``): what many instances of a study or series say alike, the patient's name too.

An instance that comes finds its set by the digest. A set that no instance has is forgotten when the bin is
purged.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Set

from crosslight.runtime.db import Tx

_UNUSED = (
    "SELECT id FROM variant WHERE id NOT IN (SELECT study_variant FROM instance)"
    " AND id NOT IN (SELECT series_variant FROM instance)"
)


def digest_of(attributes: bytes) -> bytes:
    """By which a set is found."""
    return hashlib.blake2b(attributes, digest_size=16).digest()


def unused_tx(tx: Tx) -> set[int]:
    """Sets that no instance has, in the bin or out of it. Reads all instances."""
    return {int(row[0]) for row in tx.rows(_UNUSED)}


def set_aside_tx(ids: Iterable[int], tx: Tx) -> None:
    """Have sets found no more: whoever needs one makes another."""
    tx.executemany("UPDATE variant SET digest = ? WHERE id = ?", [(b"%d" % n, n) for n in sorted(ids)])


def forget_tx(unused: Set[int], used: Set[int], tx: Tx) -> None:
    """Remove sets that were set aside; those that are used after all are found again."""
    tx.executemany("DELETE FROM variant WHERE id = ?", [(n,) for n in sorted(unused)])
    for number in sorted(used):
        row = tx.row("SELECT attributes FROM variant WHERE id = ?", (number,))
        if row is not None:
            sql = "UPDATE OR IGNORE variant SET digest = ? WHERE id = ?"  # its like may have come
            tx.execute(sql, (digest_of(row[0]), number))
