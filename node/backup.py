"""Backup and restore of a whole node (D8, D10): archive, membership, configuration and audit, in one folder.

A restored node takes another name for its database, so that the registry grants it a new epoch; before a
registry that is not ours it takes the next one itself (D18). It publishes nothing until it has compared
itself with the registry. Certificates that ``[publish.xds]`` and ``[dimse]`` name by path belong to the
operator and are not copied.
"""

from __future__ import annotations

import os
from pathlib import Path

from crosslight.runtime.audit import About, AuditLog
from crosslight.runtime.backup_files import Vault
from crosslight.runtime.caller import command_line
from crosslight.runtime.db import EmbeddedDb
from crosslight.runtime.files import PRIVATE_FOLDER, private_folder
from crosslight.runtime.operators import AT_THE_MACHINE
from crosslight.runtime.seams import Seams
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import ConfigError
from node.archive import backup as archive_backup
from node.archive.archive import Archive
from node.archive.backup import BackupReport, Progress
from node.config import FILE, read_config
from node.membership.state import REGION
from node.publish.store import PublishStore

DATABASE, AUDIT = "node.db", "audit.db"


async def backup(
    folder: Path,
    archive: Archive,
    audit: EmbeddedDb,
    target: Path,
    vault: Vault,
    workers: Workers,
    progress: Progress | None = None,
) -> BackupReport:
    """Copy the node in ``folder`` to ``target``, also while it serves; a second run copies only new objects.

    Raises:
        Conflict: if a backup of the other kind, encrypted or not, is there.
    """
    private_folder(target)
    os.chmod(target, PRIVATE_FOLDER)
    archive_backup.check_target(target, vault)
    # nothing lies there in the clear
    fresh = (archive.layout.tmp if vault.sealed else target) / f"{AUDIT}.{os.getpid()}"
    try:
        await audit.backup_to(fresh)
        await workers.run(_put_files, folder, fresh, target, vault)
    finally:
        fresh.unlink(missing_ok=True)
    return await archive.backup(target, vault, progress)


def _put_files(folder: Path, audit: Path, target: Path, vault: Vault) -> None:
    vault.put(folder / FILE, target / FILE)
    if (folder / REGION).exists():
        archive_backup.copy_tree(folder / REGION, target / REGION, vault)
    vault.put(audit, target / AUDIT)


async def restore(
    source: Path, folder: Path, vault: Vault, seams: Seams, progress: Progress | None = None
) -> BackupReport:
    """Make a node in ``folder`` from a backup; objects that are there already are kept and taken in.

    Raises:
        ConfigError: if there is a node in ``folder`` already, or the backup is encrypted and no key, or
            another, was given. NotFound, Invalid: if ``source`` is no finished backup, or its database is
            damaged.
    """
    if (folder / DATABASE).exists() or (folder / FILE).exists():
        raise ConfigError(
            f"There is a node in {folder} already.",
            todo="Move its node.toml and node.db away, or use a new folder.",
        )
    private_folder(folder)
    os.chmod(folder, PRIVATE_FOLDER)
    report = await seams.workers.run(_take_files, source, folder, vault, progress)
    db = seams.databases.embedded(folder / DATABASE)
    try:
        store = PublishStore(db, seams.ids, ())
        await store.open()
        await store.restored(
            own_epochs=(folder / FILE).exists() and read_config(folder).publish.kind == "xds"
        )
    finally:
        await db.close()
    await _audited(folder, seams, source, report)
    return report


async def _audited(folder: Path, seams: Seams, source: Path, report: BackupReport) -> None:
    """That it was restored, in the restored audit."""
    db = seams.databases.embedded(folder / AUDIT)
    try:
        audit = AuditLog(db, seams.clock)
        await audit.open()
        about, by = About(query={"source": str(source)}), command_line(seams.ids)
        async with audit.act(by, "admin", "restore", about, decision=AT_THE_MACHINE) as act:
            act.done("partial" if report.faults else "ok", objects=report.objects - len(report.faults))
    finally:
        await db.close()


def _take_files(source: Path, folder: Path, vault: Vault, progress: Progress | None) -> BackupReport:
    report = archive_backup.restore(source, folder / DATABASE, folder / "archive", vault, progress=progress)
    if (source / REGION).exists():
        archive_backup.take_tree(source / REGION, folder / REGION, vault)
    for name in (AUDIT, FILE):
        if vault.name(source / name).exists():
            vault.take(source / name, folder / name)
    return report
