"""What is open for a member right now, so that suspension can end it.

That is streams and keep-alive connections (D21).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from crosslight.runtime.log import get_logger
from crosslight.standards.ids import MemberId

log = get_logger("members")


class LiveConnections:
    """Connections and streams by member.

    TLS is checked only at a handshake, so a suspended member's must be closed.
    """

    def __init__(self) -> None:
        self._transports: dict[MemberId, dict[int, asyncio.BaseTransport]] = {}
        self._closers: dict[MemberId, list[Callable[[], None]]] = {}

    def connection(self, member: MemberId, transport: asyncio.BaseTransport | None) -> None:
        """Abort ``transport`` when the member is cut off; forgotten some time after it closed."""
        if transport is None:
            return
        known = self._transports.setdefault(member, {})
        if id(transport) not in known:
            for key in [key for key, transport in known.items() if transport.is_closing()]:
                del known[key]
            known[id(transport)] = transport

    def closer(self, member: MemberId, close: Callable[[], None]) -> Callable[[], None]:
        """Call ``close`` when the member is cut off, for things that end politely.

        Returns how to forget it.
        """
        closers = self._closers.setdefault(member, [])
        closers.append(close)

        def forget() -> None:
            if close in closers:
                closers.remove(close)

        return forget

    def count(self, member: MemberId) -> int:
        """How much is open."""
        open_transports = [t for t in self._transports.get(member, {}).values() if not t.is_closing()]
        return len(open_transports) + len(self._closers.get(member, ()))

    def cut(self, member: MemberId) -> int:
        """End all that is open for the member; how much there was."""
        count = self.count(member)
        for close in list(self._closers.pop(member, ())):
            close()
        for transport in self._transports.pop(member, {}).values():
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
            else:
                transport.close()
        if count:
            log.warning("connections cut", count=count)
        return count
