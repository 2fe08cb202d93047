"""Who calls, as one value.

Made once where a call comes in, and handed down to whatever decides, audits or asks on.

Makers: :func:`crosslight.runtime.http.admit` for the HTTP listeners (called by each service's
authentication), the gRPC, MLLP and DIMSE listeners for theirs, and here :func:`command_line` and
:func:`background` for what nobody calls.
"""

from __future__ import annotations

from dataclasses import dataclass

from crosslight.runtime.clock import Ids
from crosslight.runtime.operators import operator
from crosslight.standards.access import Principal


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls, and by what way.

    Args:
        principal: In whose name.
        correlation: The id that joins all that is noted of one call, here and at other ends (D20).
        peer: The address at the other end; '' where there is none.
        via: Who carried the call for the principal: the certificate beside a token, as a subject
            (``gateway``).
        bodiless: They asked for the headers of an answer alone (HEAD): nothing else is sent.
    """

    principal: Principal
    correlation: str
    peer: str = ""
    via: str = ""
    bodiless: bool = False

    @property
    def origin(self) -> str:
        """Address and carrier, as the audit's ``peer`` has them."""
        return " ".join(part for part in (self.peer, self.via) if part)


def command_line(ids: Ids) -> Caller:
    """Whoever runs a command of this machine."""
    return Caller(principal=operator(), correlation=ids.uuid4().hex)


def background(principal: Principal, ids: Ids, *, peer: str = "") -> Caller:
    """A part of us that acts by itself; ``peer`` is whom it deals with."""
    return Caller(principal=principal, correlation=ids.uuid4().hex, peer=peer)
