"""A listening socket for HTTP: connections are bounded for each address, and readers that stall are cut.

Many people come from one address where a trust's users are behind a proxy, so an address may have many
connections; and where it has all of its share, one that lies idle gives way to a new one.
"""

from __future__ import annotations

import asyncio
import fcntl
import socket
import ssl
import struct
import termios
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web

from crosslight.runtime import answer_headers
from crosslight.runtime.config import setting
from crosslight.runtime.log import get_logger
from crosslight.runtime.machine_errors import cannot_listen
from crosslight.runtime.process import open_files
from crosslight.runtime.shares import Place, Places, peer_share
from crosslight.standards.problem import Busy

log = get_logger("http")

IDLE_S = 75.0  # of a connection between requests, and before the first
HANDSHAKE_S = 20.0
STALL_BYTES = 1 << 14  # a reader that takes no more of an answer in the time of a stall is cut
LOOKS = 8  # at a reader in that time
_OUTQ = struct.Struct("i")


@dataclass(frozen=True, slots=True)
class ConnectionsConfig:
    """``[connections]``: bounds of each HTTP listener."""

    most: int = setting(
        4096,
        "Most connections of a listener at a time; no more than a third of the files that the process may"
        " open.",
        low=16,
        high=1_000_000,
    )
    per_address: int = setting(
        1024,
        "Of these, most from one address (of IPv6: from one /64). A whole trust may come from one: raise it"
        " where all come through one proxy.",
        low=1,
        high=1_000_000,
    )
    send_stall_s: float = setting(
        60.0,
        "A connection whose other end takes less than 16 KiB of an answer in so long is cut.",
        low=0.1,
        high=3600,
    )


class _Connection(web.RequestHandler):
    """A connection that has a place, and is cut when its other end does not read."""

    __slots__ = ("_listener", "_place", "_stall", "_timer")

    def __init__(self, listener: Listener, server: web.Server, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(server, loop=loop, **server._kwargs)
        self._listener = listener
        self._place: Place | None = None
        self._stall: Stall | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        line = cast(asyncio.Transport, transport)
        peer = line.get_extra_info("peername")
        try:
            self._place = self._listener.places.enter(
                peer_share(str(peer[0]) if peer else ""), line.abort, self._lies_idle
            )
        except Busy as error:
            self._listener.refused(peer, error)
            line.write(_answer(error))
            line.close()
            return
        super().connection_made(line)

    def _lies_idle(self) -> bool:
        return self._current_request is None and not self._messages

    def data_received(self, data: bytes) -> None:
        if self._place is not None:
            super().data_received(data)

    def eof_received(self) -> None:
        if self._place is not None:
            super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._heed()
        if self._place is not None:
            self._listener.places.leave(self._place)
            super().connection_lost(exc)

    # --- readers that stall ---------------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stall = Stall(self._listener.config.send_stall_s, self._loop.time)
        self._look()

    def resume_writing(self) -> None:
        self._heed()
        super().resume_writing()

    def _heed(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        """Look now and then, as long as there is more to send than goes."""
        if self.transport is None or self._stall is None:
            return
        if self._stall.lasts(-self.transport.get_write_buffer_size() - queued(self._socket())):
            log.warning("a reader has stalled", name=self._listener.name, address=self._address())
            self.transport.abort()
            return
        self._timer = self._loop.call_later(self._stall.limit_s / LOOKS, self._look)

    def _socket(self) -> Any:
        return self.transport.get_extra_info("socket") if self.transport is not None else None

    def _address(self) -> str:
        peer = self.peername
        return str(peer[0]) if isinstance(peer, tuple) else ""


class Stall:
    """Whether a reader takes anything.

    Args:
        limit_s: In so long it must take :data:`STALL_BYTES`.
        now_s: A clock that never steps.
    """

    def __init__(self, limit_s: float, now_s: Callable[[], float]) -> None:
        self.limit_s, self._now_s = limit_s, now_s
        self._taken: int | None = None
        self._since_s = 0.0

    def lasts(self, taken: int) -> bool:
        """Whether it has taken too little for too long.

        Args:
            taken: How much it has taken since whenever.
        """
        now_s = self._now_s()
        if self._taken is None or taken >= self._taken + STALL_BYTES:
            self._taken, self._since_s = taken, now_s
        return now_s - self._since_s >= self.limit_s


def queued(sock: Any) -> int:
    """Bytes that the kernel has of us and that the other end has not taken; 0 where it cannot be told."""
    with suppress(OSError, AttributeError, ValueError):  # none, or closed
        told: int = _OUTQ.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_OUTQ.size)))[0]
        return told
    return 0


def _answer(error: Busy) -> bytes:
    """What a connection is told that there is no place for, before it has asked anything."""
    body = f"{error}\n".encode()
    head = (
        f"HTTP/1.1 {error.http_status} Busy\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(body)}\r\nRetry-After: {error.retry_after_s}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + body


class _Site(web.BaseSite):
    """Where a listener's connections come from."""

    def __init__(self, listener: Listener, runner: web.AppRunner) -> None:
        super().__init__(runner, ssl_context=listener.tls)
        self._listener = listener

    @property
    def name(self) -> str:
        """As aiohttp asks."""
        return f"{'https' if self._ssl_context else 'http'}://{self._listener.host}:{self._listener.port}"

    async def start(self) -> None:
        """Bind."""
        await super().start()
        loop, listener = asyncio.get_running_loop(), self._listener
        server = cast(web.Server, self._runner.server)  # there is one: the runner was set up
        self._server = await loop.create_server(
            lambda: _Connection(listener, server, loop),
            listener.host,
            listener.port,
            ssl=self._ssl_context,
            backlog=1024,
            reuse_address=True,
            ssl_handshake_timeout=HANDSHAKE_S if self._ssl_context is not None else None,
        )


class Listener:
    """One listening socket of a service.

    Args:
        app: What is served.
        host, port: Where; port 0 takes a free one, which :attr:`port` then tells.
        tls: None for plain.
        name: The configuration's (``listen.<name>_port``).
        config: Bounds.
    """

    def __init__(
        self,
        app: web.Application,
        host: str,
        port: int,
        tls: ssl.SSLContext | None = None,
        *,
        name: str = "",
        config: ConnectionsConfig | None = None,
    ) -> None:
        self.app = app
        self.host = host
        self.port = port
        self.tls = tls
        self.name = name
        self.config = config or ConnectionsConfig()
        most = min(self.config.most, open_files() // 3)
        self.places = Places("connections", most, self.config.per_address)
        self._runner: web.AppRunner | None = None
        self._refused = 0
        #: How long requests may go on at the end.
        self.shutdown_s = 3.0

    async def start(self) -> None:
        """Bind and serve. Slow headers and idle connections are bounded by aiohttp's timeouts.

        Raises:
            ConfigError: when the port cannot be had.
        """
        self._runner = web.AppRunner(
            self.app,
            access_log=None,
            keepalive_timeout=IDLE_S,
            max_line_size=16384,
            max_field_size=16384,
            shutdown_timeout=self.shutdown_s,
            handler_cancellation=True,
        )
        await self._runner.setup()
        answer_headers.guard(self._runner.server)
        try:
            await _Site(self, self._runner).start()
        except OSError as error:
            key = f"listen.{self.name}_port" if self.name else ""
            raise cannot_listen(error, self.host, self.port, key) from error
        if not self.port:
            self.port = int(self._runner.addresses[0][1])
        log.info("listening", name=self.name, address=self.host, port=self.port)

    async def take(self, sock: socket.socket) -> None:
        """Serve a connection that is open already as one that came to the port, TLS included.

        Raises:
            OSError: its handshake fails, or not even this is listened to any more.
            TimeoutError: no handshake in time.
        """
        server = self._runner.server if self._runner is not None else None
        if server is None:
            raise ConnectionAbortedError("the listener is stopped")
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(
            lambda: _Connection(self, server, loop),
            sock,
            ssl=self.tls,
            ssl_handshake_timeout=HANDSHAKE_S if self.tls is not None else None,
        )

    def refused(self, peer: Any, error: Busy) -> None:
        """A connection found no place: said of the first, and of every thousandth."""
        if self._refused % 1000 == 0:
            address = str(peer[0]) if peer else ""
            log.warning("connection refused", name=self.name, address=address, reason=error.what)
        self._refused += 1

    async def stop(self) -> None:
        """Stop accepting, let requests finish for a moment, close."""
        if self._runner is not None:
            await self._runner.cleanup()
