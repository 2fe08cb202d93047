"""A registry's backup and restore on each engine; with PostgreSQL the index and the audit share one database."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.files import SystemFiles
from crosslight.standards.access import Principal
from crosslight.standards.membership import Invitation
from crosslight.standards.problem import ConfigError, Conflict
from registry.access.config import AccessConfig
from registry.access.sessions import Sessions
from registry.access.store import AccessStore
from registry.backup import backup, restore
from registry.commands import Offline, opened
from registry.config import FILE
from registry.setup import init_registry


def _anew(dsn: str, name: str) -> str:
    """An empty database of this name; its address."""
    with psycopg.connect(dsn, autocommit=True) as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{name}"')
    return dsn.replace("/postgres?", f"/{name}?")


def _sessions(room: Offline, clock: SystemClock, ids: SystemIds) -> Sessions:
    return Sessions(AccessStore(room.db, clock, ids), AccessConfig(), clock, ids)


async def _signed_in(room: Offline, clock: SystemClock, ids: SystemIds) -> str:
    await AccessStore(room.db, clock, ids).open()
    sessions = _sessions(room, clock, ids)
    made = await sessions.begin(Principal(subject="person:ann", roles=frozenset({"clinician"}), organisation="RTK"))
    assert await sessions.find(made.id) is not None
    return made.id


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_members_audit_and_authority_come_back(engine: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    values: dict[str, dict[str, Any]] = {
        "listen": {"host": "127.0.0.1"}, "access": {"oidc": {"client_secret_file": "oidc.secret"}},
    }  # fmt: skip
    dsn = ""
    if engine == "postgres":
        dsn = request.getfixturevalue("postgres_dsn")
        url = _anew(dsn, "backup_test")
        values["database"] = {"url": url, "audit_url": url}
    folder, target, back = tmp_path / "registry", tmp_path / "backup", tmp_path / "restored"
    clock, ids, files = SystemClock(), SystemIds(), SystemFiles()
    init_registry(folder, files, ids, values)
    (folder / "oidc.secret").write_text("s3")
    async with opened(folder) as before:
        invitation = await before.members.invite("RTK", "https://localhost", name="Ashford")
        pin = before.members.ca.pin
        session = await _signed_in(before, clock, ids)
    await backup(folder, target, clock, files)

    if engine == "postgres":
        _anew(dsn, "backup_test")
    assert await restore(target, back, clock, ids)
    assert (back / "oidc.secret").read_text() == "s3"
    async with opened(back) as after:
        assert [m.code for m in after.members.everyone()] == ["RTK"]
        assert after.members.ca.pin == pin
        assert [act["query"]["member"] for act in await after.audit.search()] == ["RTK"]
        with pytest.raises(Conflict):  # it may have been used since
            await after.members.store.use_invitation(Invitation.parse(invitation).secret, 0)
        assert await _sessions(after, clock, ids).find(session) is None, "a session that ended since would hold again"
    with pytest.raises(ConfigError, match="already"):
        await restore(target, back, clock, ids)


async def test_a_restore_that_failed_leaves_nothing_that_would_be_served(tmp_path: Path) -> None:
    """Half a database under its old incarnation would be taken for the whole: nodes would not send again what it lacks."""
    folder, target, back = tmp_path / "registry", tmp_path / "backup", tmp_path / "restored"
    clock, ids, files = SystemClock(), SystemIds(), SystemFiles()
    init_registry(folder, files, ids, {"listen": {"host": "127.0.0.1"}})
    async with opened(folder):
        pass
    await backup(folder, target, clock, files)
    audit = target / "audit.sqlite"
    kept = audit.read_bytes()
    audit.unlink()
    with pytest.raises(OSError, match="audit"):
        await restore(target, back, clock, ids)
    assert not (back / FILE).exists()
    audit.write_bytes(kept)
    assert await restore(target, back, clock, ids)
