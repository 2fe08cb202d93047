"""Who belongs to the region.

It is the copy in memory that all rooms read as their Directory, and the check of who is calling (D25).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Final

from crosslight.runtime.clock import Clock
from crosslight.runtime.db import Tx
from crosslight.runtime.log import get_logger
from crosslight.runtime.peers import LivePeers, PeerCertificate, check_peer, named_peer
from crosslight.runtime.tls import Identity, IdentityKind
from crosslight.standards.access import Grants
from crosslight.standards.ids import MemberId, is_strict_uid
from crosslight.standards.problem import CrosslightError, Forbidden, Invalid, Unauthenticated
from crosslight.standards.region import Region
from registry.members.arrivals import Arrival
from registry.members.config import MembersConfig
from registry.members.connections import LiveConnections
from registry.members.credential_store import CredentialFacts
from registry.members.foreign_rows import ForeignRows
from registry.members.model import Member, Presence, System
from registry.members.presence import PresenceBoard
from registry.members.store import MemberRow, MemberStore

log = get_logger("members")

#: Whose certificates are callers of the registry; the gateway's is its own (ADR 0008).
CALLERS: Final[frozenset[IdentityKind]] = frozenset({"member", "system"})


class Roster:
    """Implements :class:`registry.members.model.Directory` and :class:`crosslight.runtime.peers.Standing`.

    Args:
        store: Where members are kept; :meth:`refresh` reads all of them anew.
        region: Theirs.
        config: ``[members]``.
        clock: Time.
        process: Names this process in what it writes of presence.


    Attributes:
        foreign_rows: Of repositories that are no member's.
    """

    foreign_rows: ForeignRows

    def __init__(
        self, store: MemberStore, region: Region, config: MembersConfig, clock: Clock, process: str
    ) -> None:
        self.store, self.region, self.config = store, region, config
        self._clock = clock
        self.live = LiveConnections()  # what we have open at members
        self.peers = LivePeers(clock, self.check_peer)  # what callers have open here
        self.board = PresenceBoard(clock, process, config.silence_s)
        self._rows: dict[MemberId, MemberRow] = {}
        self._arriving: dict[MemberId, Member] = {}
        self._codes: dict[str, Member] = {}
        self._oids: dict[tuple[str, str], Member] = {}
        self._version = -1
        self._revision = 0  # counts what the methods of Directory read, once it is changed
        self._directory_issued = 0  # Unix seconds
        self.issued = CredentialFacts()
        self._listeners: list[Callable[[], None]] = []

    @property
    def version(self) -> int:
        """Counts changes of members."""
        return self._version

    @property
    def revision(self) -> int:
        """Equal for as long as nobody is another, or found otherwise."""
        return self._revision

    async def refresh(self, *, starting: bool = False) -> None:
        """Read all members anew; cut those that were suspended meanwhile, and tell who listens.

        ``starting``: a service begins, so the directory is issued anew.
        """
        version, rows = await self.store.load()
        issued = await self.store.credentials.facts()
        now = int(self._clock.now().timestamp())
        try:
            directory_issued = await self.store.directory_issue.of(version, now, anew=starting)
        except CrosslightError as error:  # a full disk keeps nobody from being suspended
            log.error("the moment of the directory cannot be kept", kind=type(error).__name__)
            directory_issued = max(now, self._directory_issued + 1)
        if version < self._version:
            return
        self._directory_issued = max(directory_issued, self._directory_issued)
        self.issued = issued
        before = {i: row.member.status for i, row in self._rows.items()}
        self._version = version
        self._rows = {row.member.id: row for row in rows}
        members = [row.member for row in rows]
        self._codes, self._oids = {}, {}
        for m in members:
            self._name(m)
        for m in members:
            for oid in m.authorities:
                self._oids.setdefault(("auth", oid), m)
        self._revision += 1
        for m in members:
            if m.status == "suspended" and before.get(m.id) != "suspended":
                if m.id in before:  # not at a start, and not in a command that only reads
                    log.warning("member suspended", code=m.code)
                self.live.cut(m.id)
        self.peers.look()
        for listener in self._listeners:
            listener()

    def _name(self, member: Member) -> None:
        """Make a member known by its code and OIDs."""
        self._codes[member.code] = member
        for kind, oid in (
            ("repo", member.repository_unique_id),
            ("loc", member.retrieve_location_uid),
            ("auth", member.authority),
        ):
            if oid:
                self._oids[kind, oid] = member

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call ``callback`` after the copy changed."""
        self._listeners.append(callback)

    # --- Directory ------------------------------------------------------------------------------------------

    def all(self) -> tuple[Member, ...]:
        """Every member that counts for coverage (active and suspended), by code."""
        counted = [row.member for row in self._rows.values() if row.member.status in ("active", "suspended")]
        return tuple(sorted(counted, key=lambda m: m.code))

    def foreign(self) -> tuple[Member, ...]:
        """Sources that are no members: repositories that registered something here, by code."""
        return tuple(
            sorted(
                (row.member for row in self._rows.values() if row.member.status == "foreign"),
                key=lambda m: m.code,
            )
        )

    def everyone(self) -> tuple[Member, ...]:
        """All entries, those invited and foreign ones too, in the order they came."""
        return tuple(row.member for row in self._rows.values())

    def by_id(self, member: MemberId) -> Member | None:
        """Any member, foreign ones too."""
        row = self._rows.get(member)
        return row.member if row else self._arriving.get(member)

    def by_code(self, code: str) -> Member | None:
        """The member that has this organisation code now."""
        return self._codes.get(code)

    def by_repository(self, oid: str) -> Member | None:
        """The member with this repositoryUniqueId."""
        return self._oids.get(("repo", oid))

    def by_retrieve_location(self, oid: str) -> Member | None:
        """The member with this retrieveLocationUID."""
        return self._oids.get(("loc", oid))

    def by_authority(self, oid: str) -> Member | None:
        """The member whose local patient numbers are under this authority.

        Of one that several share, the first member.
        """
        return self._oids.get(("auth", oid))

    def presence(self, member: MemberId) -> Presence:
        """What is known of a member's link now."""
        return self.board.presence(member, self.config.max_skew_s)

    def row(self, member: MemberId) -> MemberRow | None:
        """A member with its hosts and its database's id."""
        return self._rows.get(member)

    def system(self, name: str) -> System | None:
        """The outside system of this name; None for one that was never given a certificate, or was ended."""
        return self.issued.systems.get(name)

    def system_grants(self, name: str) -> Grants:
        """What an outside system was granted; nothing, where it is none."""
        system = self.system(name)
        return system.grants if system is not None else Grants()

    # --- sources that are no members ------------------------------------------------------------------------

    def check_foreign(self, repository_unique_id: str) -> None:
        """Whether a repository can be an outside one: members' OIDs are the region's to allocate.

        Raises:
            Forbidden: under the region's own root, and no member's.
        """
        root = self.config.root_oid or self.region.home_community_id
        own = any(
            repository_unique_id == oid or repository_unique_id.startswith(oid + ".")
            for oid in (root, self.region.home_community_id)
        )
        if own and self.by_repository(repository_unique_id) is None:
            raise Forbidden(
                "This repositoryUniqueId is the region's own to give, and nobody has it.",
                todo="Use an OID of the source's own.",
                where=repository_unique_id,
            )

    async def foreign_member(self, repository_unique_id: str, by: str) -> Member:
        """The entry of a repository that is no member's (a foreign XDS source's); made at first sight.

        Args:
            repository_unique_id: Of the repository.
            by: The subject that registers for it first, or describes it.

        Raises:
            Invalid: no OID.
            Forbidden: an OID of the region's own.
            TooLarge: there are too many.
        """
        known = self.by_repository(repository_unique_id)
        if known is not None:
            return known
        self._check_arrival(repository_unique_id)
        row, version = await self.foreign_rows.foreign(repository_unique_id, by)
        self._arrived(row, version)
        return row.member

    @asynccontextmanager
    async def arriving(self, repository_unique_id: str, by: str) -> AsyncIterator[Arrival]:
        """Who registers for a repository: the entry that there is, or one that its submission will make.

        Until then nobody but :meth:`by_id` knows it; in the block it is known to that.

        Args, Raises: as :meth:`foreign_member`.
        """
        known = self.by_repository(repository_unique_id)
        if known is not None:
            yield Arrival(known)
            return
        self._check_arrival(repository_unique_id)
        row, version = await self.foreign_rows.number(repository_unique_id, by)
        if version is not None:  # another process knows it already
            self._arrived(row, version)
            yield Arrival(row.member)
            return
        written: list[tuple[MemberRow, int]] = []

        def write(tx: Tx) -> None:
            written[:] = [self.foreign_rows.arrive_tx(tx, row, by)]

        self._arriving[row.member.id] = row.member
        self._revision += 1
        try:
            yield Arrival(row.member, write, lambda: self._arrived(*written[0]))
        finally:
            del self._arriving[row.member.id]
            self._revision += 1

    def _check_arrival(self, repository_unique_id: str) -> None:
        if not is_strict_uid(repository_unique_id):
            raise Invalid("A repositoryUniqueId that is not an OID.", why="ITI TF-3 4.2.3.2.18.")
        self.check_foreign(repository_unique_id)

    def _arrived(self, row: MemberRow, version: int) -> None:
        if version == self._version + 1:  # nothing else changed: all others need not be read anew
            self._version = version
        self._rows[row.member.id] = row
        self._name(row.member)
        self._revision += 1

    # --- who is calling -------------------------------------------------------------------------------------

    @property
    def community(self) -> str:
        """As of Standing."""
        return self.region.home_community_id

    def member_status(self, code: str) -> tuple[str, str]:
        """As of Standing."""
        member = self.by_code(code)
        return (member.status, member.status_reason) if member else ("", "")

    def is_system(self, name: str) -> bool:
        """As of Standing."""
        return self.system(name) is not None

    def is_withdrawn(self, serial: str) -> bool:
        """As of Standing."""
        return serial in self.issued.withdrawn_certificates

    def check_peer(self, peer: PeerCertificate) -> None:
        """As of Directory."""
        check_peer(peer, self, self._clock.now(), CALLERS)

    def active(self, code: str) -> Member:
        """The member that has ``code``, if it may be dealt with.

        Raises:
            Unauthenticated: if there is none.
            Forbidden: if it is suspended.
        """
        return self.active_peer(named_peer(Identity("member", code, self.community)))

    def active_peer(self, peer: PeerCertificate) -> Member:
        """The member that a certificate speaks for.

        Raises as :meth:`check_peer`, and for who is no member.
        """
        self.check_peer(peer)
        member = self.by_code(peer.identity.name) if peer.identity.kind == "member" else None
        if member is None:
            raise Unauthenticated("The certificate is not a member's of this region.")
        return member
