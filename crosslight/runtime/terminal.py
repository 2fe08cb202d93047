"""Where commands print to."""

from __future__ import annotations

import os
import sys

from rich.console import Console

WIDTH = 200  # of what is piped or kept: rich would fold it into 80 columns, and split words


def make_console() -> Console:
    """A console as wide as the terminal; into a pipe or a file wide enough that tables keep their words whole."""
    narrow = sys.stdout.isatty() or "COLUMNS" in os.environ
    return Console(width=None if narrow else WIDTH)
