"""A registry and its nodes in one process on virtual time, made of the parts that production wires."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import orjson
from aiohttp import ClientSession

from crosslight.standards.ids import NHS_NUMBER_OID
from node.app import NodeApp
from node.config import read_config as read_node_config
from node.holdings import Received
from node.setup import init_node, join_region
from registry.app import RegistryApp
from registry.config import read_config as read_registry_config
from registry.setup import init_registry
from simulations.virtual.loop import VirtualLoop
from simulations.virtual.network import HOST, Network
from simulations.virtual.seams import virtual_seams

ROOT = "1.2.826.0.1.3680043.10.777"
REGISTRY, CLIENT = "registry", "client"
#: How long a directory holds, and how long after its end it is believed: short, so that runs see both ends;
#: longer than clocks are off.
DIRECTORY_S, GRACE_S = 1080.0, 36.0


@dataclass
class VirtualRegion:
    """What a test drives and looks at."""

    network: Network
    registry: RegistryApp
    http: ClientSession
    nodes: dict[str, NodeApp] = field(default_factory=dict)

    async def store(self, code: str, *files: bytes) -> None:
        """Objects come to a node, by its ingest stage."""
        archive = self.nodes[code].archive
        for data in files:
            staged = archive.stage()
            staged.write(data)
            await archive.ingest_async(staged, Received(road="import", peer="simulation"))

    async def get(self, path: str, **how: Any) -> tuple[int, bytes]:
        """Ask the registry, as an outsider would."""
        async with self.http.get(f"{self.registry.people_url}/{path}", **how) as response:
            return response.status, await response.read()

    async def json(self, path: str, **how: Any) -> Any:
        """A JSON answer."""
        return orjson.loads((await self.get(path, **how))[1])


async def until(
    condition: Callable[[], Awaitable[object]], within_s: float = 600.0, *, every_s: float = 0.05
) -> None:
    """Let time pass until ``condition`` holds, asked ``every_s``."""
    async with asyncio.timeout(within_s):
        while not await condition():
            await asyncio.sleep(every_s)


def network_here() -> Network:
    """The running loop's network."""
    return cast(Network, cast(VirtualLoop, asyncio.get_running_loop()).network)


@asynccontextmanager
async def virtual_region(folder: Path, codes: Sequence[str], seed: int) -> AsyncIterator[VirtualRegion]:
    """A registry and a node for each of ``codes``, joined, linked and at rest.

    Everything ends with the block.
    """
    network = network_here()
    seams = virtual_seams(network, REGISTRY, seed)
    home = folder / REGISTRY
    init_registry(home, seams.files, seams.ids, registry_values(network))
    async with AsyncExitStack() as stack:
        registry = RegistryApp(home, read_registry_config(home), seams)
        stack.push_async_callback(registry.stop)
        await registry.start()
        http = await stack.enter_async_context(virtual_seams(network, CLIENT, seed).http.client())
        region = VirtualRegion(network, registry, http)
        for code in codes:
            node = await _node(folder / code, network, registry, code, seed)
            stack.push_async_callback(node.stop)
            await node.start()
            region.nodes[code] = node

        async def linked() -> bool:
            members = registry.members
            return sum(members.presence(m.id).reachable for m in members.all()) == len(codes)

        await until(linked)
        yield region


async def _node(folder: Path, network: Network, registry: RegistryApp, code: str, seed: int) -> NodeApp:
    seams = virtual_seams(network, code, seed)
    init_node(folder, seams.files, node_values(network))
    invitation = await registry.members.invite(
        code, registry.people_url, name=f"{code} Hospitals NHS Foundation Trust"
    )
    await join_region(folder, invitation, seams)
    return NodeApp(folder, read_node_config(folder), seams)


def registry_values(network: Network) -> dict[str, Any]:
    """A registry's configuration in memory."""
    return {
        "region": {
            "name": "Virtual region",
            "home_community_id": f"{ROOT}.1",
            "authority": f"{ROOT}.2",
            "national_authority": NHS_NUMBER_OID,
            "allow_test_numbers": True,
        },
        "listen": {
            "host": HOST,
            "public_host": HOST,
            "people_port": network.new_port(),
            "grpc_port": network.new_port(),
            "mllp_port": network.new_port(),
            "systems_port": network.new_port(),
            "open": True,
        },
        "members": {"root_oid": f"{ROOT}.3", "directory_hours": DIRECTORY_S / 3600},
    }


def node_values(network: Network) -> dict[str, Any]:
    """A node's configuration in memory."""
    return {
        "listen": {
            "host": HOST,
            "public_host": HOST,
            "people_port": network.new_port(),
            "systems_port": network.new_port(),
            "open": True,
        },
        "dimse": {"enabled": False},
        "archive": {"min_free_bytes": 0},
        # a tunnel's connections are sockets of the machine
        "region": {"directory_grace_hours": GRACE_S / 3600, "reach": "direct"},
    }
