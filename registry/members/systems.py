"""Outside systems of the region: their certificates, and what each was granted (ADR 0036)."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock
from crosslight.runtime.tls import Identity
from crosslight.standards.access import CAPABILITIES, INTEGRATOR, Grants, Principal
from crosslight.standards.ids import is_strict_uid
from crosslight.standards.problem import Invalid, NotFound
from registry.members.audited_acts import MemberActs
from registry.members.certificates import OwnCertificates, SystemCertificate
from registry.members.model import System
from registry.members.roster import Roster

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,31}\Z")
NOTHING = Grants()
#: What each capability is for some data only needs beside it: the option, and the field of :class:`Grants`.
_SCOPES = {
    "feed": ("--feeds OID", "authorities"),
    "publish": ("--publishes OID", "repositories"),
    "store": ("--stores-at CODE", "store_at"),
}


def asked_grants(
    may: tuple[str, ...] = (),
    feeds: tuple[str, ...] = (),
    publishes: tuple[str, ...] = (),
    stores_at: str = "",
) -> Grants:
    """What an operator grants, as said on the command line: whose data implies what is done to them.

    Args:
        may: Capabilities, also several in one text with commas.
        feeds: Patient authorities.
        publishes: repositoryUniqueIds.
        stores_at: The code of one member.
    """
    named = {word.strip() for text in may for word in text.split(",") if word.strip()}
    if unknown := sorted(named - set(CAPABILITIES)):
        raise Invalid(
            "That is nothing that can be granted.",
            todo=f"Grant some of {', '.join(CAPABILITIES)}.",
            where=", ".join(unknown),
        )
    named |= {"feed"} if feeds else set()
    named |= {"publish"} if publishes else set()
    named |= {"store"} if stores_at else set()
    return Grants(
        capabilities=frozenset(named),
        authorities=frozenset(feeds),
        repositories=frozenset(publishes),
        store_at=stores_at,
    )


def granted_text(grants: Grants) -> str:
    """What was granted, in a line; ``*`` is whosever data."""
    scopes = {
        "feed": ", ".join(sorted(grants.authorities)),
        "publish": ", ".join(sorted(grants.repositories)),
        "store": grants.store_at,
    }
    parts = [
        f"{capability} for {scopes[capability]}" if scopes.get(capability) else capability
        for capability in CAPABILITIES
        if capability in grants.capabilities
    ]
    return "; ".join(parts) or "nothing"


class OutsideSystems:
    """Issues to outside systems, and says what they may do.

    Args:
        members: The copy that is read anew after each change.
        acts: Makes the act in the audit.
        own: Issues the certificates.
        clock: Time.
    """

    def __init__(self, members: Roster, acts: MemberActs, own: OwnCertificates, clock: Clock) -> None:
        self._members, self._acts, self._own, self._clock = members, acts, own, clock

    def check(self, grants: Grants) -> None:
        """Whether these can be granted: whose data they are about must be known here.

        Raises:
            Invalid: if not.
        """
        for capability, (option, field) in _SCOPES.items():
            if capability in grants.capabilities and not getattr(grants, field):
                raise Invalid(f"{capability!r} is granted for somebody's data.", todo=f"Say whose: {option}.")
        members = self._members
        region = members.region
        for authority in grants.authorities:
            known = authority in region.nationals or authority == region.authority
            if not known and members.by_authority(authority) is None:
                raise Invalid(
                    "No patient numbers of this region are under that authority.",
                    todo="Give one that `crosslight-registry members` lists, or a national one.",
                    where=authority,
                )
        for repository in grants.repositories:
            if not is_strict_uid(repository):
                raise Invalid(
                    "A repositoryUniqueId that is not an OID.", why="ITI TF-3 4.2.3.2.18.", where=repository
                )
            members.check_foreign(repository)
        if grants.store_at and members.by_code(grants.store_at) is None:
            raise Invalid(
                f"There is no member {grants.store_at}.",
                todo="Give a code that `crosslight-registry members` lists.",
            )

    async def grant(
        self, name: str, more: Grants = NOTHING, *, revoke: bool = False, by: Caller | None = None
    ) -> System:
        """Grant a system more; the system as it is then.

        Args:
            name: Its name.
            more: Beside what it has. What it has by an upgrade is replaced, and so is the member that it may
                store into.
            revoke: Take away what it has first.
            by: Who does.

        Raises:
            Invalid: if there is no such system, or these cannot be granted.
        """
        if not _NAME.match(name):
            raise Invalid(
                "That is no name for a system.",
                why="Letters, digits, dot, hyphen and underscore; at most 32.",
            )
        self.check(more)
        known = self._members.system(name)
        if known is None or revoke or more != NOTHING:
            kept = known.grants if known is not None and not revoke and not known.upgrade else NOTHING
            grants = kept.plus(more)
            async with self._acts.act(by, "grant", f"system/{name}", grants=granted_text(grants)):
                await self._members.store.credentials.set_grants(name, grants)
            await self._members.refresh()
        system = self._members.system(name)
        if system is None:
            raise NotFound(f"There is no system {name}.")
        return system

    async def issue(
        self,
        name: str,
        folder: Path,
        more: Grants = NOTHING,
        *,
        revoke: bool = False,
        by: Caller | None = None,
    ) -> SystemCertificate:
        """A certificate for an outside system, as files in ``folder``; a new system may do nothing.

        Raises:
            Invalid: if ``name`` is none, or this cannot be granted.
        """
        await self.grant(name, more, revoke=revoke, by=by)
        members = self._members
        async with self._acts.act(by, "issue-certificate", f"system/{name}"):
            files, serial = self._own.issue_system(name, folder)
            identity = Identity("system", name, members.region.home_community_id)
            expires = self._clock.now() + timedelta(days=members.config.system_certificate_days)
            await members.store.credentials.certificate(serial, identity.uri, None, expires)
        return files


def app_principal(user: str, role: str, organisation: str = "", grants: Grants = NOTHING) -> Principal:
    """Whom an access token stands for: never a person's own name (the audit shows ``token:`` before it).

    Raises:
        Invalid: grants beside a role that needs none.
    """
    if grants != NOTHING and role != INTEGRATOR:
        raise Invalid(f"The role {role} needs no grants.", todo=f"Grants are for --role {INTEGRATOR} alone.")
    subject = user if user.startswith("token:") else f"token:{user}"
    return Principal(
        subject=subject, name=user, roles=frozenset({role}), organisation=organisation, grants=grants
    )
