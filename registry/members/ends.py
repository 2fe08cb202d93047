"""The far end of a link, and what tells two of one member apart. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class LinkEnd:
    """Where a link comes from, and the id of the node's database."""

    address: str
    state_id: str


def second_holder(live: LinkEnd, newer: LinkEnd) -> str:
    """What says that ``newer`` is another holder of a key than the one whose link is ``live``; '' = nothing.

    A node that restarts ends its link before it begins another, and one whose certificate was renewed comes
    from the same place with the same database. A trust behind several outside addresses may look like two.
    """
    if newer.state_id != live.state_id:
        return f"from {newer.address or '?'}, with another database than from {live.address or '?'}"
    if newer.address != live.address:
        return f"from {newer.address or '?'} beside {live.address or '?'}"
    return ""
