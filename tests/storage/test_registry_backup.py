"""A registry's backup and restore on each engine; with PostgreSQL the index and the audit share one database."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest

from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.files import SystemFiles
from crosslight.standards.problem import ConfigError
from registry.backup import backup, restore
from registry.commands import opened
from registry.setup import init_registry


def _anew(dsn: str, name: str) -> str:
    """An empty database of this name; its address."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
    return dsn.replace("/postgres?", f"/{name}?")


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_members_audit_and_authority_come_back(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    values: dict[str, dict[str, str]] = {"listen": {"host": "127.0.0.1"}}
    dsn = ""
    if engine == "postgres":
        dsn = request.getfixturevalue("postgres_dsn")
        url = _anew(dsn, "backup_test")
        values["database"] = {"url": url, "audit_url": url}
    folder, target, back = tmp_path / "registry", tmp_path / "backup", tmp_path / "restored"
    clock, ids, files = SystemClock(), SystemIds(), SystemFiles()
    init_registry(folder, files, ids, values)
    async with opened(folder) as before:
        await before.members.invite("RTK", "https://localhost", name="Ashford")
        pin = before.members.ca.pin
    await backup(folder, target, clock, files)

    if engine == "postgres":
        _anew(dsn, "backup_test")
    assert await restore(target, back, clock, ids)
    async with opened(back) as after:
        assert [m.code for m in after.members.everyone()] == ["RTK"]
        assert after.members.ca.pin == pin
        assert [act["query"]["member"] for act in await after.audit.search()] == ["RTK"]
    with pytest.raises(ConfigError, match="already"):
        await restore(target, back, clock, ids)
