"""Regions as data: ``topologies/*.toml`` read and checked."""

from __future__ import annotations

import hashlib
import uuid
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


def read_topology(path: Path | None = None) -> Topology:
    """Read a region description; without ``path`` the Surrey and Sussex one.

    Raises:
        ConfigError: naming the key at fault.
    """
    if path is None:
        path = Path(str(resources.files("simulations").joinpath("topologies/surrey_sussex.toml")))
    topology = load(Topology, path)
    codes = [m.code for m in topology.members]
    if len(codes) < 5:
        raise ConfigError(f"{path}: the story needs at least five members.", where="members")
    if len(set(codes)) != len(codes) or any(not c.isalnum() or len(c) > 16 for c in codes):
        raise ConfigError(
            f"{path}: codes must be unique, letters and digits, at most 16 (an AE title).",
            where="members.code",
        )
    return topology
