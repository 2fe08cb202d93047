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
from crosslight.runtime.db.sqlite import _SqliteTx
from crosslight.standards.concern import Concern
from node.marks import Marks
from node.publish.outbox import Outbox
from node.publish.publisher import Publisher
from node.publish.store import PublishStore
from registry.ask import coverage
from registry.fhir import completeness
from registry.intake.batch import Batch
from simulations.faults.machine import CrashingFiles, CrashingSqlite
from simulations.faults.plan import plan
from simulations.faults.run import play

Patch = pytest.MonkeyPatch
SEEDS = range(1, 21)  # the everyday ones, and some more


def a_node_acknowledges_before_the_commit(patch: Patch) -> None:
    """Whoever waits is told; the commit comes with the next write, if the machine lives as long."""
    write = CrashingSqlite.submit_write

    def early(self: Any, name: str, fn: Callable[[Any], Any], *, lazy: bool = False) -> Future[Any]:
        if self._writer.in_transaction:
            self._writer.execute("COMMIT")
        if name != "ingest":
            return write(self, name, fn, lazy=lazy)
        future: Future[Any] = Future()
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            future.set_result(fn(_SqliteTx(self._writer)))
        except BaseException as error:
            self._writer.execute("ROLLBACK")
            future.set_exception(error)
        return future

    patch.setattr(CrashingSqlite, "submit_write", early)


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


def whoever_is_away_counts_as_up_to_date(patch: Patch) -> None:
    member = coverage._member

    def well(*given: Any) -> Any:
        return replace(member(*given), list_state="live", reachable=True, clock_wrong=False)

    patch.setattr(coverage, "_member", well)


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


MUTATIONS = (
    a_node_acknowledges_before_the_commit,
    an_fsync_is_left_out,
    a_retry_is_lost,
    newer_versions_are_stale,
    whoever_is_away_counts_as_up_to_date,
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
