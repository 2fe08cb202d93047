"""Members that feed the same patients at the same time do not stand in each other's way."""

from __future__ import annotations

import asyncio
import random

from identity_story import Story, asked, pending
from registry_room import make_room
from registry_samples import nhs, patient, study

from crosslight.runtime.db import Db
from crosslight.standards.problem import CrosslightError, NotFound

PATIENTS, STUDIES = 25, 60


async def _deadlocks(db: Db) -> int:
    if db.dialect.name == "sqlite":
        return 0
    row = await db.read(
        "deadlocks",
        lambda tx: tx.row("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"),
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
    # PostgreSQL's counters follow within a second
    await asyncio.sleep(0 if database.dialect.name == "sqlite" else 1.1)
    assert await _deadlocks(database) == before
    for code in ("RA2", "RPC", "RTK"):
        assert len(await room.holdings(code)) == STUDIES


async def test_people_decide_while_members_publish(database: Db) -> None:
    """One local id is used again, another member claims the same numbers, and an officer decides
    and takes back, all at once: nothing fails, and no study is left under whom its header contradicts."""
    room = await make_room(database)
    await room.identity.settle_holders()
    story, there = Story(room), room.member("RXC")
    gary = story.header(nhs(3), "Gamma", "Gary", born="19700303")
    headers = [story.header(nhs(1)), story.boris(nhs(2)), story.header(nhs(1), "Jones"), gary]
    studies = [study(headers[n % len(headers)], n) for n in range(24)]

    async def publish() -> None:
        for n, record in enumerate(studies, 1):
            assert await room.publish("RTK", record, n) == "accepted"

    async def elsewhere() -> None:
        for n in range(1, 25):
            who = patient(
                there, f"X{n}", number=nhs(n % 3 + 1), family="Beta", given="Boris", born="19900202", sex="M"
            )
            assert await room.publish("RXC", study(who, 500 + n), n) == "accepted"

    async def decide() -> None:
        for _ in range(20):
            await asyncio.sleep(0)
            for doubt in await pending(room):
                try:
                    made = await room.identity.decide(
                        doubt.key, None, room.clock.now(), who="ig@x", why="two people"
                    )
                    await room.identity.end_decision(made, room.clock.now(), who="ig@x", why="unsure")
                except NotFound:  # another study ended the doubt meanwhile
                    pass

    async with asyncio.timeout(120):
        await asyncio.gather(publish(), elsewhere(), decide())
    in_doubt = {r.patient.birth_date for r in await pending(room)}
    assert in_doubt == {"19900202", "19700303"}
    answer = await room.asked(asked("UNKNOWN1", room.member("RTK").authority))
    assert {h.record.patient.birth_date for h in answer.holdings} == {"19800101"}
    assert len(answer.holdings) == 12
