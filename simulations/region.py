"""The demo's region on loopback: folders, ports, processes, and the hands that the story needs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from crosslight.client.dicomweb import DicomwebClient
from crosslight.client.dimse import DimseClient
from crosslight.client.fhir import FhirClient
from crosslight.client.http import trusting
from crosslight.client.xds import XdsClient
from crosslight.runtime.clock import SystemIds
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.seams import system_seams
from crosslight.standards.problem import OurError
from node.membership.state import RegionState
from node.setup import init_node, join_region
from registry import commands as registry_commands
from registry.config import read_config as read_registry_config
from registry.members.systems import asked_grants
from registry.setup import init_registry
from simulations.accounts import Account, make_accounts
from simulations.commands import run_command
from simulations.endpoints import ListedStudies
from simulations.health import START_TIMEOUT_S, Health, healthy
from simulations.kept import MARKER, is_kept
from simulations.layout import CALLING_AET, HOST, NodePorts, node_values, registry_values
from simulations.loading import Loading
from simulations.orders import Order, Orders
from simulations.page import PageClient
from simulations.supervisor import Supervisor
from simulations.tokens import issue_tokens
from simulations.topology import MemberPlan, Topology
from simulations.upstreams.patient_administration import PatientAdministration, fed_by, pas_name
from simulations.upstreams.upstreams import ArchivesGround, Upstreams

TOKEN_RENEW_S = 10 * 3600


@dataclass
class DemoRegion:
    """A registry and its nodes as child processes; implements the story's ``World``."""

    topology: Topology
    data: Path
    port_base: int = 8600
    open_mode: bool = False
    restart_after_s: float = 20.0
    on_change: Callable[[], Awaitable[None]] | None = None
    foreign: bool = False  # beside archives of others
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
        self.orders = Orders(self.data / "orders")
        self.supervisor = Supervisor(
            restart_after_s=self.restart_after_s, on_change=self._changed, orders=self.orders
        )
        self.ledger = ListedStudies()
        self.upstreams: Upstreams | None = None
        if self.foreign:
            ground = ArchivesGround(
                folder=self.data / "archives",
                node_folder=self.node_folder,
                ports=self.ports,
                logs=self.data / "logs",
                supervisor=self.supervisor,
                files=self.files,
                ids=self.ids,
            )
            self.upstreams = Upstreams(self.topology, ground)
        self.loading = Loading(
            dimse=self.dimse,
            upstreams=self.upstreams,
            administration=PatientAdministration(
                HOST, self.port_base + 2, self.topology.national.authority, self.ids
            ),
            authorities=self.authorities,
            systems=None if self.open_mode else self.registry_folder / "systems",
        )

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
        others = self.upstreams.ports if self.upstreams is not None else []
        return [*range(self.port_base, self.port_base + 4), *nodes, *others]

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
        return is_kept(self.data, self._marker())

    def _marker(self) -> dict[str, Any]:
        plain = {**self.topology.as_values(), "open": self.open_mode, "port_base": self.port_base}
        if self.upstreams is not None:
            plain["archives"] = self.upstreams.keys
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
            registry_values(self.topology, self.port_base, self.accounts, open_mode=self.open_mode)
            | fed_by(self.upstreams.fed if self.upstreams else (), open_mode=self.open_mode),
        )
        invitations = {}
        async with registry_commands.opened(self.registry_folder) as offline:
            for member in self.topology.members:
                invitations[member.code] = await offline.members.invite(
                    member.code, offline.people_url, name=member.name, hosts=(HOST, "localhost")
                )
            if not self.open_mode:
                systems, folder = offline.members.systems, self.registry_folder / "systems"
                await systems.issue("demo-integrator", folder, asked_grants(("find", "open")))
                for code in self.upstreams.fed if self.upstreams is not None else ():
                    fed = offline.members.by_code(code)
                    authority = fed.authority if fed is not None else ""
                    feeds = (authority, self.topology.national.authority)
                    await systems.issue(pas_name(code), folder, asked_grants(feeds=feeds))
        self._add_children()
        self.supervisor.start("registry")
        await self._ready("registry", self.base)
        for member in self.topology.members:
            say(f"{member.code} joins: {member.name}")
            init_node(
                self.node_folder(member.code),
                self.files,
                self._node_values(member),
            )
            await join_region(self.node_folder(member.code), invitations[member.code], system_seams())

        if self.upstreams is not None:
            await self.upstreams.make(say)

    def _node_values(self, member: MemberPlan) -> dict[str, Any]:
        values = node_values(member, self.ports(member.code), open_mode=self.open_mode)
        return values | (self.upstreams.node_values(member.code) if self.upstreams is not None else {})

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
        self.accounts = self.accounts or self.kept_accounts()
        self.supervisor.start("registry")
        if self.upstreams is not None:
            await self.upstreams.start()
        for code in self.topology.codes:
            self.supervisor.start(code)
        await self.meet()
        say(f"{len(self.topology.codes)} nodes and the registry are up")
        self.files.write_atomic(self.data / MARKER, orjson.dumps(self._marker()))

    async def meet(self) -> None:
        """Wait until all that was started is live, and get tokens of it."""
        await self._ready("registry", self.base)
        await self.renew_tokens()
        for code in self.topology.codes:
            await self._ready(code, self.node_base(code))
            self.authorities[code] = RegionState(
                self.node_folder(code) / "region", self.files
            ).member.authority
        await self._all_live()

    def _children_added(self) -> bool:
        try:
            self.supervisor.child("registry")
        except KeyError:
            return False
        return True

    def kept_accounts(self) -> list[Account]:
        """The sign-ins of the region that was made before."""
        config = read_registry_config(self.registry_folder)
        return [
            Account(a.user, a.password, a.roles[0], a.organisation, a.name)
            for a in config.access.demo.accounts
        ]

    async def renew_tokens(self) -> None:
        """Tokens of :func:`issue_tokens`, anew."""
        self.tokens_at = time.monotonic()
        if self.open_mode:
            return
        self.node_tokens = await issue_tokens(self.registry_folder, self.accounts, self.topology.codes)
        self.tokens = self.node_tokens.pop("")

    async def _ready(self, name: str, base: str, until: Health = "ready") -> None:
        await healthy(self.supervisor, name, base, self.ca, until)

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

    def order(self, code: str, order: Order) -> None:
        """Say what holds for a node from its next start on."""
        self.orders.give(code, order)

    async def start(self, code: str, *, until: Health = "ready") -> None:
        """Start a node again; ``live`` is for one that cannot be ready: it only has to answer."""
        self.supervisor.start(code)
        await self._ready(code, self.node_base(code), until)
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
        return await run_command("node", self.node_folder(code), *arguments)

    async def registry_command(self, *arguments: str) -> str:
        """Run ``crosslight-registry`` as the region's operator does; its output.

        Raises:
            OurError: when it fails.
        """
        return await run_command("registry", self.registry_folder, *arguments)

    def save_ledger(self) -> None:
        """Keep what is where."""
        self.ledger.save(self.ledger_path, self.files)
