"""Taking in a pile of files: folders of any depth, resumable, DICOM or not (``crosslight-node import``).

Files stay where they are. What is no DICOM at all is skipped, not quarantined; what is DICOM and refused goes
the way of all refused objects; both are named in the report. A data set without file meta is taken in when
its first elements say how it is coded. A file that an earlier run took in is known by its path, size and time
and is not read again; what was refused is tried again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Literal

from crosslight.runtime.db import EmbeddedDb, Tx
from crosslight.standards.dicom.file import bare_data_set as bare
from crosslight.standards.dicom.file.gate import missing_head
from crosslight.standards.dicom.file.syntaxes import EXPLICIT_BE, EXPLICIT_LE
from crosslight.standards.problem import OutOfSpace, TooLarge
from node.archive.model import ImportReport
from node.holdings import Holdings, Received, Staging

_CHUNK = 1 << 20
_FIELD = {"stored": "stored", "duplicate": "duplicates", "conflict": "conflicts", "refused": "refused"}
_SMALLEST = 132  # octets of a preamble and its prefix
_MAX_REMARKS = 1000

#: Called after each file with what has been done so far.
ImportProgress = Callable[[ImportReport], None]


def files_below(paths: Iterable[Path]) -> Iterator[Path]:
    """Every regular file of ``paths`` and below them, in a fixed order; links to folders are not followed."""
    for path in paths:
        if not path.is_dir():
            yield path
            continue
        for folder, names, files in os.walk(path):
            names.sort()
            yield from (Path(folder) / name for name in sorted(files))


@dataclass(frozen=True, slots=True)
class Look:
    """What a file is by its beginning.

    A Part 10 file, a data set (``syntax``), something that seems to be DICOM, none.
    """

    what: Literal["file", "data set", "unread", "other"]
    why: str = ""
    syntax: str = ""


def look(head: bytes, name: str) -> Look:
    """What a file called ``name`` that begins with ``head`` is."""
    if len(head) >= _SMALLEST and (missing_head(head) or head[128:132] == b"DICM"):
        return Look("file")
    syntax = bare.transfer_syntax_of(head)
    if syntax == EXPLICIT_BE:
        return Look("unread", "seems to be a data set in Explicit VR Big Endian without file meta")
    if syntax:
        coded = "Explicit" if syntax == EXPLICIT_LE else "Implicit"
        return Look(
            "data set",
            f"has no file meta: read as {coded} VR Little Endian, as its first elements say",
            syntax,
        )
    if bare.looks_like_dicom(head, name):
        return Look("unread", "seems to be DICOM, and is neither a file (PS3.10 7.1) nor a data set")
    return Look("other", "no DICOM")


class Importer:
    """One run. Blocking; runs in a worker."""

    def __init__(self, db: EmbeddedDb, holdings: Holdings) -> None:
        self._db, self._holdings = db, holdings
        self._remarks: list[tuple[str, str]] = []

    def run(self, paths: Iterable[Path], progress: ImportProgress | None = None) -> ImportReport:
        """Take in all files of ``paths``; stops early only when the disk is full (``full`` in the report)."""
        report = ImportReport()
        for path in files_below(paths):
            try:
                field = self._one(path)
            except OutOfSpace:
                report = replace(report, full=True)
                break
            report = replace(report, files=report.files + 1, **{field: getattr(report, field) + 1})
            if progress is not None:
                progress(report)
        return replace(report, remarks=tuple(self._remarks))

    def _remark(self, path: Path, remark: str) -> None:
        if len(self._remarks) < _MAX_REMARKS:
            self._remarks.append((str(path), remark))

    def _left(self, path: Path, field: str, why: str) -> str:
        self._remark(path, why)
        return field

    def _one(self, path: Path) -> str:
        """Take in one file; the name of the count that it belongs to."""
        try:
            info = path.stat()
            if not path.is_file():
                return self._left(path, "skipped", "no regular file")
            if path.name.upper() == "DICOMDIR":
                return self._left(path, "skipped", "a DICOMDIR, which is an index and holds no images")
            key = hashlib.sha256(os.fsencode(path.resolve())).digest()
            if self._seen(key, info.st_size, info.st_mtime_ns):
                return "known"
            with path.open("rb") as source:
                staged = self._stage(path, source)
        except OutOfSpace:
            raise
        except TooLarge as error:
            return self._left(path, "refused", str(error))
        except OSError as error:
            return self._left(path, "refused", f"cannot be read: {error.strerror or type(error).__name__}")
        if isinstance(staged, str):
            return staged
        result = self._holdings.ingest(*staged)
        if result.state == "full":
            raise OutOfSpace(result.reason)
        if result.state in ("stored", "duplicate"):
            self._remember(key, info.st_size, info.st_mtime_ns)
        else:
            self._remark(path, f"{result.state}: {result.reason}")
        return _FIELD[result.state]

    def _stage(self, path: Path, source: BinaryIO) -> tuple[Staging, Received] | str:
        """The file on its way in; or the count it belongs to, when it is left behind."""
        head = source.read(bare.HEAD_BYTES)
        looked = look(head, path.name)
        if looked.what in ("unread", "other"):
            return self._left(path, "unread" if looked.what == "unread" else "skipped", looked.why)
        received = Received(road="import", peer=path.name, transfer_syntax_uid=looked.syntax)
        if looked.syntax:
            self._remark(path, looked.why)
        staged = self._holdings.stage(received)
        try:
            staged.write(missing_head(head) + head)
            while chunk := source.read(_CHUNK):
                staged.write(chunk)
        except BaseException:
            staged.discard()
            raise
        return staged, received

    def _seen(self, key: bytes, size: int, modified_ns: int) -> bool:
        sql = "SELECT 1 FROM imported WHERE path = ? AND size_bytes = ? AND modified_ns = ?"
        return (
            self._db.submit_read("imported", lambda tx: tx.row(sql, (key, size, modified_ns))).result()
            is not None
        )

    def _remember(self, key: bytes, size: int, modified_ns: int) -> None:
        def write(tx: Tx) -> None:
            tx.execute("DELETE FROM imported WHERE path = ?", (key,))
            tx.execute(
                "INSERT INTO imported (path, size_bytes, modified_ns) VALUES (?, ?, ?)",
                (key, size, modified_ns),
            )

        self._db.submit_write("remember_import", write).result()
