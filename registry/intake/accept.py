"""The one way into the index: submissions are admitted, committed, told of; one alone is a batch of one.

::

    accept       what waits at the same time and cannot see each other becomes a batch (grouping.py)
    accept_many  a feed's submissions in their order, some hundreds in a batch
        _commit      one transaction for the batch; where it fails half done, a batch of one for each
            _run         admits each sender, then batch.Batch: the rules, the index, persons
        _report      after the commit: counts, and whoever waits for changes

The rules are in ``batch.py``; here are transactions and who is told.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from crosslight.runtime.clock import Clock, Ids
from crosslight.runtime.db import Db, Tx
from crosslight.runtime.log import get_logger
from crosslight.standards.access import Action, Face, decide
from crosslight.standards.dicom.record.kos import Manifest
from crosslight.standards.ids import Identifier
from crosslight.standards.national import is_unread_number
from crosslight.standards.problem import CrosslightError, Forbidden, NotFound, OurError
from crosslight.standards.region import Region
from crosslight.standards.study import StudyRecord
from registry.identity.store import IdentityStore
from registry.index.imaging_documents import DocumentKey
from registry.index.model import Change, HoldingKey
from registry.index.store import IndexStore
from registry.intake import holder_answers as learned
from registry.intake.batch import Batch, Ran
from registry.intake.grouping import first_group, names_of
from registry.intake.submission import Acceptance, Publish, Submission, Withdraw
from registry.members.model import Directory, Member
from registry.members.standing import is_foreign

MOST_OF_A_FEED = 500  # submissions in one transaction
MOST_TOGETHER = 64  # single submissions in one transaction
FEW = 10  # so many of a feed share patients with others so seldom that they exclude nobody
log = get_logger("accept")

Result = Acceptance | CrosslightError


@dataclass(frozen=True, slots=True, kw_only=True)
class _Committed:
    """What became of each submission of a batch, and what changed."""

    results: list[Ran | CrosslightError]
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A submission, every name it uses, and who waits for it."""

    submission: Submission
    names: frozenset[str] | None
    future: asyncio.Future[Acceptance]

    def tell(self, result: Result) -> None:
        if self.future.done():  # nobody waits any more
            return
        if isinstance(result, CrosslightError):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class _HalfDoneError(Exception):
    """A submission was refused after it had changed something: only a roll-back takes that back.

    Outside the tree of errors, for it never leaves this file.
    """

    def __init__(self, refusal: CrosslightError) -> None:
        super().__init__(refusal.what)
        self.refusal = refusal


class Acceptor:
    """Accepts submissions.

    Args:
        db: The database of index and identity.
        index, identity: Their stores.
        directory: Members as they are now.
        clock, ids: The seam for time and randomness.
        region: Whose ids count.
        on_change: Told of every change after its commit, in this process; must return at once.
    """

    def __init__(
        self,
        db: Db,
        index: IndexStore,
        identity: IdentityStore,
        directory: Directory,
        clock: Clock,
        ids: Ids,
        region: Region,
        on_change: Callable[[Sequence[Change]], None] | None = None,
    ) -> None:
        self._db = db
        self._index = index
        self._identity = identity
        self._directory = directory
        self._clock = clock
        self._ids = ids
        self._region = region
        self._on_change = on_change
        self._waiting: list[_Waiting] = []
        self._emptying: asyncio.Task[None] | None = None
        self.alarms: Counter[str] = Counter()  # what an operator must look at, by kind; for metrics
        self.outcomes: Counter[str] = Counter()  # accepted, already, stale, refused; for metrics
        self.unread: Counter[str] = Counter()  # studies whose national number is none, by member; for metrics

    async def accept(self, submission: Submission) -> Acceptance:
        """Commit a submission, all its acts or none. Those that wait together may share a transaction.

        Raises:
            CrosslightError: refused, with its ``xds_code``; nothing is stored then. An epoch that was not
                granted is a ``Conflict`` with ``where="epoch"``.
        """
        waiting = _Waiting(submission, names_of(submission), asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._emptying is None:
            self._emptying = asyncio.create_task(self._empty())
        return await waiting.future

    async def accept_many(self, submissions: Sequence[Submission]) -> list[Result]:
        """A feed's submissions in few transactions; each succeeds or fails on its own, in the order given."""
        results: list[Result] = []
        for start in range(0, len(submissions), MOST_OF_A_FEED):
            results += await self._commit(submissions[start : start + MOST_OF_A_FEED])
        return results

    async def _empty(self) -> None:
        """Commit what waits, batch by batch, until nothing does."""
        try:
            while self._waiting:
                places = first_group((waiting.names for waiting in self._waiting), MOST_TOGETHER)
                group = [self._waiting[place] for place in places]
                self._waiting = [
                    waiting for place, waiting in enumerate(self._waiting) if place not in set(places)
                ]
                group = [waiting for waiting in group if not waiting.future.done()]
                try:
                    results = await self._commit([waiting.submission for waiting in group]) if group else []
                except BaseException:
                    for waiting in group:
                        waiting.tell(OurError("The registry stops.", todo="Try again."))
                    raise
                for waiting, result in zip(group, results, strict=True):
                    waiting.tell(result)
        finally:
            self._emptying = None

    async def _commit(self, batch: Sequence[Submission]) -> list[Result]:
        """Commit these in one transaction; where that fails half done, each in one of its own."""
        try:
            done = await self._db.write("accept", partial(self._run, batch))
        except Exception as error:
            if len(batch) == 1:
                self.outcomes["refused"] += 1
                return [_refusal(error)]
            if not isinstance(error, _HalfDoneError):
                log.exception("a batch failed; its submissions are taken one by one", count=len(batch))
            return [result for submission in batch for result in await self._commit([submission])]
        return self._report(batch, done)

    # --- in the transaction -----------------------------------------------------------------------

    def _run(self, submissions: Sequence[Submission], tx: Tx) -> _Committed:
        batch = Batch(
            tx,
            self._index,
            self._identity,
            self._region,
            self._clock.now(),
            self._new_id,
            self._alarm,
            lambda member: is_foreign(self._directory.by_id(member)),
        )
        batch.begin(submissions, exclusive=len(submissions) > FEW and not submissions[0].strict)
        results = [self._ran(batch, submission) for submission in submissions]
        return _Committed(results=results, changes=batch.finish())

    def _ran(self, batch: Batch, submission: Submission) -> Ran | CrosslightError:
        """What became of one, where the transaction is still good."""
        try:
            member = self._admitted(submission)
        except Forbidden as error:
            return error
        ran = None
        try:
            ran = batch.run(submission, member)
            if submission.arrival is not None:
                submission.arrival.write(batch.tx)
        except CrosslightError as error:
            if batch.touched or ran is not None:
                raise _HalfDoneError(error) from error
            return error
        return ran

    def _admitted(self, submission: Submission) -> Member:
        """The sender as the directory has it now, if it may do what it asks.

        Raises:
            Forbidden: if not.
        """
        member = self._directory.by_id(submission.member.id) or submission.member
        if member.status not in ("active", "foreign"):
            raise Forbidden(
                f"{member.code} may not publish: it is {member.status}.", todo="Ask the region's operator."
            )
        principal = submission.caller.principal
        if principal.member is not None and principal.member != member.id:
            raise Forbidden("A member publishes for itself only.")
        face: Face = "feed" if submission.road == "grpc" else "xds"
        actions: set[Action] = {
            "delete" if isinstance(act, Withdraw) else "publish" for act in submission.acts
        }
        for action in actions:
            decision = decide(principal, face, action)
            if not decision.permit:
                raise Forbidden("This is not allowed.", why=decision.rule)
        return member

    def _new_id(self) -> str:
        return self._ids.uuid4().urn

    def _alarm(self, what: str, member: Member, study_uid: str) -> None:
        self.alarms[what] += 1
        log.error("alarm", what=what, code=member.code, study=study_uid)

    # --- after the commit -------------------------------------------------------------------------

    def _report(self, batch: Sequence[Submission], done: _Committed) -> list[Result]:
        results: list[Result] = []
        for submission, ran in zip(batch, done.results, strict=True):
            if isinstance(ran, CrosslightError):
                self.outcomes["refused"] += 1
                results.append(ran)
                continue
            if submission.arrival is not None:
                submission.arrival.written()
            self.outcomes.update(ran.outcomes)
            self._count_unread(submission, ran.outcomes)
            results.append(
                Acceptance(outcomes=ran.outcomes, incarnation=self._index.incarnation, warnings=ran.warnings)
            )
        self._tell(done.changes)
        return results

    def _tell(self, changes: Sequence[Change]) -> bool:
        """Whoever waits for changes is told; whether there were any."""
        if changes and self._on_change is not None:
            self._on_change(changes)
        return bool(changes)

    def _count_unread(self, submission: Submission, outcomes: Sequence[str]) -> None:
        region = self._region
        for act, outcome in zip(submission.acts, outcomes, strict=False):
            given: tuple[Identifier, ...] = ()
            if isinstance(act, Publish) and outcome == "accepted":
                given = act.publication.record.patient.others
            if any(
                is_unread_number(identifier, region.nationals, allow_test=region.allow_test_numbers)
                for identifier in given
            ):
                self.unread[submission.member.code] += 1

    # --- what enrichment learned (holder_answers.py) -----------------------------------------------------

    async def update_detail(
        self, key: HoldingKey, record: StudyRecord, *, entry_uuid: str = "", digest: str = ""
    ) -> bool:
        """Replace what is known of a holding by more of it, without a new version (D17).

        Args:
            key: The holding.
            record: With ``detail`` manifest or full, of the same study. The patient as submitted is kept; a
                name that a slot cut is made whole.
            entry_uuid: The version that ``record`` describes; another is left alone. '': whatever is current.
            digest: The content digest as the holder states it; '' keeps the one that was submitted.

        Returns:
            Whether it was replaced.

        Raises:
            NotFound: if the record is of another study.
        """
        if record.study_uid != key.study_uid:
            raise NotFound("The detail is of another study.")
        member = self._directory.by_id(key.member)
        foreign = member is not None and member.status == "foreign"
        return await self._learn(
            "update_detail",
            lambda lesson: lesson.update_detail(key, record, entry_uuid, digest, foreign=foreign),
        )

    async def document_read(self, key: DocumentKey, member: Member, manifest: Manifest) -> bool:
        """A document that did not say of which study it is was read; whether it still waited."""
        return await self._learn(
            "document_read", lambda lesson: lesson.document_read(key, member, manifest, self._region)
        )

    async def no_manifest(self, key: HoldingKey, entry_uuid: str, studies: Sequence[str]) -> bool:
        """An entry that was taken for a manifest is another document; whether it was there."""
        return await self._learn("no_manifest", lambda lesson: lesson.no_manifest(key, entry_uuid, studies))

    async def _learn(self, name: str, lesson: Callable[[learned.Lesson], list[Change]]) -> bool:
        def write(tx: Tx) -> list[Change]:
            return lesson(learned.Lesson(tx, self._index, self._identity, self._clock.now()))

        return self._tell(await self._db.write(name, write))


def _refusal(error: Exception) -> CrosslightError:
    """What a single submission's sender is told."""
    if isinstance(error, _HalfDoneError):
        return error.refusal
    if isinstance(error, CrosslightError):
        return error
    log.error("a submission failed", exc_info=error)
    return OurError("Something went wrong here.", todo="Try again; the registry's log says more.")
