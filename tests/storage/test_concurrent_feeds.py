"""Members that feed the same patients at the same time do not stand in each other's way."""

from __future__ import annotations

import asyncio
import random

from registry_room import make_room
from registry_samples import nhs, patient, study

from crosslight.runtime.db import Db
from crosslight.standards.problem import CrosslightError

PATIENTS, STUDIES = 25, 60


async def _deadlocks(db: Db) -> int:
    if db.engine == "sqlite":
        return 0
    row = await db.read(
        "deadlocks", lambda tx: tx.row("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()")
    )
    assert row is not None
    return int(row[0])


async def test_batches_of_the_same_patients_end_without_deadlock(database: Db) -> None:
    room = await make_room(database)
    before = await _deadlocks(database)

    async def feed(code: str, seed: int) -> None:
        r, home = random.Random(seed), room.member(code)
        acts = []
        for n in range(1, STUDIES + 1):
            person = r.randrange(PATIENTS)  # each member in an order of its own
            who = patient(home, f"{code}{person}", number=nhs(person))
            acts.append(room.grpc(code, room.published(code, study(who, seed * 1000 + n), n)))
        for start in range(0, STUDIES, 30):
            results = await room.acceptor.accept_many(acts[start : start + 30])
            assert not [one for one in results if isinstance(one, CrosslightError)]

    async with asyncio.timeout(60):
        await asyncio.gather(*(feed(code, seed) for seed, code in enumerate(("RA2", "RPC", "RTK"), 1)))
    await asyncio.sleep(0 if database.engine == "sqlite" else 1.1)  # PostgreSQL's counters follow within a second
    assert await _deadlocks(database) == before
    for code in ("RA2", "RPC", "RTK"):
        assert len(await room.holdings(code)) == STUDIES
