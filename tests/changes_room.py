"""What tests of the change feed share: a study, everything that a feed has to tell, two processes over one
database.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pg
from registry_room import Room, make_room
from registry_samples import nhs, patient, study

from crosslight.runtime.db.postgres import PostgresDb
from crosslight.standards.study import StudyRecord
from registry.index import changes as feed_module
from registry.index.changes import Cursor
from registry.index.model import Change

#: Seconds until what does not come is given up.
WAIT_S = 30


@asynccontextmanager
async def two_processes(dsn: str) -> AsyncIterator[tuple[Room, Room]]:
    """Two rooms over one PostgreSQL, each with its own connections, as two processes have them."""
    pg.create_schema(dsn, "changes_shared")
    dbs = [PostgresDb(dsn, connections=6, schema="changes_shared") for _ in range(2)]
    yield await make_room(dbs[0]), await make_room(dbs[1])
    for db in dbs:
        await db.close()
    pg.drop_schema(dsn, "changes_shared")


def one_study(room: Room, n: int, *, code: str = "RA2", local: str = "H1", number: str = "") -> StudyRecord:
    """The member's study of this number, of one patient but for ``local`` and ``number``."""
    return study(patient(room.member(code), local, number=number or nhs(1)), n)


async def all_changes(
    room: Room, cursor: Cursor, limit: int = feed_module.PAGE
) -> tuple[list[Change], Cursor]:
    """Every change after the cursor, by pages of ``limit``, and the cursor after them."""
    found: list[Change] = []
    while True:
        page = await room.index.changes.after(cursor, limit)
        found, cursor = [*found, *page.changes], page.cursor
        if not page.more:
            return found, cursor
