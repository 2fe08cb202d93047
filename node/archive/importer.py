"""Taking in a pile of files: folders of any depth, resumable, DICOM or not (``crosslight-node import``).

Files stay where they are. What is no DICOM at all is skipped, not quarantined; what is DICOM and refused goes the way of all
refused objects. A file that an earlier run took in is known by its path, size and time and is not read again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Protocol

from crosslight.runtime.db import SqliteDb, Tx
from crosslight.standards.dicom.gate import missing_head
from crosslight.standards.problem import OutOfSpace, TooLarge
from node.archive.model import ImportReport, IngestResult, Received
from node.archive.stage import Staged

_CHUNK = 1 << 20
_FIELD = {"stored": "stored", "duplicate": "duplicates", "conflict": "conflicts", "refused": "refused"}

#: Called after each file with what has been done so far.
ImportProgress = Callable[[ImportReport], None]


class WayIn(Protocol):
    """The part of the archive that is needed."""

    def stage(self) -> Staged:
        """A place for incoming bytes."""
        ...

    def ingest(self, staged: Staged, received: Received) -> IngestResult:
        """Take in."""
        ...


def files_below(paths: Iterable[Path]) -> Iterator[Path]:
    """Every regular file of ``paths`` and below them, in a fixed order; links to folders are not followed."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, names, files in os.walk(path):
            names.sort()
            yield from (Path(folder) / name for name in sorted(files))


class Importer:
    """One run. Blocking; runs in a worker."""

    def __init__(self, db: SqliteDb, way_in: WayIn) -> None:
        self._db, self._way_in = db, way_in

    def run(self, paths: Iterable[Path], progress: ImportProgress | None = None) -> ImportReport:
        """Take in all files of ``paths``; stops early only when the disk is full (``full`` in the report)."""
        report = ImportReport()
        for path in files_below(paths):
            try:
                field = self._one(path)
            except OutOfSpace:
                return replace(report, full=True)
            report = replace(report, files=report.files + 1, **{field: getattr(report, field) + 1})
            if progress is not None:
                progress(report)
        return report

    def _one(self, path: Path) -> str:
        """Take in one file; the name of the count that it belongs to."""
        try:
            info = path.stat()
            if not path.is_file() or path.name.upper() == "DICOMDIR" or info.st_size < 132:
                return "skipped"
            key = hashlib.sha256(os.fsencode(path.resolve())).digest()
            if self._seen(key, info.st_size, info.st_mtime_ns):
                return "skipped"
            with path.open("rb") as source:
                head = source.read(132)
                head = missing_head(head) + head
                if head[128:132] != b"DICM":
                    return "skipped"
                staged = self._way_in.stage()
                try:
                    staged.write(head)
                    while chunk := source.read(_CHUNK):
                        staged.write(chunk)
                except BaseException:
                    staged.discard()
                    raise
        except TooLarge:
            return "refused"
        except OSError:
            return "refused"
        result = self._way_in.ingest(staged, Received(road="import", peer=path.name))
        if result.state == "full":
            raise OutOfSpace(result.reason)
        self._remember(key, info.st_size, info.st_mtime_ns)
        return _FIELD[result.state]

    def _seen(self, key: bytes, size: int, modified_ns: int) -> bool:
        sql = "SELECT 1 FROM imported WHERE path = ? AND size_bytes = ? AND modified_ns = ?"
        return self._db.submit_read("imported", lambda tx: tx.row(sql, (key, size, modified_ns))).result() is not None

    def _remember(self, key: bytes, size: int, modified_ns: int) -> None:
        def write(tx: Tx) -> None:
            tx.execute("DELETE FROM imported WHERE path = ?", (key,))
            tx.execute("INSERT INTO imported (path, size_bytes, modified_ns) VALUES (?, ?, ?)", (key, size, modified_ns))

        self._db.submit_write("remember_import", write).result()
