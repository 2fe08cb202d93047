"""All that opens the registry and was given to somebody: listed, and ended before its time (ADR 0036)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, get_args

from crosslight.runtime.tls import Identity
from crosslight.standards.problem import Conflict, NotFound
from registry.access.session_list import SessionList
from registry.members.credential_store import CredentialStore
from registry.members.last_use import Used
from registry.members.service import MemberService
from registry.members.systems import granted_text

CredentialKind = Literal["session", "token", "certificate", "invitation", "system"]
KINDS: tuple[str, ...] = get_args(CredentialKind)
SHOWN = 12  # characters of an id
_LEAST = 6  # of one that is understood


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """One credential.

    ``id`` opens nothing: of a session and an invitation a hash, of a token its ``jti``, of a certificate its
    serial number. ``used`` is when it was used last here, to the minute, where it was.
    """

    kind: CredentialKind
    id: str
    whom: str
    may: str = ""
    since: datetime
    until: datetime | None = None
    used: datetime | None = None
    withdrawn: bool = False


class IssuedCredentials:
    """Lists and ends credentials.

    Args:
        members: Whose store has certificates, systems, tokens and invitations.
        sessions: Of people.
    """

    def __init__(self, members: MemberService, sessions: SessionList) -> None:
        self._members, self._sessions = members, sessions

    @property
    def _store(self) -> CredentialStore:
        return self._members.store.credentials

    async def all(self) -> list[Listed]:
        """Everything that has not ended by itself."""
        sessions = [
            Listed(
                kind="session",
                id=session.id,
                whom=session.subject,
                may=", ".join(session.roles),
                since=session.created,
                until=session.ends,
                used=session.seen,
            )
            for session in await self._sessions.sessions()
        ]
        used = await self._members.last_use.all()
        tokens = [
            Listed(
                kind="token",
                id=token.token_id,
                whom=token.subject,
                may=granted_text(token.grants) if token.role == "integrator" else token.role,
                since=token.issued,
                until=token.expires,
                used=used.get(("token", token.token_id)),
                withdrawn=token.withdrawn,
            )
            for token in await self._store.tokens()
        ]
        invitations = [
            Listed(kind="invitation", id=one.id, whom=f"member:{one.code}", since=one.made, until=one.expires)
            for one in await self._store.invitations()
        ]
        return [*sessions, *tokens, *await self._certificates(used), *invitations, *self._systems()]

    async def _certificates(self, used: Mapping[Used, datetime]) -> list[Listed]:
        return [
            Listed(
                kind="certificate",
                id=certificate.serial,
                whom=_subject(certificate.identity),
                since=certificate.issued,
                until=certificate.expires,
                used=used.get(("certificate", certificate.serial)),
                withdrawn=certificate.withdrawn,
            )
            for certificate in await self._store.certificates()
        ]

    def _systems(self) -> list[Listed]:
        return [
            Listed(
                kind="system",
                id=system.name,
                whom=f"system:{system.name}",
                may=granted_text(system.grants) + (" (by the upgrade)" if system.upgrade else ""),
                since=system.since,
            )
            for system in self._members.issued.systems.values()
        ]

    async def end(self, kind: CredentialKind, named: str) -> Listed:
        """End one, everywhere within seconds; what it was.

        Args:
            kind: Of what kind.
            named: Its id, or how that begins.

        Raises:
            NotFound: there is none. Conflict: several begin so.
        """
        return (await self._ended(_one(await self.all(), kind, named)))[0]

    async def end_user(self, subject: str) -> list[Listed]:
        """End all sessions and tokens of a person or an app, as when they leave; what there was.

        Args:
            subject: As the audit shows it; of a token with or without ``token:``.

        Raises:
            NotFound: they have none.
        """
        names = {subject, f"token:{subject}"}
        theirs = [
            credential
            for credential in await self.all()
            if credential.whom in names
            and credential.kind in ("session", "token")
            and not credential.withdrawn
        ]
        if not theirs:
            raise NotFound(
                "Nobody of this name has a session or a token.",
                todo="Look at: crosslight-registry credentials",
            )
        return await self._ended(theirs)

    async def _ended(self, credentials: Sequence[Listed]) -> list[Listed]:
        for credential in credentials:
            acts = self._members.acts
            async with acts.act(
                None, "end-credential", credential.whom, kind=credential.kind, credential=credential.id
            ):
                await self._end(credential)
        await self._members.refresh()
        return list(credentials)

    async def _end(self, credential: Listed) -> None:
        match credential.kind:
            case "session":
                await self._sessions.end([credential.id])
            case "invitation":
                await self._store.end_invitation(credential.id)
            case "system":
                await self._store.end_system(credential.id)
            case "token" | "certificate":
                assert credential.until is not None  # noqa: S101 - both end by themselves
                await self._store.withdraw(credential.kind, credential.id, credential.until)


def _one(credentials: Sequence[Listed], kind: CredentialKind, named: str) -> list[Listed]:
    text = named.strip() if kind == "system" else named.strip().lower()
    fits: Callable[[str], bool] = (
        text.__eq__ if kind == "system" or len(text) < _LEAST else lambda known: known.startswith(text)
    )
    alike = [credential for credential in credentials if credential.kind == kind and fits(credential.id)]
    if not alike:
        raise NotFound(f"There is no such {kind}.", todo="Look at: crosslight-registry credentials")
    if len(alike) > 1:
        raise Conflict(f"Several ids begin so, of kind {kind}.", todo="Give more of it.")
    return alike


def _subject(uri: str) -> str:
    identity = Identity.parse(uri)
    return uri if identity is None else f"{identity.kind}:{identity.name}".rstrip(":")
