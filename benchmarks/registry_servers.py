"""The servers that the registry's benchmark asks: a registry and a floor, each on SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from benchmarks.options import Options
from benchmarks.peers import HOST, child, free_ports, module
from crosslight.runtime.clock import SystemIds
from crosslight.runtime.db import Tx
from crosslight.runtime.files import SystemFiles
from crosslight.standards.ids import MemberId
from crosslight.standards.membership import Invitation
from registry import commands
from registry.members.model import Member
from registry.setup import init_registry
from tests import registry_samples as samples

FLOOR = (
    "The floor, on the same database, is a bare aiohttp handler that reads 20 rows by an index, commits one"
    " row for the act (D20), and sends the same bytes; or lxml's parse and one transaction of one row; for"
    " the feed protobuf's parse and one transaction of bare rows."
)
CODES = samples.CODES[:4]
HOME = "2.25.90210000000000000000000000000001"


@dataclass(slots=True)
class Server:
    """A registry or a floor over one database."""

    name: str
    port: int
    grpc_port: int
    pids: list[int]
    url: str  # of the database
    folder: Path
    members: tuple[Member, ...] = ()

    @property
    def host(self) -> str:
        """The Host header."""
        return f"{HOST}:{self.port}"


async def servers_of(options: Options, stack: AsyncExitStack, dsn: str) -> dict[str, Server]:
    """Start a registry and a floor on each engine; by name, ``floor …`` for the floors."""
    cluster = Path(parse_qs(urlsplit(dsn).query)["host"][0])
    postmaster = int((cluster / "data" / "postmaster.pid").read_text().split()[0])
    servers = {}
    base = free_ports(60)
    for i, engine in enumerate(("SQLite", "PostgreSQL")):
        folder, port = options.folder / f"registry-{engine.lower()}", base + 20 * i
        url = "sqlite:registry.db" if engine == "SQLite" else dsn
        members = await _make(folder, port, url)
        log = folder / "log"
        pid = await stack.enter_async_context(
            child(module("registry", "--dir", str(folder), "serve"), port, log)
        )
        database = [postmaster] if engine == "PostgreSQL" else []
        servers[engine] = Server(engine, port, port + 1, [pid, *database], url, folder, members)
        floor_url = f"sqlite:{folder / 'floor.db'}" if engine == "SQLite" else dsn
        command = module("benchmarks.floor", str(port + 10), floor_url)
        floor = await stack.enter_async_context(child(command, port + 10, folder / "floor.log"))
        servers[f"floor {engine}"] = Server(
            f"floor {engine}", port + 10, port + 11, [floor, *database], floor_url, folder
        )
    return servers


async def _make(folder: Path, port: int, url: str) -> tuple[Member, ...]:
    """A registry's folder with four members that have joined."""
    values = {
        "region": {
            "name": "Bench",
            "home_community_id": f"{HOME}.1",
            "authority": f"{HOME}.2",
            "national_authority": samples.NHS,
            "allow_test_numbers": True,
        },
        "listen": {
            "host": HOST,
            "public_host": HOST,
            "people_port": port,
            "grpc_port": port + 1,
            "mllp_port": port + 2,
            "systems_port": port + 3,
            "open": True,
        },
        "database": {"url": url, "audit_url": url if url.startswith("postgres") else "sqlite:audit.db"},
        "members": {"root_oid": HOME},
        "log": {"json": False},
    }
    init_registry(folder, SystemFiles(), SystemIds(), values)
    async with commands.opened(folder) as offline:
        members = []
        for code in CODES:
            name = f"{code} Hospitals NHS Foundation Trust"
            invitation = await offline.members.invite(code, offline.people_url, name=name)
            secret_of_invitation = Invitation.parse(invitation).secret
            joined = (await offline.members.store.use_invitation(secret_of_invitation, 0)).member
            # the same in both registries, so that the same feed suits both
            secret = hashlib.sha256(code.encode())
            await offline.db.write("secret", partial(_set_secret, joined.id, secret.hexdigest()))
            members.append(replace(joined, secret=secret.digest()))
    return tuple(members)


def _set_secret(member: MemberId, secret: str, tx: Tx) -> None:
    tx.execute("UPDATE member SET secret = ? WHERE id = ?", (secret, member))
