"""Who calls, for tests that need no listener."""

from __future__ import annotations

from crosslight.runtime.caller import Caller
from crosslight.runtime.credentials import OPERATOR
from crosslight.standards.access import OPEN, Principal


def caller(principal: Principal = OPEN, correlation: str = "c", peer: str = "test") -> Caller:
    """A caller from nowhere."""
    return Caller(principal=principal, correlation=correlation, peer=peer)


def operator() -> Caller:
    """Whoever runs the registry's commands."""
    return caller(OPERATOR, peer="")
