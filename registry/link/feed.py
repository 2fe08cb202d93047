"""The gRPC door: IndexFeed, by which our own nodes publish in batches and compare (feed.proto; D10, D15).

Every act is a submission of its own: one that is refused does not hold up the others. It parses and answers;
what may be stored is ``accept.py``'s.
"""

from __future__ import annotations

import asyncio
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from typing import Any, Protocol

import grpc
import numpy as np

from crosslight.pb import feed_pb2 as pb
from crosslight.pb import feed_pb2_grpc as pb_grpc
from crosslight.runtime.audit import About, AuditLog, OutcomeKind
from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Ids
from crosslight.runtime.log import get_logger
from crosslight.runtime.packed_study import PACKED, study_from_packed
from crosslight.runtime.shares import Shares
from crosslight.runtime.wire import (
    checked_digest,
    checked_dtm,
    identifier_to_pb,
    manifest_from_pb,
    patient_from_pb,
    study_from_pb,
    version_from_pb,
    version_to_pb,
)
from crosslight.standards.ids import Identifier, MemberId, Version, checked_uid, hash8
from crosslight.standards.problem import (
    Busy,
    CrosslightError,
    Forbidden,
    Invalid,
    OurError,
    TooLarge,
    Unavailable,
)
from crosslight.standards.records import changed
from crosslight.standards.xds.model.publication import Publication, Status
from registry.index.store import HeldStudy
from registry.intake.submission import (
    Acceptance,
    Act,
    Outcome,
    Publish,
    SetAvailability,
    Submission,
    Withdraw,
)
from registry.link.callers import grpc_caller
from registry.members.config import MembersConfig
from registry.members.model import Member

log = get_logger("feed")

MAX_ACTS = 1_000  # in one request
MAX_HELD = 5_000  # in one message of a comparison
PAGE = 1_000
AT_ONCE = 50  # acts read without letting others go on

_OUTCOMES: dict[Outcome, Any] = {
    "accepted": pb.ActResult.ACCEPTED,
    "already": pb.ActResult.ALREADY,
    "stale": pb.ActResult.STALE,
}


_UNAVAILABLE = grpc.StatusCode.UNAVAILABLE
#: How gRPC says why a comparison ends, by the kind of error.
_STATUSES: tuple[tuple[type[CrosslightError], grpc.StatusCode], ...] = (
    (Invalid, grpc.StatusCode.INVALID_ARGUMENT),
    (TooLarge, grpc.StatusCode.INVALID_ARGUMENT),
    (Busy, grpc.StatusCode.RESOURCE_EXHAUSTED),
)


class AcceptPort(Protocol):
    """What the feed hands on to (``Acceptor``)."""

    async def accept_many(self, submissions: Sequence[Submission]) -> list[Acceptance | CrosslightError]:
        """Each succeeds or fails on its own."""
        ...


class ComparePort(Protocol):
    """What a comparison asks (``IndexStore``)."""

    @property
    def incarnation(self) -> str:
        """The id of the registry's database (D8)."""
        ...

    async def held(self, member: MemberId, study_uids: Sequence[str]) -> dict[str, HeldStudy]:
        """What is held of these studies."""
        ...

    async def held_after(self, member: MemberId, cursor: str, limit: int) -> tuple[list[HeldStudy], str]:
        """A page of all that a member holds."""
        ...


class CallersPort(Protocol):
    """Who calls (``registry.link.callers.Callers``)."""

    async def member(self, context: Any) -> Member:
        """The active member behind a call; ends the call where there is none."""
        ...


def act_from_pb(message: pb.Act, member: Member) -> Act:
    """One act of a member.

    Raises:
        Invalid, TooLarge: if it cannot be one.
    """
    version = version_from_pb(message.version)
    study_uid = checked_uid(message.study_uid, "study_uid")
    kind = message.WhichOneof("what")
    if kind == "publish":
        publish = message.publish
        record = (
            study_from_packed(publish.packed, patient_from_pb(publish.study.patient))
            if publish.packed
            else study_from_pb(publish.study)
        )
        if record.reason:
            record = changed(record, reason="")  # D7: why it was asked for is never central
        if record.study_uid != study_uid:
            raise Invalid("The act names another study than the one it publishes.", where="study_uid")
        publication = Publication.derived(
            source=member.source,
            secret=member.secret,
            version=version,
            record=record,
            manifest=manifest_from_pb(message.publish.manifest),
            submission_time=checked_dtm(message.publish.submission_time, "submission_time"),
        )
        return Publish(
            publication=publication, digest=checked_digest(message.publish.digest), patient=record.patient
        )
    if kind == "availability":
        status: Status = "Approved" if message.availability.approved else "Deprecated"
        return SetAvailability(study_uid=study_uid, status=status, version=version)
    if kind == "withdraw":
        return Withdraw(study_uid=study_uid, version=version, reason=message.withdraw.reason[:200])
    raise Invalid(
        "An act that says nothing.", why="feed.proto: publish, availability or withdraw.", where="what"
    )


def refused(version: pb.Version, error: CrosslightError) -> pb.ActResult:
    """How an error looks to a node: permanent, for later, or a matter of epochs."""
    if error.where == "epoch":
        outcome = pb.ActResult.EPOCH
    elif isinstance(error, OurError | Unavailable | Forbidden):
        outcome = pb.ActResult.RETRY
    else:
        outcome = pb.ActResult.REFUSED
    return pb.ActResult(version=version, outcome=outcome, error_code=error.xds_code, message=str(error)[:500])


class FeedServicer(pb_grpc.IndexFeedServicer):
    """Serves IndexFeed.

    Args:
        acceptor: Where acts go.
        index: What a comparison is held against.
        callers: Who calls.
        audit: Where acts are noted before they are done.
        ids: Correlation ids.
        open_mode: Members name themselves (the open demo).
        config: How many calls at a time, and how many of one member.
    """

    def __init__(
        self,
        acceptor: AcceptPort,
        index: ComparePort,
        callers: CallersPort,
        audit: AuditLog,
        ids: Ids,
        *,
        open_mode: bool = False,
        config: MembersConfig | None = None,
    ) -> None:
        config = config or MembersConfig()
        self.feeding = Shares("calls of the feed", config.feeding())
        self.comparing = Shares("comparisons", config.comparing())
        self._acceptor, self._index, self._callers = acceptor, index, callers
        self._audit, self._ids, self._open = audit, ids, open_mode

    def register(self, server: grpc.aio.Server) -> None:
        """Add this service to a server, for ``MemberServer(register=…)``."""
        add: Any = pb_grpc.add_IndexFeedServicer_to_server
        add(self, server)

    # --- Publish --------------------------------------------------------------------------------------------

    async def Publish(self, request: pb.PublishRequest, context: Any) -> pb.PublishReply:  # noqa: N802 - gRPC's name
        """A batch of acts, each with its own outcome, in their order."""
        member = await self._callers.member(context)
        if len(request.acts) > MAX_ACTS:
            await context.abort(
                grpc.StatusCode.RESOURCE_EXHAUSTED, f"At most {MAX_ACTS} acts in one request."
            )
        try:
            caller = grpc_caller(context, member, self._ids, open_mode=self._open)
            async with self.feeding.turn(caller.principal.subject):
                results = await self._publish(caller, member, request.acts)
        except CrosslightError as error:  # the audit cannot be written, or it is busy: nothing was done
            log.error("feed", kind=type(error).__name__, reason=error.what)
            results = [refused(message.version, error) for message in request.acts]
        return pb.PublishReply(incarnation=self._index.incarnation, results=results, packed=PACKED)

    async def _publish(
        self, caller: Caller, member: Member, messages: Sequence[pb.Act]
    ) -> list[pb.ActResult]:
        acts: list[Act | CrosslightError] = []
        for start in range(0, len(messages), AT_ONCE):
            acts += [_read(message, member) for message in messages[start : start + AT_ONCE]]
            await asyncio.sleep(0)  # others are answered in between
        readable = [(index, act) for index, act in enumerate(acts) if not isinstance(act, CrosslightError)]
        submissions = [
            Submission(member=member, caller=caller, acts=(act,), road="grpc", strict=False)
            for _, act in readable
        ]
        outcomes = await self._accepted(caller, submissions) if submissions else []
        results = [
            refused(message.version, act) if isinstance(act, CrosslightError) else None
            for message, act in zip(messages, acts, strict=True)
        ]
        for (index, _), outcome in zip(readable, outcomes, strict=True):
            if isinstance(outcome, CrosslightError):
                results[index] = refused(messages[index].version, outcome)
            else:
                results[index] = pb.ActResult(
                    version=messages[index].version, outcome=_OUTCOMES[outcome.outcomes[0]]
                )
        return [result for result in results if result is not None]

    async def _accepted(
        self, caller: Caller, submissions: Sequence[Submission]
    ) -> list[Acceptance | CrosslightError]:
        """One act of the audit for the whole batch; each submission is accepted or refused by itself."""
        about = _about(act for submission in submissions for act in submission.acts)
        async with self._audit.act(caller, "feed", "publish", about, lazy=True) as act:
            outcomes = await self._acceptor.accept_many(submissions)
            refused = sum(isinstance(outcome, CrosslightError) for outcome in outcomes)
            kind: OutcomeKind = "ok" if not refused else "partial" if refused < len(outcomes) else "refused"
            act.done(kind, accepted=len(outcomes) - refused, refused=refused)
            return outcomes

    # --- Compare --------------------------------------------------------------------------------------------

    async def Compare(  # noqa: N802 - gRPC's name
        self, request_iterator: AsyncIterator[pb.CompareRequest], context: Any
    ) -> AsyncIterator[pb.CompareReply]:
        """What differs from what the node says it has published; at the end, what the node did not name."""
        member = await self._callers.member(context)
        try:
            async with (
                self.comparing.turn(member.code),
                aclosing(self._compared(request_iterator, member)) as replies,
            ):
                async for reply in replies:
                    yield reply
        except CrosslightError as error:
            code = next((code for kind, code in _STATUSES if isinstance(error, kind)), _UNAVAILABLE)
            await context.abort(code, str(error))

    async def _compared(
        self, requests: AsyncIterator[pb.CompareRequest], member: Member
    ) -> AsyncGenerator[pb.CompareReply]:
        named = array("q")
        async for request in requests:
            if len(request.held) > MAX_HELD:
                raise TooLarge("Too many studies in one message.", why=f"Limit here: {MAX_HELD}.")
            said = {checked_uid(version.study_uid, "study_uid"): version for version in request.held}
            named.extend(hash8(uid) for uid in said)
            reply = await self._differing(member, said)
            if reply.send:
                yield reply
        async for reply in self._unnamed(member, named):
            yield reply

    async def _differing(self, member: Member, stated: dict[str, pb.HeldVersion]) -> pb.CompareReply:
        here: dict[str, HeldStudy] = {}
        uids = list(stated)
        for start in range(0, len(uids), PAGE):
            here |= await self._index.held(member.id, uids[start : start + PAGE])
        differing = [uid for uid, version in stated.items() if not _same(version, here.get(uid))]
        return pb.CompareReply(
            incarnation=self._index.incarnation,
            send=differing,
            have=[_held_to_pb(here[uid]) for uid in differing if uid in here],
        )

    async def _unnamed(self, member: Member, named: array[int]) -> AsyncIterator[pb.CompareReply]:
        """All that the member holds here and did not name, in pages.

        There is at least one reply, which says the incarnation.
        """
        known = np.sort(np.frombuffer(named, dtype=np.int64)) if named else np.empty(0, dtype=np.int64)
        cursor, answered = "", False
        while True:
            page, cursor = await self._index.held_after(member.id, cursor, PAGE)
            unnamed = [study for study in page if not _contains(known, hash8(study.study_uid))]
            if unnamed or (not cursor and not answered):
                answered = True
                yield pb.CompareReply(
                    incarnation=self._index.incarnation,
                    unknown_here=[study.study_uid for study in unnamed],
                    have=[_held_to_pb(study) for study in unnamed],
                )
            if not cursor:
                return


def _read(message: pb.Act, member: Member) -> Act | CrosslightError:
    try:
        return act_from_pb(message, member)
    except CrosslightError as error:
        return error


def _about(acts: Iterable[Act]) -> About:
    patients: dict[Identifier, None] = {}
    studies: list[str] = []
    for act in acts:
        if isinstance(act, Publish):
            studies.append(act.publication.record.study_uid)
            patients |= dict.fromkeys(
                (act.publication.record.patient.local, *act.publication.record.patient.others)
            )
        elif isinstance(act, SetAvailability | Withdraw):
            studies.append(act.study_uid)
    return About(patients=tuple(patients), studies=tuple(studies))


def _same(stated: pb.HeldVersion, here: HeldStudy | None) -> bool:
    version = here.version if here is not None else None
    return (
        here is not None
        and version == Version(stated.version.epoch, stated.version.n)
        and here.sha1.lower() == stated.digest.lower()
        and here.approved == stated.approved
    )


def _held_to_pb(study: HeldStudy) -> pb.HeldVersion:
    return pb.HeldVersion(
        study_uid=study.study_uid,
        version=version_to_pb(study.version or Version(0, 0)),
        digest=study.sha1,
        approved=study.approved,
        patient=identifier_to_pb(study.patient),
    )


def _contains(ordered: np.ndarray[Any, np.dtype[np.int64]], value: int) -> bool:
    index = int(np.searchsorted(ordered, value))
    return index < len(ordered) and int(ordered[index]) == value
