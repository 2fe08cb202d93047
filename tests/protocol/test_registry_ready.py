"""Whether a registry says that it can work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from whole_region import whole_region

from crosslight.standards.problem import StorageError


async def test_a_registry_whose_database_is_gone_is_not_ready(tmp_path: Path) -> None:
    async with whole_region(tmp_path, {}) as region:
        app = region.registry
        assert (await app.ready())[0]
        for db in (app.parts.ground.db, app.parts.audit_db):

            async def gone(name: str, fn: Any) -> Any:
                raise StorageError("The database could not do this now.")

            read, db.read = db.read, gone
            ready, details = await app.ready()
            assert (ready, details["databases"]) == (False, False)
            db.read = read
        assert (await app.ready())[0]
