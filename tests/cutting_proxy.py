"""A TCP proxy whose connections a test ends when it likes."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import dataclass, field

HOST = "127.0.0.1"


@dataclass
class CuttingProxy:
    """Passes on to ``port``. Use as an async context manager."""

    port: int = 0  # may be set once it is known
    passed_bytes: int = 0  # from whoever connects
    open: bool = True  # otherwise nobody gets through
    answer_bytes: int = 0  # each connection ends after so many to whoever connected; 0: when told to
    bytes_per_s: float = 0.0  # most of what comes from all who connect; 0: any
    accepted: int = 0
    _turn: float = 0.0
    _server: asyncio.Server | None = None
    _lines: set[asyncio.StreamWriter] = field(default_factory=set)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> CuttingProxy:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        self.cut()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"{HOST}:{self._server.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """End every connection, whatever is on its way."""
        for line in self._lines:
            line.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._lines.add(writer)
        self.accepted += 1
        try:
            if self.open:
                with suppress(OSError):
                    await self._relay(reader, writer)
        finally:
            writer.transport.abort()
            self._lines.discard(writer)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(HOST, self.port)
        self._lines.add(back)
        ways = [
            asyncio.ensure_future(self._pass(reader, back, 1)),
            asyncio.ensure_future(self._pass(there, writer, 0)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            back.transport.abort()
            self._lines.discard(back)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _paced(self, count: int) -> None:
        """Wait for the turn of so many bytes."""
        now = asyncio.get_running_loop().time()
        self._turn = max(now, self._turn) + count / self.bytes_per_s
        if self._turn - now > 0.01:
            await asyncio.sleep(self._turn - now)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counts: int) -> None:
        left = 0 if counts else self.answer_bytes
        while data := await reader.read(min(left or 1 << 16, 1 << 16)):
            self.passed_bytes += counts * len(data)
            if counts and self.bytes_per_s:
                await self._paced(len(data))
            writer.write(data)
            await writer.drain()
            if left:
                left -= len(data)
                if not left:
                    writer.close()
                    await writer.wait_closed()  # what was passed on arrives
                    return
