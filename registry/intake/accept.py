"""The one way into the index (ARCHITECTURE, "Two narrow waists"): validate, resolve the patient, commit, notify."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.db import Db
from crosslight.standards.problem import CrosslightError
from crosslight.standards.region import Region
from crosslight.standards.study import StudyRecord
from registry.identity.store import IdentityStore
from registry.index.model import Change, HoldingKey
from registry.index.store import IndexStore
from registry.intake.model import Acceptance, Submission
from registry.members.model import Directory


class Acceptor:
    """Accepts submissions. ``enrich`` is told of holdings that know only their entry (D17), ``on_change`` of every change;
    both after the commit, both must return at once."""

    def __init__(
        self,
        db: Db,
        index: IndexStore,
        identity: IdentityStore,
        directory: Directory,
        clock: Clock,
        ids: Ids,
        region: Region,
        enrich: Callable[[HoldingKey], None] | None = None,
        on_change: Callable[[Sequence[Change]], None] | None = None,
    ) -> None: ...

    async def accept(self, submission: Submission) -> Acceptance:
        """Commit a submission, all its acts or none.

        Raises:
            CrosslightError: refused, with its ``xds_code``; nothing is stored then. An epoch that was not granted is a
                ``Conflict`` with ``where="epoch"``.
        """
        raise NotImplementedError

    async def accept_many(self, submissions: Sequence[Submission]) -> list[Acceptance | CrosslightError]:
        """A batch of a feed in one transaction; each submission succeeds or fails on its own."""
        raise NotImplementedError

    async def update_detail(self, key: HoldingKey, record: StudyRecord, *, entry_uuid: str = "", digest: str = "") -> bool:
        """Replace what is known of a holding by more of it, without a new version (D17).

        Args:
            key: The holding.
            record: With ``detail`` manifest or full.
            entry_uuid: The version that ``record`` describes; another one now current is left alone. '' = whatever is.
            digest: The content digest as the holder states it; '' keeps the one that was submitted.

        Returns:
            Whether it was replaced.
        """
        raise NotImplementedError
