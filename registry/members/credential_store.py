"""The tables of what the region has issued, and of what was ended before its time.

Certificates, what outside systems were granted, tokens. SQL in named methods; authoritative (D8).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import orjson

from crosslight.runtime.clock import Clock
from crosslight.runtime.db import Db, Row, Tx
from crosslight.runtime.tls import Identity
from crosslight.standards.access import Grants
from crosslight.standards.ids import MemberId
from registry.members.model import System

WithdrawnKind = Literal["token", "certificate"]


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedCertificate:
    """A certificate that was issued; ``serial`` as :class:`registry.members.ca.Issued` writes it."""

    serial: str
    identity: str  # URI
    member: MemberId | None
    issued: datetime
    expires: datetime
    withdrawn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """An access token that a command issued: what is known of it, never the token."""

    token_id: str
    subject: str
    role: str
    organisation: str
    grants: Grants
    issued: datetime
    expires: datetime
    withdrawn: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenInvitation:
    """An invitation that may still be used; ``id`` is the beginning of its secret's hash."""

    id: str
    code: str
    name: str
    made: datetime
    expires: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class CredentialFacts:
    """What every process asks of credentials at each call, and what the directory tells the nodes."""

    systems: dict[str, System] = field(default_factory=dict)
    withdrawn_tokens: frozenset[str] = frozenset()
    withdrawn_certificates: frozenset[str] = frozenset()


def _changed(tx: Tx) -> None:
    """Every process and every node must hear of it (D25)."""
    tx.execute("UPDATE membership_counter SET value = value + 1 WHERE name = 'version'")


def _plain(grants: Grants) -> str:
    return orjson.dumps(grants.plain(), option=orjson.OPT_SORT_KEYS).decode()


def _grants(text: str) -> Grants:
    return Grants.from_plain(orjson.loads(text))


_WITHDRAWN = "EXISTS (SELECT 1 FROM withdrawn_credential w WHERE w.kind = ? AND w.id = "


class CredentialStore:
    """Certificates, grants and tokens of the region."""

    def __init__(self, db: Db, clock: Clock, community: str) -> None:
        self._db, self._clock, self._community = db, clock, community

    def _now(self) -> str:
        return self._clock.now().isoformat()

    async def facts(self) -> CredentialFacts:
        """What stands now. What ended by itself is not among what was withdrawn."""
        now = self._now()

        def read(tx: Tx) -> CredentialFacts:
            systems = [
                (
                    identity.name,
                    System(
                        name=identity.name, grants=_grants(row[1]), since=_at(row[2]), upgrade=bool(row[3])
                    ),
                )
                for row in tx.rows(
                    "SELECT identity, grants, since, upgrade FROM system_grant ORDER BY identity"
                )
                if (identity := Identity.parse(row[0])) is not None
            ]
            ended: dict[str, set[str]] = {"token": set(), "certificate": set()}
            for kind, credential_id in tx.rows(
                "SELECT kind, id FROM withdrawn_credential WHERE ends > ?", (now,)
            ):
                ended[kind].add(credential_id)
            return CredentialFacts(
                systems=dict(systems),
                withdrawn_tokens=frozenset(ended["token"]),
                withdrawn_certificates=frozenset(ended["certificate"]),
            )

        return await self._db.read("credential_facts", read)

    # --- systems --------------------------------------------------------------------------------------------

    async def set_grants(self, name: str, grants: Grants) -> None:
        """What a system may do from now on."""
        uri, now, text = Identity("system", name, self._community).uri, self._now(), _plain(grants)

        def write(tx: Tx) -> None:
            tx.execute(
                "INSERT INTO system_grant VALUES (?, ?, ?, 0) ON CONFLICT (identity) DO UPDATE SET grants ="
                " excluded.grants, since = excluded.since, upgrade = 0",
                (uri, text, now),
            )
            _changed(tx)

        await self._db.write("system_grants", write)

    async def end_system(self, name: str) -> list[str]:
        """Forget what a system may do, and withdraw its certificates; their serial numbers."""
        uri, now = Identity("system", name, self._community).uri, self._now()

        def write(tx: Tx) -> list[str]:
            tx.execute("DELETE FROM system_grant WHERE identity = ?", (uri,))
            sql = "SELECT serial, expires FROM certificate WHERE identity = ? AND expires > ?"
            ended = [(str(row[0]), str(row[1])) for row in tx.rows(sql, (uri, now))]
            for serial, ends in ended:
                self._withdraw_tx(tx, "certificate", serial, ends)
            _changed(tx)
            return [serial for serial, _ in ended]

        return await self._db.write("system_end", write)

    # --- certificates ---------------------------------------------------------------------------------------

    async def certificate(
        self, serial: str, identity: str, member: MemberId | None, expires: datetime
    ) -> None:
        """Note a certificate that was issued; told twice is told once."""
        row = (serial, identity, member, self._now(), expires.isoformat())
        await self._db.write(
            "certificate_note",
            lambda tx: tx.execute(
                "INSERT INTO certificate VALUES (?, ?, ?, ?, ?) ON CONFLICT (serial) DO NOTHING", row
            ),
        )

    async def certificate_ends(self) -> dict[MemberId, datetime]:
        """When the newest certificate of each member ends."""
        sql = "SELECT member, max(expires) FROM certificate WHERE member IS NOT NULL GROUP BY member"
        rows = await self._db.read("certificate_ends", lambda tx: tx.rows(sql))
        return {MemberId(int(row[0])): datetime.fromisoformat(row[1]) for row in rows}

    async def certificates(self) -> list[IssuedCertificate]:
        """Those that have not ended by themselves, oldest first."""
        sql = (
            f"SELECT serial, identity, member, issued, expires, {_WITHDRAWN} serial) FROM certificate WHERE"
            " expires > ? ORDER BY issued, serial"
        )
        rows = await self._db.read("certificates", lambda tx: tx.rows(sql, ("certificate", self._now())))
        return [
            IssuedCertificate(
                serial=row[0],
                identity=row[1],
                member=MemberId(int(row[2])) if row[2] is not None else None,
                issued=_at(row[3]),
                expires=_at(row[4]),
                withdrawn=bool(row[5]),
            )
            for row in rows
        ]

    # --- tokens ---------------------------------------------------------------------------------------------

    async def token(self, token: IssuedToken) -> None:
        """Note a token that is given; those that ended long ago go at this occasion."""
        now = self._now()
        row = (
            token.token_id,
            token.subject,
            token.role,
            token.organisation,
            _plain(token.grants),
            token.issued.isoformat(),
            token.expires.isoformat(),
        )

        def write(tx: Tx) -> None:
            tx.execute("DELETE FROM issued_token WHERE expires <= ?", (now,))
            tx.execute("DELETE FROM withdrawn_credential WHERE ends <= ?", (now,))
            tx.execute("INSERT INTO issued_token VALUES (?, ?, ?, ?, ?, ?, ?)", row)

        await self._db.write("token_note", write)

    async def tokens(self) -> list[IssuedToken]:
        """Those that have not ended by themselves, oldest first."""
        sql = (
            "SELECT token_id, subject, role, organisation, grants, issued, expires,"
            f" {_WITHDRAWN} token_id) FROM issued_token WHERE expires > ? ORDER BY issued, token_id"
        )
        rows = await self._db.read("tokens", lambda tx: tx.rows(sql, ("token", self._now())))
        return [_token(row) for row in rows]

    # --- ending ---------------------------------------------------------------------------------------------

    async def withdraw(self, kind: WithdrawnKind, credential_id: str, ends: datetime) -> None:
        """End a token or a certificate before its time, everywhere."""

        def write(tx: Tx) -> None:
            self._withdraw_tx(tx, kind, credential_id, ends.isoformat())
            _changed(tx)

        await self._db.write("credential_withdraw", write)

    def _withdraw_tx(self, tx: Tx, kind: WithdrawnKind, credential_id: str, ends: str) -> None:
        sql = "INSERT INTO withdrawn_credential VALUES (?, ?, ?, ?) ON CONFLICT (kind, id) DO NOTHING"
        tx.execute(sql, (kind, credential_id, ends, self._now()))

    # --- invitations ----------------------------------------------------------------------------------------

    async def invitations(self) -> list[OpenInvitation]:
        """Those that may still be used, oldest first."""
        sql = (
            "SELECT i.secret_hash, c.code, m.name, i.made, i.expires FROM invitation i JOIN member m ON"
            " m.id = i.member LEFT JOIN member_code c ON c.member = m.id AND c.valid_until IS NULL WHERE"
            " i.used IS NULL AND i.expires > ? ORDER BY i.made, i.secret_hash"
        )
        rows = await self._db.read("invitations", lambda tx: tx.rows(sql, (self._now(),)))
        return [
            OpenInvitation(id=row[0], code=row[1] or "", name=row[2], made=_at(row[3]), expires=_at(row[4]))
            for row in rows
        ]

    async def end_invitation(self, secret_hash: str) -> None:
        """An invitation that nobody can use any more."""
        sql = "UPDATE invitation SET used = ? WHERE secret_hash = ? AND used IS NULL"
        await self._db.write("invitation_end", lambda tx: tx.execute(sql, ("withdrawn", secret_hash)))


def _at(text: str) -> datetime:
    return datetime.fromisoformat(text)


def _token(row: Row) -> IssuedToken:
    return IssuedToken(
        token_id=row[0],
        subject=row[1],
        role=row[2],
        organisation=row[3],
        grants=_grants(row[4]),
        issued=_at(row[5]),
        expires=_at(row[6]),
        withdrawn=bool(row[7]),
    )
