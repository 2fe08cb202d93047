"""The signed directory of a region, as values: its members, its outside systems, and what was withdrawn.

Pure. The registry makes and signs it (``registry/members/directory.py``), a node verifies and keeps it
(``node/membership/directory.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

from crosslight.standards.access import BEFORE_GRANTS, Grants
from crosslight.standards.ids import Oid
from crosslight.standards.membership import (
    Endpoints,
    known_keys,
    oid_lists,
    region_from_plain,
    region_plain,
)
from crosslight.standards.problem import Malformed
from crosslight.standards.region import Region


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryMember:
    """One member as every other may know it."""

    code: str
    name: str
    repository_unique_id: str
    retrieve_location_uid: str
    authority: str
    status: str
    endpoints: Endpoints = Endpoints()
    authorities: tuple[Oid, ...] = ()  # patient authorities of its own beside the allotted one
    asked: tuple[Oid, ...] = ()  # those that nobody has agreed to yet

    def plain(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {**asdict(self), "endpoints": self.endpoints.known()}


def _directory_member(data: Any) -> DirectoryMember:
    values = known_keys(DirectoryMember, data, "A member")
    endpoints = Endpoints.from_plain(values.get("endpoints", {}))
    return DirectoryMember(**{**values, **oid_lists(values), "endpoints": endpoints})


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectorySystem:
    """An outside system with a certificate of the region: whoever is not among them is refused."""

    name: str
    grants: Grants = Grants()

    def plain(self) -> dict[str, Any]:
        """As JSON-able data."""
        return {"name": self.name, "grants": self.grants.plain()}

    @classmethod
    def from_plain(cls, said: Any) -> Self:
        """Read what :meth:`plain` wrote.

        Raises:
            Malformed: if it names none.
        """
        values = known_keys(cls, said, "A system")
        if not isinstance(values.get("name"), str):
            raise Malformed("A system of the directory has no name.")
        return cls(name=values["name"], grants=Grants.from_plain(values.get("grants")))


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectoryDocument:
    """What every member must know of the region; signed by the region's token key, versioned, expiring.

    ``systems`` are the outside systems with what each was granted. ``withdrawn_tokens`` are the ids (``jti``)
    of tokens that were ended before their time, and ``withdrawn_certificates`` the serial numbers (as
    :class:`registry.members.ca.Issued` writes them) of certificates that must be refused although they have
    not expired; each stands here until it would have ended by itself. ``tells_systems`` is false of the
    directory of a registry before 0.3, which names no systems.
    """

    version: int
    community: str  # homeCommunityId
    issued: int  # Unix seconds
    expires: int
    members: tuple[DirectoryMember, ...]
    jwks: dict[str, Any]
    region: Region
    systems: tuple[DirectorySystem, ...] = ()
    withdrawn_tokens: frozenset[str] = frozenset()
    withdrawn_certificates: frozenset[str] = frozenset()
    tells_systems: bool = True

    @property
    def suspended(self) -> frozenset[str]:
        """Codes of members whose certificates must be refused."""
        return frozenset(m.code for m in self.members if m.status == "suspended")

    def grants_of(self, system: str) -> Grants | None:
        """What an outside system was granted; None of one that is none (any more), and must be refused."""
        if not self.tells_systems:
            return BEFORE_GRANTS
        return next((named.grants for named in self.systems if named.name == system), None)

    def claims(self) -> dict[str, Any]:
        """As the claims of its JWS."""
        return {
            "iss": self.community,
            "typ": "directory",
            "ver": self.version,
            "iat": self.issued,
            "exp": self.expires,
            "members": [m.plain() for m in self.members],
            "jwks": self.jwks,
            "region": region_plain(self.region),
            "systems": [system.plain() for system in self.systems],
            "withdrawn_tokens": sorted(self.withdrawn_tokens),
            "withdrawn_certificates": sorted(self.withdrawn_certificates),
        }

    @classmethod
    def from_claims(cls, claims: Mapping[str, Any]) -> Self:
        """Read verified claims.

        Raises:
            Malformed: if something is missing, or it is another kind of document.
        """
        if claims.get("typ") != "directory":
            raise Malformed("This is no directory.")
        try:
            return cls(
                version=int(claims["ver"]),
                community=str(claims["iss"]),
                issued=int(claims["iat"]),
                expires=int(claims["exp"]),
                members=tuple(_directory_member(m) for m in claims["members"]),
                jwks=dict(claims["jwks"]),
                region=region_from_plain(claims["region"]),
                systems=tuple(map(DirectorySystem.from_plain, claims.get("systems", ()))),
                withdrawn_tokens=frozenset(map(str, claims.get("withdrawn_tokens", ()))),
                withdrawn_certificates=frozenset(map(str, claims.get("withdrawn_certificates", ()))),
                tells_systems="systems" in claims,
            )
        except (KeyError, TypeError, ValueError):
            raise Malformed("The directory is not complete.") from None
