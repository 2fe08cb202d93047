"""A real registry and one node in this process, with TLS and authentication: for tests of who is let in."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from ports import free_ports
from whole_region import FILES, HOST, IDS, PACE, ROOT, until

from crosslight.runtime.seams import system_seams
from crosslight.runtime.service_life import Life
from crosslight.runtime.tls import Credentials, client_context
from crosslight.standards.ids import NHS_NUMBER_OID, Oid
from node.app import NodeApp
from node.config import read_config as read_node_config
from node.membership.join import new_request
from node.setup import init_node, join_region
from registry.app import RegistryApp
from registry.config import read_config as read_registry_config
from registry.members.ca import CertificateAuthority
from registry.setup import init_registry

CODE = "RTK"
ACCOUNT = {"user": "dr.amos", "password": "light-box", "name": "Dr A. Amos", "organisation": CODE}


@dataclass
class TlsRegion:
    """A registry and its one node."""

    folder: Path
    registry: RegistryApp
    node: NodeApp

    @property
    def bundle(self) -> Path:
        """The authority that both are known by."""
        return self.registry.members.ca.bundle

    def stranger(self) -> ssl.SSLContext:
        """A client whose certificate, of another authority, says that it is a member of the region."""
        clock, community = system_seams().clock, Oid(f"{ROOT}.1")
        ca = CertificateAuthority(self.folder / "other", community, "Other", clock, IDS, FILES)
        ca.open()
        key, request = new_request(CODE, IDS)
        chain = ca.member(request, CODE, ("localhost",), timedelta(hours=1)).chain_pem
        FILES.write_atomic(self.folder / "stranger.pem", key + chain)
        return client_context(self.bundle, self.folder / "stranger.pem")

    def anybody(self) -> ssl.SSLContext:
        """A client without a certificate."""
        return client_context(self.bundle)

    def member(self) -> ssl.SSLContext:
        """The node's own certificate."""
        credentials: Credentials = self.node.membership.credentials
        return client_context(self.bundle, credentials.cert, credentials.key)


@asynccontextmanager
async def tls_region(
    folder: Path, *, registry: Mapping[str, Any] | None = None, node: Mapping[str, Any] | None = None
) -> AsyncIterator[TlsRegion]:
    """Both, linked. ``registry`` and ``node`` are more sections of their configurations."""
    people, grpc, mllp, systems, node_people, node_systems, dicom = free_ports(7)
    listen = {"host": HOST, "public_host": "localhost"}
    init_registry(
        folder / "registry",
        FILES,
        IDS,
        {
            "region": {
                "name": "Test region",
                "home_community_id": f"{ROOT}.1",
                "authority": f"{ROOT}.2",
                "national_authority": NHS_NUMBER_OID,
                "allow_test_numbers": True,
            },
            "listen": {
                **listen,
                "people_port": people,
                "grpc_port": grpc,
                "mllp_port": mllp,
                "systems_port": systems,
            },
            "members": {"root_oid": f"{ROOT}.3", "poll_s": 0.2, "heartbeat_s": 0.5},
            "access": {"demo": {"enabled": True, "accounts": [ACCOUNT]}},
            **(registry or {}),
        },
    )
    async with Life() as life:
        app = RegistryApp(folder / "registry", read_registry_config(folder / "registry"))
        life.stops(app)
        await app.start()
        invitation = await app.members.invite(CODE, app.people_url, name="Test Trust", hosts=("localhost",))
        home = folder / "node"
        init_node(
            home,
            FILES,
            {
                "listen": {**listen, "people_port": node_people, "systems_port": node_systems},
                "dimse": {"host": HOST, "port": dicom},
                "archive": {"min_free_bytes": 0},
                "publish": dict(PACE),
                "region": {"heartbeat_s": 0.5, "reconnect_min_s": 0.05, "reconnect_max_s": 0.5},
                **(node or {}),
            },
        )
        await join_region(home, invitation, system_seams())
        one = NodeApp(home, read_node_config(home))
        life.stops(one)
        await one.start()
        await until(lambda: _linked(app))
        yield TlsRegion(folder, app, one)


async def _linked(app: RegistryApp) -> bool:
    return all(app.members.presence(member.id).reachable for member in app.members.all())
