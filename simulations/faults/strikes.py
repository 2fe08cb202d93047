"""What fails in a run."""

from __future__ import annotations

import asyncio
import shutil
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

from crosslight.runtime.backup_files import Vault
from node import backup as node_backup
from registry import backup as registry_backup
from simulations.faults import invariants
from simulations.faults.plan import REGISTRY, PlannedAct
from simulations.faults.services import Mortal
from simulations.faults.world import MortalRegion
from simulations.virtual.network import Line
from simulations.virtual.seams import QuickFiles, virtual_seams

ARMED_S = 20.0  # beyond its downtime: so long a crash waits for the step that it comes at


class Strikes:
    """The acts that are faults."""

    def __init__(self, region: MortalRegion) -> None:
        self._region, self._record, self._trace = region, region.record, region.network.trace
        self._backups: dict[str, tuple[Path, float]] = {}  # service -> its last, and as of when

    async def do(self, act: PlannedAct) -> None:
        """One fault, until it is over."""
        match act.kind:
            case "cut" | "slow" | "lose" | "late":
                await self._line(act, self._region.network.line(act.who, REGISTRY))
            case "full":
                await self._full(act)
            case "skew":
                await self._skew(act)
            case "suspend":
                await self._suspend(act)
            case "crash" | "kill":
                await self._crash(act)
            case "backup":
                await self._backup(act.who)
            case "restore":
                await self._restore(act)

    async def _line(self, act: PlannedAct, line: Line) -> None:
        network, wholly = self._region.network, act.kind in ("cut", "slow")
        if act.kind == "cut":
            network.cut(act.who, REGISTRY, after_bytes=int(act.amount))
        elif act.kind == "slow":
            line.slow_s = act.amount
        elif act.kind == "lose":
            line.lose_answer = True
        else:
            line.late_s = act.amount
        if wholly:
            with self._region.apart(act.who):
                await asyncio.sleep(act.for_s)
                if act.kind == "slow":
                    line.slow_s = 0.0
                else:
                    network.mend(act.who, REGISTRY)
        elif act.kind == "lose":
            await asyncio.sleep(act.for_s)
            line.lose_answer = False
        else:
            await self._late(act, line)

    async def _late(self, act: PlannedAct, line: Line) -> None:
        """What comes late takes nothing back."""
        with suppress(TimeoutError):
            async with asyncio.timeout(act.for_s):
                while line.late_s:
                    await asyncio.sleep(0.1)
        if line.late_s:
            line.late_s = 0.0
            return
        await asyncio.sleep(act.amount + 0.2)
        if self._region.registry.up:
            self._check_acknowledged()

    async def _full(self, act: PlannedAct) -> None:
        machine = self._region.service(act.who).machine
        machine.full = True
        await asyncio.sleep(act.for_s)
        machine.full = False

    async def _skew(self, act: PlannedAct) -> None:
        service = self._region.service(act.who)
        self._record.skewed.add(act.who)
        self._trace.happened["skew"] += 1
        with self._region.apart(act.who):
            service.skew = service.clock.ahead = timedelta(seconds=act.amount)
            await asyncio.sleep(act.for_s)
            service.skew = service.clock.ahead = timedelta()

    async def _suspend(self, act: PlannedAct) -> None:
        registry = self._region.registry
        if not registry.up or act.who in self._record.suspended:
            return
        machine = registry.machine
        with self._region.may_fail(registry):
            await registry.app.members.suspend(act.who, "drill")
            if machine is registry.machine and machine.alive:
                self._record.suspended[act.who] = self._region.now()
                self._trace.happened["suspend"] += 1
        await asyncio.sleep(act.for_s)
        if act.amount and registry.up:
            self._record.suspended.pop(act.who, None)
            self._region.readmitted[act.who] = self._region.now()
            with self._region.may_fail(registry):
                await registry.app.members.readmit(act.who)
                self._trace.happened["readmit"] += 1

    # --- the end of a machine -------------------------------------------------------------------------------

    async def _crash(self, act: PlannedAct) -> None:
        service = self._region.service(act.who)
        if not service.up:
            return
        machine = service.machine
        with self._region.apart(act.who):
            if act.kind == "crash":
                machine.steps_left = int(act.amount)
                with suppress(TimeoutError):
                    async with asyncio.timeout(act.for_s + ARMED_S):
                        while machine.alive:
                            await asyncio.sleep(0.01)
            elif service.machine is machine and service.up:
                self._trace.happened["kill"] += 1
            if service.machine is machine and service.up:
                await self._end(service)
                await asyncio.sleep(act.for_s)
                await service.start()

    async def _end(self, service: Mortal[Any]) -> None:
        """Its machine stops; what the registry had acknowledged by then is in its database."""
        await service.crash()
        if service.name == REGISTRY:
            self._check_acknowledged()

    def _check_acknowledged(self) -> None:
        """What the registry acknowledged is in its database, unless that was restored."""
        if REGISTRY in self._record.forgetful:
            return
        index = self._region.folder / REGISTRY / "registry.db"
        for member in self._region.registry.app.members.all():
            node = self._region.folder / member.code / "node.db"
            if node.exists():
                invariants.check_acknowledged(index, node, member.code, int(member.id))

    # --- backups --------------------------------------------------------------------------------------------

    async def _backup(self, name: str) -> None:
        region, service = self._region, self._region.service(name)
        if not service.up:
            return
        target, begun = region.folder / f"{name}-backup-{region.now():.0f}", region.now()
        machine, seams = service.machine, service.app.seams
        with region.may_fail(service):
            if name == REGISTRY:
                await registry_backup.backup(region.folder / name, target, seams)
            else:
                await self._node_backup(region.nodes[name], target)
            if machine.alive:
                self._backups[name] = (target, begun)

    async def _node_backup(self, node: Mortal[Any], target: Path) -> None:
        app = node.app
        audit = app.seams.databases.embedded(app.folder / node_backup.AUDIT)
        try:
            vault = Vault(app.seams.files)
            await node_backup.backup(app.folder, app.archive, audit, target, vault, app.seams.workers)
        finally:
            await audit.close()

    async def _restore(self, act: PlannedAct) -> None:
        """The machine is lost; another is made from the last backup."""
        region, service = self._region, self._region.service(act.who)
        if not service.up or act.who not in self._backups:
            return
        source, as_of_s = self._backups[act.who]
        with region.apart(act.who):
            await self._end(service)
            await asyncio.sleep(act.for_s)
            folder = region.folder / act.who
            shutil.rmtree(folder)
            seams = virtual_seams(region.network, act.who, region.seed * 10_000 + 9_000 + service.lives)
            if act.who == REGISTRY:
                await registry_backup.restore(source, folder, seams)
            else:
                await node_backup.restore(source, folder, Vault(QuickFiles()), seams)
            self._record.restored(act.who, as_of_s)
            self._trace.fault(f"restore {'registry' if act.who == REGISTRY else 'node'}", act.who)
            await service.start()
            if act.who == REGISTRY:
                self._record.suspended = {
                    m.code: region.now() for m in service.app.members.all() if m.status == "suspended"
                }
