"""Fair shares: nobody takes from others what all share.

Whatever is bounded for all is bounded for each first. Two kinds:

* :class:`Shares`, for work: so much at once, so much of one key at once; who finds no room waits a moment,
  and turns go round the keys, first come first served within one. So whoever asks for little is served
  before the queue of whoever asks for much is drained.
* :class:`Places`, for connections: so many at once, so many of one key; nobody waits, but one that lies idle
  gives way.

A key is whoever the share is of (:func:`share_of` a caller, :func:`peer_share` an address).
Both are of one event loop.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network

from crosslight.runtime.caller import Caller
from crosslight.standards.problem import Busy, OverShare


def share_of(caller: Caller) -> str:
    """Whose share a call takes: the principal's; of an open demo's callers, all one, the address's."""
    principal = caller.principal
    if principal.evidence == "open":
        return f"{principal.subject} {peer_share(caller.peer)}"
    return principal.subject


def peer_share(address: str) -> str:
    """Whose share a connection takes before it is known who calls: of IPv6 the network of one subscriber."""
    try:
        known = ip_address(address.split("%", 1)[0])
    except ValueError:
        return address
    mapped = getattr(known, "ipv4_mapped", None)
    if mapped is not None or known.version == 4:
        return str(mapped or known)
    return str(ip_network((known, 64), strict=False))


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareLimits:
    """Bounds of one thing that all share.

    Attributes:
        total: How many at once. each: Of these, how many of one key.
        waiting: How many more may wait. waiting_each: Of these, how many of one key.
        patience_s: How long one waits.
    """

    total: int
    each: int
    waiting: int = 256
    waiting_each: int = 64
    patience_s: float = 20.0


@dataclass(slots=True, eq=False)
class Turn:
    """One that was let in, or waits to be; ``weight`` places are its own."""

    key: str
    weight: int = 1
    granted: bool = False
    dropped: bool = False
    told: Callable[[], None] = field(default=lambda: None, repr=False)


class FairQueue:
    """Who is next: pure, and knows no time.

    A free place goes to the key that has fewest at work; among those, to whose last turn is longest ago. Who
    needs more than is free is waited for: nobody passes.

    Args:
        limits: Its bounds; ``patience_s`` is not looked at.
        name: What is shared, for errors: *retrieves from RTK*.
        where: Of those errors.
    """

    def __init__(self, limits: ShareLimits, name: str, where: str = "") -> None:
        self.limits, self.name, self._where = limits, name, where
        self._running: Counter[str] = Counter()
        self._waiting: dict[str, deque[Turn]] = {}
        self._served: dict[str, int] = {}  # of each key that is there: the number of its last grant
        self._total = self._waits = self._grants = 0

    @property
    def running(self) -> int:
        """How many places are taken."""
        return self._total

    @property
    def waiting(self) -> int:
        """How many wait."""
        return self._waits

    def ask(self, key: str, weight: int = 1) -> Turn:
        """A turn, granted at once where there is room and nobody waits for it.

        Where too many wait, the last of the key that most wait of gives way: it is told, as if granted, and
        is marked as dropped.

        Args:
            key: Whose it is.
            weight: How many places it takes; no more than the whole of a share.

        Raises:
            OverShare: too many of this key wait. Busy: too many wait.
        """
        limits = self.limits
        turn = Turn(key, min(weight, limits.each, limits.total))
        mine = self._waiting.get(key, ())
        if not mine and self._has_share(turn) and self._has_room(turn) and self._next() is None:
            self._grant(turn)
            return turn
        if len(mine) >= limits.waiting_each:
            raise over_share(self.name, limits.each, self._where)
        if self._waits >= limits.waiting:
            longest = max(self._waiting, key=lambda waits: len(self._waiting[waits]), default="")
            if len(self._waiting.get(longest, ())) <= len(mine) + 1:
                raise self.refusal(turn)
            self._drop(self._waiting[longest][-1])
        self._waiting.setdefault(key, deque()).append(turn)
        self._waits += 1
        self._admit()  # what was dropped may have been in the way
        return turn

    def leave(self, turn: Turn) -> None:
        """A turn ends, or waits no longer. Whoever is next is told."""
        if turn.dropped:
            return
        if turn.granted:
            turn.granted = False
            self._total -= turn.weight
            self._running[turn.key] -= turn.weight
            if not self._running[turn.key]:
                del self._running[turn.key]
        else:
            self._forget(turn)
        self._admit()
        self._tidy(turn.key)

    def refusal(self, turn: Turn) -> Busy:
        """Why a turn was not granted: its own key has too much, or there is too much in all."""
        own = turn.dropped or not self._has_share(turn)
        if own:
            return over_share(self.name, self.limits.each, self._where)
        return busy(self.name, self._where)

    def _has_share(self, turn: Turn) -> bool:
        return self._running[turn.key] + turn.weight <= self.limits.each

    def _has_room(self, turn: Turn) -> bool:
        return self._total + turn.weight <= self.limits.total

    def _next(self) -> Turn | None:
        """The one that waits for nothing but room."""
        heads = [queue[0] for queue in self._waiting.values() if self._has_share(queue[0])]
        return min(heads, key=self._claim, default=None)

    def _claim(self, turn: Turn) -> tuple[int, int]:
        return self._running[turn.key], self._served.get(turn.key, 0)

    def _admit(self) -> None:
        while (turn := self._next()) is not None and self._has_room(turn):
            self._forget(turn)
            self._grant(turn)

    def _grant(self, turn: Turn) -> None:
        turn.granted = True
        self._total += turn.weight
        self._running[turn.key] += turn.weight
        self._grants += 1
        self._served[turn.key] = self._grants
        turn.told()

    def _drop(self, turn: Turn) -> None:
        self._forget(turn)
        self._tidy(turn.key)
        turn.dropped = True
        turn.told()

    def _forget(self, turn: Turn) -> None:
        queue = self._waiting[turn.key]
        queue.remove(turn)
        self._waits -= 1
        if not queue:
            del self._waiting[turn.key]

    def _tidy(self, key: str) -> None:
        if key not in self._running and key not in self._waiting:
            self._served.pop(key, None)


class Shares:
    """Admits work in fair turns.

    Args:
        name: What is shared, for errors: *retrieves from RTK*.
        limits: Its bounds.
        where: Of those errors: a member's code.
    """

    def __init__(self, name: str, limits: ShareLimits, where: str = "") -> None:
        self.queue = FairQueue(limits, name, where)

    @asynccontextmanager
    async def turn(self, key: str, weight: int = 1) -> AsyncIterator[None]:
        """Wait for a turn of ``key``; it lasts as long as the block.

        Args:
            key: Whose it is.
            weight: How many places it takes.

        Raises:
            OverShare: too much of this key waits, or its own share was in use all the time. Busy: all was.
        """
        turn = self.queue.ask(key, weight)
        try:
            if not turn.granted:
                await self._wait(turn)
            yield
        finally:
            self.queue.leave(turn)

    async def _wait(self, turn: Turn) -> None:
        told = asyncio.get_running_loop().create_future()
        turn.told = lambda: None if told.done() else told.set_result(None)
        with suppress(TimeoutError):
            async with asyncio.timeout(self.queue.limits.patience_s):
                await told
        if not turn.granted:
            raise self.queue.refusal(turn)


@dataclass(slots=True, eq=False)
class Place:
    """A connection that was let in.

    Attributes:
        key: Whose it is.
        cut: Ends it; what it is called for may go on after it returns.
        idle: Whether nothing is going on there, so that it may be cut to make room.
    """

    key: str
    cut: Callable[[], object] = field(repr=False)
    idle: Callable[[], bool] = field(repr=False)


class Places:
    """Bounds connections: so many at once, so many of one key.

    Where there is no room, the oldest that lies idle gives way: of the same key, where that has all of its
    share, else of the key that has most. So whoever opens many and does nothing with them shuts nobody out.
    Pure; not for several threads at once.

    Args:
        name: What they are, for errors: *HL7 connections*.
        total: How many at once. each: Of these, how many of one key.
    """

    def __init__(self, name: str, total: int, each: int) -> None:
        self.name, self.total, self.each = name, total, min(each, total)
        self._of: dict[str, dict[Place, None]] = {}  # in the order they came
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def of(self, key: str) -> int:
        """How many a key has."""
        return len(self._of.get(key, ()))

    def enter(self, key: str, cut: Callable[[], object], idle: Callable[[], bool] = lambda: False) -> Place:
        """Take a place; :meth:`leave` gives it back.

        Raises:
            OverShare: this key has its share, and all of it is in use. Busy: all places are.
        """
        if self.of(key) >= self.each:
            if not self._make_room(key):
                raise over_share(self.name, self.each)
        elif self._count >= self.total:
            largest = max(self._of, key=self.of)
            if self.of(largest) <= self.of(key) or not self._make_room(largest):
                raise busy(self.name)
        place = Place(key, cut, idle)
        self._of.setdefault(key, {})[place] = None
        self._count += 1
        return place

    def leave(self, place: Place) -> None:
        """It has ended; told twice is told once."""
        own = self._of.get(place.key, {})
        if place in own:
            del own[place]
            self._count -= 1
            if not own:
                del self._of[place.key]

    def _make_room(self, key: str) -> bool:
        idle = next((place for place in self._of[key] if place.idle()), None)
        if idle is None:
            return False
        self.leave(idle)
        idle.cut()
        return True


def busy(name: str, where: str = "") -> Busy:
    """All of it is in use, and whoever asks has not taken more than others."""
    return Busy(
        f"Too many {name} at once: this is busy.",
        why="All that there is room for are in use.",
        todo="Try again.",
        where=where,
    )


def over_share(name: str, each: int, where: str = "") -> OverShare:
    """Whoever asks has taken its share."""
    return OverShare(
        f"Too many {name} of one caller at once: this is busy with yours.",
        why=f"One caller has {each} at a time.",
        todo="Let some end, then try again.",
        where=where,
    )
