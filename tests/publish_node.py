"""A node that publishes to a registry of values, without sockets: for tests of the outbox against loss."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from publish_fakes import IDENTITY, MemoryArchive, SeededIds, StrictRegistry, VirtualClock
from publish_records import make_patient

from crosslight.runtime.db import SqliteDb
from crosslight.runtime.seams import system_seams
from crosslight.runtime.workers import SystemWorkers
from crosslight.standards.census import take_census
from crosslight.standards.concern import Concern, patient_hash
from crosslight.standards.study import Patient
from node.publish.config import PublishConfig
from node.publish.outbox_store import OutboxStore
from node.publish.publisher import Publisher
from node.publish.revise import Origin, Retrieval
from node.publish.road import Destination
from node.publish.soap_road import SoapRoad, XdsPort
from node.publish.store import PublishStore

STUDIES = ("1.2.1", "1.2.2")
PATIENTS = (make_patient("A1"), make_patient("B1", name="Berg^Ben", national=""))


@dataclass
class Node:
    """A node without sockets."""

    clock: VirtualClock
    archive: MemoryArchive
    publisher: Publisher
    rows: OutboxStore
    store: PublishStore
    registry: StrictRegistry

    async def revise(self, seconds: float = 10.0) -> None:
        """Let time pass, and make the revisions that are due."""
        await asyncio.sleep(0)
        self.clock._now += seconds
        await self.publisher.reviser._refill()
        await self.publisher.reviser.revise_due()

    async def deliver(self, passes: int) -> None:
        """So many rounds of the outbox, each after a while."""
        for _ in range(passes):
            self.clock._now += 400
            await self.publisher.outbox.pass_once()

    async def drain(self) -> None:
        """Until nothing waits; a registry that answers must get there."""
        for _ in range(60):
            await self.revise()
            await self.deliver(1)
            status = await self.publisher.status()
            if status.waiting == 0 and not self.publisher.reviser.pending():
                return
        raise AssertionError(
            f"never came to rest: {await self.publisher.status()}, {await self.rows.parked()}"
        )

    async def concern(self) -> Concern:
        """What a heartbeat would say now."""
        return await self.publisher.concern(await self.publisher.status())

    async def check(self) -> None:
        """The registry has what the archive holds."""
        for study_uid in STUDIES:
            held = self.archive.studies.get(study_uid)
            approved = self.registry.approved(study_uid)
            entries = {u: e for u, e in self.registry.entries.items() if e.study_uid == study_uid}
            if held is None:
                assert approved == []
            else:
                assert len(approved) == 1, self.registry.log
                assert {e.patient for e in entries.values()} == {held[0].patient.local}
                row, _ = await self.store.look(study_uid)
                acked = await self.rows.acked(study_uid)
                assert row is not None
                assert acked is not None
                assert acked.digest == row.digest
                assert self.registry.patients[held[0].patient.local] == held[0].patient
            # every version that can be asked for has the bytes that were promised
            for entry in entries.values():
                manifest = await self.publisher.manifest(entry.unique_id)
                assert manifest is not None
                assert hashlib.sha1(manifest).hexdigest() == entry.sha1
        truth = take_census(
            (e.study_uid, e.sha1) for e in self.registry.entries.values() if e.status == "Approved"
        )
        assert (await self.publisher.status()).census == truth


def hashes(patient: Patient) -> set[bytes]:
    """Of all its identifiers."""
    return {patient_hash(IDENTITY.secret, i) for i in (patient.local, *patient.others)}


@asynccontextmanager
async def node(
    folder: Path,
    registry: StrictRegistry,
    *,
    port: XdsPort | None = None,
    clock: VirtualClock | None = None,
    archive: MemoryArchive | None = None,
    affinity: Callable[[Patient], object] | None = None,
) -> AsyncIterator[Node]:
    clock = clock or VirtualClock()
    db = SqliteDb(folder / "node.db")
    workers = SystemWorkers(threads=1)
    try:
        archive = archive or MemoryArchive(db, clock)
        archive._db = db
        await archive.open()
        ids = SeededIds(1)
        seams = system_seams(clock=clock, ids=ids, workers=workers, draw=ids.draw)
        store, rows = PublishStore(db, ids, ["xds"]), OutboxStore(db, "xds")
        road = SoapRoad(port or registry, lambda: IDENTITY, rows, affinity or (lambda p: p.local), parallel=2)  # type: ignore[arg-type]
        publisher = Publisher(
            store,
            rows,
            archive,
            seams,
            PublishConfig(kind="xds", park_after=20),
            Origin(identity=lambda: IDENTITY, retrieval=Retrieval(ae_title="RTK")),
            Destination(road=road, comparer=road, granted=False),
        )
        await publisher.open()
        publisher.reviser.start()
        yield Node(clock, archive, publisher, rows, store, registry)
        await publisher.close()
    finally:
        await db.close()
        await workers.close()
