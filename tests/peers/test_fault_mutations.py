"""Deliberate faults, one at a time: with each some everyday seed must fail, or the invariants see nothing.

The switches are here, never in the product.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from crosslight.runtime.audit.log import AuditLog
from crosslight.runtime.audit.outcome import Outcome
from crosslight.runtime.db.sqlite_tx import SqliteTx
from crosslight.standards.concern import Concern
from node.archive.ingest import Ingestor
from node.archive.maintenance import Maintenance, Reconciled
from node.marks import Marks
from node.membership import joined
from node.membership.state import RegionState
from node.publish.outbox import Outbox
from node.publish.publisher import Publisher
from node.publish.store import PublishStore
from node.serve.release import Release
from registry.fhir import completeness
from registry.intake.batch import Batch
from registry.intake.study_patients import StudyPatients
from simulations.faults.machine import CrashingFiles, CrashingSqlite
from simulations.faults.plan import plan
from simulations.faults.run import play

Patch = pytest.MonkeyPatch
SEEDS = range(1, 25)  # the everyday ones


def _told_before_the_commit(patch: Patch, writes: str) -> None:
    """Whoever waits is told; the commit comes with the next write, if the machine lives as long."""
    write = CrashingSqlite.submit_write

    def early(self: Any, name: str, fn: Callable[[Any], Any], *, lazy: bool = False) -> Future[Any]:
        if self._writer.in_transaction:
            self._writer.execute("COMMIT")
        if name != writes:
            return write(self, name, fn, lazy=lazy)
        future: Future[Any] = Future()
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            future.set_result(fn(SqliteTx(self._writer)))
        except BaseException as error:
            self._writer.execute("ROLLBACK")
            future.set_exception(error)
        return future

    patch.setattr(CrashingSqlite, "submit_write", early)


def a_node_acknowledges_before_the_commit(patch: Patch) -> None:
    _told_before_the_commit(patch, "ingest")


def the_registry_acknowledges_before_the_commit(patch: Patch) -> None:
    _told_before_the_commit(patch, "accept")


def an_fsync_is_left_out(patch: Patch) -> None:
    def place(self: Any, handle: BinaryIO, tmp: Path, final: Path) -> bool:
        self._write()
        if final.exists():
            return False
        self._machine.named(final, os.fstat(handle.fileno()).st_ino)
        final.parent.mkdir(parents=True, exist_ok=True)
        os.link(tmp, final)
        return True

    patch.setattr(CrashingFiles, "place", place)


def a_retry_is_lost(patch: Patch) -> None:
    """Who could not reach the registry does not try again."""
    deliver_all = Outbox._deliver_all

    async def once(self: Any, jobs: Any) -> float:
        wait_s = await deliver_all(self, jobs)
        if self._down:
            await asyncio.Event().wait()
        return wait_s

    patch.setattr(Outbox, "_deliver_all", once)


def newer_versions_are_stale(patch: Patch) -> None:
    """The comparison of versions, the wrong way round."""
    ordered = Batch._ordered

    def swapped(self: Any, submission: Any, member: Any, entry: Any, act: Any, version: Any) -> Any:
        answer = ordered(self, submission, member, entry, act, version)
        return "stale" if answer is None and entry.now is not None else answer

    patch.setattr(Batch, "_ordered", swapped)


def nobody_says_what_waits(patch: Patch) -> None:
    status, concern = Publisher.status, Publisher.concern

    async def silent(self: Any) -> Any:
        return replace(await status(self), waiting=0, filling=False)

    async def unconcerned(self: Any, said: Any) -> Concern:
        return replace(
            await concern(self, said),
            waiting=frozenset(),
            refused=frozenset(),
            anybody_waiting=False,
            anybody_refused=False,
        )

    patch.setattr(Publisher, "status", silent)
    patch.setattr(Publisher, "concern", unconcerned)


def later_images_move_no_mark(patch: Patch) -> None:
    touch = Marks.touch_tx

    def once(self: Any, tx: Any, study_uid: str, now_unix: float) -> None:
        if self.of_tx(tx, study_uid) is None:
            touch(self, tx, study_uid, now_unix)

    patch.setattr(Marks, "touch_tx", once)


def what_came_before_the_start_is_forgotten(patch: Patch) -> None:
    async def none(self: Any, after: str, limit: int) -> Any:
        return [], None

    patch.setattr(PublishStore, "unseen", none)


def outcomes_are_not_written(patch: Patch) -> None:
    end = AuditLog.end

    async def some(self: Any, entry: Any, outcome: Any, act: int, *, lazy: bool = False) -> None:
        if entry.action != "search":
            await end(self, entry, outcome, act, lazy=lazy)

    patch.setattr(AuditLog, "end", some)
    patch.setattr(AuditLog, "end_later", lambda self, *given, **more: None)


def warnings_are_left_out(patch: Patch) -> None:
    patch.setattr(completeness, "_member_issues", lambda *given: [])


def what_has_a_name_is_taken_for_whole(patch: Patch) -> None:
    """What lies there after a crash is not looked at; the object that comes again finds its name taken."""
    give_name = Ingestor._give_name

    def trusting(self: Any, staged: Any, sha256: bytes) -> bool:
        return not self._layout.object(sha256).exists() and give_name(self, staged, sha256)

    patch.setattr(Ingestor, "_give_name", trusting)
    patch.setattr(Maintenance, "reconcile", lambda self: Reconciled(0, 0))


def a_suspended_node_goes_on(patch: Patch) -> None:
    """It does not hear that it is suspended."""
    refuses = Release._decide

    def decide(self: Any, *given: Any, **more: Any) -> Any:
        self._suspended = lambda: False
        return refuses(self, *given, **more)

    patch.setattr(Release, "_decide", decide)


def a_cache_ignores_suspension(patch: Patch) -> None:
    """Whom a node lets in is as the first directory of its life says."""
    accept, cached = RegionState.accept_directory, set[RegionState]()

    def once(self: Any, jws: str, now: Any) -> None:
        if self not in cached:
            accept(self, jws, now)
            if len(self.directory.members) > 1:
                cached.add(self)

    patch.setattr(RegionState, "accept_directory", once)


def an_old_directory_is_believed_for_ever(patch: Patch) -> None:
    patch.setattr(joined, "age_of", lambda *given: "fresh")


def nothing_is_compared(patch: Patch) -> None:
    """After a loss the node believes that all is there that was acknowledged once."""

    async def satisfied(self: Any) -> int:
        async with self.outbox.quiet:
            await self._rows.learnt({}, all_compared=True)
        self.outbox.release("reconcile")
        return 0

    patch.setattr(Publisher, "reconcile", satisfied)


def acts_are_audited_after_the_bytes(patch: Patch) -> None:
    """Nobody waits for the act to be written."""

    async def begin(self: Any, entry: Any) -> int:
        self.whole_later(entry, Outcome("ok"))
        return 1

    async def end(self: Any, *given: Any, **more: Any) -> None:
        return None

    patch.setattr(AuditLog, "begin", begin)
    patch.setattr(AuditLog, "end", end)
    patch.setattr(AuditLog, "end_later", lambda self, *given, **more: None)


def local_numbers_are_everybodys(patch: Patch) -> None:
    """The same number of two hospitals is taken for the same patient."""
    fed, known = StudyPatients._fed_key, dict[tuple[int, str], Any]()

    def anywhere(self: Any, member: Any, patient: Any) -> Any:
        key = fed(self, member, patient)
        return known.setdefault((id(self._identity), patient.local.value), key)

    patch.setattr(StudyPatients, "_fed_key", anywhere)


MUTATIONS = (
    a_node_acknowledges_before_the_commit,
    the_registry_acknowledges_before_the_commit,
    what_has_a_name_is_taken_for_whole,
    a_suspended_node_goes_on,
    a_cache_ignores_suspension,
    an_old_directory_is_believed_for_ever,
    nothing_is_compared,
    acts_are_audited_after_the_bytes,
    local_numbers_are_everybodys,
    an_fsync_is_left_out,
    a_retry_is_lost,
    newer_versions_are_stale,
    nobody_says_what_waits,
    later_images_move_no_mark,
    what_came_before_the_start_is_forgotten,
    outcomes_are_not_written,
    warnings_are_left_out,
)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.__name__)
def test_a_deliberate_fault_is_found(mutation: Callable[[Patch], None], monkeypatch: Patch) -> None:
    mutation(monkeypatch)
    for seed in SEEDS:
        try:
            broken = play(seed, plan(seed)).broken
        except Exception as error:  # a run that ends at once has found it too
            broken = type(error).__name__
        if broken:
            return
    pytest.fail("no seed found it")
