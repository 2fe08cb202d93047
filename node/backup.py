"""Backup and restore of a whole node (D8, D10): archive, membership, configuration and audit, in one folder.

A restored node takes another name for its database, so that the registry grants it a new epoch; before a registry that is not
ours it takes the next one itself (D18). It publishes nothing until it has compared itself with the registry. Certificates that
``[publish.xds]`` and ``[dimse]`` name by path belong to the operator and are not copied.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from crosslight.runtime.clock import Ids
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.files import Files
from crosslight.standards.problem import ConfigError
from node.archive import backup as archive_backup
from node.archive.archive import Archive
from node.archive.backup import BackupReport, Progress
from node.config import FILE, read_config
from node.publish.store import PublishStore
from node.standing import REGION

DATABASE, AUDIT = "node.db", "audit.db"


async def backup(folder: Path, archive: Archive, audit: SqliteDb, target: Path, progress: Progress | None = None) -> BackupReport:
    """Copy the node in ``folder`` to ``target``, also while it serves; a second run copies only new objects."""
    target.mkdir(parents=True, exist_ok=True)
    os.chmod(target, 0o700)
    shutil.copy2(folder / FILE, target / FILE)
    if (folder / REGION).exists():
        shutil.copytree(folder / REGION, target / REGION, dirs_exist_ok=True)
    fresh = target / f"{AUDIT}.new"
    fresh.unlink(missing_ok=True)
    await audit.backup_to(fresh)
    os.replace(fresh, target / AUDIT)
    return await archive.backup(target, progress)


async def restore(source: Path, folder: Path, files: Files, ids: Ids, progress: Progress | None = None) -> BackupReport:
    """Make a node in ``folder`` from a backup; objects that are there already are kept and taken in.

    Raises:
        ConfigError: if there is a node in ``folder`` already.
        NotFound, Invalid: if ``source`` is no finished backup, or is damaged.
    """
    if (folder / DATABASE).exists() or (folder / FILE).exists():
        raise ConfigError(
            f"There is a node in {folder} already.", todo="Move its node.toml and node.db away, or use a new folder."
        )
    folder.mkdir(parents=True, exist_ok=True)
    os.chmod(folder, 0o700)
    report = archive_backup.restore(source, folder / DATABASE, folder / "archive", files, progress=progress)
    if (source / REGION).exists():
        shutil.copytree(source / REGION, folder / REGION, dirs_exist_ok=True)
    for name in (AUDIT, FILE):
        if (source / name).exists():
            shutil.copy2(source / name, folder / name)
    db = SqliteDb(folder / DATABASE)
    try:
        store = PublishStore(db, ids, ())
        await store.open()
        await store.restored(own_epochs=(folder / FILE).exists() and read_config(folder).publish.kind == "xds")
    finally:
        await db.close()
    return report
