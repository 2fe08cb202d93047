"""A consistent copy of the node's database and objects, and the way back (``crosslight-node backup`` / ``restore``).

The database is copied first, with SQLite's own backup; then the objects that the copy names. Objects never change and keep
their names, so a second backup into the same folder copies only what is new. What arrives meanwhile is in the next one. After
a restore the archive takes in by itself (``Archive.reconcile``) whatever object files are there that the database does not
know yet: an older database with newer objects loses nothing.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from crosslight.runtime.clock import Clock, instant
from crosslight.runtime.files import Files
from crosslight.standards.problem import Conflict, Invalid, NotFound
from node.archive.care import digest_of
from node.archive.layout import Layout

DATABASE, FACTS = "node.sqlite", "backup.json"
Progress = Callable[[int, int], None]  # done, of how many


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """What a backup or a restore did."""

    objects: int
    copied: int
    missing: int  # named by the database, not found


def _named(database: Path) -> list[tuple[bytes, int, int]]:
    """(digest, data set offset, its size) of every object that a database copy names."""
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?immutable=1", uri=True)
    try:
        return connection.execute("SELECT sha256, MIN(dataset_offset), size_bytes FROM instance GROUP BY sha256").fetchall()
    finally:
        connection.close()


def copy_objects(source: Layout, target: Layout, database: Path, files: Files, progress: Progress | None = None) -> BackupReport:
    """Copy what ``database`` names from one folder of objects to another; files already there are kept."""
    names = _named(database)
    copied = missing = 0
    for done, (sha256, _, _) in enumerate(names, 1):
        here, there = source.object(sha256), target.object(sha256)
        if not there.exists():
            try:
                _copy(here, there, target.tmp, files)
                copied += 1
            except FileNotFoundError:
                missing += 1
        if progress is not None:
            progress(done, len(names))
    return BackupReport(objects=len(names), copied=copied, missing=missing)


def _copy(here: Path, there: Path, tmp: Path, files: Files) -> None:
    tmp.mkdir(parents=True, exist_ok=True)
    part = tmp / f"{there.name}.{os.getpid()}"
    with here.open("rb") as source, part.open("wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
        files.sync(target)
    files.publish(part, there)


def write_facts(target: Path, report: BackupReport, clock: Clock, files: Files) -> None:
    """The last thing written: without it a folder is no backup."""
    facts = {"made": instant(clock.now()), "objects": report.objects, "missing": report.missing}
    files.write_atomic(target / FACTS, orjson.dumps(facts))


def restore(
    source: Path, database: Path, folder: Path, files: Files, *, verify: bool = True, progress: Progress | None = None
) -> BackupReport:
    """Make a node's database and archive folder from a backup.

    Args:
        source: What ``Archive.backup`` wrote.
        database: Where the node's database will be; must not exist.
        folder: The archive's folder; objects that are already in it are kept.
        files: The seam for durable writes.
        verify: Hash every object of the backup before anything is written.
        progress: Called after each object copied.

    Raises:
        NotFound: when ``source`` is no finished backup.
        Conflict: when there is a database already.
        Invalid: when the backup is damaged.
    """
    if not (source / FACTS).exists() or not (source / DATABASE).exists():
        raise NotFound(f"{source} is not a finished backup.", why=f"It has no {FACTS}.")
    if database.exists():
        raise Conflict(f"There is a database already: {database}.", todo="Move it away first.")
    kept = Layout(source / "archive")
    if verify and (bad := next(_damaged(kept, source / DATABASE), None)):
        raise Invalid("An object of the backup is damaged.", why=f"{bad.hex()} has other bytes.", todo="Use another backup.")
    layout = Layout(folder)
    layout.make(files)
    layout.clean.unlink(missing_ok=True)
    report = copy_objects(kept, layout, source / DATABASE, files, progress)
    database.parent.mkdir(parents=True, exist_ok=True)
    part = database.with_name(f".{database.name}.restore")
    with (source / DATABASE).open("rb") as here, part.open("wb") as there:
        shutil.copyfileobj(here, there, 1 << 20)
        files.sync(there)
    files.publish(part, database)
    return report


def _damaged(layout: Layout, database: Path) -> Iterator[bytes]:
    for sha256, offset, size in _named(database):
        path = layout.object(sha256)
        if path.exists() and digest_of(path, offset, size) != sha256:
            yield sha256
