"""HTTP sessions to members, one for each.

They are pooled, over mutual TLS, and expect the member's own identity in the handshake: by whichever road.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from functools import partial

from aiohttp import ClientSession

from crosslight.runtime.seams import Http
from crosslight.runtime.tokens import nobody_presents
from crosslight.standards.ids import MemberId
from registry.members.model import Member
from registry.reach.addresses import Service, address, tunnelled
from registry.reach.config import ReachConfig
from registry.reach.tunnels import Road, Tunnels


class MemberSessions:
    """``sessions(member)`` gives the session for calls to a member.

    Args:
        config: Timeouts and limits.
        http: Makes sessions.
        tls: The TLS context for a member (it expects that member's certificate); None on plain links.
        presenter: The thumbprint of the certificate that those contexts show now. Release tokens are bound to
            it, so that a renewed one needs new connections: what runs on the old ones goes on.
        own_machine: Whether a member's name may lead to this machine (demos and trials).
        tunnels: Those of members that are called through one; None: nobody is.
    """

    def __init__(
        self,
        config: ReachConfig,
        http: Http,
        tls: Callable[[Member], ssl.SSLContext | None] = lambda member: None,
        presenter: Callable[[], str] = nobody_presents,
        *,
        own_machine: bool = True,
        tunnels: Tunnels | None = None,
    ) -> None:
        self._config, self._http, self._tls, self._presenter = config, http, tls, presenter
        self._own_machine, self._tunnels = own_machine, tunnels
        self._sessions: dict[MemberId, tuple[tuple[str, str, Road], ClientSession]] = {}
        self._before: dict[MemberId, ClientSession] = {}
        self._closing: set[asyncio.Future[None]] = set()

    def __call__(self, member: Member) -> ClientSession:
        """The member's session.

        A new one when its code, and so the identity expected of it, the road to it, or our own certificate
        has changed.
        """
        road: Road = self._tunnels.road(member.id) if self._tunnels is not None else "direct"
        ends = (member.code, self._presenter(), road)
        known, session = self._sessions.get(member.id, (ends, None))
        if session is not None and known != ends and not session.closed:
            self._retire(member.id, session)
        if session is None or session.closed or known != ends:
            session = self.by(road, member)
            self._sessions[member.id] = (ends, session)
        return session

    def address(self, member: Member, service: Service) -> str:
        """The URL of a member's service by the road that is taken now; '' when none is known."""
        known = address(member, service)
        if known or self._tunnels is None or self._tunnels.road(member.id) != "tunnel":
            return known
        return tunnelled(service, secured=self._tls(member) is not None)

    def other_road(self, member: Member) -> bool:
        """The member does not let us connect: whether it is called by another road from now on."""
        return self._tunnels is not None and self._tunnels.fall_back(member.id)

    def by(self, road: Road, member: Member) -> ClientSession:
        """A session of the caller's own, which closes it."""
        through = road == "tunnel" and self._tunnels is not None
        return self._http.client(
            self._tls(member),
            connect_timeout_s=self._config.connect_timeout_s,
            read_timeout_s=self._config.stall_timeout_s,
            own_machine=self._own_machine,
            limit=0,  # MemberLanes bounds them: who waits must not seem to wait for the member
            dial=partial(self._tunnels.dial, member) if through and self._tunnels is not None else None,
        )

    def _retire(self, member: MemberId, session: ClientSession) -> None:
        """Let what still runs on an old session go on, until the next is retired, days later."""
        older, self._before[member] = self._before.get(member), session
        if older is not None:
            self._closing.add(task := asyncio.ensure_future(older.close()))
            task.add_done_callback(self._closing.discard)

    async def drop(self, member: MemberId) -> None:
        """Close what is open to a member."""
        ended = [self._before.pop(member, None)]
        if member in self._sessions:
            ended.append(self._sessions.pop(member)[1])
        for session in ended:
            if session is not None:
                await session.close()

    async def close(self) -> None:
        """Close the sessions to all members."""
        for member in {*self._sessions, *self._before}:
            await self.drop(member)
        await asyncio.gather(*self._closing)
