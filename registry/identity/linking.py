"""Which patient records are one person.

D3 as a pure function of the records, and of who holds a number already.

Two records that carry the same national number join when their dates of birth agree, when both are called
traced by sources that the region trusts with it and their dates of birth do not differ, or when a person said
that they are the same; another sex and no common given name keep them apart all the same. Where groups that
do not join claim one number, whoever holds it goes on holding it. Where nobody holds it yet, it belongs to
the group with a traced record, else to the one from most members, at a tie to none. Records that claim a
number and do not hold it are disputed and stay alone. Local numbers never join anything.

A part of a record that is in doubt joins those whom it agrees with, but holds nothing and disputes nothing.

Knows no store: a date of birth is known in full, or '' (``header.py`` sees to that).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass

from crosslight.standards.ids import Identifier
from registry.identity.header import shares_name


@dataclass(frozen=True, slots=True)
class Claimant:
    """A patient record as linking sees it.

    ``source`` names the member (or, for a foreign one, the authority) it is from.
    """

    key: int
    numbers: frozenset[Identifier]
    birth_date: str = ""
    traced: bool = False
    source: str = ""
    sex: str = ""
    given: tuple[str, ...] = ()
    in_doubt: bool = False


@dataclass(frozen=True, slots=True)
class Linked:
    """The outcome: every record is in exactly one group.

    ``holders`` has each number's group, empty where nobody holds it.
    """

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
        groups: dict[int, set[int]] = defaultdict(set)
        for key in self._parent:
            groups[self.find(key)].add(key)
        return [frozenset(keys) for keys in groups.values()]


def link(
    claims: Collection[Claimant],
    *,
    same: Collection[tuple[int, int]] = (),
    apart: Collection[int] = (),
    held_before: Mapping[Identifier, Collection[int]] | None = None,
    closed: Mapping[Identifier, Collection[int]] | None = None,
) -> Linked:
    """Group ``claims``.

    Args:
        claims: Every record that shares, directly or through others, a number with the ones of interest.
        same: Pairs that a person declared to be one.
        apart: Records that a person set apart: they hold nothing that another claims, and stay alone.
        held: The records of the person who holds each number now, those first that go on holding it where
            they part; a number that nobody holds is left out.
        closed: Numbers that nobody joins any more, for too many claim them, each with the records that hold
            it.
    """
    by_key = {claim.key: claim for claim in claims}
    firm = {key for key, claim in by_key.items() if not claim.in_doubt}
    pairs = [(a, b) for a, b in same if a in by_key and b in by_key and not {a, b} & set(apart)]
    claimants: dict[Identifier, set[int]] = defaultdict(set)
    for claim in claims:
        for number in claim.numbers:
            claimants[number].add(claim.key)
    contested = {n: keys & firm for n, keys in claimants.items()}
    holders, disputed = _contest(contested, by_key, pairs, set(apart), held_before or {}, closed or {})
    union = _Union(by_key)
    for group in holders.values():
        union.join(sorted(group))
    for number, keys in claimants.items():
        for key in sorted(keys - firm):
            if any(_agree(by_key[key], by_key[other]) for other in holders[number]):
                union.join((min(holders[number]), key))
    for pair in pairs:
        union.join(pair)
    return Linked(frozenset(union.groups()), holders, frozenset(disputed))


def _contest(
    claimants: Mapping[Identifier, set[int]],
    by_key: Mapping[int, Claimant],
    pairs: Collection[tuple[int, int]],
    apart: Collection[int],
    held_before: Mapping[Identifier, Collection[int]],
    closed: Mapping[Identifier, Collection[int]],
) -> tuple[dict[Identifier, frozenset[int]], set[int]]:
    """Who holds each number, and which records are disputed."""
    disputed = {
        key for key in apart if key in by_key and any(len(claimants[n]) > 1 for n in by_key[key].numbers)
    }
    disputed |= {
        key for number, holding in closed.items() for key in claimants.get(number, ()) if key not in holding
    }
    while True:  # a record that loses one number supports no other: repeat until nothing more falls out
        holders = {
            n: _holder([by_key[k] for k in sorted(keys - disputed)], pairs, held_before.get(n, ()))
            for n, keys in claimants.items()
        }
        losers = {key for n, keys in claimants.items() for key in keys - disputed - holders[n]}
        if not losers:
            break
        disputed |= losers
    for number, keys in claimants.items():
        if len(keys) == 1 and number not in closed:  # nobody else wants it
            holders[number] = frozenset(keys)
    return holders, disputed


def _holder(
    claimants: list[Claimant], same: Iterable[tuple[int, int]], held_before: Collection[int]
) -> frozenset[int]:
    """The group that holds a number, of the records that claim it; empty at a tie."""
    groups = _components(claimants, same)
    if len(groups) <= 1:
        return groups[0] if groups else frozenset()
    for key in held_before:
        for group in groups:
            if key in group:
                return group
    by_key = {claim.key: claim for claim in claimants}
    traced = [group for group in groups if any(by_key[key].traced for key in group)]
    if len(traced) == 1:
        return traced[0]
    breadth = [(len({by_key[key].source for key in group}), group) for group in traced or groups]
    most = max(count for count, _ in breadth)
    widest = [group for count, group in breadth if count == most]
    return widest[0] if len(widest) == 1 else frozenset()


def _agree(a: Claimant, b: Claimant) -> bool:
    """Whether two records that claim one number are one person by themselves."""
    if _other_human(a, b):
        return False
    if a.birth_date and b.birth_date:
        return a.birth_date == b.birth_date
    return a.traced and b.traced


def _other_human(a: Claimant, b: Claimant) -> bool:
    """Another sex and no common given name: only a person may join them."""
    return bool(
        a.sex and b.sex and a.sex != b.sex and a.given and b.given and not shares_name(a.given, b.given)
    )


def _components(claimants: list[Claimant], same: Iterable[tuple[int, int]]) -> list[frozenset[int]]:
    """Groups of claimants that join; one in which two could not be one human being falls apart by sex."""
    components: list[frozenset[int]] = []
    by_key = {claim.key: claim for claim in claimants}
    for group in _joined(claimants, same, _agree):
        if not any(_other_human(by_key[a], by_key[b]) for a in group for b in group):
            components.append(group)
            continue
        members = [by_key[key] for key in sorted(group)]
        components += _joined(members, same, lambda a, b: _agree(a, b) and a.sex == b.sex)
    return components


def _joined(
    claimants: list[Claimant], same: Iterable[tuple[int, int]], agree: Callable[[Claimant, Claimant], bool]
) -> list[frozenset[int]]:
    union = _Union(claim.key for claim in claimants)
    for near in _near(claimants):
        alike: dict[tuple[str, str, tuple[str, ...]], Claimant] = {}
        for claim in near:  # alike ones are compared once: thousands of records may claim one number
            first = alike.setdefault((claim.birth_date, claim.sex, claim.given), claim)
            union.join((first.key, claim.key))
        kinds = list(alike.values())
        for i, a in enumerate(kinds):
            for b in kinds[i + 1 :]:
                if agree(a, b):
                    union.join((a.key, b.key))
    present = {claim.key for claim in claimants}
    for pair in same:
        if present.issuperset(pair):
            union.join(pair)
    return union.groups()


def _near(claimants: list[Claimant]) -> Iterable[list[Claimant]]:
    """Claims that may agree: of one date of birth, and traced ones where a date of birth is not known."""
    by_birth: dict[str, list[Claimant]] = defaultdict(list)
    for claim in claimants:
        if claim.birth_date:
            by_birth[claim.birth_date].append(claim)
    yield from by_birth.values()
    traced = [claim for claim in claimants if claim.traced]
    if any(not claim.birth_date for claim in traced):
        yield traced
