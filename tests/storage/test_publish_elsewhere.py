"""What another process (`crosslight-node import`, `delete`) changed is published by the running node, without
a restart.
"""

from __future__ import annotations

from pathlib import Path

from publish_fakes import IDENTITY, MemoryArchive, SeededIds, VirtualClock
from publish_records import make_patient, make_record

from crosslight.runtime.db import SqliteDb
from crosslight.runtime.seams import system_seams
from crosslight.runtime.workers import SystemWorkers
from node.publish.revise import LOOK_EVERY_S, Origin, Retrieval, Reviser
from node.publish.schedule import Pace, Schedule
from node.publish.store import PublishStore

STUDY = "1.2.77"
SECOND = 1.0


async def test_a_change_that_no_callback_told_of_is_revised_within_seconds(tmp_path: Path) -> None:
    clock, db, workers = VirtualClock(), SqliteDb(tmp_path / "node.db"), SystemWorkers(threads=1)
    archive, store = MemoryArchive(db, clock), PublishStore(db, SeededIds(), ["region"])
    try:
        await archive.open()
        await store.open()
        await store.take_epoch(1)
        reviser = Reviser(
            store,
            archive,
            system_seams(clock=clock, workers=workers),
            Schedule(Pace(first_s=SECOND, quiet_s=5.0, growing_s=60.0)),
            Origin(identity=lambda: IDENTITY, retrieval=Retrieval(ae_title="RTK")),
            on_revision=lambda: None,
        )
        reviser.start()
        await reviser._refill()  # the first look: nothing is there
        assert reviser.settled

        await archive.put(make_record(STUDY, 1, patient=make_patient("A1")), tell=False)
        clock._now += LOOK_EVERY_S
        await reviser._refill()
        assert reviser.pending() == [STUDY], "counted as waiting before it is revised"
        clock._now += SECOND
        await reviser.revise_due()
        assert await _revisions(db) == 1

        clock._now += 60.0
        await reviser._refill()
        await reviser.revise_due()
        clock._now += 60.0
        await reviser._refill()
        assert reviser.pending() == [], "what was looked at is not looked at again"
        assert await _revisions(db) == 1
    finally:
        await workers.close()
        await db.close()


async def _revisions(db: SqliteDb) -> int:
    row = await db.read(
        "count", lambda tx: tx.row("SELECT count(*) FROM publish_revision WHERE study_uid = ?", (STUDY,))
    )
    return int(row[0]) if row else 0
