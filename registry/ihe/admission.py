"""Admission: who may submit, for which member, by whatever face; each such act is in the audit (D20)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

from crosslight.runtime.audit import About, Act, AuditLog
from crosslight.runtime.caller import Caller
from crosslight.standards.access import Action, Face, Principal
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.problem import Forbidden, Invalid
from registry.ask.ask import Ask
from registry.ask.question import ByObject
from registry.index.model import Holding
from registry.members.model import Directory, Member

SOME = 1000  # ids by which the owner of a request's objects is found
ForeignMember = Callable[[str], Awaitable[Member]]


class Admission:
    """Admits submissions.

    Args:
        directory: The members.
        foreign: Makes the entry of a repository that is no member's (``MemberService.foreign_member``).
        audit: Where acts are noted before they are done.
        ask: Whose are objects that are named by id only.
    """

    def __init__(self, directory: Directory, foreign: ForeignMember, audit: AuditLog, ask: Ask) -> None:
        self._directory = directory
        self._foreign = foreign
        self._audit = audit
        self._ask = ask

    def act(
        self,
        caller: Caller,
        face: Face,
        action: Action,
        *,
        patients: Sequence[Identifier] = (),
        studies: Sequence[str] = (),
        objects: Sequence[str] = (),
    ) -> Act:
        """An act, to be done in its block.

        ``objects``: entryUUIDs, where those are all that the request names.

        Raises:
            Forbidden: the principal's role does not allow it (audited).
        """
        about = About(
            patients=patients, studies=studies, query={"objects": list(objects[:SOME])} if objects else {}
        )
        return self._audit.act(caller, face, action, about, code=lambda error: error.xds_code, lazy=True)

    async def member_for(self, principal: Principal, repository: str) -> Member:
        """For whom ``principal`` may submit what is in ``repository`` (a repositoryUniqueId, or a sourceId).

        A member's node submits for itself; an integrator for its own organisation and for repositories that
        are no member's.

        Raises:
            Forbidden: the repository is another's, or the member is suspended.
            Invalid: a repository id that is no OID.
        """
        if principal.member is not None:
            own = self._directory.by_id(MemberId(principal.member))
            if own is None:
                raise Forbidden("This member is not known here.")
            if repository and repository != own.repository_unique_id:
                raise Forbidden(
                    "These documents are in another's repository.",
                    why="repositoryUniqueId is not the sender's.",
                )
            return _active(own)
        known = self._directory.by_repository(repository)
        if known is None:
            return await self._foreign(repository)
        if known.status != "foreign" and not _speaks_for(principal, known):
            raise Forbidden(
                "These documents are in a member's repository.", why="Only that member may register them."
            )
        return _active(known)

    async def member_of(self, caller: Caller, face: Face, entry_uuids: Sequence[str]) -> Member:
        """Whose the named objects are: the sender's own, or what the index says.

        Raises:
            Forbidden: they are another's. Invalid: of several members, or nobody's.
        """
        principal = caller.principal
        if principal.member is not None:
            return await self.member_for(principal, "")
        question = ByObject(entry_uuids=tuple(entry_uuids[:SOME]), versions=True)  # accept checks every one
        asking = self._ask.question(caller, face=face, action="search", question=question)
        async with asking as answer:
            named = set(question.entry_uuids)
            owners = {holding.member for holding in answer.holdings if _names(holding) & named}
            owners |= {
                xds_object.member
                for xds_object in answer.objects
                if xds_object.entry_uuid in named and xds_object.member is not None
            }
        if len(owners) != 1:
            what = (
                "These objects are not registered." if not owners else "These objects are of several members."
            )
            raise Invalid(what, xds_code="UnresolvedReferenceException", where=next(iter(entry_uuids), ""))
        member = self._directory.by_id(owners.pop())
        if member is None or (member.status != "foreign" and not _speaks_for(principal, member)):
            raise Forbidden(
                "These objects are another's.", why="Only the member that registered them may change them."
            )
        return _active(member)


def _names(holding: Holding) -> set[str]:
    return {
        uuid
        for publication in holding.entries
        for uuid in (
            publication.entry_uuid,
            publication.submission_uuid,
            publication.has_member_uuid,
            publication.replaces_uuid,
        )
        if uuid
    }


def _speaks_for(principal: Principal, member: Member) -> bool:
    return "open" in principal.roles or principal.organisation == member.code


def _active(member: Member) -> Member:
    if member.status == "suspended":
        raise Forbidden(
            "This member is suspended.", why=member.status_reason, todo="Ask the region's operator."
        )
    return member
