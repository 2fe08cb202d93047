"""What operators do to a registry's folder from the command line, whether the service runs or not.

Command and service meet in the database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

from rich.console import Console

from crosslight.runtime.audit import About, AuditLog, keeping
from crosslight.runtime.audit.command import AuditQuery, print_audit
from crosslight.runtime.audit.months import make_months
from crosslight.runtime.caller import command_line
from crosslight.runtime.db import Db
from crosslight.runtime.operators import AT_THE_MACHINE
from crosslight.runtime.seams import Seams, system_seams
from crosslight.standards.access import Grants
from crosslight.standards.problem import ConfigError, Invalid, NotFound
from crosslight.standards.region import Region
from registry.access.tokens import AccessTokens
from registry.config import RegistryConfig, people_url, read_config
from registry.members.certificates import SystemCertificate
from registry.members.credential_store import IssuedToken
from registry.members.model import Member, System
from registry.members.printing import identifiers_table, members_table
from registry.members.service import LOOPBACK_HOSTS, MemberService
from registry.members.systems import NOTHING, app_principal, granted_text
from registry.parts import Ground, make_ground, make_members

TOKEN_HOURS = 12


@dataclass(frozen=True, slots=True)
class Offline:
    """The parts of a registry that commands act on."""

    folder: Path
    ground: Ground
    members: MemberService
    audit_db: Db

    @property
    def config(self) -> RegistryConfig:
        """What the file says."""
        return self.ground.config

    @property
    def region(self) -> Region:
        """The region and its names."""
        return self.ground.region

    @property
    def db(self) -> Db:
        """Of index, persons and members."""
        return self.ground.db

    @property
    def audit(self) -> AuditLog:
        """Who did what."""
        return self.ground.audit

    @property
    def people_url(self) -> str:
        """Base of the people listener, as others reach it."""
        return people_url(self.config)


@asynccontextmanager
async def opened(folder: Path, seams: Seams | None = None) -> AsyncIterator[Offline]:
    """Open the folder's databases and the members' room, without serving.

    ``seams``: the world outside, whose workers end with it; None: the real one.
    """
    config = read_config(folder)
    seams = seams or system_seams()
    db = seams.databases.open(config.database.url, base=folder)
    audit_db = seams.databases.open(config.database.audit_url, base=folder)
    ground = make_ground(seams, config, db, audit_db)
    try:
        await ground.audit.open()
        members = make_members(ground, folder)
        await members.open()
        yield Offline(folder, ground, members, audit_db)
    finally:
        await db.close()
        await audit_db.close()
        await seams.workers.close()


async def invite(folder: Path, code: str, *, name: str = "", hosts: tuple[str, ...] = ()) -> str:
    """An invitation for the organisation ``code``."""
    return (await invited(folder, code, name=name, hosts=hosts)).text


@dataclass(frozen=True, slots=True)
class Invited:
    """An invitation, and what its sender should know of it."""

    text: str
    notes: tuple[str, ...]


async def invited(
    folder: Path,
    code: str,
    *,
    name: str = "",
    hosts: tuple[str, ...] = (),
    authorities: tuple[str, ...] = (),
    shared: bool = False,
) -> Invited:
    """As :meth:`invite`, with notes."""
    async with opened(folder) as offline:
        text = await offline.members.invite(
            code, offline.people_url, name=name, hosts=hosts, authorities=authorities, shared=shared
        )
        expires = offline.ground.seams.clock.now() + timedelta(hours=offline.config.members.invitation_hours)
        member = offline.members.by_code(code)
        row = offline.members.row(member.id) if member is not None else None
        url = offline.people_url
    notes = [f"Joins {url}, once, until {expires:%Y-%m-%d %H:%M} UTC."]
    if urlsplit(url).hostname in LOOPBACK_HOSTS:
        notes.append(
            "WARNING: other machines cannot reach that address. Set listen.public_host in registry.toml and"
            " invite again."
        )
    if row is not None and set(row.hosts) <= set(LOOPBACK_HOSTS):
        notes.append(
            "WARNING: its certificate will name localhost only. Give the names of the node: --host NAME."
        )
    if member is not None:
        own = ", ".join(member.authorities) or f"{member.authority} (allotted; its own: --authority OID)"
        notes.append(f"Its patient numbers are under {own}.")
    return Invited(text, tuple(notes))


async def authority(folder: Path, code: str, oid: str, *, agree: bool, shared: bool) -> Member:
    """Agree to a patient authority of a member, or withdraw it; the member as it is then."""
    async with opened(folder) as offline:
        if agree:
            return await offline.members.authorities.agree(
                code, (oid,), shared=shared, by=command_line(offline.ground.seams.ids)
            )
        return await offline.members.authorities.withdraw(
            code, oid, by=command_line(offline.ground.seams.ids)
        )


async def source(folder: Path, oid: str, *, name: str, repository_url: str, dicomweb: str) -> Member:
    """Say what a source that is no member is called and where it answers; the source as it is then."""
    async with opened(folder) as offline:
        return await offline.members.sources.describe(
            oid,
            name=name,
            repository_url=repository_url,
            dicomweb=dicomweb,
            by=command_line(offline.ground.seams.ids),
        )


async def issue_token(
    folder: Path,
    *,
    role: str,
    user: str,
    organisation: str = "",
    hours: float = TOKEN_HOURS,
    member: str = "",
    grants: Grants = NOTHING,
) -> str:
    """An access token for an app or a person (D21), signed by the region's token key, and noted by its id.

    Args:
        folder: The registry's.
        role: What it may do; an ``integrator`` only what ``grants`` say.
        user: Whom or what it stands for, as ``token:USER``.
        organisation: Organisation code.
        hours: How long it holds.
        grants: Of an app.

    It is for the registry, or for the one member whose code is given.

    Raises:
        Invalid: for a role that no token may carry, grants that cannot be given, no such member.
    """
    principal = app_principal(user, role, organisation, grants)
    async with opened(folder) as offline:
        members, seams = offline.members, offline.ground.seams
        if member and member not in {known.code for known in members.all()}:
            raise Invalid("There is no such member.", todo="See crosslight-registry members.", where=member)
        members.systems.check(grants)
        tokens = AccessTokens(members.keys, offline.region, offline.config.access, seams.clock, seams.ids)
        now, token_id = seams.clock.now(), seams.ids.uuid4().hex
        noted = IssuedToken(
            token_id=token_id,
            subject=principal.subject,
            role=role,
            organisation=organisation,
            grants=grants,
            issued=now,
            expires=now + timedelta(hours=hours),
        )
        may = granted_text(grants) if grants != NOTHING else ""
        subject = principal.subject
        async with members.acts.act(
            None, "issue-token", subject, role=role, audience=member, token=token_id, grants=may
        ):
            token = tokens.issue_access_token(principal, hours=hours, member=member, token_id=token_id)
            await members.store.credentials.token(noted)
            return token


async def show_members(folder: Path, console: Console) -> None:
    """Print every member: status, link, freshness."""
    async with opened(folder) as offline:
        ends = await offline.members.store.credentials.certificate_ends()
        tables = (
            members_table(
                offline.members,
                ends,
                offline.ground.seams.clock.now(),
                await offline.members.alarms.standing(),
            ),
            identifiers_table(offline.members),
        )
    for table in tables:
        console.print(table)


async def suspend(folder: Path, code: str, reason: str) -> None:
    """Cut a member off; a running registry sees it within a second."""
    async with opened(folder) as offline:
        await offline.members.suspend(code, reason)


async def readmit(folder: Path, code: str, *, new_key: bool = False) -> None:
    """Let a suspended member in again; with ``new_key`` none of its certificates of before."""
    async with opened(folder) as offline:
        await offline.members.readmit(code, new_key=new_key)


async def alarms_seen(folder: Path, code: str) -> int:
    """Somebody has looked at a member's alarms; how many there were.

    Raises:
        NotFound: if there is no such member.
    """
    async with opened(folder) as offline:
        return await offline.members.alarms_seen(code)


async def system(
    folder: Path, name: str, target: Path | None, grants: Grants = NOTHING, *, revoke: bool = False
) -> tuple[SystemCertificate | None, System]:
    """Grant an outside system more, or less; and a client certificate for it where ``target`` is a folder."""
    async with opened(folder) as offline:
        members, files = offline.members, None
        if target is None:
            if members.system(name) is None:
                raise NotFound(
                    f"There is no system {name}.", todo=f"Make its certificate: system {name} FOLDER."
                )
            return None, await members.systems.grant(name, grants, revoke=revoke)
        files = await members.systems.issue(name, target, grants, revoke=revoke)
        return files, await members.systems.grant(name)


async def audit(folder: Path, wanted: AuditQuery, console: Console) -> None:
    """Print who asked for images."""
    async with opened(folder) as offline:
        await print_audit(offline.audit, wanted, console, command_line(offline.ground.seams.ids))


async def migrate_audit(folder: Path) -> str:
    """Make or upgrade the audit's tables as their owner, and let the service's role add and read; that role.

    Raises:
        ConfigError: no owner is configured.
        Invalid: the owner is the service's own role.
    """
    config, seams = read_config(folder), system_seams()
    if not config.database.audit_owner_url:
        raise ConfigError(
            "The audit has no owner of its own.",
            todo="Set database.audit_owner_url, or go on: the service makes its tables itself.",
            where="database.audit_owner_url",
        )
    service = seams.databases.open(config.database.audit_url, base=folder)
    owner = seams.databases.open(config.database.audit_owner_url, base=folder)
    try:
        role = await service.read("role", lambda tx: tx.role())
        if role == await owner.read("role", lambda tx: tx.role()):
            raise Invalid(
                f"The audit's owner is the service's own role, {role!r}.",
                todo="Make another role: see operations.md, PostgreSQL.",
            )
        audit = AuditLog(owner, seams.clock)
        await audit.open()
        about, by = About(query={"act": "migrate", "role": role}), command_line(seams.ids)
        async with audit.act(by, "admin", "operate", about, decision=AT_THE_MACHINE):
            await keeping.grant(owner, role)
        await make_months(owner)
    finally:
        await service.close()
        await owner.close()
        await seams.workers.close()
    return role


async def expire_audit(folder: Path, before: str, *, dry_run: bool) -> keeping.Expired:
    """Remove the acts from before a day, as the audit's owner; what they were."""
    config, seams = read_config(folder), system_seams()
    url = config.database.audit_owner_url or config.database.audit_url
    db = seams.databases.open(url, base=folder)
    try:
        await AuditLog(db, seams.clock).open()
        kept = keeping.Keeping(db, seams.clock, config.audit.keep_years)
        return await (kept.look(before) if dry_run else kept.expire(before, command_line(seams.ids)))
    finally:
        await db.close()
        await seams.workers.close()
