"""The tunnels of members that end in this process, and by which road a member is called (ADR 0058).

A node that lets nothing in makes a call on its link's connection, and connections to it go through that. Each
of them is the same mutual TLS as a direct one: what a tunnel adds is a road, and no right.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, Protocol

from crosslight.pb import tunnel_pb2 as pb
from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.log import get_logger
from crosslight.runtime.tunnel.carrier import Carrier
from crosslight.runtime.tunnel.mux import Mux
from crosslight.runtime.waiting import Subscribers
from crosslight.standards.ids import MemberId
from crosslight.standards.problem import Unavailable
from registry.members.model import Member
from registry.reach.config import ReachConfig

log = get_logger("tunnel")

Road = Literal["direct", "tunnel"]
SESSION_BYTES = 16


class Tracker(Protocol):
    """What ends when a member is suspended (``registry.members.connections.LiveConnections``)."""

    def closer(self, member: MemberId, close: Callable[[], None]) -> Callable[[], None]:
        """Call ``close`` when the member is cut off; returns how to forget it."""
        ...


@dataclass(slots=True)
class _Tunnel:
    carrier: Carrier
    only: bool  # the node wants to be called by no other road
    direct: bool = False  # otherwise: whether its own address was reached when it was last tried


class Tunnels:
    """Tunnels by member, and the choice between them and members' own addresses.

    Args:
        clock: Time.
        ids: Names of sessions.
        config: Windows, and how long connections wait for another call.
        live: Cuts a tunnel when its member is suspended.
    """

    def __init__(self, clock: Clock, ids: Ids, config: ReachConfig, live: Tracker | None = None) -> None:
        self._clock, self._ids, self._config, self._live = clock, ids, config, live
        self._tunnels: dict[MemberId, _Tunnel] = {}
        #: Told of each tunnel that begins.
        self.began: Subscribers[MemberId] = Subscribers()

    def greeted(self, member: MemberId, greeting: pb.TunnelGreeting) -> Carrier:
        """The member's end of this process for a call that begins: the one it had, where it still holds."""
        only, known = greeting.reach == "tunnel", self._tunnels.get(member)
        if known is not None and not known.carrier.closed and greeting.session == known.carrier.session:
            known.only = only
            known.carrier.detach()
            return known.carrier
        if known is not None:
            known.carrier.close()
        carrier = Carrier(Mux(self._config.tunnel_window_bytes), self._clock, self._config.stall_timeout_s)
        carrier.session = self._ids.token_bytes(SESSION_BYTES)
        self._tunnels[member] = _Tunnel(carrier, only)
        if self._live is not None:
            carrier.on_close = self._live.closer(member, carrier.close)
        self.began(member)
        return carrier

    def has(self, member: MemberId) -> bool:
        """Whether connections can be opened through a tunnel of the member.

        Between two calls of its node they wait for the next one, as they do when it drops.
        """
        tunnel = self._tunnels.get(member)
        return tunnel is not None and not tunnel.carrier.closed

    def carrier(self, member: MemberId) -> Carrier | None:
        """The member's tunnel, be it carried now or not."""
        tunnel = self._tunnels.get(member)
        return tunnel.carrier if tunnel is not None else None

    def dial(self, member: Member) -> socket.socket:
        """A connection to the member's node.

        Raises:
            Unavailable: there is none, or it was closed.
        """
        tunnel = self._tunnels.get(member.id)
        if tunnel is None:
            raise Unavailable("There is no tunnel of this member.", where=member.code)
        return tunnel.carrier.open()

    # --- by which road --------------------------------------------------------------------------------------

    def road(self, member: MemberId) -> Road:
        """How the member is called now: at its own address where that is reached, and it does not mind."""
        tunnel = self._tunnels.get(member)
        if tunnel is None or tunnel.direct or (tunnel.carrier.closed and not tunnel.only):
            return "direct"
        return "tunnel"

    def tried(self, member: MemberId, *, reached: bool) -> None:
        """Whether the member's own address was reached."""
        tunnel = self._tunnels.get(member)
        if tunnel is not None:
            tunnel.direct = reached and not tunnel.only

    def fall_back(self, member: MemberId) -> bool:
        """The member's own address is not reached any more: whether there is a tunnel to go by."""
        if self.road(member) == "tunnel" or not self.has(member):
            return False
        self.tried(member, reached=False)
        return True

    def undecided(self) -> list[MemberId]:
        """Members with a tunnel that may be called directly too."""
        return [member for member, tunnel in self._tunnels.items() if not tunnel.only]

    def close(self) -> None:
        """End all."""
        for tunnel in self._tunnels.values():
            tunnel.carrier.close()
