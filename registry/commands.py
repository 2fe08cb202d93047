"""What operators do to a registry's folder from the command line, whether the service runs or not: they meet in the database."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from crosslight.runtime.audit import AuditLog
from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.db import Db, open_db
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.tokens import TokenSigner
from crosslight.standards.access import ROLES, Principal
from crosslight.standards.problem import Invalid
from crosslight.standards.region import Region
from registry.access.keys import TokenKeys
from registry.config import RegistryConfig, read_config
from registry.members.service import MemberService

TOKEN_HOURS = 12


@dataclass(frozen=True, slots=True)
class Offline:
    """The parts of a registry that commands act on."""

    folder: Path
    config: RegistryConfig
    region: Region
    db: Db
    audit: AuditLog
    members: MemberService

    @property
    def people_url(self) -> str:
        """Base of the people listener, as others reach it."""
        listen = self.config.listen
        return f"{'http' if listen.open else 'https'}://{listen.public_host}:{listen.people_port}"


@asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Offline]:
    """Open the folder's databases and the members' room, without serving."""
    config = read_config(folder)
    region = config.region.region()
    clock, ids, files = SystemClock(), SystemIds(), SystemFiles()
    db = open_db(config.database.url, base=folder)
    audit_db = open_db(config.database.audit_url, base=folder)
    audit = AuditLog(audit_db, clock)
    try:
        await audit.open()
        keys = TokenKeys(folder / "keys" / "token.json", files)
        members = MemberService(db, region, folder, config.members, clock, ids, files, keys, audit, open_mode=config.listen.open)
        await members.open()
        yield Offline(folder, config, region, db, audit, members)
    finally:
        await db.close()
        await audit_db.close()


async def invite(folder: Path, code: str, *, name: str = "", hosts: tuple[str, ...] = ()) -> str:
    """An invitation for the organisation ``code``."""
    async with opened(folder) as offline:
        return await offline.members.invite(code, offline.people_url, name=name, hosts=hosts)


async def issue_token(folder: Path, *, role: str, user: str, organisation: str = "", hours: float = TOKEN_HOURS) -> str:
    """An access token for an app or a person (D21), signed by the region's token key.

    Raises:
        Invalid: for a role that is not one a token may carry.
    """
    if role not in ROLES or role in ("open", "gateway", "member"):
        raise Invalid(f"No token may carry the role {role!r}.", todo=f"One of: {', '.join(sorted(ROLES))}.")
    async with opened(folder) as offline:
        signer = TokenSigner(offline.members.keys.signing, offline.region.home_community_id, SystemClock(), SystemIds())
        principal = Principal(subject=user, name=user, roles=frozenset({role}), organisation=organisation)
        await offline.members.note(principal, f"token issued: {role}", user)
        return signer.access(principal, audience=offline.region.home_community_id, ttl_s=int(hours * 3600))
