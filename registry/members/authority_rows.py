"""The rows of members' own patient authorities, beside the one allotted to each (ADR 0023)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from crosslight.runtime.db import Tx
from crosslight.standards.ids import MemberId, Oid


@dataclass(frozen=True, slots=True)
class OwnAuthorities:
    """The authorities of one member beside its allotted one, in the order in which they came."""

    agreed: tuple[Oid, ...] = ()
    asked: tuple[Oid, ...] = ()


def held_tx(tx: Tx) -> dict[MemberId, OwnAuthorities]:
    """Of every member that has some."""
    by_member: dict[MemberId, OwnAuthorities] = {}
    for member, authority, agreed in tx.rows(
        "SELECT member, authority, agreed FROM member_authority ORDER BY member, place"
    ):
        own = by_member.get(MemberId(int(member)), OwnAuthorities())
        oid = Oid(authority)
        own = replace(own, agreed=(*own.agreed, oid)) if agreed else replace(own, asked=(*own.asked, oid))
        by_member[MemberId(int(member))] = own
    return by_member
