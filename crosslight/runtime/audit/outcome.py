"""What became of an act, as a value and as the text that the audit keeps. Pure.

::

    outcome = kind [ " " count *( ", " count ) ] [ ": " code ]
    count   = number " " words                    how many objects, rows, acts
    code    = an error's kind, or a standard's code for it

``partial 2 stored, 1 refused`` and ``refused: XDSUnknownPatientId`` are outcomes. :meth:`Outcome.parse` reads
the texts of releases before 0.3 too, which had a grammar at each place that wrote one.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass, replace
from typing import Literal, Self, get_args

from crosslight.standards.problem import (
    CrosslightError,
    Forbidden,
    OurError,
    Unauthenticated,
    Unavailable,
    kind_in_words,
)

#: ``partial``: some of what was asked. ``refused``: the request was at fault. ``denied``: access said no.
#: ``failed``: we, or
#: another system, could not. ``cut``: who asked had gone, or we had, before the answer ended.
OutcomeKind = Literal["ok", "partial", "refused", "denied", "failed", "cut"]

IN_ALL = "in all"  # the words of the number that was asked for, or sent
_KINDS: tuple[OutcomeKind, ...] = get_args(OutcomeKind)
_BY_NAME: dict[str, OutcomeKind] = {kind: kind for kind in _KINDS}
_TEXT = re.compile(rf"({'|'.join(_KINDS)})(?: ([^:]+))?(?:: (.+))?\Z", re.DOTALL)
_COUNT = re.compile(r"([0-9]{1,18})(?: ([a-z][a-z ]*?))?(?: of ([0-9]{1,18}))?\Z")
_OLD_COUNT = re.compile(r"([a-z]+) ([0-9]{1,18})\Z")
_WORDS = {"cut": "cut off: an answer was begun and did not end", "ok": "done", "partial": "done in part"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an act.

    Args:
        kind: In one word.
        counts: (words, how many) of what was given, stored, refused: in their order.
        code: Why, where it was not done.
    """

    kind: OutcomeKind
    counts: tuple[tuple[str, int], ...] = ()
    code: str = ""

    def __str__(self) -> str:
        """As the audit keeps it."""
        counts = ", ".join(f"{number} {words}".rstrip() for words, number in self.counts)
        return f"{self.kind}{' ' if counts else ''}{counts}{': ' if self.code else ''}{self.code}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a text of any release; '' (none was written) is ``cut``."""
        if not text:
            return cls("cut")
        match = _TEXT.match(text)
        if match is None:
            return cls("failed", code=text)
        kind: OutcomeKind = _BY_NAME[match.group(1)]
        middle, code = match.group(2) or "", match.group(3) or ""
        counts = _counts(middle)
        if counts is None:  # words, not numbers
            return cls(kind, code=": ".join(part for part in (middle, code) if part))
        if not counts and (older := _counts(code)):  # "failed: 0 stored, 3 refused"
            counts, code = older, ""
        if kind == "ok" and _in_part(counts):
            kind = "partial"
        return cls(kind, counts, code)

    def of_headers(self) -> Self:
        """The same of an answer whose headers alone were sent: of all that was found, nothing was given."""
        if self.kind not in ("ok", "partial"):
            return self
        given = tuple((words, 0) for words, _ in self.counts if words != IN_ALL)
        return replace(self, kind="ok", counts=given[:1], code="headers only")

    def in_words(self) -> str:
        """The outcome as a person reads it."""
        counts = ", ".join(f"{number} {words or 'given'}" for words, number in self.counts)
        why = kind_in_words(self.code) if self.code.isidentifier() and not self.code.startswith("XDS") else ""
        parts = (_WORDS.get(self.kind, self.kind), counts, why or self.code)
        return ": ".join(part for part in parts if part)


def counted(kind: OutcomeKind = "ok", **counts: int) -> Outcome:
    """An outcome with the first count, and those of the others that are not 0."""
    first = next(iter(counts), "")
    return Outcome(kind, tuple((word, number) for word, number in counts.items() if number or word == first))


def outcome_of(error: BaseException, so_far: Outcome, code: str = "") -> Outcome:
    """What became of an act that ended with ``error``.

    Args:
        error: What was raised.
        so_far: What had been done by then: of an answer that was cut off its counts are kept.
        code: The error's code at this face; '' for its kind.
    """
    if isinstance(
        error, ConnectionError | asyncio.CancelledError | GeneratorExit | KeyboardInterrupt | SystemExit
    ):
        return Outcome("cut", so_far.counts)
    code = code or type(error).__name__
    if isinstance(error, Forbidden | Unauthenticated):
        return Outcome("denied", code=code)
    if isinstance(error, CrosslightError) and not isinstance(error, OurError | Unavailable):
        return Outcome("refused", code=code)
    return Outcome("failed", code=code)


def _counts(text: str) -> tuple[tuple[str, int], ...] | None:
    """The counts of a text; None where it holds something else."""
    counts: list[tuple[str, int]] = []
    for part in text.split(", ") if text else ():
        if (match := _COUNT.match(part)) is not None:
            counts.append((match.group(2) or "", int(match.group(1))))
            counts += [(IN_ALL, int(match.group(3)))] if match.group(3) else []
        elif (match := _OLD_COUNT.match(part)) is not None:  # "refused 2"
            counts.append((match.group(1), int(match.group(2))))
        else:
            return None
    return tuple(counts)


def _in_part(counts: tuple[tuple[str, int], ...]) -> bool:
    """Whether counts of an older release's ``ok`` say that something was left out."""
    numbers = dict(counts)
    whole = numbers.get(IN_ALL)
    return bool(numbers.get("refused")) or (whole is not None and counts[0][1] < whole)
