"""The little that membership asks of the index: what a member published. ``registry.index.store.IndexStore`` answers it."""

from __future__ import annotations

from typing import Protocol

from crosslight.standards.ids import MemberId, Version


class CensusFacts(Protocol):
    """Counts and digests of a member's approved holdings (D19)."""

    @property
    def studies(self) -> int:
        """How many."""
        ...

    @property
    def digest(self) -> bytes:
        """XOR of SHA-256(study UID, digest), 32 bytes."""
        ...


class IndexFacts(Protocol):
    """What membership must know of the index."""

    @property
    def incarnation(self) -> str:
        """The id of the registry's database (D8)."""
        ...

    async def cursor(self, member: MemberId) -> Version | None:
        """The newest version of ``member`` that was acknowledged (D10)."""
        ...

    async def census(self, member: MemberId) -> CensusFacts:
        """Approved holdings of ``member``."""
        ...
