"""Plays a plan: a region in one process on virtual time, its faults, and what must hold."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientError, ClientSession

from crosslight.runtime.seams import Seams
from crosslight.standards.problem import CrosslightError
from node.app import NodeApp
from node.config import read_config as read_node_config
from node.holdings import Received
from node.setup import init_node, join_region
from registry.app import RegistryApp
from registry.config import read_config as read_registry_config
from registry.setup import init_registry
from simulations.faults import invariants
from simulations.faults.invariants import BrokenError, RunRecord
from simulations.faults.objects import NUMBERS, Image
from simulations.faults.plan import CODES, LENGTH_S, REGISTRY, PlannedAct
from simulations.faults.services import Mortal
from simulations.virtual.loop import run_virtually
from simulations.virtual.network import Network
from simulations.virtual.region import network_here, node_values, registry_values, until
from simulations.virtual.seams import virtual_seams
from simulations.virtual.trace import Trace

SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
#: When all is mended the region is at rest within this, or something hangs.
REST_S = 1800.0
MAX_LINES = 20_000  # of a trace; a run that is well has some thousands
LOOK_S = 5.0  # how often it is looked whether it is
SENT_AGAIN_S = 7.0  # until a scanner sends again what was not acknowledged
CLIENT = "client"


@dataclass(frozen=True, slots=True)
class RunOutcome:
    """Of one run.

    Args:
        seed: Of the plan. broken: What did not hold; '' where all did.
        trace: What happened. seconds: Of virtual time. crashes: Of services.
    """

    seed: int
    broken: str
    trace: tuple[str, ...]
    seconds: float
    crashes: int


class Run:
    """One region and its faults."""

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._network = network_here()
        self.record = RunRecord()
        self.registry: Mortal[RegistryApp] = Mortal(REGISTRY, self._network, seed, self._registry)
        self.nodes: dict[str, Mortal[NodeApp]] = {
            code: Mortal(code, self._network, seed, lambda seams, code=code: self._node(code, seams))  # type: ignore[misc]  # bound now
            for code in CODES
        }
        self._http: ClientSession
        self._pending: set[asyncio.Task[None]] = set()

    def _registry(self, seams: Seams) -> RegistryApp:
        home = self._folder / REGISTRY
        return RegistryApp(home, read_registry_config(home), seams)

    def _node(self, code: str, seams: Seams) -> NodeApp:
        return NodeApp(self._folder / code, read_node_config(self._folder / code), seams)

    @property
    def services(self) -> list[Mortal[Any]]:
        """All of them, the registry first."""
        return [self.registry, *self.nodes.values()]

    # --- begin and end --------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """All is up, joined and linked."""
        seams = virtual_seams(self._network, REGISTRY, self._seed)
        init_registry(self._folder / REGISTRY, seams.files, seams.ids, registry_values(self._network))
        await self.registry.start()
        self._http = virtual_seams(self._network, CLIENT, self._seed).http.client(read_timeout_s=30.0)
        for code, node in self.nodes.items():
            seams = virtual_seams(self._network, code, self._seed)
            init_node(self._folder / code, seams.files, node_values(self._network))
            registry = self.registry.app
            invitation = await registry.members.invite(code, registry.people_url, name=f"{code} Hospitals")
            await join_region(self._folder / code, invitation, seams)
            await node.start()
        await until(self._linked)

    async def _linked(self) -> bool:
        members = self.registry.app.members
        return all(members.presence(m.id).reachable for m in members.all())

    async def end(self) -> None:
        """Everything stops."""
        await self._http.close()
        for service in reversed(self.services):
            await service.stop()

    # --- acts -----------------------------------------------------------------------------------------------

    async def play(self, acts: Sequence[PlannedAct]) -> None:
        """Everything at its time; what lasts goes on beside."""
        begun = asyncio.get_running_loop().time()
        for act in acts:
            await asyncio.sleep(max(0.0, begun + act.at_s - asyncio.get_running_loop().time()))
            self._check_pace()
            self._network.trace.note("plan", str(act))
            task = asyncio.create_task(self._do(act))
            self._pending.add(task)
            for done in [task for task in self._pending if task.done()]:
                self._pending.discard(done)
                done.result()
        await asyncio.sleep(max(0.0, begun + LENGTH_S - asyncio.get_running_loop().time()))
        await asyncio.gather(*self._pending)

    def _check_pace(self) -> None:
        """Nobody asks another again and again without a pause.

        Raises:
            BrokenError: if somebody does.
        """
        if len(self._network.trace.lines) > MAX_LINES:
            raise BrokenError(f"more than {MAX_LINES} things happened: something is tried without a pause")

    async def _do(self, act: PlannedAct) -> None:
        match act.kind:
            case "store":
                await self._store(act)
            case "find":
                await self._find(act)
            case "open":
                await self._open(act)
            case "cut":
                await self._lasting(
                    act, lambda: self._cut(act), lambda: self._network.mend(act.who, REGISTRY)
                )
            case "slow":
                line = self._network.line(act.who, REGISTRY)
                await self._lasting(
                    act, lambda: setattr(line, "slow_s", act.amount), lambda: setattr(line, "slow_s", 0.0)
                )
            case "full":
                await self._full(act)
            case "skew":
                await self._skew(act)
            case "suspend":
                await self._suspend(act)
            case "crash" | "kill":
                await self._crash(act)

    async def _lasting(self, act: PlannedAct, begin: Callable[[], None], end: Callable[[], None]) -> None:
        begin()
        await asyncio.sleep(act.for_s)
        end()

    def _cut(self, act: PlannedAct) -> None:
        self._network.cut(act.who, REGISTRY, after_bytes=int(act.amount))

    async def _full(self, act: PlannedAct) -> None:
        machine = self.nodes[act.who].machine
        await self._lasting(
            act, lambda: setattr(machine, "full", True), lambda: setattr(machine, "full", False)
        )

    async def _skew(self, act: PlannedAct) -> None:
        node = self.nodes[act.who]

        def ahead(by: timedelta) -> None:
            node.skew = node.clock.ahead = by

        await self._lasting(act, lambda: ahead(timedelta(seconds=act.amount)), lambda: ahead(timedelta()))

    async def _suspend(self, act: PlannedAct) -> None:
        if not self.registry.up or act.who in self.record.suspended:
            return
        with suppress(CrosslightError):
            await self.registry.app.members.suspend(act.who, "drill")
            self.record.suspended[act.who] = self._now()
        await asyncio.sleep(act.for_s)

    async def _readmit_all(self) -> None:
        for code in CODES:
            await self.registry.app.members.readmit(code)
        self.record.suspended.clear()

    async def _crash(self, act: PlannedAct) -> None:
        service: Mortal[Any] = self.registry if act.who == REGISTRY else self.nodes[act.who]
        if not service.up:
            return
        machine = service.machine
        if act.kind == "crash":
            machine.steps_left = int(act.amount)
            with suppress(TimeoutError):
                async with asyncio.timeout(act.for_s + 20):
                    while machine.alive:
                        await asyncio.sleep(0.01)
        if service.machine is machine and service.up:
            await service.crash_and_start(act.for_s)

    # --- work -----------------------------------------------------------------------------------------------

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    async def _store(self, act: PlannedAct) -> None:
        image, node = act.image, self.nodes[act.who]
        assert image is not None  # noqa: S101 - as the plan makes it
        while not await self._stored(image, node):
            await asyncio.sleep(SENT_AGAIN_S)  # as a scanner does

    async def _stored(self, image: Image, node: Mortal[NodeApp]) -> bool:
        """Send it once; whether it was acknowledged."""
        if not node.up:
            return False
        machine = node.machine
        self.record.perhaps.add(image)
        with suppress(CrosslightError, OSError):
            staged = node.app.archive.stage()
            staged.write(image.part10(node.name))
            result = await node.app.archive.ingest_async(staged, Received(road="import", peer="simulation"))
            if machine.alive and result.state in ("stored", "duplicate"):
                self.record.stored(image, node.name, self._now())
                return True
        return False

    async def _find(self, act: PlannedAct) -> None:
        assert act.image is not None  # noqa: S101 - as the plan makes it
        bundle = await self._bundle(act.image.person)
        if bundle is not None:
            invariants.check_answer(self.record, act.image.person, bundle, self._now())

    async def _bundle(self, person: int) -> Any:
        """A FHIR answer, or None where there is none."""
        if not self.registry.up:
            return None
        url = f"{self.registry.app.people_url}/fhir/ImagingStudy"
        with suppress(ClientError, TimeoutError):
            async with self._http.get(
                url, params={"patient.identifier": f"{SYSTEM}|{NUMBERS[person]}"}
            ) as answer:
                body = await answer.read()
                return orjson.loads(body) if answer.status == 200 else None
        return None

    async def _open(self, act: PlannedAct) -> None:
        image = act.image
        assert image is not None  # noqa: S101 - as the plan makes it
        if not self.registry.up:
            return
        begun = self._now()
        with suppress(ClientError, TimeoutError):
            url = f"{self.registry.app.people_url}/dicomweb/studies/{image.study_uid}"
            async with self._http.get(url) as answer:
                await answer.read()
                invariants.check_opening(self.record, image, act.who, answer.status, begun)

    async def _retrieved(self, image: Image) -> tuple[int, bytes]:
        """One object through the gateway; status 0 where there is no answer."""
        path = f"dicomweb/studies/{image.study_uid}/series/{image.study_uid}.1/instances/{image.sop_uid}"
        with suppress(ClientError, TimeoutError):
            async with self._http.get(f"{self.registry.app.people_url}/{path}") as answer:
                return answer.status, await answer.read()
        return 0, b""

    # --- all mended -----------------------------------------------------------------------------------------

    async def settle(self) -> None:
        """Mend everything, wait until the region is at rest, and look whether all that must hold does.

        Raises:
            BrokenError: if something does not.
        """
        for service in self.services:
            if not service.up:
                await service.start()
        await self._readmit_all()
        self._network.trace.note("plan", "all is mended")
        try:
            async with asyncio.timeout(REST_S):
                while not await self._at_rest():
                    self._check_pace()
                    await asyncio.sleep(LOOK_S)
        except TimeoutError:
            raise BrokenError(
                f"the region was not at rest within {REST_S:.0f} s: {await self._unrest()}"
            ) from None
        folders = {code: self._folder / code for code in CODES}
        invariants.check_archives(self.record, folders)
        sops_at = {code: invariants.instances(folder / "node.db") for code, folder in folders.items()}
        for person in range(len(NUMBERS)):
            bundle = await self._bundle(person)
            if bundle is None:
                raise BrokenError("all is mended, and the registry does not answer")
            invariants.check_index(self.record, person, bundle, sops_at)
        for image in sorted(self.record.acknowledged):
            invariants.check_bytes(image, *await self._retrieved(image))

    async def _at_rest(self) -> bool:
        if not await self._linked():
            return False
        return not await self._unrest()

    async def _unrest(self) -> str:
        """What still waits, in words."""
        told = []
        for code, node in self.nodes.items():
            status = await node.app.publisher.status()
            if status.waiting or status.parked or status.filling:
                told.append(f"{code} waits={status.waiting} parked={status.parked} filling={status.filling}")
        for person in range(len(NUMBERS)):
            bundle = await self._bundle(person)
            if bundle is None or invariants.listed_and_warned(bundle)[1]:
                told.append(f"{NUMBERS[person]} not complete")
        return "; ".join(told)

    def check_audits(self) -> None:
        """When all has stopped."""
        for service in self.services:
            path = self._folder / service.name / "audit.db"
            invariants.check_audit(path, crashes=service.crashes)


def play(seed: int, acts: Sequence[PlannedAct]) -> RunOutcome:
    """Play ``acts`` in a region of its own; the same seed and acts give the same trace."""
    folder, trace, crashes = Path(tempfile.mkdtemp(prefix="crosslight-faults-")), Trace(), 0

    async def main() -> float:
        nonlocal crashes
        run = Run(folder, seed)
        await run.begin()
        try:
            await run.play(acts)
            await run.settle()
        finally:
            crashes = sum(service.crashes for service in run.services)
            await run.end()
        run.check_audits()
        return asyncio.get_running_loop().time()

    broken, seconds = "", 0.0
    try:
        seconds = run_virtually(lambda loop: Network(loop, trace), main)
    except BrokenError as error:
        broken = str(error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return RunOutcome(seed, broken, tuple(trace.lines), seconds, crashes)
