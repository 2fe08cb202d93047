"""Text from outside, as it may stand on a terminal, in a log or in an error. Pure."""

from __future__ import annotations


def printable(text: str) -> str:
    """``text`` from outside as it may stand on a terminal.

    Controls, which could move its cursor, and surrogates are shown.
    """
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape", "surrogatepass").decode()
        for char in text
    )
