"""National numbers in the tables of identity: who claims them, who holds them, what they were merged into.

Many at a time.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

from crosslight.runtime.db import Row, Tx
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import StorageError
from registry.identity.rows import chunks, marks
from registry.identity.statements import MERGED

MAX_MERGES = 100  # in one chain


def _in(tx: Tx, sql: str, numbers: Collection[Identifier]) -> Iterator[Row]:
    """Rows of ``sql``, which ends in ``authority = ? AND value IN``, for ``numbers``."""
    by_authority: dict[str, list[str]] = {}
    for number in numbers:
        by_authority.setdefault(number.authority, []).append(number.value)
    for authority, values in sorted(by_authority.items()):
        for chunk in chunks(values):
            yield from tx.rows(f"{sql} ({marks(chunk)})", (authority, *chunk))


def canonicals(tx: Tx, numbers: Collection[Identifier]) -> dict[Identifier, Identifier]:
    """The ids that ``numbers`` were merged into by A40, through chains; a number itself where it was not."""
    canonical_of = {number: number for number in numbers}
    todo: set[Identifier] = set(numbers)
    for _ in range(MAX_MERGES):
        into = {
            Identifier(value, authority): Identifier(into_value, into_authority)
            for authority, value, into_authority, into_value in _in(tx, MERGED, todo)
        }
        if not into:
            return canonical_of
        canonical_of = {number: into.get(last, last) for number, last in canonical_of.items()}
        todo = set(into.values())
    raise StorageError("A chain of patient merges has no end.")


def canonical(tx: Tx, number: Identifier) -> Identifier:
    """As :func:`canonicals`, of one."""
    return canonicals(tx, [number])[number]


def lock_numbers(tx: Tx, numbers: Collection[Identifier]) -> None:
    """Take the rows of ``numbers`` in one order, so that concurrent claims are seen one after the other."""
    tx.insert_many(
        "national_number",
        ("authority", "value"),
        [(number.authority, number.value) for number in sorted(set(numbers))],
        "ON CONFLICT (authority, value) DO UPDATE SET value = excluded.value",
    )


def claims_on(tx: Tx, numbers: Collection[Identifier]) -> dict[Identifier, set[int]]:
    """Records that claim each of ``numbers``; one that nobody claims is left out."""
    claims: dict[Identifier, set[int]] = {}
    sql = "SELECT authority, value, record_key FROM national_claim WHERE authority = ? AND value IN"
    for authority, value, key in _in(tx, sql, numbers):
        claims.setdefault(Identifier(value, authority), set()).add(key)
    return claims


def crowded(tx: Tx, numbers: Collection[Identifier], limit: int) -> set[Identifier]:
    """Those of ``numbers`` that more than ``limit`` records claim; looks at no more of them.

    Their rows must be there.
    """
    sql = (
        "SELECT n.authority, n.value FROM national_number n WHERE EXISTS (SELECT 1 FROM national_claim c"
        f" WHERE c.authority = n.authority AND c.value = n.value LIMIT 1 OFFSET {int(limit)}) AND n.authority"
        " = ? AND n.value IN"
    )
    return {Identifier(value, authority) for authority, value in _in(tx, sql, numbers)}


def merged_into(tx: Tx, numbers: Collection[Identifier]) -> dict[Identifier, set[Identifier]]:
    """The ids that were merged into each of ``numbers``; one that has none is left out."""
    merged: dict[Identifier, set[Identifier]] = {}
    sql = (
        "SELECT into_authority, into_value, authority, value FROM subsumed_id WHERE into_authority = ? AND"
        " into_value IN"
    )
    for into_authority, into_value, authority, value in _in(tx, sql, numbers):
        into = Identifier(into_value, into_authority)
        merged.setdefault(into, set()).add(Identifier(value, authority))
    return merged


def claimants(tx: Tx, numbers: Collection[Identifier]) -> set[int]:
    """Records that claim one of ``numbers`` or an id merged into it."""
    keys: set[int] = set()
    seen = todo = set(numbers)
    while todo:
        keys = keys.union(*claims_on(tx, todo).values())
        todo = set[Identifier]().union(*merged_into(tx, todo).values()) - seen
        seen = seen | todo
    return keys


def holders(tx: Tx, numbers: Collection[Identifier]) -> dict[Identifier, int | None]:
    """The person that holds each of ``numbers``, None at a tie; one without a row is left out."""
    sql = "SELECT authority, value, person_key FROM national_number WHERE authority = ? AND value IN"
    return {Identifier(value, authority): person for authority, value, person in _in(tx, sql, numbers)}
