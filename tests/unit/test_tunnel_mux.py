"""The state of a tunnel's ends: whatever drops come, every byte comes once and in order; windows hold."""

from __future__ import annotations

from collections import deque
from random import Random

import pytest

from crosslight.pb import tunnel_pb2 as pb
from crosslight.runtime.tunnel.mux import MOST_CONNECTIONS, PIECE_BYTES, Mux
from crosslight.standards.problem import Malformed

WINDOW = 1 << 16


class _Reader:
    """What one side has of a connection, and reads when it is told to."""

    def __init__(self) -> None:
        self.waiting: deque[bytes] = deque()
        self.got = bytearray()
        self.ended = self.cut = False


class _Side:
    def __init__(self, *, opens: bool) -> None:
        self.mux, self.opens = Mux(WINDOW), opens
        self.readers: dict[int, _Reader] = {}
        self.line: deque[pb.TunnelFrame] = deque()  # sent, and on its way

    def open(self) -> int:
        number = self.mux.open()
        self.readers[number] = _Reader()
        return number

    def receive(self, frame: pb.TunnelFrame) -> None:
        event = self.mux.receive(frame)
        if event is None:
            return
        if event.kind == "open":
            self.readers[event.connection] = _Reader()
        reader = self.readers[event.connection]
        if event.kind in ("data", "end"):
            reader.waiting.append(event.data)
        reader.cut |= event.kind == "cut"

    def read(self, number: int) -> None:
        reader = self.readers[number]
        if reader.waiting:
            data = reader.waiting.popleft()
            reader.got += data
            reader.ended |= not data
            self.mux.took(number, len(data) or 1)

    def push(self) -> bool:
        frame = self.mux.next_frame()
        if frame is not None:
            # as the wire has it
            self.line.append(pb.TunnelFrame.FromString(frame.SerializeToString()))
        return frame is not None


def _greet(registry: _Side, node: _Side) -> None:
    """A call: what was on its way is lost, and both begin with their greetings."""
    registry.line.clear()
    node.line.clear()
    said, answered = node.mux.greeting(b"s"), registry.mux.greeting(b"s")
    for side, greeting in ((registry, said), (node, answered)):
        for event in side.mux.greeted(greeting, opens=side.opens):
            side.readers[event.connection].cut |= event.kind == "cut"


def _pair() -> tuple[_Side, _Side]:
    registry, node = _Side(opens=True), _Side(opens=False)
    _greet(registry, node)
    return registry, node


def _settle(registry: _Side, node: _Side) -> None:
    """Move frames until nothing moves; nobody reads."""
    moved = True
    while moved:
        moved = False
        for near, far in ((registry, node), (node, registry)):
            while near.push():
                moved = True
            while near.line:
                far.receive(near.line.popleft())
                moved = True


@pytest.mark.parametrize("seed", range(12))
def test_every_byte_comes_once_and_in_order_through_any_drops(seed: int) -> None:
    draw = Random(seed)
    registry, node = _pair()
    sends: dict[tuple[str, int], bytes] = {}
    numbers = [registry.open() for _ in range(4)]
    left: dict[tuple[str, int], int] = {}
    for number in numbers:
        for name in ("registry", "node"):
            sends[name, number] = draw.randbytes(draw.randrange(0, 400_000))
            left[name, number] = 0
    sides = {"registry": registry, "node": node}
    finished: set[tuple[str, int]] = set()
    drops = 0
    for _ in range(200_000):
        name = draw.choice(("registry", "node"))
        near, far = (registry, node) if name == "registry" else (node, registry)
        number, act = draw.choice(numbers), draw.random()
        if act < 0.3 and number in near.readers and (name, number) not in finished:
            at, whole = left[name, number], sends[name, number]
            if at == len(whole):
                near.mux.finish(number)
                finished.add((name, number))
            elif room := near.mux.room(number):
                data = whole[at : at + min(room, draw.randrange(1, 30_000))]
                near.mux.feed(number, data)
                left[name, number] = at + len(data)
        elif act < 0.6:
            near.push()
        elif act < 0.8 and near.line:
            far.receive(near.line.popleft())
        elif act < 0.99 and number in near.readers:
            near.read(number)
        elif act > 0.99:
            _greet(registry, node)
            drops += 1
        if len(finished) == 8 and not len(registry.mux) and not len(node.mux):
            break
    else:
        pytest.fail("they do not come to an end")
    assert drops > 3
    for (name, number), whole in sends.items():
        reader = sides["node" if name == "registry" else "registry"].readers[number]
        assert bytes(reader.got) == whole
        assert (reader.ended, reader.cut) == (True, False)
    assert node.mux.received_bytes == sum(len(w) for (n, _), w in sends.items() if n == "registry")
    assert registry.mux.received_bytes == sum(len(w) for (n, _), w in sends.items() if n == "node")
    assert registry.mux.held_bytes == node.mux.held_bytes == 0
    assert max(registry.mux.most_held, node.mux.most_held) <= 4 * 2 * WINDOW


def test_a_reader_that_takes_nothing_holds_a_window_and_nobody_up() -> None:
    registry, node = _pair()
    slow, quick = registry.open(), registry.open()
    _settle(registry, node)
    for _ in range(100):
        for number in (slow, quick):
            if room := node.mux.room(number):
                node.mux.feed(number, bytes(room))
        _settle(registry, node)
        while registry.readers[quick].waiting:
            registry.read(quick)
    assert len(registry.readers[quick].got) >= 90 * WINDOW // 2
    assert not node.mux.room(slow)
    assert sum(map(len, registry.readers[slow].waiting)) == WINDOW
    assert registry.mux.most_held <= 2 * WINDOW


def test_whoever_sends_much_gives_way_after_each_piece() -> None:
    registry, node = Mux(1 << 22), Mux(1 << 22)
    numbers = [registry.open() for _ in range(3)]
    registry.greeted(node.greeting(b""), opens=True)
    node.greeted(registry.greeting(b""), opens=False)
    while (frame := registry.next_frame()) is not None:
        node.receive(frame)
    for number in numbers:
        for _ in range(8):
            node.feed(number, bytes(PIECE_BYTES))
    order = []
    while (frame := node.next_frame()) is not None:
        order += [frame.data.connection] * frame.HasField("data")
    assert order == numbers * 8


def test_a_node_that_has_forgotten_a_connection_cuts_it() -> None:
    registry, node = _pair()
    number = registry.open()
    _settle(registry, node)
    node.mux.feed(number, b"half")
    _settle(registry, node)
    fresh = _Side(opens=False)
    fresh.mux.newest = number
    _greet(registry, fresh)
    assert registry.readers[number].cut
    assert (len(registry.mux), registry.mux.held_bytes) == (0, 0)


@pytest.mark.parametrize(
    "frame",
    [
        pb.TunnelFrame(),
        pb.TunnelFrame(open=pb.TunnelOpen(connection=1)),
        pb.TunnelFrame(data=pb.TunnelData(connection=9, offset=0, bytes=b"x")),
        pb.TunnelFrame(data=pb.TunnelData(connection=1, offset=1, bytes=b"x")),
        pb.TunnelFrame(data=pb.TunnelData(connection=1, offset=0, bytes=b"")),
        pb.TunnelFrame(data=pb.TunnelData(connection=1, offset=0, bytes=bytes(WINDOW + 1))),
        pb.TunnelFrame(end=pb.TunnelEnd(connection=1, offset=5)),
        pb.TunnelFrame(taken=pb.TunnelTaken(connection=1, taken=1)),
    ],
)
def test_what_cannot_be_is_refused(frame: pb.TunnelFrame) -> None:
    registry, node = _pair()
    registry.open()
    _settle(registry, node)
    with pytest.raises(Malformed):
        node.mux.receive(frame)


def test_a_window_of_nothing_or_of_everything_is_refused() -> None:
    for window in (0, 1 << 31):
        with pytest.raises(Malformed):
            Mux().greeted(pb.TunnelGreeting(window=window), opens=True)


def test_a_greeting_names_no_more_connections_than_there_can_be() -> None:
    far = [pb.TunnelPosition(connection=n) for n in range(MOST_CONNECTIONS + 1)]
    with pytest.raises(Malformed):
        Mux().greeted(pb.TunnelGreeting(window=WINDOW, positions=far), opens=True)


def test_a_registry_opens_no_more_than_a_node_has_room_for() -> None:
    registry, node = _pair()
    numbers = [registry.open() for _ in range(MOST_CONNECTIONS + 1)]
    _settle(registry, node)
    assert len(node.mux) == MOST_CONNECTIONS
    assert registry.readers[numbers[-1]].cut
