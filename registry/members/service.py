"""The members of the region.

Here the roster that all rooms read is kept true to the database (D25), and it is settled who is let in.

Several processes and the command line change members in one database; each process looks at one counter every
second, so that a suspension holds everywhere within five.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.caller import Caller
from crosslight.runtime.db import Db
from crosslight.runtime.log import get_logger
from crosslight.runtime.peers import PeerCertificate
from crosslight.runtime.rates import PerMinute
from crosslight.runtime.seams import Seams
from crosslight.runtime.tls import Identity
from crosslight.runtime.waiting import Wake
from crosslight.standards.hosts import is_nowhere, plain_host
from crosslight.standards.ids import MemberId, Oid, is_strict_uid
from crosslight.standards.membership import Invitation
from crosslight.standards.problem import ConfigError, CrosslightError, Invalid, NotFound
from crosslight.standards.region import Region
from registry.keys import TokenKeys
from registry.members.alarms import Alarms
from registry.members.audited_acts import MemberActs
from registry.members.authorities import Authorities
from registry.members.ca import CertificateAuthority
from registry.members.certificates import OwnCertificates
from registry.members.config import MembersConfig
from registry.members.directory import directory_document, sign_directory
from registry.members.ends import LinkEnd
from registry.members.foreign_rows import ForeignRows
from registry.members.last_use import LastUse
from registry.members.model import Member
from registry.members.presence_store import PresenceStore
from registry.members.renewals import Renewals
from registry.members.roster import Roster
from registry.members.sources import Sources
from registry.members.store import MemberStore, NewMember
from registry.members.subject_names import is_reserved
from registry.members.systems import OutsideSystems
from registry.members.use_store import UseStore

log = get_logger("members")

_CODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z")
LOOPBACK_HOSTS = ("localhost", "127.0.0.1")


def _member_host(text: str) -> str:
    """A host for a member's certificate, as it is compared.

    Raises:
        Invalid: it is none, or is reserved, in whatever spelling.
    """
    host = plain_host(text)
    if is_reserved(host) or is_nowhere(host):
        raise Invalid("That is no host name or address of a member.", where=host)
    return host


class MemberService(Roster):
    """The roster kept true to the database, what the registry signs, and what operators do.

    Args:
        folder: The registry's own: ``ca/``, ``keys/`` and ``tls/`` are made in it.
        audit: Where acts on members are noted.
        open_mode: ``--open``: plain links on which members name themselves.
        public_host: By which nodes and clients reach this registry; its certificates name it beside the
            configured hosts.
    """

    def __init__(
        self,
        db: Db,
        seams: Seams,
        region: Region,
        folder: Path,
        config: MembersConfig,
        audit: AuditLog,
        *,
        open_mode: bool = False,
        public_host: str = "",
    ) -> None:
        clock, ids, files = seams.clock, seams.ids, seams.files
        self.root_oid = Oid(config.root_oid or region.home_community_id)
        super().__init__(
            MemberStore(db, clock, self.root_oid, region), region, config, clock, ids.uuid4().hex
        )
        self.foreign_rows = ForeignRows(db, self.store)
        self.open_mode = open_mode
        self._ids = ids
        self.presence_store = PresenceStore(db)
        self.acts = MemberActs(audit, ids)
        self.keys = TokenKeys(folder / "keys" / "token.json", files, ids)
        self.authorities = Authorities(db, clock, self, self.acts)
        self.sources = Sources(self, self.acts, plain=open_mode)
        self.ca = CertificateAuthority(
            folder / "ca", region.home_community_id, region.name, clock, ids, files, config.domains
        )
        hosts = tuple(dict.fromkeys(host for host in (public_host, *config.hosts) if host))
        self.own = OwnCertificates(
            self.ca, folder / "tls", region.home_community_id, hosts, config, clock, files
        )
        used = UseStore(db, clock)
        self.alarms = Alarms(used, clock, self.acts)
        self.last_use = LastUse(db, clock)
        self.join_rates = PerMinute("requests to join", config.joins_per_minute, clock)
        self.renewals = Renewals(used, self.store.credentials, self.alarms, config, clock)
        self.systems = OutsideSystems(self, self.acts, self.own, clock)
        self._noted_gateway = ""  # the serial number of our own certificate, as the store has it
        self._wake = Wake(clock)
        self.board.on_lost = self._wake.set
        self._tasks: list[asyncio.Task[None]] = []
        self._signed: tuple[int, float, str] = (-1, 0, "")  # issued, signed (both Unix seconds), JWS

    # --- life -----------------------------------------------------------------------------------------------

    async def open(self, *, starting: bool = False) -> None:
        """Tables, authority, own certificates and the first copy: enough for a command.

        Args:
            starting: For a service, as in :meth:`refresh`.

        Raises:
            ConfigError: if the root OID cannot carry members' OIDs, or files of the authority are wrong.
        """
        if not is_strict_uid(f"{self.root_oid}.10.9999999.3"):
            raise ConfigError("The members' root OID is none, or too long.", where="members.root_oid")
        await self.store.open()
        self.ca.open()
        self.keys.open()
        self.own.open()
        await self.refresh(starting=starting)
        await self._note_gateway()
        self.board.refresh(await self.presence_store.read())
        await self._load_concerns()

    def start(self) -> None:
        """Begin to follow the database and to renew own certificates: for a server."""
        self.board.serve()
        self._tasks = [asyncio.create_task(run) for run in (self._follow(), self.own.run(), self.peers.run())]

    async def close(self) -> None:
        """Stop following; presence is written a last time."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with suppress(asyncio.CancelledError):
                await task
        if self._tasks:
            with suppress(CrosslightError):
                await self.last_use.keep()
                await self._sync_presence()
        self._tasks = []

    async def _follow(self) -> None:
        while True:
            # sooner when a link is lost
            await self._wake.wait(min(self.config.poll_s, self.board.due_s() + 0.01))
            try:
                await self.renewals.follow()
                await self.last_use.keep()
                if await self.store.version() != self._version:
                    await self.refresh()
                await self._note_gateway()
                await self._sync_presence()
            except CrosslightError as error:
                log.error("members cannot be read", kind=type(error).__name__)
            except Exception:
                log.exception("members cannot be followed")

    async def _note_gateway(self) -> None:
        """Our own certificate is among those that were given, and can be withdrawn: then we make another."""
        if self.own.serial in self.issued.withdrawn_certificates:
            self.own.replace_gateway()
            log.warning("the gateway's certificate was withdrawn, and another was made")
        if self.own.serial != self._noted_gateway:
            identity = Identity("gateway", "", self.community)
            credentials, serial = self.store.credentials, self.own.serial
            await credentials.certificate(serial, identity.uri, None, self.own.gateway_ends)
            self._noted_gateway = serial

    async def held_elsewhere(self, member: MemberId, far: LinkEnd) -> str:
        """What says that the member's key has another holder, linked to another process of the registry now.

        A node that moves comes from the same place with the same database; where a process died, its word on
        a link is over when the member would count as silent.
        """
        row = await self.presence_store.elsewhere(member, self.board.process)
        return self.board.holds_beside(row, far) if row is not None else ""

    async def _sync_presence(self) -> None:
        await self._write_concerns()  # before the reports that name them
        rows = self.board.unwritten()
        if rows:
            replaced = await self.presence_store.write(rows)
            self.board.written(rows)
            for number, why in self.board.beside(replaced):
                if (member := self.by_id(number)) is not None:
                    await self.alarms.sound(member, "two-holders", why)
        self.board.refresh(await self.presence_store.read())
        await self._load_concerns()

    async def _write_concerns(self) -> None:
        taken = self.board.take_unwritten()
        try:
            for member, concern in taken:
                await self.presence_store.write_concern(member, concern)
        except BaseException:
            self.board.not_written(member for member, _ in taken)
            raise

    async def _load_concerns(self) -> None:
        for member in self.board.missing():
            if (concern := await self.presence_store.concern(member)) is not None:
                self.board.found(member, concern)

    def check_peer(self, peer: PeerCertificate) -> None:
        """As of Directory; whoever is let in has its certificate in use."""
        super().check_peer(peer)
        self.renewals.saw(peer.serial)
        self.last_use.saw("certificate", peer.serial)

    # --- acts of operators ----------------------------------------------------------------------------------

    async def invite(
        self,
        code: str,
        url: str,
        *,
        name: str = "",
        hosts: tuple[str, ...] = (),
        authorities: tuple[str, ...] = (),
        shared: bool = False,
        by: Caller | None = None,
    ) -> str:
        """An invitation for the organisation ``code`` as one string.

        OIDs are allocated at the first one (D11).

        Args:
            code: Organisation code.
            url: Base of the registry's people listener, as the node reaches it.
            name: The organisation's; kept as it was when ''.
            hosts: Names and addresses under which the member's node will be reached; they go into its
                certificate. Without any it is reached on its own machine only (the demo), or through the
                gateway.
            authorities: OIDs under which the organisation itself issues patient numbers (ADR 0023).
            shared: Another member's authority may be among them.

        Raises:
            Invalid: if code, hosts or authorities are none.
            Conflict: if the member is suspended, or an authority is another's and not shared.
        """
        if not _CODE.match(code):
            raise Invalid(
                "That is no organisation code.",
                why="Letters, digits, dot, hyphen and underscore; at most 32.",
            )
        hosts = tuple(dict.fromkeys(_member_host(host) for host in hosts))
        if bad := [host for host in hosts if not self.ca.may_sign(host)]:
            raise Invalid(
                "The region's authority may not sign this name.", todo="See members.domains.", where=bad[0]
            )
        for authority in authorities:
            self.authorities.check(authority, code)
        secret = self._ids.token_bytes(32).hex()
        known = await self.store.by_code(code)
        new = NewMember(
            code=code,
            name=name or (known.member.name if known else code),
            secret=self._ids.token_bytes(32),
            hosts=hosts or (known.hosts if known else tuple(filter(self.ca.may_sign, LOOPBACK_HOSTS))),
        )
        expires = self._clock.now() + timedelta(hours=self.config.invitation_hours)
        by = self.acts.operator(by)
        async with self.acts.act(by, "invite", code):
            await self.store.invite(new, secret, expires)
        await self.refresh()
        if authorities:
            await self.authorities.agree(code, authorities, shared=shared, by=by)
        return Invitation(url=url.rstrip("/"), pin=self.ca.pin, code=code, secret=secret).text()

    async def suspend(self, code: str, reason: str, *, by: Caller | None = None) -> Member:
        """Cut a member off, everywhere within five seconds.

        Raises:
            NotFound: if there is no such member.
        """
        async with self.acts.act(by, "suspend", code, reason=reason):
            row = await self.store.set_status(code, "suspended", reason)
        await self.refresh()
        return row.member

    async def readmit(self, code: str, *, new_key: bool = False, by: Caller | None = None) -> Member:
        """Let a suspended member in again. A certificate that ended meanwhile needs a new invitation.

        Args:
            code: Whom.
            new_key: Withdraw all certificates that it was given, as its key may be in other hands: it joins
                anew, by an invitation.
            by: Who does.

        Raises:
            NotFound: if there is no such member.
        """
        known = await self.store.by_code(code)
        if known is not None and known.member.status != "suspended" and not new_key:
            return known.member
        async with self.acts.act(by, "readmit", code, certificates="withdrawn" if new_key else ""):
            if new_key and known is not None:
                await self.renewals.withdraw_all(known.member)
            row = await self.store.set_status(code, "active", "")
            await self.alarms.seen(row.member)
        await self.refresh()
        return row.member

    async def alarms_seen(self, code: str, *, by: Caller | None = None) -> int:
        """Somebody has looked at a member's alarms; how many there were.

        Raises:
            NotFound: if there is no such member.
        """
        member = self.by_code(code)
        if member is None:
            raise NotFound(f"There is no member {code}.", todo="Look at the list of members.")
        async with self.acts.act(by, "operate", code, alarms="seen"):
            return await self.alarms.seen(member)

    # --- the directory as the nodes see it ------------------------------------------------------------------

    def signed_directory(self) -> tuple[int, str]:
        """Version and JWS; signed anew when members changed or a quarter of its life is over."""
        now = self._clock.now()
        issued, signed, token = self._signed
        life_s = self.config.directory_hours * 3600
        if issued != self._directory_issued or not 0 <= now.timestamp() - signed < life_s / 4:
            document = directory_document(
                self.all(),
                self.issued,
                self.region,
                self.keys,
                version=self._version,
                issued=self._directory_issued,
                expires=int(now.timestamp() + max(1, life_s)),
            )
            token = sign_directory(document, self.keys)
            self._signed = (self._directory_issued, now.timestamp(), token)
        return self._version, token
