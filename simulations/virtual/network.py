"""Connections in memory.

Ordered bytes between two protocols, with a delay, back pressure, and cuts at any byte.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from simulations.virtual.loop import VirtualLoop
from simulations.virtual.trace import Trace

HIGH_WATER = 64 << 10
HOST = "127.0.0.1"
FIRST_PORT = 40_000
PUBLICATION = "/Publish"
ANSWERED_S = 1.0  # until whoever got a late message learns that its sender has gone


@dataclass(slots=True)
class Line:
    """The line between two places.

    Attributes:
        cut: Whether nothing passes and nobody can connect.
        bytes_left: So many bytes more pass, in either direction together, before it is cut; None: any number.
        slow_s: How much longer than on other lines bytes are on their way.
        lose_answer: The next answer to a publication is lost with its connection; what it answers was done.
        late_s: So late the next publication arrives, when whoever sent it has long lost the connection.
    """

    cut: bool = False
    slow_s: float = 0.0
    lose_answer: bool = False
    late_s: float = 0.0
    bytes_left: int | None = None
    open: list[MemoryTransport] = field(default_factory=list)


class MemoryTransport(asyncio.Transport):
    """One end of a connection."""

    def __init__(self, network: Network, line: Line, protocol: Any, name: tuple[str, int]) -> None:
        super().__init__({"peername": name, "sockname": name})
        self._network, self.line, self._protocol = network, line, protocol
        self.name = f"{name[0]}:{name[1]}"
        self.about = ""  # of a call: its method
        self.peer: MemoryTransport
        self._waiting: deque[bytes] = deque()  # sent by us, not yet with the peer
        self._size = 0
        self._delivering: asyncio.TimerHandle | None = None
        self._eof = self._closing = self._lost = self._full = self._reading_paused = False

    # --- what the protocol may do ---------------------------------------------------------------------------

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: Any) -> None:
        self._protocol = protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_reading(self) -> bool:
        return not self._reading_paused and not self._closing

    def pause_reading(self) -> None:
        self._reading_paused = True

    def resume_reading(self) -> None:
        self._reading_paused = False
        self.peer._deliver_soon()

    def get_write_buffer_size(self) -> int:
        return self._size

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The same for all."""

    def can_write_eof(self) -> bool:
        return True

    def write(self, data: Any) -> None:
        if self._closing or not data:
            return
        self._waiting.append(bytes(data))
        self._size += len(self._waiting[-1])
        self._deliver_soon()
        if self._size > HIGH_WATER and not self._full:
            self._full = True
            self._protocol.pause_writing()

    def write_eof(self) -> None:
        self._eof = True
        self._deliver_soon()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._deliver_soon()

    def abort(self) -> None:
        self.lose(None)
        self.peer.lose(ConnectionResetError("connection reset"))

    # --- the wire -------------------------------------------------------------------------------------------

    def _deliver_soon(self) -> None:
        if self._delivering is None and not self._lost:
            loop = self._network.loop
            self._delivering = loop.call_later(self._network.delay_s + self.line.slow_s, self._deliver)

    def _deliver(self) -> None:
        self._delivering = None
        line, peer = self.line, self.peer
        if self._lost or (peer._reading_paused and not peer._lost) or self._astray():
            return
        if line.slow_s:
            self._network.trace.happened["slow"] += 1
        while self._waiting and not peer._reading_paused and not peer._lost:
            data = self._waiting.popleft()
            self._size -= len(data)
            passed = data if line.bytes_left is None else data[: line.bytes_left]
            if line.bytes_left is not None:
                line.bytes_left -= len(passed)
            if passed:
                self._network.trace.arrived(peer.name, passed)
                peer._protocol.data_received(passed)
            if line.bytes_left == 0:
                self._network.cut_line(line)
                return
        if self._full and self._size <= HIGH_WATER // 4 and not self._lost:
            self._full = False
            self._protocol.resume_writing()
        if not self._waiting and not self._lost:
            self._end()

    def _astray(self) -> bool:
        """A publication's answer is lost, or the publication itself comes late and after others."""
        line = self.line
        if line.lose_answer and self.peer.about.endswith(PUBLICATION) and self._waiting:
            line.lose_answer = False
            self._network.trace.fault("lose", self.name)
        elif line.late_s and self.about.endswith(PUBLICATION) and self._waiting:
            data, late_s, line.late_s = b"".join(self._waiting), line.late_s, 0.0
            self._network.trace.note(self.name, f"late by {late_s:g} s")
            self._network.loop.call_later(late_s, self.peer.late, data)
            self.lose(ConnectionResetError(104, "connection reset"))
            return True
        else:
            return False
        for end in (self, self.peer):
            end.lose(ConnectionResetError(104, "connection reset"))
        return True

    def late(self, data: bytes) -> None:
        """What was sent long ago arrives, and nobody waits for its answer."""
        if not self._lost:
            self._network.trace.fault("late", self.name)
            self._network.trace.arrived(self.name, data)
            self._protocol.data_received(data)
            self._network.loop.call_later(ANSWERED_S, self.lose_by_eof)

    def _end(self) -> None:
        if self._closing:
            self.lose(None)
            self.peer.lose_by_eof()
        elif self._eof and not self.peer._protocol.eof_received():
            self.peer.close()

    def lose_by_eof(self) -> None:
        """The other end has closed."""
        if not self._lost:
            self._protocol.eof_received()
            self.lose(None)

    def lose(self, error: Exception | None) -> None:
        """The connection is gone, as this end sees it."""
        if self._lost:
            return
        self._lost = self._closing = True
        self._waiting.clear()
        if self in self.line.open:
            self.line.open.remove(self)
        self._network.loop.call_soon(self._protocol.connection_lost, error)


class MemoryServer:
    """What listens at a port; as much of ``asyncio.Server`` as is used."""

    def __init__(self, network: Network, factory: Callable[[], Any], host: str, port: int) -> None:
        self._network = network
        self.factory = factory
        self.host = host
        self.port = port

    @property
    def sockets(self) -> list[Any]:
        """None are real."""
        return []

    def close(self) -> None:
        """Nobody connects any more."""
        self._network.forget(self)

    def is_serving(self) -> bool:
        """Whether somebody could connect."""
        return self._network.serving(self)

    async def wait_closed(self) -> None:
        """Nothing to wait for."""


class Network:
    """All connections of a run.

    Args:
        loop: The run's.
        trace: Told of what begins and ends.
        delay_s: How long bytes are on their way.
    """

    def __init__(self, loop: VirtualLoop, trace: Trace, delay_s: float = 0.001) -> None:
        self.loop, self.trace, self.delay_s = loop, trace, delay_s
        self._servers: dict[int, MemoryServer] = {}
        self._owners: dict[int, str] = {}
        self._lines: dict[tuple[str, str], Line] = {}
        self._ports = FIRST_PORT
        self._kept: set[asyncio.Task[None]] = set()

    def new_port(self) -> int:
        """One that nobody listens at."""
        self._ports += 1
        return self._ports

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold on to a task until it is done."""
        self._kept.add(task)
        task.add_done_callback(self._kept.discard)

    def owns(self, owner: str, port: int) -> None:
        """Whose port it is, for :meth:`line`."""
        self._owners[port] = owner

    def line(self, here: str, there: str) -> Line:
        """The line between two places, in either direction."""
        return self._lines.setdefault((min(here, there), max(here, there)), Line())

    def listen(self, factory: Callable[[], Any], host: str, port: int) -> MemoryServer:
        """Raises OSError where somebody listens already."""
        if port in self._servers:
            raise OSError(98, "address in use")
        server = self._servers[port] = MemoryServer(self, factory, host, port)
        return server

    def forget(self, server: MemoryServer) -> None:
        """It listens no more."""
        if self.serving(server):
            del self._servers[server.port]

    def serving(self, server: MemoryServer) -> bool:
        """Whether it listens."""
        return self._servers.get(server.port) is server

    async def connect(
        self, factory: Callable[[], Any], who: str, host: str, port: int
    ) -> tuple[MemoryTransport, Any]:
        """A connection of ``who`` to a port.

        Raises:
            ConnectionRefusedError: nobody listens there, or the line is cut.
        """
        owner = self._owners.get(port, "")
        line = self.line(who, owner)
        await asyncio.sleep(2 * (self.delay_s + line.slow_s))
        server = self._servers.get(port)
        if server is None or line.cut:
            raise ConnectionRefusedError(111, "connection refused")
        ours, theirs = factory(), server.factory()
        here = MemoryTransport(self, line, ours, (host, port))
        there = MemoryTransport(self, line, theirs, (host, self.new_port()))
        here.peer, there.peer = there, here
        line.open += [here, there]
        theirs.connection_made(there)
        ours.connection_made(here)
        return here, ours

    def gone(self, owner: str) -> None:
        """A service is gone at once, with all its connections; nobody listens at its ports."""
        for port in [port for port in self._servers if self._owners.get(port) == owner]:
            del self._servers[port]
        for places, line in self._lines.items():
            if owner in places:
                for end in list(line.open):
                    end.lose(ConnectionResetError(104, "connection reset"))

    # --- faults ---------------------------------------------------------------------------------------------

    def cut(self, here: str, there: str, *, after_bytes: int = 0) -> None:
        """Cut the line between two places, now or as soon as so many more bytes have passed."""
        line = self.line(here, there)
        if after_bytes:
            line.bytes_left = after_bytes
        else:
            self.cut_line(line)

    def cut_line(self, line: Line) -> None:
        """All its connections are gone, and none is made until it is mended."""
        line.cut, line.bytes_left = True, None
        self.trace.note("network", f"cut with {len(line.open) // 2} connections")
        self.trace.happened["cut"] += bool(line.open)
        for end in list(line.open):
            end.lose(ConnectionResetError(104, "connection reset"))

    def mend(self, here: str, there: str) -> None:
        """Connections can be made again."""
        line = self.line(here, there)
        line.cut, line.bytes_left = False, None
        self.trace.note("network", "mended")
