"""Whom the studies concern that the registry does not list yet, or has refused (D19).

A heartbeat says it. Only hashes leave the node (``crosslight.standards.concern``), and none of a study that
was withdrawn for safety or is sealed.
"""

from __future__ import annotations

from collections.abc import Callable

from crosslight.standards.concern import MAX_HASHES, Concern, concern_of
from crosslight.standards.ids import Identifier
from node.holdings import Holdings
from node.publish.outbox_store import OutboxStore


class Unlisted:
    """Makes the :class:`~crosslight.standards.concern.Concern` of one destination.

    Args:
        rows: What is waiting and refused.
        holdings: Whose studies are.
        pending: Studies that wait for a revision.
        secret: The member's (D9).
    """

    def __init__(
        self,
        rows: OutboxStore,
        holdings: Holdings,
        pending: Callable[[], list[str]],
        secret: Callable[[], bytes],
    ) -> None:
        self._rows = rows
        self._holdings = holdings
        self._pending = pending
        self._secret = secret

    async def concern(self, *, untold: bool) -> Concern:
        """As of now.

        ``untold``: more may be waiting than is known (while filling, or before all marks were looked at).
        """
        waiting, refused = await self._rows.unlisted(self._pending(), MAX_HASHES + 1)
        many, many_refused = untold or len(waiting) > MAX_HASHES, len(refused) > MAX_HASHES
        of_quarantine, unread = await self._holdings.refused(MAX_HASHES)
        return concern_of(
            self._secret(),
            set() if many else await self._whose(waiting),
            of_quarantine | (set() if many_refused else await self._whose(refused)),
            anybody_waiting=many,
            anybody_refused=many_refused or unread,
        )

    async def _whose(self, studies: dict[str, set[Identifier]]) -> set[Identifier]:
        """What their headers say, and under whom the registry has them: one that moves concerns both."""
        return (await self._holdings.concerned(list(studies)) if studies else set()).union(*studies.values())
