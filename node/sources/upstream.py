"""What a node asks of an archive of others, whatever it speaks: one class for each kind (``dicomweb.py``).

``follow.py`` asks for lists and instances, ``node/archive/elsewhere.py`` for objects. An upstream is made
from its table of the configuration by ``sources.py``. It bounds and checks what it is sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Protocol

from crosslight.standards.dicom.file.header import Header
from node.holdings import Opened, StoredObject


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """A study as the upstream lists it.

    Attributes:
        study_uid: Which one.
        study_date: YYYYMMDD, or '' where there is none that can be read.
        digest: Of what is said of it, 16 bytes: another one, and the study is looked into again.
    """

    study_uid: str
    study_date: str
    digest: bytes


class Upstream(Protocol):
    """An archive beside which the node stands."""

    def studies(self, first: str, last: str) -> AsyncIterator[Listed]:
        """Studies of these days (YYYYMMDD), both included; '' and '': all there are, whatever their date.

        A study may come twice, where the list moved while it was read.

        Raises:
            Unavailable, Malformed, TooLarge: it does not answer, or not as it should; nothing is concluded
                from what came before.
        """
        ...

    async def study(self, study_uid: str) -> Listed | None:
        """One study; None only where the upstream says that it has it not.

        Raises:
            Unavailable, Malformed, TooLarge: as :meth:`studies`.
        """
        ...

    def instances(self, study_uid: str) -> AsyncIterator[list[Header]]:
        """All instances of a study, in portions (a series, say); [] or nothing where there are none.

        Each header is of this study, with UIDs that are UIDs.

        Raises:
            Unavailable, Malformed, TooLarge: as :meth:`studies`; what came before is kept, what was not
                listed is not forgotten.
        """
        ...

    async def open(self, stored: StoredObject) -> Opened:
        """The bytes of one object, as a Part 10 file.

        Raises:
            CrosslightError: they cannot be had now.
        """
        ...
