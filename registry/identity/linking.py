"""Which patient records are one person: D3 as a pure function of the records, whatever the order in which they came.

Two records that carry the same national number join when their dates of birth agree, when both call the number traced and
verified, or when a person said that they are the same. Where groups that do not join claim one number, it belongs to the
group with a traced record, else to the one from most members, at a tie to none. Records that claim a number and do not
hold it are disputed and stay alone. Local numbers never join anything.

Knows no store, no names: a date of birth that is missing or incomplete agrees with nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from crosslight.standards.ids import Identifier


@dataclass(frozen=True, slots=True)
class Claim:
    """A patient record as linking sees it. ``source`` names the member (or, for a foreign one, the authority) it is from."""

    key: int
    numbers: frozenset[Identifier]
    birth_date: str = ""
    traced: bool = False
    source: str = ""


@dataclass(frozen=True, slots=True)
class Linked:
    """The outcome: every record is in exactly one group; ``holders`` has each number's group, empty where nobody holds it."""

    groups: frozenset[frozenset[int]]
    holders: Mapping[Identifier, frozenset[int]]
    disputed: frozenset[int]


class _Union:
    def __init__(self, keys: Iterable[int]) -> None:
        self._parent = {key: key for key in keys}

    def find(self, key: int) -> int:
        while self._parent[key] != key:
            self._parent[key] = self._parent[self._parent[key]]
            key = self._parent[key]
        return key

    def join(self, keys: Iterable[int]) -> None:
        first: int | None = None
        for key in keys:
            if first is None:
                first = self.find(key)
            else:
                self._parent[self.find(key)] = first

    def groups(self) -> list[frozenset[int]]:
        found: dict[int, set[int]] = defaultdict(set)
        for key in self._parent:
            found[self.find(key)].add(key)
        return [frozenset(keys) for keys in found.values()]


def link(claims: Collection[Claim], *, same: Collection[tuple[int, int]] = (), apart: Collection[int] = ()) -> Linked:
    """Group ``claims``.

    Args:
        claims: Every record that shares, directly or through others, a number with the ones of interest.
        same: Pairs that a person declared to be one.
        apart: Records that a person set apart: they hold nothing that another claims, and stay alone.
    """
    by_key = {claim.key: claim for claim in claims}
    claimants: dict[Identifier, set[int]] = defaultdict(set)
    for claim in claims:
        for number in claim.numbers:
            claimants[number].add(claim.key)
    pairs = [(a, b) for a, b in same if a in by_key and b in by_key and not {a, b} & set(apart)]
    disputed = {key for key in apart if any(len(claimants[n]) > 1 for n in by_key[key].numbers)} if apart else set()
    while True:  # a record that loses one number supports no other: repeat until nothing more falls out
        holders = {n: _holder([by_key[k] for k in sorted(keys - disputed)], pairs) for n, keys in claimants.items()}
        losers = {key for n, keys in claimants.items() for key in keys - disputed - holders[n]}
        if not losers:
            break
        disputed |= losers
    for number, keys in claimants.items():
        if len(keys) == 1:  # nobody else wants it
            holders[number] = frozenset(keys)
    union = _Union(by_key)
    for group in holders.values():
        union.join(sorted(group))
    for pair in pairs:
        union.join(pair)
    return Linked(frozenset(union.groups()), holders, frozenset(disputed))


def _holder(claimants: list[Claim], same: Iterable[tuple[int, int]]) -> frozenset[int]:
    """The group that holds a number, of the records that claim it; empty at a tie."""
    groups = _components(claimants, same)
    if len(groups) <= 1:
        return groups[0] if groups else frozenset()
    by_key = {claim.key: claim for claim in claimants}
    traced = [group for group in groups if any(by_key[key].traced for key in group)]
    if len(traced) == 1:  # all traced claims of one number are one group, unless a person set them apart
        return traced[0]
    breadth = [(len({by_key[key].source for key in group}), group) for group in traced or groups]
    most = max(count for count, _ in breadth)
    widest = [group for count, group in breadth if count == most]
    return widest[0] if len(widest) == 1 else frozenset()


def _components(claimants: list[Claim], same: Iterable[tuple[int, int]]) -> list[frozenset[int]]:
    union = _Union(claim.key for claim in claimants)
    by_birth: dict[str, list[int]] = defaultdict(list)
    for claim in claimants:
        if len(claim.birth_date) == 8:
            by_birth[claim.birth_date].append(claim.key)
    for keys in by_birth.values():
        union.join(keys)
    union.join(claim.key for claim in claimants if claim.traced)
    present = {claim.key for claim in claimants}
    for a, b in same:
        if a in present and b in present:
            union.join((a, b))
    return union.groups()
