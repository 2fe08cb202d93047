"""Admission: who may submit, for which member, by whatever face; each such act is in the audit (D20)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from crosslight.runtime.audit import About, Act, AuditLog
from crosslight.runtime.caller import Caller
from crosslight.standards.access import Action, Face, Principal, not_granted
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.problem import Forbidden, Invalid, as_sentence
from registry.ask.ask import Ask
from registry.ask.question import ByObject
from registry.index.model import Holding
from registry.members.arrivals import Arrival
from registry.members.model import Directory, Member

SOME = 1000  # ids by which the owner of a request's objects is found
Arriving = Callable[[str, str], AbstractAsyncContextManager[Arrival]]  # repositoryUniqueId, which subject


class Admission:
    """Admits submissions.

    Args:
        directory: The members.
        foreign: Whose a repository is that is no member's (``MemberService.arriving``).
        audit: Where acts are noted before they are done.
        ask: Whose are objects that are named by id only.
    """

    def __init__(self, directory: Directory, foreign: Arriving, audit: AuditLog, ask: Ask) -> None:
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

    @asynccontextmanager
    async def submitter(self, principal: Principal, *repositories: str) -> AsyncIterator[Arrival]:
        """For whom ``principal`` may submit what is in ``repositories`` (repositoryUniqueIds, or a sourceId).

        A member's node submits for itself; a system for the repositories that it was granted. It submits for
        the first one, and no document may name one that it may not submit for. The row of a source that was
        never heard of is made with what is submitted in the block, if that is accepted.

        Raises:
            Forbidden: a repository is another's, or was not granted; the member is suspended.
            Invalid: a repository id that is no OID.
        """
        first, *others = (*dict.fromkeys(repositories),) or ("",)
        for repository in others:
            self._check_may_submit(principal, repository)
        known: Member | None
        if principal.member is not None:
            known = self._own(principal.member)
            if first:
                self._check_may_submit(principal, first)
        else:
            self._check_may_submit(principal, first)
            known = self._directory.by_repository(first)
        if known is not None:
            yield Arrival(_active(known))
            return
        async with self._foreign(first, principal.subject) as arrival:
            yield arrival

    def _own(self, member: int) -> Member:
        own = self._directory.by_id(MemberId(member))
        if own is None:
            raise Forbidden("This member is not known here.")
        return own

    def _check_may_submit(self, principal: Principal, repository: str) -> None:
        known = self._directory.by_repository(repository)
        if principal.member is not None:
            if known is None or known.id != principal.member:
                raise Forbidden(
                    "These documents are in another's repository.",
                    why="repositoryUniqueId is not the sender's.",
                )
            return
        if not _speaks_for(principal, repository, known):
            raise Forbidden(
                "These documents are in a repository that this system may not register for.",
                why=not_granted(principal, "publish", repository),
                where=repository,
            )

    async def member_of(self, caller: Caller, face: Face, entry_uuids: Sequence[str]) -> Member:
        """Whose the named objects are: the sender's own, or what the index says.

        Raises:
            Forbidden: they are another's. Invalid: of several members, or nobody's.
        """
        principal = caller.principal
        if principal.member is not None:
            return _active(self._own(principal.member))
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
        if member is None or not _speaks_for(principal, member.repository_unique_id, member):
            raise Forbidden(
                "These objects are another's.", why="Only whoever registered them may change them."
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


def _speaks_for(principal: Principal, repository: str, known: Member | None) -> bool:
    """Whether whoever is no member may submit for a repository; for a member's only if granted by name."""
    if "open" in principal.roles:
        return True
    if known is not None and known.status != "foreign" and repository not in principal.grants.repositories:
        return False
    return principal.grants.publishes(repository)


def _active(member: Member) -> Member:
    if member.status == "suspended":
        raise Forbidden(
            "This member is suspended.",
            why=as_sentence(member.status_reason),
            todo="Ask the region's operator.",
        )
    return member
