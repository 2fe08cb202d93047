"""An HTTP proxy that a test runs: it passes CONNECT on, refuses it, or opens the TLS inside, as some do."""

from __future__ import annotations

import asyncio
import ssl
from contextlib import suppress
from dataclasses import dataclass, field

HOST = "127.0.0.1"


@dataclass
class ConnectProxy:
    """Use as an async context manager.

    Attributes:
        opens: With whose certificate it answers in the place of whom was asked for.
        sign_in: The value of Proxy-Authorization without which it passes nothing on.
        to: Where it connects to, whoever is asked for; '' = to them; a host without a port: at theirs.
        host: Where it listens.
        first_unopened: So many it passes on as they are, before it opens TLS.
    """

    opens: ssl.SSLContext | None = None
    sign_in: str = ""
    to: str = ""
    host: str = HOST
    first_unopened: int = 0
    asked: list[str] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> ConnectProxy:
        self._server = await asyncio.start_server(self._accept, self.host, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        """host:port of it."""
        assert self._server is not None
        return f"{self.host}:{self._server.sockets[0].getsockname()[1]}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(OSError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            target = head.split()[1]
            self.asked.append(target)
            if self.sign_in and f"proxy-authorization: {self.sign_in}".lower() not in head.lower():
                writer.write(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")
            else:
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n")
                await self._carry(self._way_to(target), reader, writer)
            await writer.drain()
        writer.transport.abort()

    def _way_to(self, target: str) -> str:
        return self.to if ":" in self.to else f"{self.to}:{target.rpartition(':')[2]}" if self.to else target

    async def _carry(self, target: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.opens is not None and len(self.asked) > self.first_unopened:
            await writer.start_tls(self.opens)
            await reader.read(1)
            return
        host, _, port = target.rpartition(":")
        there, back = await asyncio.open_connection(host, int(port))
        ways = {asyncio.create_task(_pass(reader, back)), asyncio.create_task(_pass(there, writer))}
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            back.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)


async def _pass(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()
