"""Tries now and then whether a member that has a tunnel can be reached at its own address too."""

from __future__ import annotations

import asyncio

from aiohttp import ClientError

from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.runtime.waiting import Wake
from crosslight.standards.ids import MemberId
from registry.members.model import Directory
from registry.reach.config import ReachConfig
from registry.reach.sessions import MemberSessions
from registry.reach.tunnels import Tunnels

log = get_logger("reach")


class Prober:
    """Decides between the two roads to each member that leaves it to the registry.

    Args:
        directory: Their addresses.
        sessions: Makes a session by a given road: TLS proves who answers.
        tunnels: Who has one; told what was found.
        config: How often.
        clock: Time.
    """

    def __init__(
        self,
        directory: Directory,
        sessions: MemberSessions,
        tunnels: Tunnels,
        config: ReachConfig,
        clock: Clock,
    ) -> None:
        self._directory, self._sessions, self._tunnels = directory, sessions, tunnels
        self._config, self._wake = config, Wake(clock)
        tunnels.began.add(lambda member: self._wake.set())

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.gather(*map(self._try, self._tunnels.undecided()))
            await self._wake.wait(self._config.tunnel_look_s)

    async def _try(self, number: MemberId) -> None:
        member = self._directory.by_id(number)
        if member is None or not member.endpoints.systems:
            return
        before, reached = self._tunnels.road(number), True
        async with self._sessions.by("direct", member) as session:
            try:
                async with asyncio.timeout(self._config.connect_timeout_s + self._config.answer_timeout_s):
                    await session.head(f"{member.endpoints.systems}/health/live", allow_redirects=False)
            except (ClientError, OSError, TimeoutError):
                reached = False
        self._tunnels.tried(number, reached=reached)
        if (road := self._tunnels.road(number)) != before:
            log.info("a member is called by another road", code=member.code, name=road)
