"""Moves the bytes of a tunnel's connections between sockets of this process and the call that carries them.

What a connection is to the rest of the process is a socket: one end of an anonymous pair, which has no name
and no port, so that no other process can come by it. Calls come and go; the connections wait for the next
one, for a bounded time.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field

from crosslight.pb import tunnel_pb2 as pb
from crosslight.runtime.clock import Clock
from crosslight.runtime.log import get_logger
from crosslight.runtime.tunnel.mux import Event, Mux
from crosslight.standards.problem import Malformed, Unavailable

log = get_logger("tunnel")

Read = Callable[[], Awaitable[pb.TunnelFrame | None]]
Write = Callable[[pb.TunnelFrame], Awaitable[None]]
Take = Callable[[socket.socket], Awaitable[None]]
"""Serves a connection that is open already; the socket is the callee's to close."""


@dataclass(slots=True)
class _Pump:
    """One connection's socket, and what waits to be written to it."""

    sock: socket.socket
    room: asyncio.Event = field(default_factory=asyncio.Event)
    inbox: deque[bytes] = field(default_factory=deque)  # b'' = its end
    came: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


class Carrier:
    """One end of a tunnel, over as many calls as it takes.

    Args:
        mux: Its state.
        clock: Time.
        grace_s: How long connections wait for another call.
        take: Serves what the other side opens; None at the side that opens.
    """

    def __init__(self, mux: Mux, clock: Clock, grace_s: float, take: Take | None = None) -> None:
        self.mux = mux
        self.closed = False
        self.session = b""
        self.on_close: Callable[[], None] = lambda: None
        self._clock, self._grace_s, self._take = clock, grace_s, take
        self._pumps: dict[int, _Pump] = {}
        self._wake = asyncio.Event()
        self._call: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._expiry: asyncio.Task[None] | None = None

    @property
    def carried(self) -> bool:
        """Whether there is a call now."""
        return self._call is not None

    # --- calls ----------------------------------------------------------------------------------------------

    async def carry(self, greeting: pb.TunnelGreeting, read: Read, write: Write) -> None:
        """Until the call ends; an older call ends now.

        Args:
            greeting: The other side's, which was read.
            read: The next frame of the call; None at its end.
            write: Sends one; returns when there is room for another.

        Raises:
            Unavailable: the tunnel was closed.
            Malformed: the other side says what cannot be; then the tunnel is closed.
        """
        if self.closed:
            raise Unavailable("This tunnel was closed.")
        self.detach()
        if self._expiry is not None:
            self._expiry.cancel()
        own = self._call = asyncio.ensure_future(self._carry(greeting, read, write))
        try:
            await asyncio.wait({own})
            if not own.cancelled():
                own.result()
        except Malformed as error:
            log.error("tunnel closed", reason=error.what)
            self.close()
            raise
        finally:
            own.cancel()
            if self._call is own:
                self.detach()

    def detach(self) -> None:
        """End the call; what it had not brought yet comes by the next one.

        So nothing moves between what is said of positions and the call that goes on from there.
        """
        call, self._call = self._call, None
        if call is not None:
            call.cancel()
        if not self.closed:
            if self._expiry is not None:
                self._expiry.cancel()
            self._expiry = asyncio.ensure_future(self._expire())

    async def _carry(self, greeting: pb.TunnelGreeting, read: Read, write: Write) -> None:
        for event in self.mux.greeted(greeting, opens=self._take is None):
            self._happened(event)
        writer = asyncio.ensure_future(self._send(write))
        try:
            while (frame := await read()) is not None:
                if (news := self.mux.receive(frame)) is not None:
                    self._happened(news)
                self._wake.set()
        finally:
            writer.cancel()
            with suppress(asyncio.CancelledError, Exception):  # the reader learns why
                await writer

    async def _send(self, write: Write) -> None:
        while True:
            self._wake.clear()
            while (frame := self.mux.next_frame()) is not None:
                await write(frame)
            await self._wake.wait()

    async def _expire(self) -> None:
        await self._clock.sleep(self._grace_s)
        if len(self.mux):
            log.warning("tunnel closed", reason="no call came in time", count=len(self.mux))
        self.close()

    def close(self) -> None:
        """Cut every connection, and the call."""
        if self.closed:
            return
        self.closed = True
        self.on_close()
        for number in self.mux:
            self.mux.cut(number)
        for task in (self._call, *(pump.task for pump in self._pumps.values())):
            if task is not None:
                task.cancel()
        if self._expiry is not None:
            self._expiry.cancel()

    # --- connections ----------------------------------------------------------------------------------------

    def open(self) -> socket.socket:
        """A connection to the other side. The socket is the caller's to close.

        Raises:
            Unavailable: the tunnel was closed.
        """
        if self.closed:
            raise Unavailable("This tunnel was closed.")
        sock = self._pumped(self.mux.open())
        self._wake.set()
        return sock

    def _pumped(self, number: int) -> socket.socket:
        """The far end of the pair whose near end is moved to and from the tunnel."""
        far, near = socket.socketpair()
        far.setblocking(False)
        near.setblocking(False)
        pump = self._pumps[number] = _Pump(near)
        pump.task = asyncio.ensure_future(self._pump(number, pump))
        return far

    def _happened(self, event: Event) -> None:
        if event.kind == "open":
            assert self._take is not None  # noqa: S101 - only the other side opens
            task = asyncio.ensure_future(self._handed(self._take, self._pumped(event.connection)))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            return
        pump = self._pumps.get(event.connection)
        if pump is None:
            return
        if event.kind == "cut":
            if pump.task is not None:
                pump.task.cancel()
        elif event.kind == "room":
            pump.room.set()
        else:
            pump.inbox.append(event.data)
            pump.came.set()

    @staticmethod
    async def _handed(take: Take, sock: socket.socket) -> None:
        try:
            await take(sock)
        except (OSError, TimeoutError) as error:  # a handshake that fails; the listener has told of it
            log.warning("a connection through the tunnel came to nothing", error=type(error).__name__)
            sock.close()

    async def _pump(self, number: int, pump: _Pump) -> None:
        ways = [asyncio.ensure_future(way(number, pump)) for way in (self._collect, self._deliver)]
        try:
            await asyncio.gather(*ways)
        except OSError:
            pass
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            pump.sock.close()
            del self._pumps[number]
            if any(way.cancelled() or way.exception() is not None for way in ways):
                self.mux.cut(number)
            self._wake.set()

    async def _collect(self, number: int, pump: _Pump) -> None:
        """From the socket into the tunnel."""
        loop = asyncio.get_running_loop()
        while True:
            while not (room := self.mux.room(number)):
                pump.room.clear()
                await pump.room.wait()
            data = await loop.sock_recv(pump.sock, room)
            if data:
                self.mux.feed(number, data)
            else:
                self.mux.finish(number)
            self._wake.set()
            if not data:
                return

    async def _deliver(self, number: int, pump: _Pump) -> None:
        """Out of the tunnel into the socket."""
        loop = asyncio.get_running_loop()
        while True:
            while not pump.inbox:
                pump.came.clear()
                await pump.came.wait()
            data = pump.inbox.popleft()
            if data:
                await loop.sock_sendall(pump.sock, data)
            else:
                pump.sock.shutdown(socket.SHUT_WR)
            self.mux.took(number, len(data) or 1)
            self._wake.set()
            if not data:
                return
