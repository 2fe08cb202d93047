"""``crosslight demo``: a region on one machine, its story, and then the region for as long as you like."""

from __future__ import annotations

import asyncio
import signal
import time
from contextlib import suppress
from dataclasses import dataclass
from datetime import date
from pathlib import Path

from rich.console import Console
from rich.panel import Panel
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from crosslight.client.http import HttpClient, trusting
from crosslight.standards.problem import CrosslightError
from simulations.addresses import endpoints_of
from simulations.bring_up import bring_up, claim_places
from simulations.endpoints import write_endpoints
from simulations.folder_claim import FolderClaim
from simulations.foreign_plan import make_foreign_chapter
from simulations.foreign_story import FOREIGN_STEPS
from simulations.layout import CALLING_AET, HOST, WORKSTATION_AET, WORKSTATION_AFTER
from simulations.plan import Chapter, make_chapter
from simulations.region import TOKEN_RENEW_S, DemoRegion
from simulations.story import STEPS, Step
from simulations.topology import Topology
from simulations.upstreams.upstreams import Upstreams
from simulations.watch import Watch
from simulations.world import StoryError

LOOK_S = 2.0  # how often what the nodes hold is compared with the endpoints file
OPEN_BANNER = (
    "[bold]OPEN DEMO: no sign-in, no TLS, on every port.[/bold]\n"
    "For pointing ordinary tools at it, on this machine only. Never put anything real into it."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoOptions:
    """What the command line said."""

    topology: Topology
    data: Path
    port_base: int
    once: bool
    open_mode: bool
    json_path: Path | None
    restart_after_s: float
    foreign: bool = False


class Demo:
    """One run of the command."""

    def __init__(self, options: DemoOptions, console: Console) -> None:
        self.options, self.console = options, console
        self.region = DemoRegion(
            topology=options.topology,
            data=options.data,
            port_base=options.port_base,
            open_mode=options.open_mode,
            restart_after_s=options.restart_after_s,
            on_change=self._rewrite,
            foreign=options.foreign,
        )
        self._folder = FolderClaim()
        self._told = False  # the endpoints file is written only once the story is over

    async def run(self) -> int:
        """Play, show, wait; the exit status."""
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, stop.set)
        main = asyncio.create_task(self._main(stop))
        waiter = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({main, waiter}, return_when=asyncio.FIRST_COMPLETED)
            if main.done():
                return await main
            self.console.print("\nEnding …")
            main.cancel()
            with suppress(asyncio.CancelledError):
                await main
            return 0 if self._told else 130
        finally:
            waiter.cancel()
            await self.region.stop()

    async def _main(self, stop: asyncio.Event) -> int:
        if self.options.open_mode:
            self.console.print(Panel(OPEN_BANNER, border_style="bold red", title="--open"))
        try:
            if self.region.upstreams is not None:
                self.region.upstreams.check_installed()
            fresh = await claim_places(self.region, self._folder)
            if self.options.json_path is not None:
                # an earlier run's pids would mislead who waits for this one's
                self.options.json_path.unlink(missing_ok=True)
            await self._bring_up(fresh)
            if fresh or self.options.once or self.region.ledger.chapters == 0:
                await self._tell()
        except CrosslightError as error:
            self._failed(error)
            return 1
        async with HttpClient(trusting(self.region.ca)) as http:
            watch = Watch(self.region, http)
            if await watch.look():  # somebody had a hand in the kept state
                self.region.save_ledger()
            self._told = True
            await self._rewrite()
            self._show()
            if self.options.once:
                return 0
            self.console.print("\nThe region stays up. Ctrl-C ends it; its state is kept.")
            await self._stay(stop, watch)
        return 0

    async def _bring_up(self, fresh: bool) -> None:
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        ) as bar:
            task = bar.add_task("Starting the region …")

            def say(text: str) -> None:
                bar.update(task, description=text)

            await bring_up(self.region, self._folder, say, fresh=fresh)
        self.console.print(
            f"[green]✓[/green] {self.region.supervisor.running} processes are up:"
            f" {self.options.topology.name}"
        )

    async def _tell(self) -> None:
        number = self.region.ledger.chapters + 1
        make = make_foreign_chapter if self.options.foreign else make_chapter
        chapter = make(self.options.topology, self.region.authorities, number, date.today())
        for step in FOREIGN_STEPS if self.options.foreign else STEPS:
            await self._play(step, chapter)
        self.region.ledger.chapters = number
        self.region.save_ledger()

    async def _play(self, step: Step, chapter: Chapter) -> None:
        title = f"{step.number}. {step.title}"
        lines: list[str] = []
        started = time.monotonic()
        with Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=self.console,
            transient=True,
        ) as bar:
            task = bar.add_task(title)

            def say(text: str) -> None:
                lines.append(text)
                bar.update(task, description=f"{title} — {text}")

            try:
                await step.play(self.region, chapter, say)
            except CrosslightError as error:
                error.where = error.where or f"step {step.number}"
                raise StoryError(
                    f"Step {step.number} failed: {error.what}", why=error.why, todo=error.todo
                ) from error
            finally:
                self.region.save_ledger()
        self.console.print(f"[green]✓[/green] [bold]{title}[/bold] ({time.monotonic() - started:.1f} s)")
        for line in lines:
            self.console.print(f"    {line}", markup=False, highlight=False)

    def _failed(self, error: CrosslightError) -> None:
        self.console.print(f"[bold red]✗ {error.what}[/bold red]")
        for part in (error.why, error.todo):
            if part:
                self.console.print(f"    {part}", markup=False)
        self.console.print(f"    Logs: {self.region.data / 'logs'}", markup=False)

    async def _rewrite(self) -> None:
        if self._told and self.options.json_path is not None:
            write_endpoints(self.options.json_path, endpoints_of(self.region), self.region.files)

    async def _stay(self, stop: asyncio.Event, watch: Watch) -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), LOOK_S)
            if await watch.look():
                self.region.save_ledger()
                await self._rewrite()
            if time.monotonic() - self.region.tokens_at > TOKEN_RENEW_S:
                await self.region.renew_tokens()
                await self._rewrite()

    # --- the table ------------------------------------------------------------------------------------------

    def _show(self) -> None:
        self.console.print(_members_table(self.region))
        if self.region.upstreams is not None:
            self.console.print(_archives_table(self.region, self.region.upstreams))
        self.console.print(_patients_table(self.region))
        self.console.print(_addresses_table(self.region))
        if not self.options.open_mode:
            self.console.print(_sign_ins_table(self.region))


def _members_table(region: DemoRegion) -> Table:
    callers = "any AE title" if region.open_mode else f"the AE title {CALLING_AET}"
    note = (
        f"The nodes take DICOM associations from {callers} on this machine."
        f" {WORKSTATION_AET} may find and fetch; C-MOVE sends to it at the DIMSE port + {WORKSTATION_AFTER}."
    )
    table = Table(title="What is where", title_justify="left", caption=note, caption_justify="left")
    for name in ("Member", "AE title", "DIMSE", "DICOMweb", "Road", "Studies", "Images"):
        table.add_column(name, justify="right" if name in ("Studies", "Images") else "left", overflow="fold")
    for member in region.topology.members:
        studies = [s for s in region.ledger.held() if s["node"] == member.code]
        images = sum(s["instances"] for s in studies)
        dimse = f"{HOST}:{region.ports(member.code).dimse}"
        table.add_row(
            f"{member.code} {member.name}",
            member.code,
            dimse,
            f"{region.node_base(member.code)}/dicomweb",
            member.road,
            str(len(studies)),
            str(images),
        )
    return table


def _archives_table(region: DemoRegion, upstreams: Upstreams) -> Table:
    table = Table(title="What stands behind each node", title_justify="left")
    for name in ("Member", "Archive", "Called", "Where"):
        table.add_column(name, overflow="fold")
    for code in region.topology.codes:
        for one in upstreams.behind(code):
            table.add_row(code, one["kind"], one["name"], one["address"])
    return table


def _patients_table(region: DemoRegion) -> Table:
    label = region.topology.national.label or "Local numbers"
    table = Table(title="Patients to try (synthetic)", title_justify="left")
    for name in ("Patient", "Born", label, "Studies at"):
        table.add_column(name)
    for patient in sorted(region.ledger.listed(), key=lambda p: (p["disputed"], -len(p["studies"])))[:8]:
        numbers = [i["value"] for i in patient["identifiers"]] or [
            f"{v} ({c})" for c, v in patient["local_ids"].items()
        ]
        where = ", ".join(f"{s['node']} {s['modality']}" for s in patient["studies"])
        name = f"{patient['family'].upper()}, {patient['given']}" + (
            " (disputed)" if patient["disputed"] else ""
        )
        table.add_row(name, patient["birth_date"], ", ".join(numbers), where)
    return table


def _addresses_table(region: DemoRegion) -> Table:
    table = Table(title="The registry", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    entry = endpoints_of(region)["registry"]
    for name, key in (
        ("The clinician's page", "portal"),
        ("FHIR R4", "fhir"),
        ("DICOMweb, region-wide", "dicomweb"),
        ("XDS registry (ITI-18, 42)", "xds_registry"),
        ("XDS repository (ITI-43)", "xds_repository"),
        ("RAD-69", "rad69"),
        ("HL7 v2 (ITI-8)", "mllp"),
        ("gRPC, for nodes", "grpc"),
        ("Metrics", "metrics"),
    ):
        table.add_row(name, str(entry[key]))
    if region.ca is not None:
        table.add_row("CA to trust", str(region.ca))
        table.add_row("Client certificate", f"{region.client_cert} (key beside it)")
    return table


def _sign_ins_table(region: DemoRegion) -> Table:
    table = Table(title="Sign-ins (built-in provider, for this demo only)", title_justify="left")
    for name in ("User", "Password", "Role", "Organisation"):
        table.add_column(name)
    for account in region.accounts:
        table.add_row(account.user, account.password, account.role, account.organisation)
    return table
