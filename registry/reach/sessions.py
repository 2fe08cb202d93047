"""HTTP sessions to members, one for each.

They are pooled, over mutual TLS, and expect the member's own identity in the handshake.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable

from aiohttp import ClientSession

from crosslight.runtime.seams import Http
from crosslight.standards.ids import MemberId
from registry.members.model import Member
from registry.reach.config import ReachConfig


class MemberSessions:
    """``sessions(member)`` gives the session for calls to a member.

    Args:
        config: Timeouts and limits.
        http: Makes sessions.
        tls: The TLS context for a member (it expects that member's certificate); None on plain links.
    """

    def __init__(
        self,
        config: ReachConfig,
        http: Http,
        tls: Callable[[Member], ssl.SSLContext | None] = lambda member: None,
    ) -> None:
        self._config, self._http, self._tls = config, http, tls
        self._sessions: dict[MemberId, tuple[str, ClientSession]] = {}

    def __call__(self, member: Member) -> ClientSession:
        """The member's session; a new one when its code, and so the identity expected of it, has changed."""
        code, session = self._sessions.get(member.id, ("", None))
        if session is None or session.closed or code != member.code:
            session = self._http.client(
                self._tls(member),
                connect_timeout_s=self._config.connect_timeout_s,
                read_timeout_s=self._config.stall_timeout_s,
                limit=0,  # MemberLanes bounds them: who waits must not seem to wait for the member
            )
            self._sessions[member.id] = (member.code, session)
        return session

    async def drop(self, member: MemberId) -> None:
        """Close what is open to a member."""
        _, session = self._sessions.pop(member, ("", None))
        if session is not None:
            await session.close()

    async def close(self) -> None:
        """Close the sessions to all members."""
        for member in list(self._sessions):
            await self.drop(member)
