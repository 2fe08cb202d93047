"""Many connections in one tunnel, and how they go on after a drop: the state of one end, without IO.

Each direction of a connection is a row of bytes with an offset. A side sends no byte beyond what the other
side's reader has taken and one window more, and keeps what it sent until it was taken. So both ends hold at
most a window of each direction, a slow reader holds up nobody else, and after a drop each side goes on from
the offset that the other one names: no byte comes twice. An end counts as one byte after the last, so that it
is told, and kept, as they are.

Who may send goes round the connections, a piece each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from crosslight.pb import tunnel_pb2 as pb
from crosslight.standards.problem import Malformed

PIECE_BYTES = 1 << 17  # the most of one connection before it is the next one's turn
WINDOW_BYTES = 1 << 20
LEAST_WINDOW_BYTES, MOST_WINDOW_BYTES = 1 << 14, 1 << 24
MOST_CONNECTIONS = 256


class Event(NamedTuple):
    """What a frame means for one connection.

    It was opened; bytes, or no more bytes, came; it is cut; there is room for more to be sent.
    """

    kind: Literal["open", "data", "end", "cut", "room"]
    connection: int
    data: bytes = b""


@dataclass(slots=True)
class _Connection:
    """Both directions, as this end knows them."""

    pieces: deque[bytes] = field(default_factory=deque)  # that the other side's reader has not taken
    unsent: int = 0  # index in pieces
    sent: int = 0  # bytes up to there, ever
    fed: int = 0  # bytes that went into pieces, ever
    freed: int = 0  # bytes taken by the other side's reader; one more when it took the end
    ending: bool = False  # no more is fed
    end_sent: bool = False
    received: int = 0
    whole: bool = False  # the other side's end was received, and counted
    taken: int = 0
    told: int = 0  # of taken

    @property
    def over(self) -> bool:
        """Whether both ends were taken, and the other side knows it."""
        return self.whole and self.told == self.received and self.end_sent and self.freed == self.fed + 1

    @property
    def kept(self) -> int:
        """Bytes fed that the other side's reader has not taken."""
        return max(0, self.fed - self.freed)

    @property
    def unread(self) -> int:
        """Bytes received that the reader here has not taken."""
        return max(0, self.received - self.whole - self.taken)

    @property
    def sends(self) -> bool:
        """Whether there is anything to send."""
        return self.unsent < len(self.pieces) or (self.ending and not self.end_sent)

    def free(self, taken: int) -> None:
        """The other side's reader has so much."""
        if not self.freed <= taken <= self.fed + self.end_sent:
            raise Malformed("A tunnel's other end has taken what was not sent.")
        at = min(self.freed, self.fed)
        while self.pieces and at + len(self.pieces[0]) <= taken:
            if not self.unsent:
                raise Malformed("A tunnel's other end has taken what was not sent.")
            at += len(self.pieces.popleft())
            self.unsent -= 1
        if at != min(taken, self.fed):
            raise Malformed("A tunnel's other end has taken a part of a piece.")
        self.freed = taken

    def go_on(self, received: int, taken: int) -> None:
        """After a drop: the other side has received so much."""
        self.unsent, self.end_sent = len(self.pieces), self.ending
        self.free(taken)
        at, self.unsent = min(self.freed, self.fed), 0
        while self.unsent < len(self.pieces) and at < received:
            at += len(self.pieces[self.unsent])
            self.unsent += 1
        if at != min(received, self.fed) or received > self.fed + self.ending:
            raise Malformed("A tunnel's other end does not know where it was.")
        self.sent = at
        self.end_sent = received == self.fed + 1


class Mux:
    """One end of a tunnel.

    Args:
        window: Bytes of one connection that are taken ahead of its reader here.
    """

    def __init__(self, window: int = WINDOW_BYTES) -> None:
        self.window = window
        self.received_bytes = 0  # of data, ever; no byte is counted twice
        self.most_held = 0  # of data, at a time, in both directions
        self.newest = 0
        self._peer_window = 0
        self._held = 0
        self._connections: dict[int, _Connection] = {}
        self._control: deque[pb.TunnelFrame] = deque()
        self._telling: dict[int, None] = {}
        self._turns: deque[int] = deque()

    @property
    def held_bytes(self) -> int:
        """Data that rests here: received and not taken, or fed and not taken by the other side's reader."""
        return self._held

    def __len__(self) -> int:
        """How many connections there are."""
        return len(self._connections)

    def __iter__(self) -> Iterator[int]:
        return iter(tuple(self._connections))

    # --- what this side does --------------------------------------------------------------------------------

    def open(self) -> int:
        """A connection more; its number."""
        self.newest += 1
        self._connections[self.newest] = _Connection()
        self._control.append(pb.TunnelFrame(open=pb.TunnelOpen(connection=self.newest)))
        return self.newest

    def room(self, number: int) -> int:
        """How much may be fed now."""
        one = self._connections.get(number)
        return min(PIECE_BYTES, self._peer_window - one.fed + one.freed) if one is not None else 0

    def feed(self, number: int, data: bytes) -> None:
        """Send ``data``, no more than there is room for."""
        if (one := self._connections.get(number)) is not None:
            one.pieces.append(data)
            one.fed += len(data)
            self._hold(len(data))
            self._turn(number)

    def finish(self, number: int) -> None:
        """Nothing more is fed."""
        if (one := self._connections.get(number)) is not None:
            one.ending = True
            self._turn(number)

    def took(self, number: int, count: int) -> None:
        """The reader here has ``count`` bytes more; the end counts as one."""
        if (one := self._connections.get(number)) is None:
            return
        before, one.taken = one.unread, one.taken + count
        self._hold(one.unread - before)
        done = one.whole and one.taken == one.received
        if done or one.taken - one.told >= self.window // 4:
            self._telling[number] = None

    def cut(self, number: int) -> None:
        """End a connection, at both sides."""
        if self._drop(number):
            self._control.append(pb.TunnelFrame(reset=pb.TunnelReset(connection=number)))

    def next_frame(self) -> pb.TunnelFrame | None:
        """What is to be sent next; None: nothing now."""
        if self._control:
            return self._control.popleft()
        while self._telling:
            number = next(iter(self._telling))
            del self._telling[number]
            if (one := self._connections.get(number)) is not None:
                one.told = one.taken
                self._settle(number, one)
                return pb.TunnelFrame(taken=pb.TunnelTaken(connection=number, taken=one.told))
        while self._turns:
            number = self._turns.popleft()
            one = self._connections.get(number)
            if one is not None and one.sends:
                return self._piece(number, one)
        return None

    def _piece(self, number: int, one: _Connection) -> pb.TunnelFrame:
        if one.unsent == len(one.pieces):
            one.end_sent = True
            return pb.TunnelFrame(end=pb.TunnelEnd(connection=number, offset=one.fed))
        offset, data = one.sent, one.pieces[one.unsent]
        one.unsent += 1
        one.sent += len(data)
        self._turn(number)
        return pb.TunnelFrame(data=pb.TunnelData(connection=number, offset=offset, bytes=data))

    def _turn(self, number: int) -> None:
        if self._connections[number].sends and number not in self._turns:
            self._turns.append(number)

    # --- what the other side did ----------------------------------------------------------------------------

    def greeting(self, session: bytes, reach: str = "") -> pb.TunnelGreeting:
        """What this side says first in a call."""
        return pb.TunnelGreeting(
            session=session,
            window=self.window,
            newest=self.newest,
            positions=[
                pb.TunnelPosition(connection=number, received=one.received, taken=one.taken)
                for number, one in self._connections.items()
            ],
            reach=reach,
        )

    def greeted(self, greeting: pb.TunnelGreeting, *, opens: bool) -> list[Event]:
        """Go on where the call before ended.

        Args:
            greeting: The other side's.
            opens: Whether this side opens connections.

        Raises:
            Malformed: what it says cannot be.
        """
        if not LEAST_WINDOW_BYTES <= greeting.window <= MOST_WINDOW_BYTES:
            raise Malformed("A tunnel's other end names no window that is possible.")
        if len(greeting.positions) > MOST_CONNECTIONS:
            raise Malformed("A tunnel's other end names more connections than there can be.")
        self._peer_window = greeting.window
        self._control.clear()
        self._telling.clear()
        self._turns.clear()
        there = {position.connection: position for position in greeting.positions}
        events = []
        for number, one in list(self._connections.items()):
            position = there.pop(number, None)
            if position is None and not (opens and number > greeting.newest):
                ended = one.whole and one.taken == one.received and one.end_sent
                self._drop(number)
                events += [] if ended else [Event("cut", number)]
                continue
            if position is None:
                self._control.append(pb.TunnelFrame(open=pb.TunnelOpen(connection=number)))
            before = one.kept
            one.go_on(*(position.received, position.taken) if position is not None else (0, 0))
            self._hold(one.kept - before)
            self._telling[number] = None
            self._turn(number)
            events.append(Event("room", number))
        if opens:  # the other side would not know which of ours it has yet to be told of
            self._control.extend(pb.TunnelFrame(reset=pb.TunnelReset(connection=n)) for n in there)
        return events

    def receive(self, frame: pb.TunnelFrame) -> Event | None:
        """A frame that came; what it means here.

        Raises:
            Malformed: it cannot be.
        """
        kind = frame.WhichOneof("body")
        if kind == "open":
            return self._opened(frame.open.connection)
        if kind == "data":
            return self._data(frame.data)
        if kind == "taken":
            return self._freed(frame.taken)
        if kind == "end":
            return self._end(frame.end)
        if kind == "reset":
            number = frame.reset.connection
            return Event("cut", number) if self._drop(number) else None
        raise Malformed("A frame of a tunnel says nothing that is known.")

    def _opened(self, number: int) -> Event | None:
        if number <= self.newest:
            raise Malformed("A connection of a tunnel is opened twice.")
        self.newest = number
        if len(self._connections) >= MOST_CONNECTIONS:
            self._control.append(pb.TunnelFrame(reset=pb.TunnelReset(connection=number)))
            return None
        self._connections[number] = _Connection()
        return Event("open", number)

    def _data(self, data: pb.TunnelData) -> Event | None:
        one, size = self._known(data.connection), len(data.bytes)
        if one is None:
            return None
        if one.whole or data.offset != one.received or not size:
            raise Malformed("A piece of a connection comes at another place than is next.")
        if one.received + size > one.taken + self.window:
            raise Malformed("A tunnel's other end sends more than there is room for.")
        one.received += size
        self.received_bytes += size
        self._hold(size)
        return Event("data", data.connection, data.bytes)

    def _end(self, end: pb.TunnelEnd) -> Event | None:
        if (one := self._known(end.connection)) is None:
            return None
        if one.whole or end.offset != one.received:
            raise Malformed("A connection ends at another place than is next.")
        one.received += 1
        one.whole = True
        return Event("end", end.connection)

    def _freed(self, taken: pb.TunnelTaken) -> Event | None:
        if (one := self._known(taken.connection)) is None:
            return None
        before = one.kept
        one.free(taken.taken)
        self._hold(one.kept - before)
        self._settle(taken.connection, one)
        return Event("room", taken.connection)

    def _known(self, number: int) -> _Connection | None:
        """None for one that is over, or was cut here while the other side did not know it yet."""
        if number > self.newest:
            raise Malformed("A connection of a tunnel was never opened.")
        return self._connections.get(number)

    def _settle(self, number: int, one: _Connection) -> None:
        if one.over:
            self._drop(number)

    def _drop(self, number: int) -> bool:
        if (one := self._connections.pop(number, None)) is None:
            return False
        self._hold(-one.kept - one.unread)
        return True

    def _hold(self, count: int) -> None:
        self._held += count
        self.most_held = max(self.most_held, self._held)
