"""A registry and real nodes in this process with TLS and sign-in, for attacks; a member's own listener may be
replaced by one that answers whatever a test wants, with that member's real certificate.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, web
from cutting_proxy import CuttingProxy
from node_serving import part10
from ports import free_ports
from pydicom.dataset import Dataset
from whole_region import FILES, HOST, IDS, PACE, ROOT, until

from crosslight.runtime.http import client_session
from crosslight.runtime.seams import system_seams
from crosslight.runtime.tls import client_context
from crosslight.standards.access import Principal
from crosslight.standards.ids import NHS_NUMBER_OID
from crosslight.standards.membership import Endpoints
from node.app import NodeApp
from node.config import read_config as read_node_config
from node.holdings import Received
from node.membership.joined import RegionConnection
from node.setup import init_node, join_region
from registry.app import RegistryApp
from registry.config import read_config as read_registry_config
from registry.setup import init_registry

CLINICIAN = Principal(subject="dr.who", name="Dr Who", roles=frozenset({"clinician"}), organisation="RTK")


@dataclass
class Closed:
    """A closed region, and a clinician's session with its registry."""

    folder: Path
    registry: RegistryApp
    http: ClientSession
    nodes: dict[str, NodeApp] = field(default_factory=dict)

    @property
    def base(self) -> str:
        """The registry's people listener."""
        return self.registry.people_url

    def people(self, node: NodeApp) -> str:
        """A node's people listener."""
        return node.endpoints.base

    async def add(self, code: str, *files: Dataset) -> None:
        """Receive objects at a member, and wait until they are published."""
        node = self.nodes[code]
        for ds in files:
            staged = node.archive.stage()
            staged.write(part10(ds))
            result = await node.archive.ingest_async(staged, Received(road="import", peer="test"))
            assert result.state == "stored", result
        await node.archive.study_uids()  # rows that follow their objects are there (ADR 0051)

        async def published() -> bool:
            status = await node.publisher.status()
            assert status.parked == 0, await node.publisher.parked()
            return status.waiting == 0 and node.publisher.reviser.settled and not status.held_up

        await until(published)

    async def says(self, code: str, **claims: str) -> Endpoints:
        """Have a member say these addresses of itself; what the registry then believes."""
        connection = self.nodes[code].connection
        assert isinstance(connection, RegionConnection)
        link = connection.link
        link.endpoints = replace(link.endpoints, aet=IDS.uuid4().hex[:16], **claims)
        link.certificate_changed()

        async def heard() -> bool:
            found = self.registry.members.by_code(code)
            return found is not None and found.endpoints.aet == link.endpoints.aet

        await until(heard)
        member = self.registry.members.by_code(code)
        assert member is not None
        return member.endpoints

    @asynccontextmanager
    async def rogue(self, code: str, answer: Any, *, port: int = 0) -> AsyncIterator[int]:
        """A listener with a member's real certificate that gives ``answer`` to everything; its port."""
        credentials = self.nodes[code].membership.credentials
        assert credentials is not None
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, port, ssl_context=credentials.server(mutual=True)).start()
            yield int(runner.addresses[0][1])
        finally:
            await runner.cleanup()


def _values(ports: list[int], members: dict[str, Any], listen: dict[str, Any]) -> dict[str, Any]:
    return {
        "region": {
            "name": "Test region",
            "home_community_id": f"{ROOT}.1",
            "authority": f"{ROOT}.2",
            "national_authority": NHS_NUMBER_OID,
            "allow_test_numbers": True,
        },
        "listen": {
            "host": HOST,
            "public_host": HOST,
            **listen,
            **dict(zip(("people_port", "grpc_port", "mllp_port", "systems_port"), ports, strict=True)),
        },
        "members": {"root_oid": f"{ROOT}.3", "poll_s": 0.2, "heartbeat_s": 0.5, **members},
        "access": {"demo": {"enabled": True}},
    }


@asynccontextmanager
async def closed_region(
    folder: Path,
    codes: Iterable[str] = ("RTK", "RYR"),
    *,
    members: dict[str, Any] | None = None,
    listen: dict[str, Any] | None = None,
    more: dict[str, Any] | None = None,
    nodes: dict[str, Any] | None = None,
    through: CuttingProxy | None = None,
) -> AsyncIterator[Closed]:
    """A registry and a node for each code; all over TLS, on this machine.

    Args:
        members: More of the registry's [members].
        listen: More of everybody's [listen].
        more: Other sections of the registry's, in place of what they are here.
        nodes: More of the nodes' [region]; without it their own addresses are the only road to them.
        through: Lies between the nodes and the registry's port for members.
    """
    where = folder / "registry"
    values = _values(free_ports(4), {"loopback": True, **(members or {})}, listen or {}) | (more or {})
    init_registry(where, FILES, IDS, values)
    async with AsyncExitStack() as stack:
        registry = RegistryApp(where, read_registry_config(where), system_seams())
        stack.push_async_callback(registry.stop)
        await registry.start()
        token = registry.parts.access.tokens.issue_access_token(CLINICIAN)
        http = await stack.enter_async_context(client_session(client_context(where / "ca" / "ca.pem")))
        http.headers["Authorization"] = f"Bearer {token}"
        region = Closed(folder, registry, http)
        if through is not None:
            through.port = registry.config.listen.grpc_port
        for code in codes:
            region.nodes[code] = node = await _node(
                folder / code, registry, code, listen or {}, nodes or {}, through
            )
            stack.push_async_callback(node.stop)
        await until(lambda: _live(registry, len(region.nodes)))
        yield region


async def _live(registry: RegistryApp, count: int) -> bool:
    return sum(registry.members.presence(m.id).reachable for m in registry.members.all()) == count


async def _node(
    folder: Path,
    registry: RegistryApp,
    code: str,
    listen: dict[str, Any],
    region: dict[str, Any],
    through: CuttingProxy | None,
) -> NodeApp:
    people, systems = free_ports(2)
    values: dict[str, Any] = {
        "listen": {
            "host": HOST,
            "public_host": HOST,
            "people_port": people,
            "systems_port": systems,
            **listen,
        },
        "dimse": {"enabled": False},
        "archive": {"min_free_bytes": 0},
        "publish": dict(PACE),
        "region": {
            "heartbeat_s": 0.5,
            "reconnect_min_s": 0.05,
            "reconnect_max_s": 0.5,
            "reach": "direct",
            **region,
        },
    }
    init_node(folder, FILES, values)
    invitation = await registry.members.invite(
        code, registry.people_url, name=f"{code} Hospitals", hosts=(HOST, "localhost")
    )
    state = await join_region(folder, invitation, system_seams())
    if through is not None:
        state.registry = replace(state.registry, grpc=through.address)
        state.save()
    node = NodeApp(folder, read_node_config(folder), system_seams())
    await node.start()
    return node
