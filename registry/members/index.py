"""The little that membership asks of the index: what a member published. ``registry.index.store.IndexStore`` answers it."""

from __future__ import annotations

from typing import Protocol

from crosslight.standards.census import Census
from crosslight.standards.ids import MemberId, Version


class IndexFacts(Protocol):
    """What membership must know of the index."""

    @property
    def incarnation(self) -> str:
        """The id of the registry's database (D8)."""
        ...

    async def cursor(self, member: MemberId) -> Version | None:
        """The newest version of ``member`` that was acknowledged (D10)."""
        ...

    async def census(self, member: MemberId) -> Census:
        """Approved holdings of ``member``."""
        ...
