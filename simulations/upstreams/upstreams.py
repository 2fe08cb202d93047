"""The archives of others in one demo: which stands where, and what becomes of a study that goes to one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from crosslight.runtime.clock import Ids
from crosslight.runtime.files import Files
from crosslight.standards.problem import ConfigError
from simulations.images import StudyPlan
from simulations.layout import CALLING_AET, NodePorts
from simulations.supervisor import Supervisor
from simulations.topology import OWN_ARCHIVE, ArchivePlan, Topology
from simulations.upstreams.dcmqrscp import Dcmqrscp
from simulations.upstreams.folder import FolderOfFiles
from simulations.upstreams.installed import check_installed
from simulations.upstreams.object_store import ObjectStore
from simulations.upstreams.orthanc import Orthanc, OrthancByDicomweb, OrthancByDimse
from simulations.upstreams.upstream import ArchivePlace, Upstream

#: Programs that a kind of archive needs.
NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "orthanc-dicomweb": Orthanc.needs,
    "orthanc-dimse": Orthanc.needs,
    "dcmqrscp": Dcmqrscp.needs,
    "object-store": ObjectStore.needs,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivesGround:
    """What archives are made on.

    Attributes:
        folder: Theirs.
        node_folder, ports: Of a member's node.
        logs: Where their logs go.
        supervisor: Starts and ends their programs, as all others.
        files, ids: Files, secrets.
    """

    folder: Path
    node_folder: Callable[[str], Path]
    ports: Callable[[str], NodePorts]
    logs: Path
    supervisor: Supervisor
    files: Files
    ids: Ids


class Upstreams:
    """All of a region.

    Args:
        topology: Its ``archives``.
        ground: What they are made on.

    Raises:
        ConfigError: when it describes none.
    """

    def __init__(self, topology: Topology, ground: ArchivesGround) -> None:
        if not topology.archives:
            raise ConfigError(
                f"{topology.name} has no archives of others.",
                todo="Add [[archives]] to its description, or take North Central London.",
                where="archives",
            )
        self._plans, self._ground = topology.archives, ground
        self._all: dict[str, Upstream] = {}
        taken: dict[str, int] = {}
        for plan in self._plans:
            if plan.kind != OWN_ARCHIVE:
                nth = taken[plan.member] = taken.get(plan.member, -1) + 1
                self._all[plan.key] = self._made(plan, nth)

    def _made(self, plan: ArchivePlan, nth: int) -> Upstream:
        ground = self._ground
        place = ArchivePlace(
            name=plan.key,
            member=plan.member,
            title=plan.name,
            folder=ground.folder / plan.key,
            node_folder=ground.node_folder(plan.member),
            ports=ground.ports(plan.member).upstream(nth),
            callers=(CALLING_AET, plan.member),
        )
        if plan.kind == "dcmqrscp":
            return Dcmqrscp(place, ground.supervisor)
        if plan.kind == "object-store":
            return ObjectStore(place, ground.files, ground.ids)
        if plan.kind == "folder":
            return FolderOfFiles(place)
        return OrthancByDicomweb(place) if plan.kind == "orthanc-dicomweb" else OrthancByDimse(place)

    @property
    def all(self) -> Mapping[str, Upstream]:
        """Those of others, by the key of their plan."""
        return self._all

    @property
    def keys(self) -> tuple[str, ...]:
        """Every archive's key, the nodes' own too."""
        return tuple(plan.key for plan in self._plans)

    @property
    def fed(self) -> tuple[str, ...]:
        """Members whose patient administration tells numbers, because an archive of theirs does not."""
        return tuple(dict.fromkeys(one.place.member for one in self._all.values() if not one.tells_numbers))

    @property
    def ports(self) -> list[int]:
        """On which they listen."""
        return [port for one in self._all.values() if one.programs for port in one.place.ports]

    def check_installed(self) -> None:
        """Refuse to begin without a program that one of them needs.

        Raises:
            ConfigError: saying what to install.
        """
        check_installed(name for plan in self._plans for name in NEEDS.get(plan.kind, ()))

    def of(self, study: StudyPlan) -> Upstream | None:
        """Where a study goes; None: to the node itself. A member's studies are spread over its archives."""
        mine = [plan.key for plan in self._plans if plan.member == study.code]
        key = study.archive or (mine[study.seed % len(mine)] if mine else "")
        return self._all.get(key)

    def behind(self, code: str) -> list[dict[str, str]]:
        """What stands behind a member's node, for people: kind, name and address."""
        found = []
        for plan in self._plans:
            if plan.member == code:
                one = self._all.get(plan.key)
                kind, address = (one.label, one.address) if one else ("the node's own archive", "")
                found.append({"kind": kind, "name": plan.name, "address": address})
        return found

    def node_values(self, code: str) -> dict[str, Any]:
        """More of a node's configuration: its sources."""
        sources: dict[str, list[Mapping[str, Any]]] = {}
        for one in self._all.values():
            if one.place.member == code:
                table, values = one.source
                sources.setdefault(table, []).append(values)
        return {"sources": sources} if sources else {}

    async def make(self, say: Callable[[str], None]) -> None:
        """Lay them out, once their nodes' folders are there."""
        for one in self._all.values():
            say(f"{one.place.member}: {one.label}")
            await one.make()

    async def start(self) -> None:
        """Start their programs, and wait until they listen."""
        supervisor = self._ground.supervisor
        programs = [program for one in self._all.values() for program in one.programs]
        for program in programs:
            if not supervisor.has(program.name):
                log = self._ground.logs / f"{program.name}.log"
                supervisor.add_program(program.name, program.command, log)
            supervisor.start(program.name)
        for program in programs:
            await supervisor.listening(program.name, program.port)
