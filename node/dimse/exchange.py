"""What an association, the line below it and the services above it say to each other.

As values and small protocols.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from crosslight.standards.problem import TooLarge
from node.dimse.command import Command


@dataclass(frozen=True, slots=True)
class SupportedClass:
    """A SOP class that a service answers for.

    Attributes:
        sop_class_uid: The abstract syntax.
        transfer_syntaxes: In the order of preference.
        asks: We may ask it of the caller too, where the caller agrees to that role (C-GET's C-STORE; PS3.7
            D.3.3.4).
    """

    sop_class_uid: str
    transfer_syntaxes: tuple[str, ...]
    asks: bool = False


@dataclass(frozen=True, slots=True)
class Context:
    """A presentation context that was agreed to."""

    id: int
    sop_class_uid: str
    transfer_syntax_uid: str
    we_may_ask: bool = False
    agreed: bytes = b""  # application information of the SOP Class Extended Negotiation (PS3.7 D.3.3.5)


class Line(Protocol):
    """What an association needs of the layer below."""

    @property
    def longest_pdu(self) -> int:
        """The caller's Maximum Length Received; 0 = any."""
        ...

    @property
    def over(self) -> bool:
        """Whether nothing can be sent any more."""
        ...

    @property
    def patience_s(self) -> float:
        """How long the caller's answer is waited for."""
        ...

    def send(self, pdus: bytes) -> None:
        """Send whole PDUs; waits while the caller reads slowly.

        Raises:
            Unavailable: when the association is over.
        """
        ...

    def later(self, job: Callable[[], None]) -> None:
        """Do it in the association's thread, after what is waiting there already."""
        ...

    def abort(self) -> None:
        """The caller has broken the rules, or something failed here."""
        ...


class Exchange(Protocol):
    """One request on its way to its answer."""

    def write(self, data: memoryview) -> None:
        """A fragment of its data set, in the upper layer's thread. It may be kept, but not changed.

        Raises:
            CrosslightError: the association is aborted.
        """
        ...

    def finish(self) -> None:
        """All is here: answer."""
        ...

    def discard(self) -> None:
        """The association is over before all was here."""
        ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What the caller answered to what we asked it."""

    command: Command
    data: bytes


class Gathered:
    """An exchange whose data set is short: kept in memory and bounded, then given to ``answer``."""

    def __init__(self, answer: Callable[[bytes], None], max_bytes: int) -> None:
        self._answer, self._max_bytes = answer, max_bytes
        self._data = bytearray()

    def write(self, data: memoryview) -> None:
        """Keep it.

        Raises:
            TooLarge: over the bound.
        """
        if len(self._data) + len(data) > self._max_bytes:
            raise TooLarge("The data set is too large.", why=f"Limit here: {self._max_bytes} bytes.")
        self._data += data

    def finish(self) -> None:
        """Hand it on."""
        self._answer(bytes(self._data))

    def discard(self) -> None:
        """Nothing to give back."""
