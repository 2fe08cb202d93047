"""Where commands print to, and text as it may be printed.

Names, reasons and identifiers come from outside: from objects, callers, members, the sign-in provider. On a
console of :func:`make_console` whatever text is printed is text: no markup is read in it, and controls, which
could move the cursor or hide a line, are shown.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from crosslight.runtime.plain_text import printable

__all__ = ["PlainConsole", "counted", "make_console", "make_markup_console", "printable"]

WIDTH = 200  # of what is piped or kept: rich would fold it into 80 columns, and split words


class PlainConsole(Console):
    """A console on which text is text."""

    def __init__(self, **options: Any) -> None:
        super().__init__(markup=False, emoji=False, **options)

    def print(self, *objects: Any, markup: bool | None = None, **options: Any) -> None:
        """As rich's; a text is one line, whatever is in it, unless it is our own with ``markup``."""
        if not markup:
            objects = tuple(
                printable(renderable) if isinstance(renderable, str) else renderable for renderable in objects
            )
        super().print(*objects, markup=markup, **options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """As rich's, with the controls shown that came within tables and texts."""
        for segment in super().render(renderable, options):
            text = segment.text
            if segment.control or text.isprintable() or text == "\n":
                yield segment
            else:
                lines = "\n".join(map(printable, text.split("\n")))
                yield Segment(lines, segment.style, segment.control)


def make_console() -> Console:
    """A console as wide as the terminal.

    Into a pipe or a file wide enough that tables keep their words whole.
    """
    return PlainConsole(width=_width())


def make_markup_console() -> Console:
    """The same for what prints nothing but texts of ours, with rich's markup: the demo, simulations."""
    return Console(width=_width())


def _width() -> int | None:
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    return None if narrow else WIDTH


def counted(count: int, singular: str, plural: str = "") -> str:
    """``1 study``, ``2 studies``."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"
