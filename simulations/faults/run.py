"""Plays a plan: a region in one process on virtual time, its faults, and what must hold."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from simulations.faults import invariants
from simulations.faults.invariants import BrokenError
from simulations.faults.objects import NUMBERS
from simulations.faults.plan import LENGTH_S, WORK, PlannedAct, members
from simulations.faults.strikes import Strikes
from simulations.faults.work import Work
from simulations.faults.world import MortalRegion
from simulations.virtual.loop import run_virtually
from simulations.virtual.network import Network
from simulations.virtual.trace import Trace

#: When all is mended the region is at rest within this, or something hangs.
REST_S = 1800.0
MAX_LINES = 20_000  # of a trace; a run that is well has some thousands
SETTLED_S = 1.0  # rows of what was acknowledged last may follow so late
LOOK_S = 5.0  # how often it is looked whether it is


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """Of one run.

    Args:
        seed: Of the plan. broken: What did not hold; '' where all did.
        trace: What happened. seconds: Of virtual time.
        happened: Which faults met something, and how often.
    """

    seed: int
    broken: str
    trace: tuple[str, ...]
    seconds: float
    happened: Mapping[str, int]


class Run:
    """One region and its faults."""

    def __init__(self, region: MortalRegion) -> None:
        self._region = region
        self._trace = region.network.trace
        self._work, self._strikes = Work(region), Strikes(region)
        self._pending: set[asyncio.Task[None]] = set()

    async def play(self, acts: Sequence[PlannedAct]) -> None:
        """Everything at its time; what lasts goes on beside.

        Raises:
            BrokenError: something that must hold does not.
        """
        begun = self._region.now()
        for act in acts:
            await self._until(begun + act.at_s)
            self._check_pace()
            self._trace.note("plan", str(act))
            self._pending.add(asyncio.create_task(self._do(act)))
        await self._until(begun + LENGTH_S)
        while self._pending:
            await self._first_done(None)

    async def _until(self, at_s: float) -> None:
        """Let time pass, and end as soon as an act has found something broken."""
        while (left_s := at_s - self._region.now()) > 0:
            if self._pending:
                await self._first_done(left_s)
            else:
                await asyncio.sleep(left_s)

    async def _first_done(self, within_s: float | None) -> None:
        done, self._pending = await asyncio.wait(
            self._pending, timeout=within_s, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            task.result()

    def _check_pace(self) -> None:
        """Nobody asks another again and again without a pause.

        Raises:
            BrokenError: if somebody does.
        """
        if len(self._trace.lines) > MAX_LINES:
            raise BrokenError(f"more than {MAX_LINES} things happened: something is tried without a pause")

    async def _do(self, act: PlannedAct) -> None:
        if act.kind in WORK:
            assert act.image is not None  # noqa: S101 - as the plan makes it
            await self._work.do(act, act.image)
        else:
            await self._strikes.do(act)

    # --- all mended -----------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Mend everything, wait until the region is at rest, and look whether all that must hold does.

        Raises:
            BrokenError: if something does not.
        """
        region = self._region
        for service in region.services:
            if not service.up:
                await service.start()
        for code in region.codes:
            await region.registry.app.members.readmit(code)
        region.record.suspended.clear()
        self._trace.note("plan", "all is mended")
        await asyncio.sleep(SETTLED_S)
        try:
            async with asyncio.timeout(REST_S):
                while not await self._at_rest():
                    self._check_pace()
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise BrokenError(
                f"the region was not at rest within {REST_S:.0f} s: {await self._unrest()}"
            ) from None
        await self._check_all()

    async def _check_all(self) -> None:
        region = self._region
        folders = {code: region.folder / code for code in region.codes}
        invariants.check_archives(region.record, folders)
        sops_at = {code: invariants.instances(folder / "node.db") for code, folder in folders.items()}
        for person in range(len(NUMBERS)):
            bundle = await region.bundle(person)
            if bundle is None:
                raise BrokenError("all is mended, and the registry does not answer")
            invariants.check_index(region.record, person, bundle, sops_at)
        for image in sorted(region.record.acknowledged):
            invariants.check_bytes(image, *await region.instance(image))

    async def _at_rest(self) -> bool:
        if not await self._region.linked():
            return False
        return not await self._unrest()

    async def _unrest(self) -> str:
        """What still waits, in words."""
        told = []
        for code, node in self._region.nodes.items():
            status = await node.app.publisher.status()
            if status.waiting or status.parked or status.filling:
                told.append(f"{code} waits={status.waiting} parked={status.parked} filling={status.filling}")
        for person in range(len(NUMBERS)):
            bundle = await self._region.bundle(person)
            if bundle is None or invariants.listed_and_warned(bundle)[1]:
                told.append(f"{NUMBERS[person]} not complete")
        return "; ".join(told)

    def check_audits(self) -> None:
        """When all has stopped."""
        for service in self._region.services:
            invariants.check_audit(
                self._region.folder / service.name / "audit.db",
                ends_lost=service.crashes + service.refusals,
                clock_right=service.name not in self._region.record.skewed,
            )


def play(seed: int, acts: Sequence[PlannedAct]) -> RunOutcome:
    """Play ``acts`` in a region of its own; the same seed and acts give the same trace."""
    folder, trace = Path(tempfile.mkdtemp(prefix="crosslight-faults-")), Trace()

    async def main() -> float:
        region = MortalRegion(folder, seed, members(seed))
        run = Run(region)
        await region.begin()
        try:
            await run.play(acts)
            await run.settle()
        finally:
            await region.end()
        run.check_audits()
        return region.now()

    broken, seconds = "", 0.0
    try:
        seconds = run_virtually(lambda loop: Network(loop, trace), main)
    except BrokenError as error:
        broken = str(error)
    except Exception as error:  # noqa: BLE001 - told of this seed, and the others are played
        broken = f"{type(error).__name__} {error}"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if broken:
        trace.lines.append(f"           broken: {broken}")
    return RunOutcome(seed, broken, tuple(trace.lines), seconds, trace.happened)
