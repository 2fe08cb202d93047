"""PostgreSQL's own processes are killed while members publish: nothing that was acknowledged is lost.

A backend that is killed makes the server end all others and recover; a killed postmaster is started again. A
node sends again what was not acknowledged, with the same version, as it does here.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator

import pg
import psycopg
import pytest
from members_region import until
from registry_room import Room, make_room
from registry_samples import nhs, patient, study

from crosslight.runtime.db.postgres import PostgresDb
from crosslight.standards.problem import CrosslightError

CODES = ("RA2", "RTK")
STUDIES = 40
TRY_AGAIN_S = 0.05


@pytest.fixture
def server() -> Iterator[str]:
    """A PostgreSQL that may be killed."""
    with pg.cluster() as dsn:
        yield dsn


def _kill_a_backend(dsn: str) -> None:
    """One that serves the registry, in whatever it does."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        row = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <>"
            " pg_backend_pid() ORDER BY state = 'active' DESC LIMIT 1"
        ).fetchone()
    assert row is not None
    os.kill(row[0], signal.SIGKILL)


def _kill_the_server(dsn: str) -> None:
    os.kill(pg.postmaster(dsn), signal.SIGKILL)
    pg.start_again(dsn)


async def _publish(room: Room, code: str, acknowledged: dict[str, int], tried_again: list[str]) -> None:
    who = patient(room.member(code), f"{code}1", number=nhs(1))
    for n in range(1, STUDIES + 1):
        record = study(who, CODES.index(code) * 1000 + n)
        while record.study_uid not in acknowledged:
            try:
                outcome = await room.publish(code, record, n)
            except CrosslightError:
                tried_again.append(record.study_uid)
                await asyncio.sleep(TRY_AGAIN_S)
            else:
                assert outcome in ("accepted", "already")
                acknowledged[record.study_uid] = n


async def test_nothing_acknowledged_is_lost_when_postgres_is_killed(server: str) -> None:
    pg.create_schema(server, "killed")
    db = PostgresDb(server, connections=4, schema="killed")
    try:
        room = await make_room(db)
        acknowledged: dict[str, int] = {}
        tried_again: list[str] = []

        async def kills() -> None:
            for count, kill in ((10, _kill_a_backend), (30, _kill_the_server), (50, _kill_a_backend)):
                await until(lambda count=count: len(acknowledged) >= count)  # type: ignore[misc]  # bound now
                await asyncio.to_thread(kill, server)

        async with asyncio.timeout(120):
            await asyncio.gather(
                *(_publish(room, code, acknowledged, tried_again) for code in CODES), kills()
            )
        assert tried_again, "the kills met nothing"
        assert len(acknowledged) == STUDIES * len(CODES)
        for code in CODES:
            held = {one.study_uid: one.publication.version for one in await room.holdings(code)}
            assert len(held) == STUDIES
            for study_uid, version in held.items():
                assert version is not None
                assert version.n == acknowledged[study_uid]
    finally:
        await db.close()
