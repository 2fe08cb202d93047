"""Fixtures that every kind of test may use."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from itertools import count
from pathlib import Path

import pg
import pytest

from crosslight.runtime.db import Db, SqliteDb
from crosslight.runtime.db.postgres import PostgresDb

_schemas = count(1)


@pytest.fixture(scope="session")
def postgres_dsn() -> Iterator[str]:
    """One PostgreSQL for the session; fails, and says what to install, where there is none."""
    with pg.cluster() as dsn:
        yield dsn


@pytest.fixture(params=["sqlite", "postgres"])
async def database(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Db]:
    """An empty database of each engine in turn."""
    if request.param == "sqlite":
        sqlite = SqliteDb(tmp_path / "test.sqlite")
        yield sqlite
        await sqlite.close()
        return
    dsn, schema = request.getfixturevalue("postgres_dsn"), f"test_{next(_schemas)}"
    pg.create_schema(dsn, schema)
    postgres = PostgresDb(dsn, connections=4, schema=schema)
    yield postgres
    await postgres.close()
    pg.drop_schema(dsn, schema)


@pytest.fixture(scope="session")
def standards_folder() -> Path:
    """The folder of schemas and samples that CROSSLIGHT_STANDARDS names; skips where it is not set."""
    folder = os.environ.get("CROSSLIGHT_STANDARDS", "")
    if not folder:
        assert not os.environ.get("CI"), "CROSSLIGHT_STANDARDS must name the folder of schemas and samples"
        pytest.skip(
            "CROSSLIGHT_STANDARDS is not set: checks against the standards' own schemas and samples are"
            " left out"
        )
    found = Path(folder)
    assert found.is_dir(), f"CROSSLIGHT_STANDARDS names {folder}, which is no folder"
    return found
