"""The one way to a question's answer: identity, access, index, coverage, audit (ARCHITECTURE, D20)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.db import Db
from crosslight.standards.access import Action, Face, Principal
from crosslight.standards.region import Region
from registry.coverage import Coverage
from registry.identity.store import IdentityStore
from registry.index.store import IndexStore
from registry.members.model import Directory
from registry.questions import Answer, Question


class Ask:
    """Answers questions for every face."""

    def __init__(
        self,
        db: Db,
        index: IndexStore,
        identity: IdentityStore,
        directory: Directory,
        audit: AuditLog,
        clock: Clock,
        ids: Ids,
        region: Region,
    ) -> None:
        self.region = region

    @asynccontextmanager
    async def question(
        self, principal: Principal, *, face: Face, action: Action, question: Question, correlation: str, peer: str = ""
    ) -> AsyncIterator[Answer]:
        """Answer ``question``; its act is audited before the answer is handed over, its outcome at exit.

        Raises:
            Forbidden: policy says no (audited).
            Invalid: a selector that names nobody, a cursor that is none of ours.
        """
        raise NotImplementedError
        yield

    def coverage(self) -> Coverage:
        """Coverage now, without a patient in question."""
        raise NotImplementedError

    async def close(self) -> None:
        """Wait until the outcomes still being written are committed."""
        raise NotImplementedError
