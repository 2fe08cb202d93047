"""MLLP over TCP, plain or mutual TLS.

A server that answers each message in order, and a client that waits for its answer.

Bounds: size of a message, time to receive one, idle time, connections. Knows no HL7: bytes in, bytes out.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from crosslight.runtime.log import get_logger
from crosslight.runtime.machine_errors import cannot_listen, reached_not
from crosslight.runtime.proxies import ProxyRefusedError, opened
from crosslight.runtime.shares import Places, peer_share
from crosslight.standards.hl7.framing import MAX_MESSAGE_BYTES, Framer, frame
from crosslight.standards.problem import Busy, CrosslightError, Malformed, TooLarge, Unavailable

log = get_logger("mllp")

_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class MllpLimits:
    """Bounds of a server."""

    max_message_bytes: int = MAX_MESSAGE_BYTES
    message_timeout_s: float = 30.0  # from the first byte of a message to its last
    idle_timeout_s: float = 600.0  # between messages
    max_connections: int = 64
    max_connections_per_peer: int = 8
    busy_timeout_s: float = 5.0  # for the one message of a connection that there is no room for
    max_busy: int = 16  # connections that are told so at a time


@dataclass(frozen=True, slots=True)
class Peer:
    """Who sent a message: address, and the verified certificate (``getpeercert`` form) of mutual TLS."""

    address: str
    certificate: dict[str, Any] | None = field(default=None, compare=False, repr=False)


Handler = Callable[[bytes, Peer], Awaitable[bytes]]
Opened = Callable[[Peer, asyncio.BaseTransport], None]


Turned = Callable[[bytes, CrosslightError], bytes]


def _address_share(peer: Peer) -> str:
    return peer_share(peer.address)


class Unanswered(Unavailable):
    """A message was sent and no answer came: it may have been taken.

    ITI-8 may be repeated, a feed is idempotent.
    """


class MllpServer:
    """Listens, frames, and gives each message to ``handler``.

    Its answer goes back before the next message is handled.

    ``handler`` answers every message itself, errors too; an exception from it closes the connection.
    ``opened`` is told of each connection.

    Where a peer has all of its connections, or all are taken, the oldest that lies idle gives way. Where none
    does, a connection's first message is answered by ``busy``, and it is closed.

    Args:
        handler: What answers.
        host, port: Where.
        tls: None for plain.
        limits: Bounds.
        opened: Told of each connection.
        share: Whose a connection is; its address unless told.
        busy: Answers a message that is not taken, with the reason; None: the connection is closed.
    """

    def __init__(
        self,
        handler: Handler,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        limits: MllpLimits | None = None,
        opened: Opened | None = None,
        share: Callable[[Peer], str] | None = None,
        busy: Turned | None = None,
    ) -> None:
        self._handler, self._opened = handler, opened
        self._share, self._busy = share or _address_share, busy
        self._host = host
        self._port = port
        self._tls = tls
        self._limits = limits or MllpLimits()
        self._server: asyncio.Server | None = None
        self._open: dict[asyncio.Task[None], Peer] = {}
        self.places = Places(
            "HL7 connections", self._limits.max_connections, self._limits.max_connections_per_peer
        )
        self._turned = Places("refusals", self._limits.max_busy, max(1, self._limits.max_busy // 4))

    @property
    def port(self) -> int:
        """The port in use, once started (for port 0)."""
        if self._server and self._server.sockets:
            return int(self._server.sockets[0].getsockname()[1])
        return self._port

    async def start(self) -> None:
        """Bind and serve."""
        try:
            self._server = await asyncio.start_server(
                self._connected, self._host, self._port, ssl=self._tls, reuse_address=True
            )
        except OSError as error:
            raise cannot_listen(error, self._host, self._port, "listen.mllp_port") from error
        log.info("listening", listener="mllp", address=self._host, port=self.port)

    async def stop(self) -> None:
        """Stop accepting, and cut the connections that are open."""
        if self._server is None:
            return
        self._server.close()
        self.disconnect(lambda _: True)
        if self._open:
            await asyncio.wait(list(self._open), timeout=3.0)
        await self._server.wait_closed()

    def disconnect(self, match: Callable[[Peer], bool]) -> int:
        """Cut the open connections of some peers (suspension); how many."""
        cut = [task for task, peer in self._open.items() if match(peer)]
        for task in cut:
            task.cancel()
        return len(cut)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        peername, tls = writer.get_extra_info("peername"), writer.get_extra_info("ssl_object")
        peer = Peer(
            str(peername[0]) if peername else "", (tls.getpeercert() or None) if tls is not None else None
        )
        if task is None:
            writer.close()
            return
        self._open[task] = peer
        try:
            await self._admitted(reader, writer, peer, task.cancel)
        except asyncio.CancelledError:  # stop or disconnect: the task ends here, quietly
            log.info("connection cut", listener="mllp", address=peer.address)
        except TimeoutError:
            log.info("connection timed out", listener="mllp", address=peer.address)
        except CrosslightError as error:
            log.warning("connection refused", listener="mllp", address=peer.address, reason=error.what)
        except (ConnectionError, ssl.SSLError):
            pass
        except Exception:
            log.exception("unexpected", listener="mllp", address=peer.address)
        finally:
            self._open.pop(task, None)
            writer.close()

    async def _admitted(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: Peer,
        cut: Callable[[], object],
    ) -> None:
        """A connection in a place of its own, or told that there is none."""
        framer, share, handling = Framer(self._limits.max_message_bytes), self._share(peer), False

        async def handle(message: bytes, peer: Peer) -> bytes:
            nonlocal handling
            handling = True
            try:
                return await self._handler(message, peer)
            finally:
                handling = False

        try:
            place = self.places.enter(share, cut, lambda: not (framer.inside or handling))
        except Busy as error:
            await self._turn_away(reader, writer, share, error, cut)
            return
        try:
            if self._opened is not None:
                self._opened(peer, writer.transport)
            await self._serve(reader, writer, peer, framer, handle)
        finally:
            self.places.leave(place)

    async def _turn_away(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        share: str,
        error: Busy,
        cut: Callable[[], object],
    ) -> None:
        log.warning("connection refused", listener="mllp", reason=error.what)
        if self._busy is None:
            return
        place, framer = self._turned.enter(share, cut), Framer(self._limits.max_message_bytes)
        try:
            async with asyncio.timeout(self._limits.busy_timeout_s):
                while data := await reader.read(_CHUNK):
                    if messages := framer.feed(data):
                        writer.write(frame(self._busy(messages[0], error)))
                        await writer.drain()
                        return
        finally:
            self._turned.leave(place)

    async def _serve(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        peer: Peer,
        framer: Framer,
        handler: Handler,
    ) -> None:
        limits = self._limits
        loop = asyncio.get_running_loop()
        deadline = loop.time() + limits.idle_timeout_s
        while True:
            was_inside = framer.inside
            async with asyncio.timeout_at(deadline):
                data = await reader.read(_CHUNK)
            if not data:
                return
            messages = framer.feed(data)
            for message in messages:
                writer.write(frame(await handler(message, peer)))
                async with asyncio.timeout(limits.message_timeout_s):
                    await writer.drain()
            if not framer.inside:
                deadline = loop.time() + limits.idle_timeout_s
            elif messages or not was_inside:
                deadline = loop.time() + limits.message_timeout_s


class MllpClient:
    """One connection to a server, made when needed and kept; one message in flight at a time.

    Args:
        host: Of the server.
        port: Of the server.
        tls: Client context for (mutual) TLS, None for plain.
        server_hostname: The name to check where it is not ``host``.
        connect_timeout_s: To connect, with the handshake.
        ack_timeout_s: To wait for an answer.
        proxy: The HTTP proxy on the way ('' = none), for TLS to ``host`` alone.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        tls: ssl.SSLContext | None = None,
        server_hostname: str | None = None,
        connect_timeout_s: float = 5.0,
        ack_timeout_s: float = 30.0,
        max_answer_bytes: int = MAX_MESSAGE_BYTES,
        proxy: str = "",
    ) -> None:
        self._proxy = proxy
        self._host = host
        self._port = port
        self._tls = tls
        self._name = server_hostname
        self._connect_timeout_s = connect_timeout_s
        self._ack_timeout_s = ack_timeout_s
        self._max = max_answer_bytes
        self._lock = asyncio.Lock()
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, message: bytes) -> bytes:
        """Send one message and return its answer.

        Raises:
            Unavailable: if the server cannot be reached.
            Unanswered: if it was sent, and no answer came in time.
            Malformed: if the answer is no MLLP frame.
        """
        framed = frame(message)
        async with self._lock:
            reader, writer = await self._connected()
            try:
                async with asyncio.timeout(self._ack_timeout_s):
                    writer.write(framed)
                    await writer.drain()
                    return await self._answer(reader)
            except (OSError, TimeoutError, EOFError) as error:
                await self._drop()
                raise Unanswered("The HL7 receiver did not answer.", why=reached_not(error)) from None
            except (Malformed, TooLarge, asyncio.CancelledError):
                await self._drop()
                raise

    async def _opened(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._proxy and self._tls is not None:
            return await opened(f"{self._host}:{self._port}", self._proxy, self._tls)
        name = self._name if self._tls else None
        return await asyncio.open_connection(self._host, self._port, ssl=self._tls, server_hostname=name)

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and (self._streams[0].at_eof() or self._streams[1].is_closing()):
            await self._drop()
        if self._streams is None:
            try:
                async with asyncio.timeout(self._connect_timeout_s):
                    self._streams = await self._opened()
            except ProxyRefusedError as error:
                raise Unavailable("The HL7 receiver cannot be reached.", why=str(error)) from None
            except (OSError, TimeoutError) as error:
                raise Unavailable("The HL7 receiver cannot be reached.", why=reached_not(error)) from None
        return self._streams

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        framer = Framer(self._max)
        while True:
            data = await reader.read(_CHUNK)
            if not data:
                raise EOFError
            answers = framer.feed(data)
            if answers:
                if len(answers) > 1 or framer.inside:
                    raise Malformed("The HL7 receiver sent more than one answer.")
                return answers[0]

    async def _drop(self) -> None:
        streams, self._streams = self._streams, None
        if streams is not None:
            streams[1].close()
            try:
                async with asyncio.timeout(1.0):
                    await streams[1].wait_closed()
            except (OSError, TimeoutError):
                pass

    async def close(self) -> None:
        """Close the connection."""
        async with self._lock:
            await self._drop()
