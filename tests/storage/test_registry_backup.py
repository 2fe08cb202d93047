"""A registry's backup and restore on each engine; with PostgreSQL the index and the audit share one
database."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import psycopg
import pytest
from registry_samples import NHS, member, nhs, patient

from crosslight.runtime.backup_files import (
    SEALED,
    Damaged,
    Vault,
    identities_of,
    new_identity,
    recipients_of,
)
from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.seams import system_seams
from crosslight.standards.access import Principal
from crosslight.standards.ids import Identifier, MemberId
from crosslight.standards.membership import Invitation
from crosslight.standards.problem import ConfigError, Conflict
from crosslight.standards.study import Patient, PersonName
from registry.access.config import AccessConfig
from registry.access.sessions import Sessions
from registry.access.store import AccessStore
from registry.backup import COMPLETE, backup, restore
from registry.commands import Offline, opened
from registry.config import FILE
from registry.identity.store import IdentityStore
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
    made = await sessions.begin(
        Principal(subject="person:ann", roles=frozenset({"clinician"}), organisation="RTK")
    )
    assert await sessions.find(made.id) is not None
    return made.id


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_members_audit_and_authority_come_back(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    values: dict[str, dict[str, Any]] = {
        "listen": {"host": "127.0.0.1"},
        "access": {"oidc": {"client_secret_file": "oidc.secret"}},
    }
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
    await backup(folder, target, system_seams())

    if engine == "postgres":
        _anew(dsn, "backup_test")
    assert await restore(target, back, system_seams())
    assert (back / "oidc.secret").read_text() == "s3"
    async with opened(back) as after:
        assert [m.code for m in after.members.everyone()] == ["RTK"]
        assert after.members.ca.pin == pin
        acts = await after.audit.search()
        assert [act.action for act in acts] == ["restore", "backup", "invite"]
        assert acts[-1].query["member"] == "RTK"
        with pytest.raises(Conflict):  # it may have been used since
            await after.members.store.use_invitation(Invitation.parse(invitation).secret, 0)
        assert await _sessions(after, clock, ids).find(session) is None, (
            "a session that ended since would hold again"
        )
    with pytest.raises(ConfigError, match="already"):
        await restore(target, back, system_seams())


async def _who_holds(
    room: Offline, clock: SystemClock, ids: SystemIds, *fed: Patient
) -> tuple[str, list[str], set[str]]:
    """Feeds patients as member 1 and 2 in turn; then who holds the number, who else claims it, and whose part
    is decided on.
    """
    identity = IdentityStore(room.db, room.region, ids)
    await identity.open()
    for n, who in enumerate(fed, 1):
        await identity.feed(who, MemberId(n), clock.now(), kind="header")
        await identity.settle_holders()
    found = await identity.find_cx(Identifier(nhs(1), NHS))
    decided = {decision.why for decision in await identity.decisions() if decision.in_force}
    return (
        "" if found is None else found.person.banner.name.family,
        [r.patient.name.family for r in await identity.waiting()],
        decided,
    )


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_who_holds_a_number_and_what_was_decided_come_back(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """A registry that was filled anew would not know who was first (D8)."""
    values: dict[str, dict[str, Any]] = {
        "listen": {"host": "127.0.0.1"},
        "region": {"allow_test_numbers": True, "national_authority": NHS},
    }
    dsn = ""
    if engine == "postgres":
        dsn = request.getfixturevalue("postgres_dsn")
        values["database"] = {"url": _anew(dsn, "backup_held")}
    folder, target, back = tmp_path / "registry", tmp_path / "backup", tmp_path / "restored"
    clock, ids, files = SystemClock(), SystemIds(), SystemFiles()
    init_registry(folder, files, ids, values)
    first = patient(member("RTK", 1), "A1", number=nhs(1), family="First")
    other = patient(member("RXC", 2), "B1", number=nhs(1), family="Other", born="19990909")
    async with opened(folder) as before:
        assert await _who_holds(before, clock, ids, first, other) == ("First", ["Other"], set())
        identity = IdentityStore(before.db, before.region, ids)
        (waits,) = await identity.waiting()
        await identity.decide(waits.key, None, clock.now(), who="ig@x", why="mistyped there")
    await backup(folder, target, system_seams())
    if engine == "postgres":
        _anew(dsn, "backup_held")
    assert await restore(target, back, system_seams())
    async with opened(back) as after:
        identity = IdentityStore(after.db, after.region, ids)
        await identity.open()
        assert identity.settled, "whoever holds a number goes on holding it"
        third = patient(member("RA2", 3), "C1", number=nhs(1), family="Third", born="19770707")
        again = [first, replace(other, name=PersonName("Other^Again")), third]
        assert await _who_holds(after, clock, ids, *again) == ("First", ["Third"], {"mistyped there"})


async def test_a_restore_that_failed_leaves_nothing_that_would_be_served(tmp_path: Path) -> None:
    """Half a database under its old incarnation would be taken for the whole: nodes would not send again what
    it lacks.
    """
    folder, target, back = tmp_path / "registry", tmp_path / "backup", tmp_path / "restored"
    ids, files = SystemIds(), SystemFiles()
    init_registry(folder, files, ids, {"listen": {"host": "127.0.0.1"}})
    async with opened(folder):
        pass
    await backup(folder, target, system_seams())
    audit = target / "audit.sqlite"
    kept = audit.read_bytes()
    audit.unlink()
    with pytest.raises(OSError, match="audit"):
        await restore(target, back, system_seams())
    assert not (back / FILE).exists()
    audit.write_bytes(kept)
    assert await restore(target, back, system_seams())


@pytest.mark.parametrize("engine", ["sqlite", "postgres"])
async def test_an_encrypted_backup_of_a_registry_holds_nothing_in_the_clear(
    engine: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    values: dict[str, dict[str, Any]] = {"listen": {"host": "127.0.0.1"}}
    if engine == "postgres":
        url = _anew(request.getfixturevalue("postgres_dsn"), "sealed_backup_test")
        values["database"] = {"url": url, "audit_url": url}
    folder, target, files = tmp_path / "registry", tmp_path / "backup", SystemFiles()
    init_registry(folder, files, SystemIds(), values)
    async with opened(folder) as before:
        await before.members.invite("RTK", "https://localhost", name="Ashford")
    keys = [tmp_path / "key", tmp_path / "another"]
    public = [new_identity(key, files) for key in keys]
    vault = Vault(files, recipients=recipients_of(public[:1]))
    for _ in range(2):  # again over the first
        await backup(folder, target, system_seams(), vault)
    written = [path for path in target.rglob("*") if path.is_file()]
    assert {path.name for path in written if path.suffix != SEALED} == {COMPLETE}
    assert len(written) > 5
    for path in written:
        assert path.stat().st_mode & 0o777 == 0o600
        for clear in (b"PRIVATE KEY", b"Ashford", b"[listen]", b"SQLite format"):
            assert clear not in path.read_bytes(), path
    assert not [path for path in folder.iterdir() if path.name.startswith(".backup")]
    for refused in (
        restore(target, tmp_path / "none", system_seams()),
        restore(target, tmp_path / "wrong", system_seams(), identities_of(keys[1:])),
    ):
        with pytest.raises(ConfigError, match=r"encrypted|does not open"):
            await refused
    for name in ("none", "wrong"):
        assert list((tmp_path / name).iterdir()) == []
    with pytest.raises(Conflict, match="an encrypted backup"):
        await backup(folder, target, system_seams())
    if engine == "postgres":
        _anew(request.getfixturevalue("postgres_dsn"), "sealed_backup_test")
    assert await restore(target, tmp_path / "back", system_seams(), identities_of(keys[:1]))
    async with opened(tmp_path / "back") as after:
        assert [m.code for m in after.members.everyone()] == ["RTK"]
    assert not [path for path in (tmp_path / "back").iterdir() if path.name.startswith(".backup")]
    sealed = target / f"{FILE}{SEALED}"
    sealed.write_bytes(sealed.read_bytes()[:-1] + b"x")
    with pytest.raises(Damaged):
        await restore(target, tmp_path / "cut", system_seams(), identities_of(keys[:1]))
