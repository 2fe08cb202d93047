"""What an outside source claimed of a study before the member that holds it published it (ADR 0045)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from crosslight.runtime.db import Tx
from crosslight.standards.ids import MemberId
from registry.index.store import IndexStore
from registry.members.model import Member


def under_claims(
    tx: Tx, index: IndexStore, arrived: Mapping[str, Member], foreign: Callable[[MemberId], bool]
) -> Iterator[tuple[str, Member]]:
    """Of studies that came anew to members those that outside sources alone had claimed before.

    Once for a study: the members that come after the first find the first there.
    """
    held = index.read.members_of(tx, arrived) if arrived else {}
    for study_uid, member in arrived.items():
        others = held.get(study_uid, set()) - {member.id}
        if others and all(foreign(other) for other in others):
            yield study_uid, member
