"""A line between two places of this machine that is slow, or carries nothing: a TCP relay.

It reads no more than the line would carry, so whoever sends feels it, as on a real line.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

CHUNK = 16 << 10
IN_FLIGHT = 256 << 10  # bytes on the way in one direction of one connection; more waits at its sender


@dataclass(slots=True)
class CarryingLine:
    """What a line does to whatever passes, in both directions; may be changed while it carries.

    Attributes:
        delay_s: On the way, each way.
        bytes_per_s: What it carries each way, of all connections together; 0: as much as comes.
        dead: It carries nothing; connections stay open, as when a digger has been there.
    """

    delay_s: float = 0.0
    bytes_per_s: float = 0.0
    dead: bool = False
    carried: int = 0


class _Way:
    """One direction of the line: when the next byte may leave."""

    def __init__(self, line: CarryingLine) -> None:
        self._line, self._busy_until = line, 0.0

    def leaves(self, size: int, now: float) -> float:
        begun = max(now, self._busy_until)
        self._busy_until = begun + (size / self._line.bytes_per_s if self._line.bytes_per_s else 0.0)
        return self._busy_until


class Relay:
    """Carries connections from ``listens`` to ``to`` over ``line``. Use as an async context manager.

    Args:
        ways: Address that it listens on -> address that it calls.
    """

    def __init__(self, line: CarryingLine, ways: dict[tuple[str, int], tuple[str, int]]) -> None:
        self.line, self._ways = line, ways
        self._there, self._back = _Way(line), _Way(line)
        self._servers: list[asyncio.Server] = []
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Relay:
        for (host, port), to in self._ways.items():
            await self._listen(host, port, to)
        return self

    async def _listen(self, host: str, port: int, to: tuple[str, int]) -> None:
        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            if task is not None:
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            with suppress(OSError, asyncio.CancelledError):
                await self._carry(reader, writer, to)
            writer.transport.abort()

        self._servers.append(await asyncio.start_server(accept, host, port, limit=CHUNK))

    async def __aexit__(self, *_: object) -> None:
        for server in self._servers:
            server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _carry(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, to: tuple[str, int]
    ) -> None:
        far_reader, far_writer = await asyncio.open_connection(*to, limit=CHUNK)
        ends = [
            asyncio.create_task(self._one_way(reader, far_writer, self._there)),
            asyncio.create_task(self._one_way(far_reader, writer, self._back)),
        ]
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_EXCEPTION)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)
            far_writer.transport.abort()

    async def _one_way(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, way: _Way) -> None:
        """Carry until the sender ends, or either end is gone."""
        loop = asyncio.get_running_loop()
        flying: deque[tuple[float, bytes]] = deque()  # when it arrives; b'' is the end
        woken, room = asyncio.Event(), asyncio.Semaphore(IN_FLIGHT // CHUNK)

        async def arrive() -> None:
            while True:
                while not flying:
                    woken.clear()
                    await woken.wait()
                at, data = flying.popleft()
                while (wait_s := at - loop.time()) > 0 or self.line.dead:
                    await asyncio.sleep(wait_s if wait_s > 0 else 0.05)
                if not data:
                    writer.write_eof() if writer.can_write_eof() else writer.close()
                    return
                writer.write(data)
                await writer.drain()
                self.line.carried += len(data)
                room.release()

        arriving = asyncio.create_task(arrive())
        try:
            while True:
                await room.acquire()
                data = await reader.read(CHUNK)
                left = way.leaves(len(data), loop.time())
                flying.append((left + self.line.delay_s, data))
                woken.set()
                if not data:
                    break
                await asyncio.sleep(max(0.0, left - loop.time()))
            await arriving
        finally:
            arriving.cancel()
