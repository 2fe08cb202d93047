"""Members as values, and the directory seam that index, ask, gateway and coverage read (in memory)."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Literal, Protocol

from crosslight.runtime.peers import PeerCertificate
from crosslight.standards.access import Grants
from crosslight.standards.census import Census
from crosslight.standards.concern import Concern
from crosslight.standards.ids import MemberId, Oid, Version
from crosslight.standards.membership import Endpoints
from crosslight.standards.region import ProcedureCodes
from crosslight.standards.xds.model.publication import Source

MemberStatus = Literal["invited", "active", "suspended", "foreign"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of the region. ``id`` never changes; the code may (D9)."""

    id: MemberId
    code: str
    name: str
    repository_unique_id: Oid
    retrieve_location_uid: Oid
    authority: Oid  # of its patient numbers, as allotted
    status: MemberStatus
    secret: bytes = field(repr=False)  # for derived ids (D9); kept with the member
    epoch: int = 0
    cursor: Version | None = None  # newest version acknowledged (D10)
    status_since: datetime | None = None
    status_reason: str = ""
    endpoints: Endpoints = Endpoints()
    # its own as well, as agreed (ADR 0023); the first is that of its bare numbers
    authorities: tuple[Oid, ...] = ()
    asked: tuple[Oid, ...] = ()  # those that it says are its own and nobody has agreed to yet
    organisation_authority: Oid = Oid("")  # of its code; '' for one that is not of the region's
    procedure_codes: tuple[ProcedureCodes, ...] = ()

    def owns(self, authority: str) -> bool:
        """Whether patient numbers of ``authority`` are this member's own."""
        return bool(authority) and (authority == self.authority or authority in self.authorities)

    @property
    def shows_images(self) -> bool:
        """Whether there is any road to its images.

        A foreign source may have registered without saying one.
        """
        return self.status != "foreign" or bool(self.endpoints.systems or self.endpoints.dicomweb)

    @property
    def source(self) -> Source:
        """As its DocumentEntries name it."""
        return _source(
            self.code,
            self.name,
            self.repository_unique_id,
            self.retrieve_location_uid,
            self.authority,
            self.organisation_authority,
            self.procedure_codes,
        )


@lru_cache(maxsize=1024)
def _source(
    code: str,
    name: str,
    repository: Oid,
    location: Oid,
    authority: Oid,
    organisations: Oid,
    codes: tuple[ProcedureCodes, ...],
) -> Source:
    return Source(
        code=code,
        name=name,
        repository_unique_id=repository,
        retrieve_location_uid=location,
        authority=authority,
        organisation_authority=organisations,
        procedure_codes=codes,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Presence:
    """What the link last said of a member."""

    member: MemberId
    reachable: bool
    since: datetime | None = None  # since when unreachable
    last_heard: datetime | None = None
    waiting: int = 0
    parked: int = 0
    quarantined: int = 0
    filling: bool = False
    indexed_from: str = ""
    census_equal: bool | None = None
    census_at: datetime | None = None
    skew_ms: int = 0
    software: str = ""  # name and version of its program
    studies: int | None = None  # that it says it has published
    trouble: str = ""  # why its link last ended, where the registry ended it
    clock_wrong: bool = False  # beyond the limit: its images cannot be opened (D22)
    concern: Concern | None = None  # whom its unlisted studies concern; None = it does not say
    reach: str = ""  # how its faces are called: direct or tunnel; '' = not known
    unheard: bool = False  # all of this is from before it was away: it has said nothing since

    @property
    def opens(self) -> bool:
        """Whether images can be had from it now, as far as the link tells.

        Reachable, and with a clock that is right (D22).
        """
        return self.reachable and not self.clock_wrong

    @property
    def never_linked(self) -> bool:
        """Whether nothing was ever heard of it."""
        return self.last_heard is None


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """An outside system that was given a certificate.

    ``upgrade``: nobody granted it this, it is what its role gave before there were grants (ADR 0036).
    """

    name: str
    grants: Grants
    since: datetime
    upgrade: bool = False


class KnownMembers(Protocol):
    """Who the members are: cheap, synchronous reads of an in-memory copy."""

    @property
    def revision(self) -> Hashable:
        """Equal for as long as no method of this protocol would answer otherwise; it changes after them."""
        ...

    def all(self) -> tuple[Member, ...]:
        """Every member that counts for coverage (active and suspended), by code."""
        ...

    def foreign(self) -> tuple[Member, ...]:
        """Sources that are no members: repositories that registered something here, by code."""
        ...

    def by_id(self, member: MemberId) -> Member | None:
        """Any member, foreign ones too."""
        ...

    def by_code(self, code: str) -> Member | None:
        """The member that has this organisation code now."""
        ...

    def by_repository(self, oid: str) -> Member | None:
        """The member with this repositoryUniqueId."""
        ...

    def by_retrieve_location(self, oid: str) -> Member | None:
        """The member with this retrieveLocationUID."""
        ...

    def by_authority(self, oid: str) -> Member | None:
        """The member whose local patient numbers are under this authority."""
        ...


class Directory(KnownMembers, Protocol):
    """The region's members as the other rooms see them: who they are, and how they are now."""

    def presence(self, member: MemberId) -> Presence:
        """What is known of a member's link now."""
        ...

    def check_peer(self, peer: PeerCertificate) -> None:
        """Whether whoever shows this certificate may be dealt with now.

        Raises:
            Unauthenticated: nobody of this region, no caller here, ended or withdrawn.
            Forbidden: a suspended member.
        """
        ...

    def system_grants(self, name: str) -> Grants:
        """What an outside system was granted; nothing, where it is none."""
        ...


class IndexFacts(Protocol):
    """The little that membership asks of the index: ``registry.index.store.IndexStore`` answers it."""

    @property
    def incarnation(self) -> str:
        """The id of the registry's database (D8)."""
        ...

    async def cursor(self, member: MemberId) -> Version | None:
        """The newest version of ``member`` that was acknowledged (D10)."""
        ...

    async def census(self, member: MemberId) -> Census:
        """Approved holdings of ``member``."""
        ...
