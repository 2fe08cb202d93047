"""Backup and restore of a registry (D8): database, audit, authority, keys and configuration, in one folder.

What nodes published is derived and would come again by itself; what people and foreign systems put there
would not: that is what this keeps. A restored registry is a new incarnation: nodes compare themselves with it
and send again what came after the backup.

Encrypted, a backup is made in the registry's own folder and goes from there, file by file, as a node's does
(ADR 0024): nothing lies at the target in the clear.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyrage

from crosslight.runtime.audit import About, AuditLog
from crosslight.runtime.backup_files import SEALED, Vault
from crosslight.runtime.caller import command_line
from crosslight.runtime.clock import instant
from crosslight.runtime.files import PRIVATE_FOLDER, keep_private, private_file, private_folder
from crosslight.runtime.operators import AT_THE_MACHINE
from crosslight.runtime.seams import Seams
from crosslight.standards.problem import ConfigError, Conflict, OurError
from registry.access.store import AccessStore
from registry.ask.permit_store import PermitStore
from registry.commands import migrate_audit, opened
from registry.config import FILE, RegistryConfig, read_config
from registry.index.store import IndexStore

COMPLETE = "backup.txt"
STAGING = ".backup"
FOLDERS = ("ca", "tls", "keys", "systems")


async def backup(folder: Path, target: Path, seams: Seams, vault: Vault | None = None) -> None:
    """Copy the registry in ``folder`` to ``target``, also while it serves.

    Args:
        folder: The registry.
        target: The backup; one that is there is made anew.
        seams: The world outside.
        vault: How files rest there; None: as they are.

    Raises:
        OurError: when a database cannot be copied.
        Conflict: if a backup of the other kind, encrypted or not, is there.
    """
    vault = vault or Vault(seams.files)
    _check_target(target, vault)
    config = read_config(folder)
    audit_db = seams.databases.open(config.database.audit_url, base=folder)
    try:
        audit = AuditLog(audit_db, seams.clock)
        await audit.open()
        about, by = About(query={"target": str(target)}), command_line(seams.ids)
        async with audit.act(by, "admin", "backup", about, decision=AT_THE_MACHINE):
            private_folder(target)
            os.chmod(target, PRIVATE_FOLDER)
            (target / COMPLETE).unlink(missing_ok=True)
            if vault.sealed:
                await _sealed(folder, config, target, vault, seams)
            else:
                await _copied(folder, config, target, seams)
            about_it = f"Crosslight registry, {instant(seams.clock.now())}\n"
            seams.files.write_atomic(target / COMPLETE, about_it.encode())
    finally:
        await audit_db.close()


def _check_target(target: Path, vault: Vault) -> None:
    """Whether a backup of this kind may go into ``target``: half of one of the other kind would stay."""
    plain, sealed = (target / FILE).exists(), is_sealed(target)
    if (plain and vault.sealed) or (sealed and not vault.sealed):
        kind = "an encrypted" if sealed else "a plain"
        raise Conflict(f"There is {kind} backup in {target}.", todo="Use a folder of its own for each kind.")


def is_sealed(source: Path) -> bool:
    """Whether the backup in ``source`` is encrypted."""
    return (source / (FILE + SEALED)).exists()


async def _sealed(folder: Path, config: RegistryConfig, target: Path, vault: Vault, seams: Seams) -> None:
    with _staging(folder) as staged:
        await _copied(folder, config, staged, seams)
        await seams.workers.run(_put_all, staged, target, vault)


@contextmanager
def _staging(folder: Path) -> Iterator[Path]:
    """A folder of the registry's own for a backup in the clear, which is there for so long only."""
    staged = folder / f"{STAGING}.{os.getpid()}"
    shutil.rmtree(staged, ignore_errors=True)
    private_folder(staged)
    try:
        yield staged
    finally:
        shutil.rmtree(staged, ignore_errors=True)


def _put_all(staged: Path, target: Path, vault: Vault) -> None:
    for path in sorted(staged.rglob("*")):
        if path.is_file():
            vault.put(path, target / path.relative_to(staged))


def _take_all(source: Path, staged: Path, vault: Vault) -> None:
    for path in sorted(source.rglob(f"*{SEALED}")):
        there = path.with_name(path.name.removesuffix(SEALED))
        vault.take(there, staged / there.relative_to(source))


async def _copied(folder: Path, config: RegistryConfig, target: Path, seams: Seams) -> None:
    await _dump(seams, config.database.url, folder, target / "registry")
    if config.database.audit_url != config.database.url:
        await _dump(seams, config.database.audit_url, folder, target / "audit")
    _copy(folder / FILE, target / FILE)
    for name in FOLDERS:
        if (folder / name).exists():
            _copy(folder / name, target / name)
    for path in (*folder.glob("*-keys.json"), *_secrets(folder, config)):
        _copy(path, target / path.name)


async def restore(
    source: Path, folder: Path, seams: Seams, identities: Sequence[pyrage.x25519.Identity] = ()
) -> str:
    """Make a registry in ``folder`` from a backup, as a new incarnation of it.

    A PostgreSQL database named by the backup's configuration must be there and empty. ``identities``: the
    private keys of an encrypted backup.

    Raises:
        ConfigError: if ``source`` is no finished backup, or ``folder`` holds a registry; if the backup is
            encrypted and no key, or another, was given.
        Damaged: a file of an encrypted backup was changed or cut.
        OurError: when a database cannot be restored.
    """
    if not (source / COMPLETE).exists():
        raise ConfigError(f"{source} is no finished backup of a registry.")
    if (folder / FILE).exists():
        raise ConfigError(f"There is a registry in {folder} already.", todo="Use a new folder.")
    private_folder(folder)
    os.chmod(folder, PRIVATE_FOLDER)
    if not is_sealed(source):
        return await _made(source, folder, source, seams)
    with _staging(folder) as staged:
        vault = Vault(seams.files, identities=tuple(identities))
        if not vault.sealed:
            raise ConfigError(
                "This backup is encrypted.", todo="Give the file with its key: --identity FILE."
            )
        await seams.workers.run(_take_all, source, staged, vault)
        return await _made(staged, folder, source, seams)


async def _made(source: Path, folder: Path, named: Path, seams: Seams) -> str:
    for entry in source.iterdir():
        if entry.is_dir() or entry.name == FILE or entry.name.endswith("-keys.json"):
            _copy(entry, folder / entry.name)
    for path in _secrets(source, read_config(source)):
        _copy(path, folder / path.name)
    try:
        return await _filled(source, folder, named, seams)
    except BaseException:
        # half a registry must not be served: it would be taken for the whole
        (folder / FILE).unlink(missing_ok=True)
        raise


def _copy(source: Path, target: Path) -> None:
    """A file or a folder, for nobody else to read: releases before 0.3 left some with wider modes."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True)
    else:
        shutil.copy2(source, target)
    keep_private(target)


def _secrets(folder: Path, config: RegistryConfig) -> list[Path]:
    """The file with our client secret, where it is in the folder itself."""
    name = config.access.oidc.client_secret_file
    return [folder / name] if name and Path(name).name == name and (folder / name).is_file() else []


async def _filled(source: Path, folder: Path, named: Path, seams: Seams) -> str:
    config = read_config(folder)
    await _load(seams, config.database.url, folder, source / "registry")
    if config.database.audit_url != config.database.url:
        owner = config.database.audit_owner_url
        await _load(seams, owner or config.database.audit_url, folder, source / "audit")
        if owner:
            await migrate_audit(folder)
    async with opened(folder, seams) as offline:
        about, by = About(query={"source": str(named)}), command_line(seams.ids)
        async with offline.audit.act(by, "admin", "restore", about, decision=AT_THE_MACHINE):
            access = AccessStore(offline.db, seams.clock, seams.ids)
            await access.open()
            await access.end_all()
            permits = PermitStore(offline.db)
            await permits.open()
            await permits.end_openings()
            await offline.members.store.end_invitations()
            index = IndexStore(offline.db, offline.members, seams.clock, seams.ids)
            await index.open()
            return await index.new_incarnation()


async def _dump(seams: Seams, url: str, folder: Path, target: Path) -> None:
    if url.startswith("sqlite:"):
        db = seams.databases.embedded(folder / url.removeprefix("sqlite:"))
        try:
            fresh = target.with_suffix(".new")
            fresh.unlink(missing_ok=True)
            await db.backup_to(fresh)
            os.replace(fresh, target.with_suffix(".sqlite"))
        finally:
            await db.close()
        return
    dump = target.with_suffix(".pgdump")
    private_file(dump)
    await seams.workers.run(_postgres, "pg_dump", "--format=custom", f"--file={dump}", f"--dbname={url}")


async def _load(seams: Seams, url: str, folder: Path, source: Path) -> None:
    if url.startswith("sqlite:"):
        database = folder / url.removeprefix("sqlite:")
        private_file(database)
        shutil.copyfile(source.with_suffix(".sqlite"), database)
        return
    dump = str(source.with_suffix(".pgdump"))
    await seams.workers.run(_postgres, "pg_restore", "--no-owner", "--exit-on-error", f"--dbname={url}", dump)


def _postgres(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=6 * 3600, check=False)
    except FileNotFoundError:
        raise OurError(
            f"{command[0]} is not installed.", todo="Install PostgreSQL's client programs."
        ) from None
    if done.returncode != 0:
        raise OurError(f"{command[0]} failed.", why=done.stderr.strip()[-500:])
