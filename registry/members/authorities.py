"""Patient authorities that are a member's own.

They are agreed by the region's operator, or asked for by a node that joins (ADR 0023).

Whoever may publish under an authority says who its patients are, so no OID becomes a member's own by the
member's word alone, and none is shared by members but by the operator's.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Clock
from crosslight.runtime.db import Db, Tx
from crosslight.standards.access import Decision
from crosslight.standards.ids import MemberId, Oid, is_strict_uid
from crosslight.standards.problem import Conflict, Invalid, NotFound, TooLarge
from registry.members.audited_acts import MemberActs
from registry.members.model import Member
from registry.members.roster import Roster

MAX_AUTHORITIES = 32  # of one member


class Authorities:
    """Agreeing, asking and withdrawing.

    Args:
        members: The copy that is read anew after each change.
        acts: Makes each act in the audit.
    """

    def __init__(self, db: Db, clock: Clock, members: Roster, acts: MemberActs) -> None:
        self._db = db
        self._clock = clock
        self._members = members
        self._acts = acts

    def check(self, authority: str, code: str = "") -> Oid:
        """``authority`` as an OID that may be a member's own.

        Args:
            authority: As it was written.
            code: Of the member that it is to be of; '' = a new one.

        Raises:
            Invalid: no OID, a national authority, the region's, or one allotted to a member.
        """
        region = self._members.region
        if not is_strict_uid(authority) or "." not in authority:
            raise Invalid(
                f"{authority[:70]!r} is no OID.",
                todo="Write it in dots, as 2.16.840.1.113883.2.1.3.2.4.18.24.",
            )
        if authority in region.nationals:
            raise Invalid(
                f"{authority} issues national numbers.",
                why="No member's own.",
                todo="Leave it out; it is known.",
            )
        if authority in (region.authority, region.home_community_id):
            raise Invalid(
                f"{authority} is the region's own.", todo="Give the authority of the trust's patient numbers."
            )
        for other in self._members.everyone():
            if (
                authority in (other.authority, other.repository_unique_id, other.retrieve_location_uid)
                and other.code != code
            ):
                raise Invalid(
                    f"{authority} was allotted to {other.code}.", todo="Give the trust's own authority."
                )
        return Oid(authority)

    async def agree(self, code: str, authorities: Collection[str], *, shared: bool, by: Caller) -> Member:
        """These are the member's own from now on.

        Args:
            code: Of the member.
            authorities: OIDs.
            shared: The operator's word that another member's authority is this one's too.
            by: The operator, for the audit.

        Raises:
            NotFound: no such member. Invalid: see :meth:`check`. Conflict: it is another member's and not
                said to be shared.
        """
        member = self._member(code)
        for authority in authorities:
            oid = self.check(authority, code)
            if oid == member.authority:
                continue
            async with self._acts.act(by, "agree-authority", code, authority=oid):
                others = await self._db.write(
                    "authority_agree", partial(self._agree_tx, member.id, oid, shared)
                )
                if others:
                    raise self._taken(oid, others)
        await self._members.refresh()
        return self._member(code)

    async def ask(self, member: MemberId, authorities: Sequence[str], *, by: Caller) -> None:
        """A node that joins says that these are its own: those that are not agreed wait for the operator.

        Raises:
            Invalid: see :meth:`check`. TooLarge: too many.
        """
        known = self._members.by_id(member)
        if known is None or not authorities:
            return
        if len(authorities) > MAX_AUTHORITIES:
            raise TooLarge("Too many patient authorities.", why=f"Limit here: {MAX_AUTHORITIES}.")
        wanted = [self.check(authority, known.code) for authority in dict.fromkeys(authorities)]
        new = [oid for oid in wanted if not known.owns(oid) and oid not in known.asked]
        for oid in new:
            rule = Decision(True, "invitation")
            async with self._acts.act(
                by, "ask-authority", known.code, face="join", decision=rule, authority=oid
            ):
                await self._db.write("authority_ask", partial(self._ask_tx, member, oid))
        await self._members.refresh()

    async def withdraw(self, code: str, authority: str, *, by: Caller) -> Member:
        """It is not the member's, or no longer.

        What was published under it stays until the node has read its studies again.

        Raises:
            NotFound: no such member, or it has not this authority.
        """
        member = self._member(code)
        async with self._acts.act(by, "withdraw-authority", code, authority=authority):
            if not await self._db.write(
                "authority_withdraw", partial(self._withdraw_tx, member.id, authority)
            ):
                raise NotFound(
                    f"{authority} is no authority of {code}.", todo="See: crosslight-registry members."
                )
        await self._members.refresh()
        return self._member(code)

    def _taken(self, oid: Oid, others: Collection[MemberId]) -> Conflict:
        codes = ", ".join(sorted(m.code for m in self._members.everyone() if m.id in others))
        return Conflict(
            f"{oid} is an authority of {codes} already.",
            why="Two members with one authority share one set of patient numbers.",
            todo="If they do, say so with --shared.",
        )

    # --- in the transaction ---------------------------------------------------------------------------------

    def _agree_tx(self, member: MemberId, oid: Oid, shared: bool, tx: Tx) -> set[MemberId]:
        """Agree it; whose it is already when it may not be."""
        sql = "SELECT member FROM member_authority WHERE authority = ? AND member <> ? AND agreed IS NOT NULL"
        others = {MemberId(int(row[0])) for row in tx.rows(sql, (oid, member))}
        if others and not shared:
            return others
        now = self._clock.now().isoformat()
        changed = tx.execute(
            "UPDATE member_authority SET agreed = ? WHERE member = ? AND authority = ? AND agreed IS NULL",
            (now, member, oid),
        )
        row = tx.row("SELECT 1 FROM member_authority WHERE member = ? AND authority = ?", (member, oid))
        if row is None:
            sql = "INSERT INTO member_authority VALUES (?, ?, ?, NULL, ?)"
            changed = tx.execute(sql, (member, oid, self._place_tx(tx, member), now))
        self._counted(tx, changed)
        return set()

    def _ask_tx(self, member: MemberId, oid: Oid, tx: Tx) -> None:
        sql = (
            "INSERT INTO member_authority VALUES (?, ?, ?, ?, NULL) ON CONFLICT (member, authority) DO"
            " NOTHING"
        )
        now = self._clock.now().isoformat()
        self._counted(tx, tx.execute(sql, (member, oid, self._place_tx(tx, member), now)))

    def _withdraw_tx(self, member: MemberId, authority: str, tx: Tx) -> int:
        sql = "DELETE FROM member_authority WHERE member = ? AND authority = ?"
        return self._counted(tx, tx.execute(sql, (member, authority)))

    @staticmethod
    def _place_tx(tx: Tx, member: MemberId) -> int:
        row = tx.row("SELECT coalesce(max(place), 0) + 1 FROM member_authority WHERE member = ?", (member,))
        return int(row[0]) if row else 1

    @staticmethod
    def _counted(tx: Tx, changed: int) -> int:
        """Let every process and node see it (D25)."""
        if changed:
            tx.execute("UPDATE membership_counter SET value = value + 1 WHERE name = 'version'")
        return changed

    def _member(self, code: str) -> Member:
        member = self._members.by_code(code)
        if member is None or member.status == "foreign":
            raise NotFound(f"There is no member {code}.", todo="Look at the list of members.")
        return member
