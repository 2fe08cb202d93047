"""IndexStore: named reads of THE index, on SQLite or PostgreSQL (D1, D5, D6, D13). Writes are in ``write.py``."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.db import Db
from crosslight.standards.ids import MemberId, Version
from registry.index.model import Change, Holding, HoldingKey
from registry.members.model import Directory


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What Compare needs of a holding (D10)."""

    study_uid: str
    version: Version | None  # of the newest act on it
    digest: str
    approved: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Census:
    """Counts and digests of a member's approved holdings (D19): XOR of SHA-256(study UID, digest)."""

    studies: int
    digest: bytes


class IndexStore:
    """The tables of the index. ``incarnation`` and ``region_key`` are known after :meth:`open`."""

    incarnation: str
    region_key: bytes

    def __init__(self, db: Db, directory: Directory, clock: Clock, ids: Ids) -> None: ...

    async def open(self) -> None:
        """Create or upgrade the tables; make the region's key and the incarnation where there are none."""
        raise NotImplementedError

    async def new_incarnation(self) -> str:
        """After a restore: nodes then compare and send again what was lost (D8)."""
        raise NotImplementedError

    async def cursor(self, member: MemberId) -> Version | None:
        """The newest version of ``member`` that was acknowledged (D10)."""
        raise NotImplementedError

    async def census(self, member: MemberId) -> Census:
        """Approved holdings of ``member``; kept up to date in its row, so this is one small read."""
        raise NotImplementedError

    async def held(self, member: MemberId, study_uids: Iterable[str]) -> dict[str, Held]:
        """What is held of these studies, for Compare."""
        raise NotImplementedError

    async def held_after(self, member: MemberId, cursor: str, limit: int) -> tuple[list[Held], str]:
        """A page of all that ``member`` holds, in no order of meaning; '' starts, '' ends."""
        raise NotImplementedError

    async def holding(self, key: HoldingKey) -> Holding | None:
        """One current holding, with its past."""
        raise NotImplementedError

    async def unenriched(self, limit: int) -> list[HoldingKey]:
        """Holdings of detail ``entry`` that wait for the Enricher (D17), longest waiting first."""
        raise NotImplementedError

    async def changes(self, since: datetime, limit: int) -> list[Change]:
        """Holdings changed at or after ``since``, oldest first; read again from a few seconds before the last one seen."""
        raise NotImplementedError

    async def sizes(self) -> dict[str, float]:
        """Bytes per study: heap, indexes, locators; patients, extras and superseded versions apart (D5)."""
        raise NotImplementedError
