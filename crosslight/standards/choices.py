"""Several answers to one question, of which none is the default."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OneAnswer:
    """One of several answers."""

    code: str  # of the organisation that gives it
    name: str
    address: str
