"""Services that start, crash and start again, each life in a machine of its own."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from typing import Generic, Protocol, TypeVar

from crosslight.runtime.seams import Seams
from simulations.faults.machine import CrashingDatabases, CrashingFiles, Machine
from simulations.virtual.network import Network
from simulations.virtual.region import REGISTRY
from simulations.virtual.seams import VirtualClock, virtual_seams

_STOPPING_S = 120.0


class Startable(Protocol):
    """A node or a registry."""

    async def start(self) -> None:
        """Begin."""
        ...

    async def stop(self) -> None:
        """End."""
        ...


A = TypeVar("A", bound=Startable)


class Mortal(Generic[A]):
    """One service of a run.

    Args:
        name: In traces and for lines.
        network: Of the run.
        seed: Of ids, jitter and torn writes.
        make: The service of a life, from its machine.
    """

    app: A

    def __init__(self, name: str, network: Network, seed: int, make: Callable[[Seams], A]) -> None:
        self.name, self._network, self._seed, self._make = name, network, seed, make
        self.lives = 0
        self.crashes = 0
        self.refusals = 0  # of a disk that was full
        self.skew = timedelta()
        self.up = False
        self.machine = Machine(random.Random(), self._died, self._met)

    @property
    def clock(self) -> VirtualClock:
        """Of this life."""
        return self._clock

    async def start(self) -> None:
        """Begin a life; when it crashes while it starts it is begun again."""
        while not self.up:
            self.lives += 1
            seed = f"{self._seed} {self.name} {self.lives}"
            self.machine = Machine(random.Random(f"{seed} torn"), self._died, self._met)
            self.app = self._make(self._seams())
            try:
                await self.app.start()
            except Exception:
                if self.machine.alive:
                    raise
                await asyncio.sleep(1)
                continue
            self.up = self.machine.alive

    def _seams(self) -> Seams:
        machine, network = self.machine, self._network
        # another life must not give the ids of the one before
        seams = virtual_seams(network, self.name, self._seed * 10_000 + self.lives, ahead=self.skew)
        assert isinstance(seams.clock, VirtualClock)  # noqa: S101 - as virtual_seams makes it
        self._clock = seams.clock
        databases = CrashingDatabases(self.name, network.trace, machine)
        return replace(seams, files=CrashingFiles(machine), databases=databases)

    def _met(self, kind: str) -> None:
        self.refusals += kind == "full"
        of = " registry" if kind in ("crash", "full") and self.name == REGISTRY else ""
        self._network.trace.happened[kind + of] += 1

    def _died(self) -> None:
        self.crashes += 1
        self._network.trace.note(self.name, "crashes")
        self._network.gone(self.name)

    async def bury(self) -> None:
        """After a crash: what still runs of this life ends; it reaches nothing any more."""
        self.up = False
        with suppress(Exception):
            async with asyncio.timeout(_STOPPING_S):
                await self.app.stop()

    async def crash(self) -> None:
        """Crash now."""
        self.machine.crash()
        await self.bury()

    async def stop(self) -> None:
        """End in good order."""
        if self.up:
            self.up = False
            await self.app.stop()
