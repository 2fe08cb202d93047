"""What services that give something out are given: decision and audit, and objects opened for sending."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from crosslight.runtime.audit import Act
from crosslight.runtime.caller import Caller
from crosslight.standards.access import Action
from node.dimse.on_loop import OnLoop
from node.holdings import Holdings, Local, StoredObject


class Deciding(Protocol):
    """The one way out of a node (``Release.device_act``)."""

    def __call__(
        self, caller: Caller, action: Action, studies: Sequence[str], query: dict[str, Any], deferred: bool
    ) -> AbstractAsyncContextManager[Act]:
        """An act that the caller is allowed; with ``deferred`` its beginning waits for :meth:`Act.begin`."""
        ...


class Rendering(Protocol):
    """Objects as files of this machine, in a transfer syntax."""

    def syntaxes_of(self, stored: StoredObject) -> tuple[str, ...]:
        """Those in which it can be given, its own first."""
        ...

    def in_syntax(
        self, stored: StoredObject, transfer_syntax_uid: str, share: str
    ) -> AbstractAsyncContextManager[Local]:
        """A Part 10 file of it while the context lasts; made anew, in a turn of ``share``, where it must be.

        Raises:
            CrosslightError: it cannot be given so.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """All of it.

    Attributes:
        on_loop: Where all of it runs.
        holdings: What can be given.
        act: Decides, and audits.
        rendering: Opens objects.
    """

    on_loop: OnLoop
    holdings: Holdings
    act: Deciding
    rendering: Rendering
