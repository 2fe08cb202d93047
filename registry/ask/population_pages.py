"""Reading a population page by page within bounds, and the cursor that says where a page ended (D20)."""

from __future__ import annotations

import base64
import binascii
import struct
from dataclasses import replace

from crosslight.runtime.db import Tx
from crosslight.standards.problem import Invalid
from registry.ask.question import ByPopulation
from registry.index.population_window import Place, Window
from registry.index.read import Reader
from registry.index.rows import DATED, UNDATED, Loaded

SCAN = 3000  # rows that one page may decode
STEP = 250  # rows at once, where the filter turns many away
STRETCH = 2000  # rows of the index among which the database looks for a page's
LOOK = 20_000  # rows of the index that one page may look at: beyond, the page ends where it is, with a cursor
OF_PATIENT = b"p"  # kind of the cursors of one person's studies
_CURSOR = struct.Struct(">cqqqq")


class Scan:
    """A reading of a window.

    Studies with a date, then those without, which match any date and come last (D22).

    Args:
        page: The window; its limit is of rows decoded at once.
        after: Where the page before ended.
    """

    def __init__(self, page: Window, after: Place | None) -> None:
        self.place = after
        self._decoded = 0
        self._looked = 0
        self._windows = [page]
        if page.order == "started" and (page.low is not None or page.high is not None or page.ascending):
            # UNDATED is a number below any bound
            dated = replace(page, low=DATED if page.low is None else page.low)
            self._windows = [dated, replace(page, low=None, high=None, undated=True)]
            if after is not None and after[0] == UNDATED:
                del self._windows[0]
        self._after, self._limit = after, page.limit

    @property
    def more(self) -> bool:
        """Whether there is anything left to read."""
        return bool(self._windows)

    @property
    def enough(self) -> bool:
        """Whether one page has had its share."""
        return self._decoded >= SCAN or self._looked >= LOOK

    def rows(self, read: Reader, tx: Tx) -> list[Loaded]:
        """The rows of the next stretch."""
        window = replace(self._windows[0], after=self._after, limit=self._limit)
        until = read.ahead(tx, window, STRETCH)
        rows = read.window(tx, replace(window, until=until))
        if len(rows) == self._limit:
            self._after = place_of(rows[-1], window.order)
        elif until is not None:
            self._after = until
        else:
            self._after = None
            del self._windows[0]
        self.place = self._after or (place_of(rows[-1], window.order) if rows else self.place)
        self._decoded += len(rows)
        self._looked += STRETCH if until is not None and len(rows) < window.limit else 0
        self._limit = max(self._limit, STEP)
        return rows


def place_of(loaded: Loaded, order: str) -> Place:
    """Where a row stands in the order of its page."""
    row = loaded.row
    return (row.started if order == "started" else row.updated, row.record_key, row.study_hash, row.member_id)


def kind_of(question: ByPopulation) -> bytes:
    """Which way of reading a cursor belongs to."""
    kind = question.order[:1].encode()
    return kind.upper() if question.ascending else kind


def cursor_text(place: Place, kind: bytes) -> str:
    """A place as what a caller gives back."""
    return base64.urlsafe_b64encode(_CURSOR.pack(kind, *place)).decode().rstrip("=")


def cursor_of(text: str, asked: bytes) -> Place | None:
    """The inverse of :func:`cursor_text`.

    Raises:
        Invalid: for what is none of ours, or of another way of reading.
    """
    if not text:
        return None
    try:
        kind, *place = _CURSOR.unpack(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        if kind != asked:
            raise ValueError
    except (ValueError, struct.error, binascii.Error):
        raise Invalid(
            "This is no cursor of this search.", todo="Start at the first page.", where="cursor"
        ) from None
    return (place[0], place[1], place[2], place[3])
