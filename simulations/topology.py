"""Regions as data: ``topologies/*.toml`` read and checked."""

from __future__ import annotations

import hashlib
import uuid
from collections import Counter
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from crosslight.runtime.config import load, section, setting
from crosslight.standards.ids import Oid
from crosslight.standards.problem import ConfigError
from crosslight.standards.region import Region


@dataclass(frozen=True, slots=True)
class NationalAuthority:
    """Who issues the number that every member's patients carry."""

    authority: str = setting("", "OID of the national number; empty in a region without one.")
    system: str = setting("", "Its FHIR system URI.")
    label: str = setting("", "As a banner writes it.")


@dataclass(frozen=True, slots=True)
class MemberPlan:
    """One trust, board or hospital."""

    code: str = setting(help="Organisation code.")
    name: str = setting(help="Full name.")
    road: str = setting("grpc", "How it feeds the index: grpc or soap.", choices=("grpc", "soap"))
    exams_per_year: int = setting(0, "For simulations of load.", low=0)


@dataclass(frozen=True, slots=True)
class HospitalPlan:
    """A place of a member, where people read and scanners stand."""

    member: str = setting(help="Code of the member that it belongs to.")
    name: str = setting(help="Full name.")
    share: float = setting(1.0, "Its part of the member's exams.", low=0, high=1)
    mbit_s: float = setting(1000.0, "What its line to the member's node carries each way.", low=0.1)
    rtt_ms: float = setting(1.0, "Round trip over it.", low=0)


@dataclass(frozen=True, slots=True)
class LinkPlan:
    """A line between two places: codes of members, networks, or `registry`."""

    a: str = setting(help="One end.")
    b: str = setting(help="The other end.")
    mbit_s: float = setting(1000.0, "What the line carries each way, for this region alone.", low=0.1)
    rtt_ms: float = setting(10.0, "Round trip over it.", low=0)
    loss: float = setting(0.0, "Part of the packets that is lost.", low=0, high=0.2)
    failures_per_year: float = setting(2.0, "How often it fails.", low=0)
    repair_hours: float = setting(4.0, "How long a failure lasts in the mean.", low=0)

    @property
    def name(self) -> str:
        """As outages and reports call it."""
        return f"{self.a}-{self.b}"


@dataclass(frozen=True, slots=True)
class OutagePlan:
    """Work on a line that is known before."""

    link: str = setting(help="The line, as A-B.")
    starts: str = setting(help="Weekday and hour, as Sun 02:00.")
    hours: float = setting(2.0, "How long.", low=0)
    every_weeks: int = setting(4, "How often.", low=1)


@dataclass(frozen=True, slots=True)
class NeighbourPlan:
    """Another region whose people ask this one."""

    name: str = setting(help="Its name.")
    at: str = setting(help="The network by which it comes.")
    find_share: float = setting(0.0, "Its searches, as a part of this region's own.", low=0)


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """Studies of an archive that are there before the region is; each is read once."""

    member: str = setting(help="Whose.")
    studies: int = setting(help="How many.", low=0)
    per_second: float = setting(25.0, "How many its archive may be asked for each second.", low=0.01)


FOREIGN_REGION = "north_central_london"  # the one with archives of others
OWN_ARCHIVE = "own"
MOST_UPSTREAMS = 2  # behind one node: its ten ports have no more
ARCHIVE_KINDS = (OWN_ARCHIVE, "orthanc-dicomweb", "orthanc-dimse", "dcmqrscp", "folder", "object-store")


@dataclass(frozen=True, slots=True)
class ArchivePlan:
    """An archive behind a member's node, for a demo beside archives of others."""

    member: str = setting(help="Whose.")
    kind: str = setting(help="What it is; own: the node's.", choices=ARCHIVE_KINDS)
    name: str = setting(help="What the member calls it.")

    @property
    def key(self) -> str:
        """Its name among all."""
        return f"{self.member}-{self.kind}"


@dataclass(frozen=True, slots=True)
class RegistryPlan:
    """The registry's machine."""

    cores: int = setting(4, "Cores that registry and database have together.", low=1, high=1024)
    processes: int = setting(1, "Processes that answer; this release runs one.", low=1, high=256)
    core_speed: float = setting(
        1.0, "How fast a core is beside those that service times were measured on.", low=0.05, high=20
    )


@dataclass(frozen=True, slots=True)
class UsePlan:
    """What is asked of the region for each exam that is made in it."""

    finds_per_exam: float = setting(5.0, "Searches: one by a system, three to four by people.", low=0)
    opens_per_exam: float = setting(0.27, "Studies of another member that are opened.", low=0)
    growth_per_year: float = setting(0.04, "How exams grow.", low=-0.5, high=1)


@dataclass(frozen=True, slots=True)
class Topology:
    """A region description."""

    name: str = setting(help="The region's name.")
    slug: str = setting(help="Short name for folders and identifiers.")
    zone: str = setting("Europe/London", "IANA time zone of the region.")
    organisation_system: str = setting(
        "urn:crosslight:organisation-code", "FHIR system of organisation codes."
    )
    organisation_authority: str = setting(
        "", "OID of the authority of organisation codes, where they have one."
    )
    member_word: str = setting("trust", "What the page calls a member.")
    national: NationalAuthority = section(NationalAuthority, "The national number, if there is one.")
    members: tuple[MemberPlan, ...] = setting([], "The members.")
    networks: tuple[str, ...] = setting([], "Networks between them.")
    hospitals: tuple[HospitalPlan, ...] = setting([], "Their places, where they have more than one.")
    links: tuple[LinkPlan, ...] = setting([], "Lines between members, networks and the registry.")
    planned_outages: tuple[OutagePlan, ...] = setting([], "Work on lines that is known before.")
    neighbours: tuple[NeighbourPlan, ...] = setting([], "Other regions.")
    migrations: tuple[MigrationPlan, ...] = setting([], "Archives that are read once, at the beginning.")
    archives: tuple[ArchivePlan, ...] = setting(
        [], "What stands behind nodes in `crosslight demo --foreign`."
    )
    registry: RegistryPlan = section(RegistryPlan, "The registry's machine.")
    use: UsePlan = section(UsePlan, "What people and systems ask.")

    @property
    def root(self) -> Oid:
        """The arc under which the demo region names itself and its members.

        Made from the slug (PS3.5 B.2).
        """
        digest = hashlib.sha256(f"crosslight-region:{self.slug}".encode()).digest()
        return Oid(f"2.25.{uuid.UUID(bytes=digest[:16], version=4).int}")

    @property
    def codes(self) -> tuple[str, ...]:
        """Organisation codes in order."""
        return tuple(m.code for m in self.members)

    def region(self, *, allow_test_numbers: bool = True) -> Region:
        """The region's facts. The demo's synthetic patients have test numbers, so they are allowed here."""
        return Region(
            name=self.name,
            home_community_id=Oid(f"{self.root}.1"),
            authority=Oid(f"{self.root}.2"),
            national_authority=Oid(self.national.authority),
            national_system=self.national.system,
            national_label=self.national.label,
            allow_test_numbers=allow_test_numbers,
            zone=self.zone,
            organisation_system=self.organisation_system,
            organisation_authority=Oid(self.organisation_authority),
        )

    def as_values(self) -> dict[str, Any]:
        """Plain data, for comparing a kept demo with the one asked for."""
        return {"slug": self.slug, "members": [(m.code, m.road) for m in self.members]}


def topology_path(name: str) -> Path:
    """One that comes with us."""
    return Path(str(resources.files("simulations").joinpath(f"topologies/{name}.toml")))


def read_topology(path: Path | None = None) -> Topology:
    """Read a region description; without ``path`` the Surrey and Sussex one.

    Raises:
        ConfigError: naming the key at fault.
    """
    if path is None:
        path = topology_path("surrey_sussex")
    topology = load(Topology, path)
    codes = [m.code for m in topology.members]
    if len(codes) < 5:
        raise ConfigError(f"{path}: the story needs at least five members.", where="members")
    if len(set(codes)) != len(codes) or any(not c.isalnum() or len(c) > 16 for c in codes):
        raise ConfigError(
            f"{path}: codes must be unique, letters and digits, at most 16 (an AE title).",
            where="members.code",
        )
    keys = [archive.key for archive in topology.archives]
    if len(set(keys)) != len(keys) or any(archive.member not in codes for archive in topology.archives):
        raise ConfigError(f"{path}: an archive is of a member, and one of each kind.", where="archives")
    others = Counter(archive.member for archive in topology.archives if archive.kind != OWN_ARCHIVE)
    if any(count > MOST_UPSTREAMS for count in others.values()):
        raise ConfigError(
            f"{path}: at most {MOST_UPSTREAMS} archives of others stand behind a node.", where="archives"
        )
    return topology
