"""A TCP proxy that delivers a request whole and loses its answer: the connection ends when the answer would
have begun.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

HOST = "127.0.0.1"


@dataclass
class Loss:
    """Requests that hold ``marker`` lose their answers, ``times`` times, once ``done`` says that the work was
    done.
    """

    marker: bytes
    times: int
    done: Callable[[], bool] | None = None  # None: when the first byte of an answer comes
    lost: int = 0


@dataclass
class LossyProxy:
    """Passes on to ``port``; loses answers as it is told. Use as an async context manager."""

    port: int = 0  # may be set once it is known
    losses: list[Loss] = field(default_factory=list)
    _server: asyncio.Server | None = None
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def __aenter__(self) -> LossyProxy:
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def address(self) -> str:
        """Where it listens."""
        assert self._server is not None
        return f"{HOST}:{self._server.sockets[0].getsockname()[1]}"

    def lose(self, marker: bytes, times: int, done: Callable[[], bool] | None = None) -> None:
        """From now on, beside what is to be lost already."""
        self.losses.append(Loss(marker, times, done))

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        with suppress(OSError, asyncio.CancelledError):
            up_reader, up_writer = await asyncio.open_connection(HOST, self.port)
            try:
                await _Connection(self, reader, writer, up_reader, up_writer).run()
            finally:
                for one in (writer, up_writer):
                    one.transport.abort()


class _Connection:
    def __init__(
        self,
        proxy: LossyProxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        up_reader: asyncio.StreamReader,
        up_writer: asyncio.StreamWriter,
    ) -> None:
        self._proxy, self._reader, self._writer, self._up_reader, self._up_writer = (
            proxy,
            reader,
            writer,
            up_reader,
            up_writer,
        )
        self._seen = b""
        self._doomed: Loss | None = None  # the request is on its way; its answer will not be

    async def run(self) -> None:
        ends = {
            asyncio.create_task(self._requests()),
            asyncio.create_task(self._answers()),
            asyncio.create_task(self._reaper()),
        }
        try:
            await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for end in ends:
                end.cancel()
            await asyncio.gather(*ends, return_exceptions=True)

    async def _requests(self) -> None:
        while data := await self._reader.read(1 << 16):
            self._seen = (self._seen + data)[-(1 << 17) :]
            for loss in self._proxy.losses:
                if self._doomed is None and loss.lost < loss.times and loss.marker in self._seen:
                    self._doomed = loss
            self._up_writer.write(data)
            await self._up_writer.drain()

    async def _answers(self) -> None:
        while data := await self._up_reader.read(1 << 16):
            if self._doomed is not None:
                if self._doomed.done is None:
                    self._doomed.lost += 1
                    return
                continue
            self._seen = b""
            self._writer.write(data)
            await self._writer.drain()

    async def _reaper(self) -> None:
        """Ends a doomed connection when what it asked for has been done."""
        while True:
            await asyncio.sleep(0.01)
            loss = self._doomed
            if loss is not None and loss.done is not None and loss.done():
                loss.lost += 1
                return
