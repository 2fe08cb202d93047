"""The first submission of a source that is no member: its row is made with it, or not at all (ADR 0020)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from crosslight.runtime.db import Tx
from registry.members.model import Member


@dataclass(frozen=True, slots=True)
class Arrival:
    """Who registers.

    Attributes:
        member: Its entry, there or to be.
        write: Makes the row, in the transaction of the submission; nothing where it is there. Raises
            ``ArrivedMeanwhile``, ``TooLarge``.
        written: Says that this transaction is committed.
    """

    member: Member
    write: Callable[[Tx], None] = lambda tx: None
    written: Callable[[], None] = lambda: None
