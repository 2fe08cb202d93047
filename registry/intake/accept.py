"""The one way into the index (ARCHITECTURE, "Two narrow waists"): validate, resolve the patient, commit, notify.

The rules are in ``batch.py``; here are transactions, batches and who is told.
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
from crosslight.standards.access import decide
from crosslight.standards.dicom.record.kos import Manifest
from crosslight.standards.ids import MemberId, is_unread_number
from crosslight.standards.problem import CrosslightError, Forbidden, NotFound, OurError
from crosslight.standards.region import Region
from crosslight.standards.study import StudyRecord
from crosslight.standards.xds.model.publication import Publication
from registry.identity.store import IdentityStore
from registry.index.imaging import DocumentKey
from registry.index.model import Change, HoldingKey
from registry.index.rows import Loaded
from registry.index.store import IndexStore
from registry.intake.acts import Acceptance, Publish, Submission, Withdraw
from registry.intake.batch import Ran, Turn
from registry.intake.checks import with_detail
from registry.intake.learned import document_read, no_manifest
from registry.intake.together import first_group, names_of
from registry.members.model import Directory, Member

BATCH = 500  # submissions of a feed in one transaction
TOGETHER = 64  # others
FEW = 10  # no more than so many do not have to go alone
log = get_logger("accept")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Done:
    outcomes: list[Ran | CrosslightError]
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class _Waiting:
    """A submission, every name it uses, and who waits for it."""

    submission: Submission
    names: frozenset[str] | None
    future: asyncio.Future[Acceptance]

    def tell(self, result: Acceptance | BaseException) -> None:
        if self.future.done():  # nobody waits any more
            return
        if isinstance(result, BaseException):
            self.future.set_exception(result)
        else:
            self.future.set_result(result)


class _OneByOneError(Exception):
    """An act of a batch failed half done: the batch is rolled back and its submissions are taken one by one.

    Outside the tree of errors, for it never leaves this file.
    """


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
        self._db, self._index, self._identity, self._directory = db, index, identity, directory
        self._clock, self._ids, self._region = clock, ids, region
        self._on_change = on_change
        self._waiting: list[_Waiting] = []
        self._pump: asyncio.Task[None] | None = None
        self.alarms: Counter[str] = Counter()  # what an operator must look at, by kind; for metrics
        self.outcomes: Counter[str] = Counter()  # accepted, already, stale, refused; for metrics
        self.unread: Counter[str] = Counter()  # studies whose national number is none, by member; for metrics

    async def accept(self, submission: Submission) -> Acceptance:
        """Commit a submission, all its acts or none. Those that wait at the same time share a transaction where they can.

        Raises:
            CrosslightError: refused, with its ``xds_code``; nothing is stored then. An epoch that was not granted is a
                ``Conflict`` with ``where="epoch"``.
        """
        waiting = _Waiting(submission, names_of(submission), asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        if self._pump is None:
            self._pump = asyncio.create_task(self._run_waiting())
        return await waiting.future

    async def _run_waiting(self) -> None:
        try:
            while self._waiting:
                places = first_group((one.names for one in self._waiting), TOGETHER)
                group = [self._waiting[place] for place in places]
                self._waiting = [one for place, one in enumerate(self._waiting) if place not in set(places)]
                group = [one for one in group if not one.future.done()]
                try:
                    results = await self._group([one.submission for one in group]) if group else []
                except BaseException:
                    for one in group:
                        one.tell(OurError("The registry stops.", todo="Try again."))
                    raise
                for one, result in zip(group, results, strict=True):
                    one.tell(result)
        finally:
            self._pump = None

    async def _group(self, submissions: list[Submission]) -> list[Acceptance | BaseException]:
        """The outcome of each of these, which are committed together if they can be."""
        if len(submissions) > 1:
            try:
                return list(await self._together(submissions))
            except Exception as error:
                if not isinstance(error, _OneByOneError):
                    log.exception("submissions failed together", count=len(submissions))
        results: list[Acceptance | BaseException] = []
        for submission in submissions:
            try:
                results.append(await self._accept(submission))
            except Exception as error:  # noqa: BLE001 - handed to the one who waits
                results.append(error)
        return results

    async def _accept(self, submission: Submission) -> Acceptance:
        try:
            member = self._member(submission)
            done = await self._db.write("accept", lambda tx: self._one(tx, submission, member))
        except CrosslightError:
            self.outcomes["refused"] += 1
            raise
        return self._told([submission], done)[0]

    async def accept_many(self, submissions: Sequence[Submission]) -> list[Acceptance | CrosslightError]:
        """A batch of a feed in few transactions; each submission succeeds or fails on its own, in the order given."""
        results: list[Acceptance | CrosslightError] = []
        for start in range(0, len(submissions), BATCH):
            part = submissions[start : start + BATCH]
            try:
                results += await self._together(part)
            except Exception as error:
                if not isinstance(error, _OneByOneError):
                    log.exception("a batch failed", count=len(part))
                results += [await self._alone(submission) for submission in part]
        return results

    async def _together(self, part: Sequence[Submission]) -> list[Acceptance | CrosslightError]:
        done = await self._db.write("accept_many", partial(self._batch, part))
        told = iter(self._told(part, done))
        return [one if isinstance(one, CrosslightError) else next(told) for one in done.outcomes]

    async def _alone(self, submission: Submission) -> Acceptance | CrosslightError:
        try:
            return await self._accept(submission)
        except CrosslightError as error:
            return error
        except Exception:
            log.exception("an act failed", member=int(submission.member.id))
            return OurError("Something went wrong here.", todo="Try again; the registry's log says more.")

    # --- in the transaction ----------------------------------------------------------------------------------------

    def _turn(self, tx: Tx) -> Turn:
        return Turn(tx, self._index, self._identity, self._region, self._clock.now(), self._new_id, self._alarm)

    def _one(self, tx: Tx, submission: Submission, member: Member) -> _Done:
        turn = self._turn(tx)
        turn.work.take_turn(alone=False)
        turn.begin([submission])
        ran = turn.run(submission, member)
        return _Done(outcomes=[ran], changes=turn.finish())

    def _batch(self, submissions: Sequence[Submission], tx: Tx) -> _Done:
        turn = self._turn(tx)
        turn.work.take_turn(alone=len(submissions) > FEW and not submissions[0].strict)
        turn.begin(submissions)
        outcomes: list[Ran | CrosslightError] = []
        for submission in submissions:
            turn.touched = False
            try:
                outcomes.append(turn.run(submission, self._member(submission)))
            except CrosslightError as error:
                if turn.touched:
                    raise _OneByOneError from error
                outcomes.append(error)
        return _Done(outcomes=outcomes, changes=turn.finish())

    def _member(self, submission: Submission) -> Member:
        """The sender as the directory has it now, if it may do what it asks.

        Raises:
            Forbidden: if not.
        """
        member = self._directory.by_id(submission.member.id) or submission.member
        if member.status not in ("active", "foreign"):
            raise Forbidden(f"{member.code} may not publish: it is {member.status}.", todo="Ask the region's operator.")
        principal = submission.caller.principal
        if principal.member is not None and principal.member != member.id:
            raise Forbidden("A member publishes for itself only.")
        face = "feed" if submission.road == "grpc" else "xds"
        for action in {"delete" if isinstance(act, Withdraw) else "publish" for act in submission.acts}:
            decision = decide(principal, face, action)  # type: ignore[arg-type]
            if not decision.permit:
                raise Forbidden("This is not allowed.", why=decision.rule)
        return member

    def _new_id(self) -> str:
        return self._ids.uuid4().urn

    def _alarm(self, what: str, member: Member, study_uid: str) -> None:
        self.alarms[what] += 1
        log.error("alarm", what=what, code=member.code, study=study_uid)

    # --- after the commit ------------------------------------------------------------------------------------------

    def _told(self, submissions: Sequence[Submission], done: _Done) -> list[Acceptance]:
        for submission, ran in zip(submissions, done.outcomes, strict=True):
            if not isinstance(ran, CrosslightError):
                self._note_unread(submission, ran.outcomes)
        accepted = [one for one in done.outcomes if not isinstance(one, CrosslightError)]
        self.outcomes["refused"] += len(done.outcomes) - len(accepted)
        for one in accepted:
            self.outcomes.update(one.outcomes)
        if done.changes and self._on_change is not None:
            self._on_change(done.changes)
        incarnation = self._index.incarnation
        return [Acceptance(outcomes=one.outcomes, incarnation=incarnation, warnings=one.warnings) for one in accepted]

    def _note_unread(self, submission: Submission, outcomes: Sequence[str]) -> None:
        region = self._region
        for act, outcome in zip(submission.acts, outcomes, strict=False):
            given = act.publication.record.patient.others if isinstance(act, Publish) and outcome == "accepted" else ()
            if any(is_unread_number(one, region.nationals, allow_test=region.allow_test_numbers) for one in given):
                self.unread[submission.member.code] += 1

    # --- detail ----------------------------------------------------------------------------------------------------

    async def update_detail(self, key: HoldingKey, record: StudyRecord, *, entry_uuid: str = "", digest: str = "") -> bool:
        """Replace what is known of a holding by more of it, without a new version (D17).

        Args:
            key: The holding.
            record: With ``detail`` manifest or full, of the same study. The patient as submitted is kept; a name that a slot
                cut is made whole.
            entry_uuid: The version that ``record`` describes; another one now current is left alone. '' = whatever is.
            digest: The content digest as the holder states it; '' keeps the one that was submitted.

        Returns:
            Whether it was replaced.

        Raises:
            NotFound: if the record is of another study.
        """
        if record.study_uid != key.study_uid:
            raise NotFound("The detail is of another study.")

        def write(tx: Tx) -> list[Change]:
            work = self._index.work(tx, self._clock.now())
            work.lock([key.member])
            entry = work.entry_under(key.member, key.study_uid, key.record_key)
            if entry.now is None or entry.now.holding.record_key != key.record_key:
                return []
            publication = self._described(tx, entry.now, entry_uuid)
            if publication is None:
                return []
            if self._foreign(key.member):
                work.describe_entry(entry, with_detail(publication, record))
            else:
                work.replace_record(entry, with_detail(publication, record), digest)
            work.flush()
            self._identity.compare_tx(tx, work.described, work.touched, self._clock.now())
            return work.changes

        return self._learned(await self._db.write("update_detail", write))

    async def document_read(self, key: DocumentKey, member: Member, manifest: Manifest) -> bool:
        """A document that did not say of which study it is was read (:func:`learned.document_read`); whether it still waited."""
        stores, region, now = (self._index, self._identity), self._region, self._clock.now()
        return self._learned(
            await self._db.write("document_read", lambda tx: document_read(tx, *stores, key, member, manifest, region, now))
        )

    async def no_manifest(self, key: HoldingKey, entry_uuid: str, studies: Sequence[str]) -> bool:
        """An entry that was taken for a manifest is another document (:func:`learned.no_manifest`); whether it was there."""
        now = self._clock.now()
        return self._learned(
            await self._db.write(
                "no_manifest", lambda tx: no_manifest(tx, self._index, self._identity, key, entry_uuid, studies, now)
            )
        )

    def _learned(self, changes: list[Change]) -> bool:
        if changes and self._on_change is not None:
            self._on_change(changes)
        return bool(changes)

    def _described(self, tx: Tx, held: Loaded, entry_uuid: str) -> Publication | None:
        """Which of a holding's current entries is meant; None where it is not current any more."""
        holding = self._index.read.with_past(tx, [held])[0]
        current = (holding.publication, *holding.siblings)
        return next((p for p in current if p.entry_uuid == entry_uuid or not entry_uuid), None)

    def _foreign(self, member: MemberId) -> bool:
        found = self._directory.by_id(member)
        return found is not None and found.status == "foreign"
