"""A consistent copy of the node's database and objects, and the way back.

The commands ``crosslight-node backup`` and ``restore``.

The database is copied first, with SQLite's own backup; then the objects that the copy names. Objects never
change and keep their names, so a second backup into the same folder copies only what is new. What arrives
meanwhile is in the next one. Digests are checked while bytes are copied, both ways: what is damaged is named
and left out, all else is copied. After a restore the archive takes in by itself (``Archive.reconcile``)
whatever object files are there that the database does not know yet: an older database with newer objects
loses nothing.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson

from crosslight.runtime.backup_files import SEALED, Damaged, Digest, Vault
from crosslight.runtime.clock import Clock, instant
from crosslight.runtime.files import Files, private_folder
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import Conflict, Invalid, NotFound
from node.archive.bucket import Bucket, key_of
from node.archive.digest import digest_of, write_all
from node.archive.layout import Layout, layout_in
from node.archive.model import Fault
from node.archive.store import Storage

DATABASE, FACTS = "node.sqlite", "backup.json"
Progress = Callable[[int, int], None]  # done, of how many


@dataclass(frozen=True, slots=True, kw_only=True)
class BackupReport:
    """What a backup or a restore did."""

    objects: int
    copied: int
    faults: tuple[Fault, ...] = ()  # named by the database, and missing or damaged

    @property
    def missing(self) -> int:
        """Objects that were not found."""
        return sum(fault.kind == "missing" for fault in self.faults)

    @property
    def damaged(self) -> int:
        """Objects whose bytes have changed."""
        return sum(fault.kind == "damaged" for fault in self.faults)


#: What lies in the object store too is not brought back: it is there.
_ON_THE_DISK_ALONE = " AND NOT EXISTS (SELECT 1 FROM carried WHERE carried.sha256 = instance.sha256)"


def _which(connection: sqlite3.Connection, *, all_of_it: bool) -> str:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'carried'").fetchone()
    return "sha256 <> x''" + (_ON_THE_DISK_ALONE if known and not all_of_it else "")


def _named(database: Path, *, all_of_it: bool) -> Iterator[Fault]:
    """Every object that a database copy names, as the fault that it would be."""
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?immutable=1", uri=True)
    try:
        sql = (
            "SELECT MIN(study_uid), MIN(sop_uid), sha256, MIN(dataset_offset), size_bytes FROM instance WHERE"
            f" {_which(connection, all_of_it=all_of_it)} GROUP BY sha256"
        )
        for row in connection.execute(sql):
            yield Fault("missing", *row)
    finally:
        connection.close()


def _count(database: Path, *, all_of_it: bool) -> int:
    connection = sqlite3.connect(f"{database.absolute().as_uri()}?immutable=1", uri=True)
    try:
        which = _which(connection, all_of_it=all_of_it)
        sql = f"SELECT COUNT(DISTINCT sha256) FROM instance WHERE {which}"
        return int(connection.execute(sql).fetchone()[0])
    finally:
        connection.close()


async def write(
    storage: Storage, workers: Workers, target: Path, vault: Vault, progress: Progress | None = None
) -> BackupReport:
    """Copy a node's database, and all objects that it names, into ``target``."""
    files, layout = storage.files, storage.layout
    private_folder(target)
    files.remove(target / FACTS)
    # Encrypted, the copy is made here first: nothing lies in the target in the clear.
    copy = layout.tmp / f"backup.{os.getpid()}" if vault.sealed else target / DATABASE
    try:
        await storage.db.backup_to(copy)
        if vault.sealed:
            await workers.run(vault.put, copy, target / DATABASE)
        report = await workers.run(copy_objects, storage, Layout(target / "archive"), copy, vault, progress)
    finally:
        if vault.sealed:
            files.remove(copy)
    write_facts(target, report, vault, storage.clock, files)
    return report


def copy_objects(
    source: Storage, target: Layout, database: Path, vault: Vault, progress: Progress | None = None
) -> BackupReport:
    """Copy what ``database`` names into a backup; files already there are kept."""
    return _copy_all(database, progress, lambda entry: _put(entry, source, target, vault))


def _put(entry: Fault, source: Storage, target: Layout, vault: Vault) -> bool:
    kept_file = target.object(entry.sha256)
    if vault.name(kept_file).exists():
        return False
    expected = Digest(entry.sha256, entry.offset, entry.size)
    try:
        vault.put(source.layout.held(entry.sha256), kept_file, tmp=target.tmp, expected=expected)
    except FileNotFoundError:
        if source.bucket is None:
            raise
        with _fetched(source, source.bucket, entry.sha256) as path:
            vault.put(path, kept_file, tmp=target.tmp, expected=expected)
    return True


@contextmanager
def _fetched(source: Storage, bucket: Bucket, sha256: bytes) -> Iterator[Path]:
    """An object of the object store as a file, while the block lasts.

    Raises:
        FileNotFoundError: it has none.
        Unavailable: it does not answer.
    """
    path = source.layout.tmp / f"{sha256.hex()}.{os.getpid()}"
    source.files.remove(path)
    try:
        with source.files.create(path) as out:
            for data in bucket.read(sha256):
                write_all(out, data)
        yield path
    except NotFound:
        raise FileNotFoundError(2, "not in the object store", key_of(sha256)) from None
    finally:
        source.files.remove(path)


def _take(entry: Fault, source: Layout, target: Layout, vault: Vault) -> bool:
    archived_file = target.object(entry.sha256)
    if archived_file.exists() and digest_of(archived_file, entry.offset, entry.size) == entry.sha256:
        return False
    vault.take(
        source.object(entry.sha256),
        archived_file,
        tmp=target.tmp,
        expected=Digest(entry.sha256, entry.offset, entry.size),
    )
    return True


def _copy_all(
    database: Path, progress: Progress | None, copy: Callable[[Fault], bool], *, all_of_it: bool = True
) -> BackupReport:
    total, done, copied = _count(database, all_of_it=all_of_it), 0, 0
    faults: list[Fault] = []
    for done, entry in enumerate(_named(database, all_of_it=all_of_it), 1):
        try:
            copied += copy(entry)
        except FileNotFoundError as error:
            faults.append(entry.found("missing", Path(str(error.filename))))
        except Damaged as error:
            faults.append(entry.found("damaged", Path(error.where)))
        if progress is not None:
            progress(done, total)
    return BackupReport(objects=done, copied=copied, faults=tuple(faults))


def check_target(target: Path, vault: Vault) -> None:
    """Whether a backup of this kind may go into ``target``.

    Raises:
        Conflict: one of the other kind is there: half of it would stay as it is.
    """
    plain, sealed = (target / DATABASE).exists(), (target / (DATABASE + SEALED)).exists()
    if (plain and vault.sealed) or (sealed and not vault.sealed):
        kind = "an encrypted" if sealed else "a plain"
        raise Conflict(f"There is {kind} backup in {target}.", todo="Use a folder of its own for each kind.")


def write_facts(target: Path, report: BackupReport, vault: Vault, clock: Clock, files: Files) -> None:
    """The last thing written: without it a folder is no backup."""
    facts = {
        "made": instant(clock.now()),
        "objects": report.objects,
        "missing": report.missing,
        "damaged": report.damaged,
        "encrypted": vault.sealed,
    }
    files.write_atomic(target / FACTS, orjson.dumps(facts))


def is_sealed(source: Path) -> bool:
    """Whether the backup in ``source`` is encrypted.

    Raises:
        NotFound: when it is no finished backup.
    """
    try:
        facts = orjson.loads((source / FACTS).read_bytes())
    except (FileNotFoundError, NotADirectoryError, orjson.JSONDecodeError):
        raise NotFound(f"{source} is not a finished backup.", why=f"It has no {FACTS}.") from None
    return bool(isinstance(facts, dict) and facts.get("encrypted"))


def restore(
    source: Path, database: Path, folder: Path, vault: Vault, *, progress: Progress | None = None
) -> BackupReport:
    """Make a node's database and archive folder from a backup: everything in it that is whole.

    What lies in the object store stays there; ``verify --repair-from`` brings back what is lost there too.

    Args:
        source: What ``Archive.backup`` wrote.
        database: Where the node's database will be; must not exist.
        folder: The archive's folder; objects that are already in it are kept.
        vault: How the backup's files rest.
        progress: Called after each object.

    Returns:
        With the objects that the database names and the backup has not, or not whole.

    Raises:
        NotFound: when ``source`` is no finished backup.
        Conflict: when there is a database already.
        Invalid: when the backup's database is damaged.
    """
    is_sealed(source)
    if database.exists():
        raise Conflict(f"There is a database already: {database}.", todo="Move it away first.")
    layout = layout_in(folder)
    layout.make(vault.files)
    vault.files.remove(layout.clean)
    private_folder(database.parent)
    part = database.with_name(f".{database.name}.restore")
    kept = Layout(source / "archive")
    try:
        vault.take(source / DATABASE, part)
        report = _copy_all(part, progress, lambda entry: _take(entry, kept, layout, vault), all_of_it=False)
    except (sqlite3.DatabaseError, Damaged, FileNotFoundError) as error:
        vault.files.remove(part)
        raise Invalid(
            f"The database in {source} is damaged or missing.",
            why="Nothing was made of it.",
            todo=(
                "Use another backup. The images of this one, if it is not encrypted, can be imported:"
                f" {kept.objects}."
            ),
        ) from error
    vault.files.publish(part, database)
    return report


def repair(faults: tuple[Fault, ...], source: Path, folder: Path, vault: Vault) -> tuple[Fault, ...]:
    """Put objects of a backup in the place of those that are missing or damaged; those for which it has none.

    Raises:
        NotFound: when ``source`` is no finished backup.
    """
    is_sealed(source)
    kept, layout = Layout(source / "archive"), Layout(folder)
    left = []
    for fault in faults:
        try:
            _take(fault, kept, layout, vault)
        except (FileNotFoundError, Damaged):
            left.append(fault)
    return tuple(left)


def copy_tree(source: Path, target: Path, vault: Vault) -> None:
    """A folder's files into a backup, flat."""
    private_folder(target)
    for path in sorted(source.iterdir()):
        if path.is_file():
            vault.put(path, target / path.name)


def take_tree(source: Path, target: Path, vault: Vault) -> None:
    """The other way round than :func:`copy_tree`."""
    private_folder(target)
    for path in sorted(source.iterdir()):
        name = path.name.removesuffix(SEALED) if vault.sealed else path.name
        if path.is_file() and (not vault.sealed or path.name.endswith(SEALED)):
            vault.take(source / name, target / name)
