"""A region whose services may crash: its parts, what is recorded of it, and how an outsider asks it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import orjson
from aiohttp import ClientError, ClientSession

from crosslight.runtime.seams import Seams
from crosslight.standards.problem import CrosslightError
from node.app import NodeApp
from node.config import read_config as read_node_config
from node.setup import init_node, join_region
from registry.app import RegistryApp
from registry.config import read_config as read_registry_config
from registry.setup import init_registry
from simulations.faults.invariants import RunRecord
from simulations.faults.objects import NUMBERS, Image
from simulations.faults.plan import REGISTRY
from simulations.faults.services import Mortal
from simulations.virtual.region import network_here, node_values, registry_values, until
from simulations.virtual.seams import virtual_seams

SYSTEM = "https://fhir.nhs.uk/Id/nhs-number"
CLIENT = "client"
NEVER_S = float("inf")


class MortalRegion:
    """A registry and its nodes, on the running loop's network.

    Args:
        folder: Of everything.
        seed: Of ids, jitter and torn writes.
        codes: The members.
    """

    http: ClientSession

    def __init__(self, folder: Path, seed: int, codes: Sequence[str]) -> None:
        self.folder, self.seed, self.codes = folder, seed, tuple(codes)
        self.network = network_here()
        self.record = RunRecord()
        self.registry: Mortal[RegistryApp] = Mortal(REGISTRY, self.network, seed, self._registry)
        self.nodes: dict[str, Mortal[NodeApp]] = {
            code: Mortal(code, self.network, seed, lambda seams, code=code: self._node(code, seams))  # type: ignore[misc]  # bound now
            for code in codes
        }
        self._troubles = dict.fromkeys(codes, 0)
        self._whole_since = dict.fromkeys(codes, 0.0)
        self.readmitted = dict.fromkeys(codes, 0.0)

    def _registry(self, seams: Seams) -> RegistryApp:
        home = self.folder / REGISTRY
        return RegistryApp(home, read_registry_config(home), seams)

    def _node(self, code: str, seams: Seams) -> NodeApp:
        return NodeApp(self.folder / code, read_node_config(self.folder / code), seams)

    @property
    def services(self) -> list[Mortal[Any]]:
        """All of them, the registry first."""
        return [self.registry, *self.nodes.values()]

    def service(self, name: str) -> Mortal[Any]:
        """One of them."""
        return self.registry if name == REGISTRY else self.nodes[name]

    def now(self) -> float:
        """Seconds since the run began."""
        return asyncio.get_running_loop().time()

    # --- begin and end --------------------------------------------------------------------------------------

    async def begin(self) -> None:
        """All is up, joined and linked."""
        seams = virtual_seams(self.network, REGISTRY, self.seed)
        init_registry(self.folder / REGISTRY, seams.files, seams.ids, registry_values(self.network))
        await self.registry.start()
        self.http = virtual_seams(self.network, CLIENT, self.seed).http.client(read_timeout_s=30.0)
        for code, node in self.nodes.items():
            seams = virtual_seams(self.network, code, self.seed)
            init_node(self.folder / code, seams.files, node_values(self.network))
            registry = self.registry.app
            invitation = await registry.members.invite(code, registry.people_url, name=f"{code} Hospitals")
            await join_region(self.folder / code, invitation, seams)
            await node.start()
        await until(self.linked)

    async def linked(self) -> bool:
        """Whether every member can be reached."""
        members = self.registry.app.members
        return all(members.presence(m.id).reachable for m in members.all())

    async def end(self) -> None:
        """Everything stops."""
        await self.http.close()
        for service in reversed(self.services):
            await service.stop()

    # --- who can hear whom ----------------------------------------------------------------------------------

    @contextmanager
    def apart(self, name: str) -> Iterator[None]:
        """While a member's line, or one of its ends, is not whole; the registry's end is everybody's."""
        codes = self.codes if name == REGISTRY else (name,)
        for code in codes:
            self._troubles[code] += 1
        try:
            yield
        finally:
            for code in codes:
                self._troubles[code] -= 1
                self._whole_since[code] = self.now()

    def whole_since(self, code: str) -> float:
        """Since when node, line and registry are whole; never where they are not."""
        return NEVER_S if self._troubles[code] else self._whole_since[code]

    def hears_since(self, code: str) -> float:
        """Since when a node is told of others: a suspended one is not."""
        if code in self.record.suspended:
            return NEVER_S
        return max(self.whole_since(code), self.readmitted[code])

    @contextmanager
    def may_fail(self, service: Mortal[Any]) -> Iterator[None]:
        """Around what is asked of a service: it may refuse; one whose machine has gone raises anything."""
        machine = service.machine
        try:
            yield
        except (CrosslightError, OSError):
            pass
        except Exception:
            if machine.alive:
                raise

    # --- asked by an outsider -------------------------------------------------------------------------------

    async def get(self, url: str, **how: Any) -> tuple[int, bytes]:
        """Status and body; 0 where there is no answer."""
        with suppress(ClientError, TimeoutError):
            async with self.http.get(url, **how) as answer:
                return answer.status, await answer.read()
        return 0, b""

    async def bundle(self, person: int) -> Any:
        """A FHIR answer, or None where there is none."""
        if not self.registry.up:
            return None
        url = f"{self.registry.app.people_url}/fhir/ImagingStudy"
        status, body = await self.get(url, params={"patient.identifier": f"{SYSTEM}|{NUMBERS[person]}"})
        return orjson.loads(body) if status == 200 else None

    async def study(self, image: Image) -> tuple[int, bytes]:
        """A study through the gateway."""
        if not self.registry.up:
            return 0, b""
        return await self.get(f"{self.registry.app.people_url}/dicomweb/studies/{image.study_uid}")

    async def instance(self, image: Image) -> tuple[int, bytes]:
        """One object through the gateway."""
        path = f"dicomweb/studies/{image.study_uid}/series/{image.study_uid}.1/instances/{image.sop_uid}"
        return await self.get(f"{self.registry.app.people_url}/{path}")
