"""Parts: which of the headers that came under one local id are one person's.

Pure, and the same whatever the order.

Headers go together when there is no doubt between them, also by way of others (Smith, then Jones, then Jones
with a corrected date). But no part ever holds a number and a birth date that one of its headers contradicts
in both: such a part falls apart by its national numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

from crosslight.standards.ids import Identifier
from registry.identity.header import PatientHeader, doubt, other_birth_date, other_number

MAX_COMPARED = 200  # headers of one local id that are compared each with each; more are a placeholder's


@dataclass(frozen=True, slots=True)
class Seen:
    """A header, and when the newest study with it began.

    In microseconds since 1970; any number below where that is not known.
    """

    header: PatientHeader
    newest: int = -(1 << 62)


def parts(seen: Collection[Seen]) -> list[frozenset[PatientHeader]]:
    """The headers of one local id, in parts that are one person's each.

    The order is that of their smallest header.
    """
    headers = sorted({s.header for s in seen})
    newest = {s.header: s.newest for s in seen}
    groups = (
        _by(headers, alike)
        if len(headers) > MAX_COMPARED
        else components(headers, lambda a, b: not doubt(a, b))
    )
    blocks: list[frozenset[PatientHeader]] = []
    for group in groups:
        described = summary([Seen(h, newest[h]) for h in group])
        if any(contradicts(described, h) for h in group):
            blocks += _by_number(group)
        else:
            blocks.append(frozenset(group))
    return sorted(blocks, key=min)


def alike(header: PatientHeader) -> object:
    """What is the same of headers that go together where there are too many to compare."""
    return (header.numbers, header.birth_date, header.family if not header.numbers else ())


def summary(seen: Iterable[Seen]) -> PatientHeader:
    """What these headers say together: of each field, what the newest study says that says anything."""
    numbers: dict[str, Identifier] = {}
    whole = PatientHeader()
    for seen_header in sorted(seen, key=lambda s: (s.newest, s.header)):
        header = seen_header.header
        numbers |= {n.authority: n for n in header.numbers}
        whole = PatientHeader(
            birth_date=header.birth_date or whole.birth_date,
            sex=header.sex or whole.sex,
            family=header.family or whole.family,
            given=header.given or whole.given,
        )
    return PatientHeader(
        tuple(sorted(numbers.values())), whole.birth_date, whole.sex, whole.family, whole.given
    )


def contradicts(a: PatientHeader, b: PatientHeader) -> bool:
    """Whether they differ in number and birth date.

    What may never be listed as one, unless a feed or a person said so.
    """
    return other_number(a, b) and other_birth_date(a, b)


def components(
    headers: Sequence[PatientHeader], joined: Callable[[PatientHeader, PatientHeader], bool]
) -> list[list[PatientHeader]]:
    """Connected components, each in the order of ``headers``."""
    left, groups = list(headers), list[list[PatientHeader]]()
    while left:
        group, todo = [left[0]], [left.pop(0)]
        while todo:
            header = todo.pop()
            near = [h for h in left if joined(header, h)]
            group += near
            todo += near
            left = [h for h in left if h not in near]
        groups.append(sorted(group))
    return groups


def _by_number(group: Sequence[PatientHeader]) -> list[frozenset[PatientHeader]]:
    """A part that contradicts itself, by its numbers.

    A header without one goes to the first that it is nearest to.
    """
    numbered = [h for h in group if h.numbers]
    blocks = components(numbered, lambda a, b: bool(set(a.numbers) & set(b.numbers)))
    blocks = [
        b
        for block in blocks
        for b in (_by(block, lambda h: h.birth_date) if _contradictory(block) else [block])
    ]
    for header in group:
        if not header.numbers:
            blocks.sort(
                key=lambda block: (-max(_likeness(header, h) for h in block if h.numbers), min(block))
            )
            blocks[0].append(header)
    return [frozenset(block) for block in blocks]


def _contradictory(block: Sequence[PatientHeader]) -> bool:
    return any(contradicts(a, b) for a in block for b in block)


def _likeness(a: PatientHeader, b: PatientHeader) -> int:
    same_date = bool(a.birth_date) and a.birth_date == b.birth_date
    same_name = bool(a.family) and a.family == b.family and a.given == b.given
    return (not doubt(a, b)) * 4 + same_date * 2 + same_name


def _by(
    headers: Iterable[PatientHeader], key: Callable[[PatientHeader], object]
) -> list[list[PatientHeader]]:
    groups: dict[object, list[PatientHeader]] = {}
    for header in headers:
        groups.setdefault(key(header), []).append(header)
    return list(groups.values())
