"""The demo's region on loopback: folders, ports, processes, and the hands that the story needs."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from crosslight.client.dicomweb import DicomwebClient
from crosslight.client.dimse import DimseClient
from crosslight.client.fhir import FhirClient
from crosslight.client.http import HttpClient, read, trusting
from crosslight.client.xds import XdsClient
from crosslight.runtime.clock import SystemIds
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.seams import system_seams
from crosslight.standards.problem import ConfigError, CrosslightError, OurError
from node.membership.state import RegionState
from node.setup import init_node, join_region
from registry import commands as registry_commands
from registry.config import read_config as read_registry_config
from registry.members.systems import NOTHING, asked_grants
from registry.setup import init_registry
from simulations.accounts import Account, make_accounts
from simulations.endpoints import ListedStudies
from simulations.layout import CALLING_AET, HOST, NodePorts, node_values, registry_values
from simulations.page import PageClient
from simulations.supervisor import Supervisor
from simulations.topology import MemberPlan, Topology

TOKEN_HOURS = 12
TOKEN_RENEW_S = 10 * 3600
START_TIMEOUT_S = 90


@dataclass
class DemoRegion:
    """A registry and its nodes as child processes; implements the story's ``World``."""

    topology: Topology
    data: Path
    port_base: int = 8600
    open_mode: bool = False
    restart_after_s: float = 20.0
    on_change: Callable[[], Awaitable[None]] | None = None
    supervisor: Supervisor = field(init=False)
    ledger: ListedStudies = field(init=False)
    tokens: dict[str, str] = field(default_factory=dict)  # by role, for the registry
    node_tokens: dict[str, dict[str, str]] = field(default_factory=dict)  # by member and role
    tokens_at: float = 0.0
    authorities: dict[str, str] = field(default_factory=dict)
    accounts: list[Account] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.data = self.data.resolve()
        self.files, self.ids = SystemFiles(), SystemIds()
        self.supervisor = Supervisor(restart_after_s=self.restart_after_s, on_change=self._changed)
        self.ledger = ListedStudies()

    async def _changed(self) -> None:
        if self.on_change is not None:
            await self.on_change()

    # --- where things are -----------------------------------------------------------------------------------

    @property
    def scheme(self) -> str:
        """http in the open demo."""
        return "http" if self.open_mode else "https"

    @property
    def scratch(self) -> Path:
        """For files that the story hands to commands."""
        return self.data / "scratch"

    @property
    def registry_folder(self) -> Path:
        """The registry's."""
        return self.data / "registry"

    @property
    def ledger_path(self) -> Path:
        """What is where."""
        return self.data / "ledger.json"

    def node_folder(self, code: str) -> Path:
        """A node's."""
        return self.data / "nodes" / code

    def ports(self, code: str) -> NodePorts:
        """A node's ports."""
        return NodePorts(self.port_base + 10 * (1 + self.topology.codes.index(code)))

    def all_ports(self) -> list[int]:
        """Every port of the region."""
        nodes = [
            p
            for code in self.topology.codes
            for n in (self.ports(code),)
            for p in (n.base, n.dimse, n.systems)
        ]
        return [*range(self.port_base, self.port_base + 4), *nodes]

    def plan_of(self, code: str) -> MemberPlan:
        """A member's description."""
        return self.topology.members[self.topology.codes.index(code)]

    @property
    def base(self) -> str:
        """The registry's people listener."""
        return f"{self.scheme}://{HOST}:{self.port_base}"

    @property
    def systems(self) -> str:
        """The registry's systems listener."""
        return f"{self.scheme}://{HOST}:{self.port_base + 3}"

    @property
    def ca(self) -> Path | None:
        """The region's CA bundle; None in the open demo."""
        return None if self.open_mode else self.registry_folder / "systems" / "ca.pem"

    @property
    def client_cert(self) -> Path | None:
        """The outside system's certificate."""
        return None if self.open_mode else self.registry_folder / "systems" / "demo-integrator.pem"

    @property
    def client_key(self) -> Path | None:
        """Its key."""
        return None if self.open_mode else self.registry_folder / "systems" / "demo-integrator.key"

    # --- making it ------------------------------------------------------------------------------------------

    def kept(self) -> bool:
        """Whether there is a finished region in the data folder.

        Raises:
            ConfigError: when it is another one than is asked for.
        """
        marker = self.data / "demo.json"
        if not marker.exists():
            return False
        kept = orjson.loads(marker.read_bytes())
        if kept != self._marker():
            raise ConfigError(
                f"{self.data} holds another demo ({kept.get('slug')}, ports from {kept.get('port_base')}).",
                todo="Give the same options, another --data, or remove it (make demo-clean).",
            )
        return True

    def _marker(self) -> dict[str, Any]:
        plain = {**self.topology.as_values(), "open": self.open_mode, "port_base": self.port_base}
        marker: dict[str, Any] = orjson.loads(orjson.dumps(plain))
        return marker

    async def make(self, say: Callable[[str], None]) -> None:
        """A fresh region: registry, invitations, nodes, joining."""
        self.accounts = make_accounts(self.topology, self.ids)
        say("registry: keys, certificate authority, configuration")
        init_registry(
            self.registry_folder,
            self.files,
            self.ids,
            registry_values(self.topology, self.port_base, self.accounts, open_mode=self.open_mode),
        )
        invitations = {}
        async with registry_commands.opened(self.registry_folder) as offline:
            for member in self.topology.members:
                invitations[member.code] = await offline.members.invite(
                    member.code, offline.people_url, name=member.name, hosts=(HOST, "localhost")
                )
            if not self.open_mode:
                await offline.members.systems.issue(
                    "demo-integrator", self.registry_folder / "systems", asked_grants(("find", "open"))
                )
        self._add_children()
        self.supervisor.start("registry")
        await self._ready("registry", self.base)
        for member in self.topology.members:
            say(f"{member.code} joins: {member.name}")
            init_node(
                self.node_folder(member.code),
                self.files,
                node_values(member, self.ports(member.code), open_mode=self.open_mode),
            )
            await join_region(self.node_folder(member.code), invitations[member.code], system_seams())

    def _add_children(self) -> None:
        logs = self.data / "logs"
        self.supervisor.add(
            "registry", "registry", ["--dir", str(self.registry_folder), "serve"], logs / "registry.log"
        )
        for code in self.topology.codes:
            self.supervisor.add(
                code, "node", ["--dir", str(self.node_folder(code)), "serve"], logs / f"{code}.log"
            )

    async def start_all(self, say: Callable[[str], None]) -> None:
        """Start every process, and wait until every member is live."""
        if not self._children_added():
            self._add_children()
        self.ledger = ListedStudies.read(self.ledger_path)
        self.accounts = self.accounts or self._kept_accounts()
        self.supervisor.start("registry")
        for code in self.topology.codes:
            self.supervisor.start(code)
        await self._ready("registry", self.base)
        await self.renew_tokens()
        for code in self.topology.codes:
            await self._ready(code, self.node_base(code))
            self.authorities[code] = RegionState(
                self.node_folder(code) / "region", self.files
            ).member.authority
        await self._all_live()
        say(f"{len(self.topology.codes)} nodes and the registry are up")
        self.files.write_atomic(self.data / "demo.json", orjson.dumps(self._marker()))

    def _children_added(self) -> bool:
        try:
            self.supervisor.child("registry")
        except KeyError:
            return False
        return True

    def _kept_accounts(self) -> list[Account]:
        config = read_registry_config(self.registry_folder)
        return [
            Account(a.user, a.password, a.roles[0], a.organisation, a.name)
            for a in config.access.demo.accounts
        ]

    async def renew_tokens(self) -> None:
        """Tokens for an app, a clinician, and what stores at each trust; for twelve hours."""
        self.tokens_at = time.monotonic()
        if self.open_mode:
            return
        clinician = next(a for a in self.accounts if a.role == "clinician")
        for role, user, organisation in (
            ("integrator", "demo-integrator", ""),
            ("clinician", clinician.user, clinician.organisation),
        ):
            for audience in ("", *self.topology.codes):
                # what stores at a trust reads there; what asks the registry reads, and no more
                may = asked_grants(("find", "open"), stores_at=audience) if role == "integrator" else NOTHING
                given = await registry_commands.issue_token(
                    self.registry_folder,
                    role=role,
                    user=user,
                    organisation=organisation,
                    hours=TOKEN_HOURS,
                    member=audience,
                    grants=may,
                )
                (self.node_tokens.setdefault(audience, {}) if audience else self.tokens)[role] = given

    async def _ready(self, name: str, base: str) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            self.supervisor.check_alive(name)
            try:
                async with (
                    HttpClient(trusting(self.ca)) as client,
                    client.request("GET", f"{base}/health/ready") as response,
                ):
                    if response.status == 200:
                        return
                    last = (await read(response)).decode("utf-8", "replace")[:200]
            except CrosslightError as error:
                last = str(error)
            if time.monotonic() > deadline:
                raise OurError(f"{name} was not ready within {START_TIMEOUT_S} s.", why=last)
            await asyncio.sleep(0.2)

    async def _all_live(self) -> None:
        """Wait for every member's link; one that an operator suspended is not waited for."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            async with self.fhir("integrator") as client:
                answer = await client.search("Organization")
            missing = [w for w in answer.warnings if "unreachable" in w and "suspended" not in w]
            if not missing:
                return
            if time.monotonic() > deadline:
                raise OurError("Not every member is live.", why="; ".join(missing))
            await asyncio.sleep(0.3)

    async def stop(self) -> None:
        """End every process."""
        await self.supervisor.stop()

    # --- the story's hands ----------------------------------------------------------------------------------

    def node_base(self, code: str) -> str:
        """A node's people listener."""
        return f"{self.scheme}://{HOST}:{self.ports(code).base}"

    def dimse(self, code: str) -> DimseClient:
        """A modality at ``code``."""
        return DimseClient(HOST, self.ports(code).dimse, called=code, calling=CALLING_AET)

    def node_dicomweb(self, code: str, role: str = "integrator") -> DicomwebClient:
        """DICOMweb of one node."""
        return DicomwebClient(
            f"{self.node_base(code)}/dicomweb",
            tls=trusting(self.ca),
            token=self.node_tokens.get(code, {}).get(role, ""),
        )

    def region_dicomweb(self, role: str = "clinician") -> DicomwebClient:
        """DICOMweb of the region."""
        return DicomwebClient(f"{self.base}/dicomweb", tls=trusting(self.ca), token=self.tokens.get(role, ""))

    def fhir(self, role: str = "clinician") -> FhirClient:
        """FHIR of the region."""
        return FhirClient(f"{self.base}/fhir", tls=trusting(self.ca), token=self.tokens.get(role, ""))

    def xds(self) -> XdsClient:
        """An XDS consumer with its certificate."""
        return XdsClient(tls=trusting(self.ca, self.client_cert, self.client_key))

    def xds_registry_url(self) -> str:
        """ITI-18, 42, 57, 62."""
        return f"{self.systems}/xds/registry"

    def page(self, organisation: str) -> PageClient:
        """The clinician's page, signed in for ``organisation``."""
        account = next(a for a in self.accounts if a.role == "clinician" and a.organisation == organisation)
        signed_in = None if self.open_mode else (account.user, account.password)
        return PageClient(self.base, trusting(self.ca), signed_in)

    def folders_but(self, code: str) -> list[Path]:
        """Folders of the registry and of every other member."""
        return [self.registry_folder, *(self.node_folder(c) for c in self.topology.codes if c != code)]

    def kill(self, code: str) -> None:
        """Pull a node's plug."""
        self.supervisor.kill(code)

    async def start(self, code: str) -> None:
        """Start a node again."""
        self.supervisor.start(code)
        await self._ready(code, self.node_base(code))
        await self._changed()

    def kill_registry(self) -> None:
        """Pull the registry's plug."""
        self.supervisor.kill("registry")

    async def start_registry(self) -> None:
        """Start the registry again."""
        self.supervisor.start("registry")
        await self._ready("registry", self.base)
        await self._changed()

    async def node_command(self, code: str, *arguments: str) -> str:
        """Run ``crosslight-node`` on a node's folder; its output.

        Raises:
            OurError: when it fails.
        """
        command = (sys.executable, "-m", "node", "--dir", str(self.node_folder(code)), *arguments)
        process = await asyncio.create_subprocess_exec(
            *command,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 120)
        if process.returncode != 0:
            raise OurError(
                f"crosslight-node {arguments[0]} failed at {code}.",
                why=output.decode("utf-8", "replace")[-600:],
            )
        return output.decode("utf-8", "replace")

    def save_ledger(self) -> None:
        """Keep what is where."""
        self.ledger.save(self.ledger_path, self.files)
