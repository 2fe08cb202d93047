"""The servers that the registry's benchmark asks: a registry and a floor, each on SQLite and PostgreSQL."""

from __future__ import annotations

import hashlib
import ssl
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from benchmarks.options import Options
from benchmarks.peers import HOST, child, free_ports, module
from crosslight.runtime.clock import SystemIds
from crosslight.runtime.db import Tx
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.tls import client_context
from crosslight.standards.ids import MemberId
from crosslight.standards.membership import Invitation
from node.membership.join import new_request
from registry import commands
from registry.config import FILE
from registry.members.join import issue_member
from registry.members.model import Member
from registry.members.systems import asked_grants
from registry.setup import init_registry
from tests import registry_samples as samples

FLOOR = (
    "The floor, on the same database, is a bare aiohttp handler that reads 20 rows by an index, commits one"
    " row for the act (D20), and sends the same bytes; or lxml's parse and one transaction of one row; for"
    " the feed protobuf's and JSON's parse and one transaction of bare rows."
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
    running: AsyncExitStack = field(default_factory=AsyncExitStack)  # its process

    @property
    def host(self) -> str:
        """The Host header."""
        return f"{HOST}:{self.port}"

    @property
    def is_floor(self) -> bool:
        """Whether it is a floor."""
        return not self.members


@dataclass(frozen=True, slots=True)
class BothWays:
    """A registry that asks who calls, with a listener beside it that lets everybody in: one process.

    Attributes:
        people: Its port for people, over TLS.
        systems: Its port for systems, over mutual TLS.
        plain: The port that lets everybody in.
        token: A clinician's.
        as_system: Calls as a system that may search, as a member.
    """

    people: int
    systems: int
    plain: int
    pids: list[int]
    token: str
    trusting: ssl.SSLContext
    as_system: ssl.SSLContext
    as_member: ssl.SSLContext


async def secured(server: Server) -> BothWays:
    """Start a registry again over what it holds, closed."""
    await server.running.aclose()
    folder = server.folder
    config = folder / FILE
    config.write_text(config.read_text("utf-8").replace("\nopen = true\n", "\nopen = false\n", 1), "utf-8")
    ca, tls = folder / "ca" / "ca.pem", folder / "bench"
    token = await commands.issue_token(folder, role="clinician", user="bench", organisation=CODES[0])
    plain = server.port + 7
    command = module("benchmarks.unsecured", "open-registry", str(folder), str(plain - 1))
    pid = await server.running.enter_async_context(child(command, plain, folder / "log"))
    return BothWays(
        people=server.port,
        systems=server.port + 3,
        plain=plain,
        pids=[pid, *server.pids[1:]],
        token=token,
        trusting=client_context(ca),
        as_system=client_context(ca, tls / "bench.pem", tls / "bench.key"),
        as_member=client_context(ca, tls / "member.pem"),
    )


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
        running = await stack.enter_async_context(AsyncExitStack())
        pid = await running.enter_async_context(
            child(module("registry", "--dir", str(folder), "serve"), port, log)
        )
        database = [postmaster] if engine == "PostgreSQL" else []
        servers[engine] = Server(engine, port, port + 1, [pid, *database], url, folder, members, running)
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
            row = await offline.members.store.use_invitation(secret_of_invitation, 0)
            joined = row.member
            if not members:
                key, request = new_request(code, SystemIds())
                (folder / "bench").mkdir()
                chain = await issue_member(offline.members, row, request)
                (folder / "bench" / "member.pem").write_bytes(key + chain)
            # the same in both registries, so that the same feed suits both
            secret = hashlib.sha256(code.encode())
            await offline.db.write("secret", partial(_set_secret, joined.id, secret.hexdigest()))
            members.append(replace(joined, secret=secret.digest()))
        await offline.members.systems.issue("bench", folder / "bench", asked_grants(("find",)))
    return tuple(members)


def _set_secret(member: MemberId, secret: str, tx: Tx) -> None:
    tx.execute("UPDATE member SET secret = ? WHERE id = ?", (secret, member))
