"""Where commands print to, and text as it may be printed."""

from __future__ import annotations

import os
import sys

from rich.console import Console

WIDTH = 200  # of what is piped or kept: rich would fold it into 80 columns, and split words


def make_console() -> Console:
    """A console as wide as the terminal.

    Into a pipe or a file wide enough that tables keep their words whole.
    """
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if narrow else WIDTH)


def printable(text: str) -> str:
    """``text`` from outside as it may stand on a terminal.

    Controls, which could move its cursor, and surrogates are shown.
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )


def counted(count: int, singular: str, plural: str = "") -> str:
    """``1 study``, ``2 studies``."""
    return f"{count:,} {singular if count == 1 else plural or singular + 's'}"
