"""The outbox against a registry that follows XDS strictly and may lose any request or acknowledgement.

Whatever happens on the way, it ends with exactly what the archive holds: nothing doubled, nothing left
behind.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from publish_fakes import IDENTITY, MemoryArchive, StrictRegistry, VirtualClock
from publish_node import PATIENTS, STUDIES, Node, hashes, node
from publish_records import make_patient, make_record

from crosslight.standards.concern import Concern, patient_hash
from crosslight.standards.ids import DerivedId, Kind, study_tag
from node.publish.revisions import Withdrawn
from node.publish.store import MAX_N

_CHANGES = st.one_of(
    st.tuples(st.just("put"), st.sampled_from(STUDIES), st.integers(0, 1), st.integers(1, 3)),
    st.tuples(st.just("delete"), st.sampled_from(STUDIES), st.just(0), st.just(0)),
    st.tuples(st.just("deliver"), st.just(""), st.integers(1, 3), st.just(0)),
    st.tuples(st.just("restart"), st.just(""), st.just(0), st.just(0)),
)
_FATES = st.lists(st.sampled_from(["", "", "request", "answer"]), max_size=40)


_LATE_FATES = st.lists(st.sampled_from(["", "", "late", "answer"]), max_size=40)
EXAMPLES = 2000 if os.environ.get("CROSSLIGHT_SOAK") else 60


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_CHANGES, min_size=1, max_size=12), _FATES)
def test_any_loss_property(changes: list[tuple[str, str, int, int]], fates: list[str]) -> None:
    asyncio.run(_any_loss(changes, fates))


@settings(max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(_CHANGES, min_size=1, max_size=12), _LATE_FATES)
def test_late_arrival_property(changes: list[tuple[str, str, int, int]], fates: list[str]) -> None:
    """A message that comes after its sender gave up: a comparison, as drift orders it, puts right what that
    can do.
    """
    asyncio.run(_any_loss(changes, fates))


async def _any_loss(changes: list[tuple[str, str, int, int]], fates: list[str]) -> None:
    queue = list(fates)
    registry = StrictRegistry(lose=lambda _: queue.pop(0) if queue else "")
    with tempfile.TemporaryDirectory() as name:
        clock: VirtualClock | None = None
        archive: MemoryArchive | None = None
        pending = list(changes)
        while True:
            async with node(Path(name), registry, clock=clock, archive=archive) as here:
                clock, archive = here.clock, here.archive
                while pending and pending[0][0] != "restart":
                    await _apply(here, pending.pop(0))
                if not pending:
                    queue.clear()
                    await here.drain()
                    if "late" in fates:
                        registry.arrive_late()
                        await here.publisher.reconcile()
                        await here.drain()
                    await here.check()
                    assert await here.rows.parked() == []
                    return
                pending.pop(0)


async def _apply(here: Node, change: tuple[str, str, int, int]) -> None:
    what, study_uid, number, count = change
    if what == "put":
        await here.archive.put(make_record(study_uid, count, patient=PATIENTS[number]), count)
        await here.revise()
    elif what == "delete":
        await here.archive.delete(study_uid)
        await here.revise()
    else:
        await here.deliver(number)


async def test_a_changed_study_is_replaced_and_a_deleted_one_deprecated(tmp_path: Path) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        await here.archive.put(make_record("1.2.1", 1), 1)
        await here.drain()
        await here.archive.put(make_record("1.2.1", 2), 2)
        await here.drain()
        await here.check()
        assert sorted(e.status for e in here.registry.entries.values()) == ["Approved", "Deprecated"]
        await here.archive.delete("1.2.1")
        await here.drain()
        await here.check()
        assert [e.status for e in here.registry.entries.values()] == ["Deprecated", "Deprecated"]
        await here.archive.put(make_record("1.2.1", 2), 2)
        await here.drain()
        await here.check()
        assert here.registry.log.count("iti42") == 2  # the same content came back: only its status changed
        assert here.registry.log.count("iti57") == 2
        assert here.registry.log.count("iti8") == 1


async def test_a_fresh_submission_still_on_its_way_is_never_doubled(tmp_path: Path) -> None:
    fates = ["", "late"]  # the feed arrives, the submission comes after its sender gave up
    async with node(tmp_path, StrictRegistry(lose=lambda _: fates.pop(0) if fates else "")) as here:
        await here.archive.put(make_record("1.2.1", 1, patient=PATIENTS[0]), 1)
        await here.revise()
        await here.deliver(1)
        assert len(here.registry.late) == 1
        late, here.registry.late = here.registry.late, []
        await here.archive.put(make_record("1.2.1", 2, patient=PATIENTS[0]), 2)
        await here.drain()
        here.registry.late = late
        here.registry.arrive_late()
        await here.check()


async def test_a_wrong_patient_is_withdrawn_whole_and_submitted_fresh(tmp_path: Path) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        for count in (1, 2, 3):
            await here.archive.put(make_record("1.2.1", count, patient=PATIENTS[0]), count)
            await here.drain()
        assert len(here.registry.entries) == 3
        await here.archive.put(make_record("1.2.1", 3, patient=PATIENTS[1]), 3)
        await here.drain()
        await here.check()
        assert len(here.registry.entries) == 1
        assert len(here.registry.submissions) == 1
        assert len(here.registry.links) == 1


async def test_withdrawn_for_safety_nothing_follows(tmp_path: Path) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        await here.archive.put(make_record("1.2.1", 1), 1)
        await here.drain()
        first = here.clock.now().timestamp()
        await here.store.withdraw("1.2.1", "wrong side marked", first)
        assert not (await here.concern()).waiting, "nothing is said of whom a sealed study concerns"
        await here.revise()
        assert not (await here.concern()).waiting
        await here.drain()
        assert here.registry.entries == {}
        await here.archive.put(make_record("1.2.1", 2), 2)  # more objects do not bring it back
        await here.drain()
        assert here.registry.entries == {}
        assert await here.store.withdrawn(5) == (1, [Withdrawn("1.2.1", "wrong side marked", first)])
        assert await here.store.publish_again("1.2.1", here.clock.now().timestamp())
        await here.drain()
        await here.check()
        assert await here.store.withdrawn(5) == (0, [])
        assert not await here.store.publish_again("1.2.1", here.clock.now().timestamp()), (
            "it is not withdrawn"
        )


async def test_a_study_withdrawn_while_its_revision_is_made_is_not_published(tmp_path: Path) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        await here.archive.put(make_record("1.2.1", 1), 1)
        await here.drain()
        reading = here.archive.objects

        async def objects(study_uid: str) -> Any:
            await here.store.withdraw("1.2.1", "sealed", here.clock.now().timestamp())
            here.archive.objects = reading  # type: ignore[method-assign]
            return await reading(study_uid)

        here.archive.objects = objects  # type: ignore[method-assign]
        await here.archive.put(make_record("1.2.1", 2), 2)
        await here.drain()
        row, _ = await here.store.look("1.2.1")
        assert (row.state, here.registry.entries) == ("withdrawn", {})  # type: ignore[union-attr]


async def test_a_study_withdrawn_before_anything_of_it_was_published_is_not(tmp_path: Path) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        await here.archive.put(make_record("1.2.1", 1), 1)
        await here.store.withdraw("1.2.1", "sealed", here.clock.now().timestamp())
        await here.drain()
        assert here.registry.log == []
        await here.store.publish_again("1.2.1", here.clock.now().timestamp())
        await here.drain()
        await here.check()


async def test_whom_waiting_studies_concern(tmp_path: Path) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        assert (await here.concern()).anybody_waiting, (
            "before all of what was marked earlier has been looked at"
        )
        await here.drain()
        assert await here.concern() == Concern()
        await here.archive.put(make_record("1.2.1", 1, patient=PATIENTS[0]), 1)
        await asyncio.sleep(0)
        assert (await here.concern()).waiting == hashes(PATIENTS[0]), "received, before any revision"
        await here.revise()
        assert (await here.concern()).waiting == hashes(PATIENTS[0]), "in the outbox"
        await here.drain()
        assert await here.concern() == Concern()
        await here.archive.put(make_record("1.2.1", 1, patient=PATIENTS[1]), 1)
        await here.revise()
        moving = (await here.concern()).waiting
        own = {patient_hash(IDENTITY.secret, PATIENTS[0].local)}
        assert moving == hashes(PATIENTS[1]) | own, "it leaves one patient's list and comes to another's"
        await here.drain()
        await here.archive.delete("1.2.1")
        await here.revise()
        assert (await here.concern()).waiting == {patient_hash(IDENTITY.secret, PATIENTS[1].local)}, (
            "gone here, still listed"
        )
        await here.drain()
        assert await here.concern() == Concern()
        await here.publisher.on_reconcile("a comparison")
        assert (await here.concern()).anybody_waiting


async def test_unsent_intents_coalesce(tmp_path: Path) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        for count in (1, 2, 3):
            await here.archive.put(make_record("1.2.1", count), count)
            await here.revise()
        await here.drain()
        assert here.registry.log.count("iti42") == 1
        await here.check()


async def test_what_nobody_foresaw_stops_no_loop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        publisher, failed = here.publisher, Counter[str]()

        def once(owner: Any, name: str) -> None:
            right = getattr(owner, name)

            async def first_wrong(*args: Any) -> Any:
                failed[name] += 1
                if failed[name] == 1:
                    raise RuntimeError(name)
                return await right(*args)

            monkeypatch.setattr(owner, name, first_wrong)

        await here.rows.owe_reconciliation("test")
        publisher.outbox.hold("reconcile", "test")
        once(publisher.reviser, "_refill")
        once(publisher.outbox, "pass_once")
        once(publisher, "reconcile")
        publisher.start()
        publisher._compare_wake.set()
        await here.archive.put(make_record("1.2.1", 1), 1)
        for _ in range(60):
            await here.clock.advance(1)
            if here.registry.approved("1.2.1"):
                break
        assert set(failed) == {"_refill", "pass_once", "reconcile"}
        assert len(here.registry.approved("1.2.1")) == 1


async def test_unchanged_content_publishes_nothing(tmp_path: Path) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        await here.archive.put(make_record("1.2.1", 1), 1)
        await here.drain()
        before = (await here.store.node()).next_n
        await here.archive.put(make_record("1.2.1", 1), 1)
        await here.drain()
        assert (await here.store.node()).next_n == before
        assert here.registry.log.count("iti42") == 1


async def test_changed_demographics_are_fed_before_the_replacement(tmp_path: Path) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        await here.archive.put(make_record("1.2.1", 1), 1)
        await here.drain()
        renamed = replace(make_patient("A1"), postcode="GU2 7XX")
        await here.archive.put(make_record("1.2.1", 1, patient=renamed), 1)
        await here.drain()
        await here.check()
        assert here.registry.log == ["iti8", "iti42", "iti8", "iti42"]


async def test_a_patient_the_registry_has_forgotten_is_fed_again(tmp_path: Path) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        await here.archive.put(make_record("1.2.1", 1), 1)
        await here.drain()
        here.registry.patients.clear()
        await here.archive.put(make_record("1.2.1", 2), 2)
        await here.drain()
        await here.check()


async def test_a_permanent_refusal_is_parked_shown_and_not_retried(tmp_path: Path) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        tag = study_tag(IDENTITY.secret, "1.2.1")
        await here.archive.put(make_record("1.2.1", 1), 1)
        await here.drain()
        here.registry.links.clear()
        for entry in here.registry.entries.values():
            entry.patient = PATIENTS[1].local  # someone moved it: the replacement is refused for good
        await here.archive.put(make_record("1.2.1", 2), 2)
        await here.revise()
        await here.deliver(3)
        parked = await here.publisher.parked()
        assert [(p.study_uid, p.code) for p in parked] == [("1.2.1", "XDSPatientIdDoesNotMatch")]
        status = await here.publisher.status()
        assert (status.parked, status.waiting) == (1, 0)
        concern = await here.publisher.concern(status)
        assert (concern.waiting, concern.refused) == (set(), hashes(PATIENTS[0]))
        tries = here.registry.log.count("iti42")
        await here.deliver(5)
        assert here.registry.log.count("iti42") == tries
        for entry in here.registry.entries.values():
            entry.patient = PATIENTS[0].local
        assert await here.publisher.unpark() == 1
        await here.drain()
        await here.check()
        assert all(DerivedId.parse(u) and DerivedId.parse(u).tag == tag for u in here.registry.entries)  # type: ignore[union-attr]
        assert DerivedId.parse(next(iter(here.registry.entries))).kind == Kind.DOCUMENT_ENTRY  # type: ignore[union-attr]


async def test_a_patient_without_an_id_in_the_registrys_authority_waits_and_is_shown(tmp_path: Path) -> None:
    async with node(tmp_path, StrictRegistry(), affinity=lambda p: p.others[0] if p.others else None) as here:
        await here.archive.put(make_record("1.2.1", 1, patient=PATIENTS[1]), 1)
        await here.revise()
        await here.deliver(30)
        status = await here.publisher.status()
        assert (status.waiting, status.parked) == (1, 0)
        known = replace(PATIENTS[1], others=PATIENTS[0].others)
        await here.archive.put(make_record("1.2.1", 1, patient=known), 1)
        await here.drain()
        assert [e.patient for e in here.registry.approved("1.2.1")] == [PATIENTS[0].others[0]]


async def test_a_restored_node_and_a_registry_that_forgot_converge(tmp_path: Path) -> None:
    registry = StrictRegistry()
    async with node(tmp_path, registry) as here:
        await here.archive.put(make_record("1.2.1", 1), 1)
        await here.archive.put(make_record("1.2.2", 1), 1)
        await here.drain()
        clock, archive = here.clock, here.archive
        backup = tmp_path / "backup.db"
        await archive._db.backup_to(backup)
        await archive.put(make_record("1.2.1", 2), 2)
        await here.drain()
    # The node is restored to a day ago; meanwhile the registry has lost one study and deprecated nothing.
    for leftover in tmp_path.glob("node.db*"):
        leftover.unlink()
    backup.rename(tmp_path / "node.db")
    registry.entries = {u: e for u, e in registry.entries.items() if e.study_uid != "1.2.2"}
    registry.links = {u: x for u, x in registry.links.items() if x.target in registry.entries}
    async with node(tmp_path, registry, clock=clock, archive=archive) as here:
        await here.store.restored(own_epochs=True)
        await here.publisher.reconcile()
        await here.drain()
        assert len(registry.approved("1.2.2")) == 1
        assert (await here.store.node()).epoch == 2


async def test_status_says_filling_until_all_is_acknowledged(tmp_path: Path) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        await here.archive.put(make_record("1.2.1", 1), 1)
        await here.revise()
        status = await here.publisher.status()
        assert (status.filling, status.waiting) == (True, 1)
        await here.drain()
        status = await here.publisher.status()
        assert (status.filling, status.waiting, status.indexed_from) == (False, 0, "20250701")
        assert status.acked_n > 0


async def test_when_an_epochs_numbers_are_used_up_the_next_is_taken(tmp_path: Path) -> None:
    async with node(tmp_path, StrictRegistry()) as here:
        await here.archive.put(make_record("1.2.1", 1), 1)
        await here.drain()
        await here.archive._db.write(
            "near the end", lambda tx: tx.execute("UPDATE publish_node SET next_n = ?", (MAX_N,))
        )
        for count in (2, 3, 4):
            await here.archive.put(make_record("1.2.1", count), count)
            await here.drain()
        await here.check()
        assert (await here.store.node()).epoch == 2
