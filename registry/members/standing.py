"""Whose word on a study goes first: a member's, or an outside source's.

Anybody may register any StudyInstanceUID, so what an outside source says of one never unsettles what a
member holds: in whatever order they came, its claim is set apart. It is kept, listed and marked, and had at
its own address. Pure.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from registry.members.model import Member

T = TypeVar("T")


def is_foreign(member: Member | None) -> bool:
    """Whether this is an outside source, and no member."""
    return member is not None and member.status == "foreign"


def foremost(claims: Sequence[T], member_of: Callable[[T], Member | None]) -> list[T]:
    """Of the claims on one study those that its bare address may stand for: members' where there are any.

    Else those of outside sources with a road to their images: one without any gives nothing, and so cannot
    take anybody's place either.
    """
    held = [claim for claim in claims if not is_foreign(member_of(claim))]
    if held:
        return held
    return [claim for claim in claims if (m := member_of(claim)) is None or m.shows_images] or list(claims)
