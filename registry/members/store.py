"""The tables of membership: SQL in named methods, nothing else. Authoritative (D8).

Presence, which is not, has its own methods in :mod:`registry.members.presence_store`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from datetime import datetime

import orjson

from crosslight.runtime.clock import Clock
from crosslight.runtime.db import Db, Row, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate
from crosslight.standards.ids import MemberId, Oid
from crosslight.standards.membership import Endpoints
from crosslight.standards.problem import Conflict, Forbidden, Gone, NotFound, Unauthenticated
from crosslight.standards.region import Region
from registry.members.authority_rows import OwnAuthorities, held_tx
from registry.members.codes import refuse_another_case_tx
from registry.members.credential_store import CredentialStore
from registry.members.directory_issue import DirectoryIssue
from registry.members.model import Member

SCHEMA = SchemaVersion("members", schema=7, compat=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberRow:
    """A member as stored, with what other rooms do not need."""

    member: Member
    hosts: tuple[str, ...]
    state_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMember:
    """What a new member starts with."""

    code: str
    name: str
    secret: bytes
    hosts: tuple[str, ...]


def secret_hash(secret: str) -> str:
    """How an invitation's secret is stored: it has 256 random bits, so a plain hash cannot be guessed."""
    return hashlib.sha256(secret.encode()).hexdigest()


def _moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


_MEMBER = (
    "SELECT m.id, c.code, m.name, m.repository_unique_id, m.retrieve_location_uid, m.authority, m.secret,"
    " m.epoch, m.state_id, m.status, m.status_since, m.status_reason, m.hosts, m.endpoints FROM member m LEFT"
    " JOIN member_code c ON c.member = m.id AND c.valid_until IS NULL"
)


def _member(row: Row) -> MemberRow:
    member = Member(
        id=MemberId(int(row[0])),
        code=row[1] or f"foreign-{row[0]}",
        name=row[2],
        repository_unique_id=Oid(row[3]),
        retrieve_location_uid=Oid(row[4]),
        authority=Oid(row[5]),
        secret=bytes.fromhex(row[6]),
        epoch=int(row[7]),
        status=row[9],
        status_since=_moment(row[10]),
        status_reason=row[11],
        endpoints=Endpoints.from_plain(orjson.loads(row[13])),
    )
    return MemberRow(member=member, hosts=tuple(orjson.loads(row[12])), state_id=row[8])


def _with(row: MemberRow, own: OwnAuthorities | None) -> MemberRow:
    return replace(row, member=replace(row.member, authorities=own.agreed, asked=own.asked)) if own else row


class MemberStore:
    """Members, their codes and invitations.

    Attributes:
        credentials: What was issued to members and others.
        directory_issue: When the signed directory was issued.
    """

    def __init__(self, db: Db, clock: Clock, root_oid: str, region: Region | None = None) -> None:
        self._db = db
        self._clock = clock
        self._root = root_oid
        self._region = region
        community = region.home_community_id if region is not None else ""
        self.credentials = CredentialStore(db, clock, community)
        self.directory_issue = DirectoryIssue(db)

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self._db, "registry.members", SCHEMA)

    def _now(self) -> str:
        return self._clock.now().isoformat()

    @staticmethod
    def _bump(tx: Tx, name: str = "version") -> int:
        """Count one up; the row lock serialises concurrent writers on PostgreSQL."""
        row = tx.row(
            "UPDATE membership_counter SET value = value + 1 WHERE name = ? RETURNING value", (name,)
        )
        assert row is not None  # noqa: S101 - made by the delta
        return int(row[0])

    # --- members --------------------------------------------------------------------------------------------

    async def version(self) -> int:
        """Counts every change of a member: what caches and the directory carry (D25)."""
        return await self._db.read("membership_version", self.version_tx)

    def _named(self, row: MemberRow) -> MemberRow:
        """With what the region says of how its members' documents are called."""
        if self._region is None or row.member.status == "foreign":
            return row
        region = self._region
        named = replace(
            row.member,
            organisation_authority=region.organisation_authority,
            procedure_codes=region.procedure_codes,
        )
        return replace(row, member=named)

    async def load(self) -> tuple[int, list[MemberRow]]:
        """The version and every member, in one view."""

        def read(tx: Tx) -> tuple[int, list[MemberRow]]:
            authorities = held_tx(tx)
            rows = [self._named(_member(r)) for r in tx.rows(_MEMBER + " ORDER BY m.id")]
            members = [_with(stored, authorities.get(stored.member.id)) for stored in rows]
            return self.version_tx(tx), members

        return await self._db.read("members_load", read)

    async def by_code(self, code: str) -> MemberRow | None:
        """The member that has this code now, from the database itself."""
        row = await self._db.read("member_by_code", lambda tx: tx.row(_MEMBER + " WHERE c.code = ?", (code,)))
        return _member(row) if row else None

    def by_repository_tx(self, tx: Tx, repository_unique_id: str) -> MemberRow | None:
        """The member or source that has this repository."""
        row = tx.row(_MEMBER + " WHERE m.repository_unique_id = ?", (repository_unique_id,))
        return _member(row) if row else None

    def version_tx(self, tx: Tx) -> int:
        """As :meth:`version`."""
        row = tx.row("SELECT value FROM membership_counter WHERE name = 'version'")
        return int(row[0]) if row else 0

    def changed_tx(self, tx: Tx) -> None:
        """Something of a member changed: all processes read them anew."""
        self._bump(tx)

    def unwritten(self, number: int, new: NewMember, oids: tuple[str, str, str]) -> MemberRow:
        """A foreign source's row as it will be."""
        member = Member(
            id=MemberId(number),
            code=f"foreign-{number}",
            name=new.name,
            repository_unique_id=Oid(oids[0]),
            retrieve_location_uid=Oid(oids[1]),
            authority=Oid(oids[2]),
            secret=new.secret,
            epoch=0,
            status="foreign",
            status_since=self._clock.now(),
        )
        return MemberRow(member=member, hosts=new.hosts, state_id="")

    def allocated_tx(self, tx: Tx) -> tuple[int, tuple[str, str, str]]:
        """The next number whose OIDs are nobody's.

        A foreign source may have registered under one of them, before that was refused.
        """
        while True:
            number = self._bump(tx, "member")
            repository, location, authority = (f"{self._root}.10.{number}.{arc}" for arc in (1, 2, 3))
            taken = tx.row(
                "SELECT 1 FROM member WHERE repository_unique_id IN (?, ?, ?) OR retrieve_location_uid = ? OR"
                " authority = ? UNION ALL SELECT 1 FROM member_authority WHERE authority = ?",
                (repository, location, authority, location, authority, authority),
            )
            if taken is None:
                return number, (repository, location, authority)

    def insert_tx(
        self,
        tx: Tx,
        new: NewMember,
        status: str,
        oids: tuple[str, str, str] | None = None,
        number: int | None = None,
    ) -> MemberRow:
        """Add a row; under OIDs and a number of its own, if none are given."""
        own = ("", "", "")
        if number is None:
            number, own = self.allocated_tx(tx)
        repository, location, authority = oids or own
        now = self._now()
        tx.execute(
            "INSERT INTO member (id, name, repository_unique_id, retrieve_location_uid, authority, secret,"
            " epoch, state_id, status, status_since, status_reason, hosts, endpoints) VALUES"
            " (?,?,?,?,?,?,0,'',?,?,'',?,'{}')",
            (
                number,
                new.name,
                repository,
                location,
                authority,
                new.secret.hex(),
                status,
                now,
                orjson.dumps(new.hosts).decode(),
            ),
        )
        if new.code:
            refuse_another_case_tx(tx, new.code)
            tx.execute("INSERT INTO member_code VALUES (?, ?, NULL, ?)", (new.code, now, number))
        self._bump(tx)
        row = tx.row(_MEMBER + " WHERE m.id = ?", (number,))
        assert row is not None  # noqa: S101 - just written
        return _member(row)

    async def invite(self, new: NewMember, secret: str, expires: datetime) -> MemberRow:
        """An invitation for ``new``.

        A member that exists keeps its OIDs and secret, and older invitations end.

        Raises:
            Conflict: if the member is suspended, or another has the code but for its case.
        """

        def write(tx: Tx) -> MemberRow:
            known = tx.row(_MEMBER + " WHERE c.code = ?", (new.code,))
            row = _member(known) if known else self.insert_tx(tx, new, "invited")
            member = row.member
            if member.status == "suspended":
                raise Conflict(
                    f"{new.code} is suspended.", why=member.status_reason, todo="Readmit it first."
                )
            if known and (new.name != member.name or new.hosts != row.hosts):
                hosts = orjson.dumps(new.hosts or row.hosts).decode()
                tx.execute(
                    "UPDATE member SET name = ?, hosts = ? WHERE id = ?",
                    (new.name or member.name, hosts, member.id),
                )
                self._bump(tx)
            now = self._now()
            tx.execute(
                "UPDATE invitation SET used = ? WHERE member = ? AND used IS NULL", ("superseded", member.id)
            )
            tx.execute(
                "INSERT INTO invitation VALUES (?, ?, ?, ?, NULL)",
                (secret_hash(secret), member.id, now, expires.isoformat()),
            )
            return row

        return await self._db.write("member_invite", write)

    async def end_invitations(self) -> None:
        """End every open invitation.

        In a restored database one looks unused that was used since the backup.
        """
        sql = "UPDATE invitation SET used = ? WHERE used IS NULL"
        await self._db.write("invitations_end", lambda tx: tx.execute(sql, ("restored",)))

    async def use_invitation(self, secret: str, epoch_above: int) -> MemberRow:
        """Spend an invitation.

        Its member becomes active with an epoch above ``epoch_above`` and any granted before (D10).

        Raises:
            Unauthenticated: if there is no such invitation.
            Conflict: if it was used.
            Gone: if it has expired.
            Forbidden: if the member is suspended.
        """

        def write(tx: Tx) -> MemberRow:
            row = self._invitation_tx(tx, secret, spend=True)
            now = self._now()
            tx.execute(
                "UPDATE invitation SET used = ? WHERE secret_hash = ? AND used IS NULL",
                (now, secret_hash(secret)),
            )
            epoch = max(row.member.epoch, epoch_above) + 1
            tx.execute("UPDATE member SET epoch = ?, state_id = '' WHERE id = ?", (epoch, row.member.id))
            if row.member.status != "active":
                tx.execute(
                    "UPDATE member SET status = 'active', status_since = ?, status_reason = '' WHERE id = ?",
                    (now, row.member.id),
                )
            self._bump(tx)
            changed = tx.row(_MEMBER + " WHERE m.id = ?", (row.member.id,))
            assert changed is not None  # noqa: S101 - just written
            return _member(changed)

        return await self._db.write("invitation_use", write)

    def _invitation_tx(self, tx: Tx, secret: str, *, spend: bool) -> MemberRow:
        lock = tx.dialect.for_update if spend else ""
        invitation = tx.row(
            f"SELECT member, expires, used FROM invitation WHERE secret_hash = ?{lock}",
            (secret_hash(secret),),
        )
        if invitation is None:
            raise Unauthenticated(
                "This invitation is not known here.", todo="Ask the region's operator for a new one."
            )
        if invitation[2]:
            raise Conflict(
                "This invitation was used.", why="An invitation admits once.", todo="Ask for a new one."
            )
        if datetime.fromisoformat(invitation[1]) <= self._clock.now():
            raise Gone("This invitation has expired.", todo="Ask for a new one.")
        row = tx.row(_MEMBER + " WHERE m.id = ?", (invitation[0],))
        assert row is not None  # noqa: S101 - invitations are made for members
        member = _member(row)
        if member.member.status == "suspended":
            raise Forbidden("This member is suspended.", todo="Ask the region's operator.")
        return member

    async def invited_member(self, secret: str) -> MemberRow:
        """Whom an invitation would admit, without spending it; raises as :meth:`use_invitation`."""
        return await self._db.read(
            "invitation_check", lambda tx: self._invitation_tx(tx, secret, spend=False)
        )

    async def set_status(self, code: str, status: str, reason: str) -> MemberRow:
        """Suspend or readmit.

        Raises:
            NotFound: if no member has this code.
        """

        def write(tx: Tx) -> MemberRow:
            row = tx.row(_MEMBER + " WHERE c.code = ?", (code,))
            if row is None:
                raise NotFound(f"There is no member {code}.", todo="Look at the list of members.")
            member = _member(row).member
            if member.status != status:
                tx.execute(
                    "UPDATE member SET status = ?, status_since = ?, status_reason = ? WHERE id = ?",
                    (status, self._now(), reason, member.id),
                )
                self._bump(tx)
            changed = tx.row(_MEMBER + " WHERE m.id = ?", (member.id,))
            assert changed is not None  # noqa: S101 - just read
            return _member(changed)

        return await self._db.write("member_status", write)

    async def hello(self, member: MemberId, *, epoch: int, state_id: str, endpoints: Endpoints) -> bool:
        """Keep what a link's beginning settled; whether anything changed that others must know."""

        def write(tx: Tx) -> bool:
            text = orjson.dumps(endpoints.plain(), option=orjson.OPT_SORT_KEYS).decode()
            tx.execute(
                "UPDATE member SET state_id = ? WHERE id = ? AND state_id <> ?", (state_id, member, state_id)
            )
            changed = tx.execute(
                "UPDATE member SET epoch = ? WHERE id = ? AND epoch < ?", (epoch, member, epoch)
            )
            changed += tx.execute(
                "UPDATE member SET endpoints = ? WHERE id = ? AND endpoints <> ?", (text, member, text)
            )
            if changed:
                self._bump(tx)
            return changed > 0

        return await self._db.write("member_hello", write)
