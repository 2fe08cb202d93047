"""What is remembered of each file of a source, and how far its listing is; SQL in named methods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Final, TypeVar

from crosslight.runtime.db import EmbeddedDb, Tx
from crosslight.runtime.db.schema import SchemaVersion, migrate
from node.sources.files.listing import FileEntry

SCHEMA = SchemaVersion("source_files", schema=1, compat=1)
ROOM = "node.sources.files"
T = TypeVar("T")


class FileState(IntEnum):
    """What a file was when it was read last; as at rest."""

    WAITS = 0
    HELD = 1
    SAME = 2
    CONFLICT = 3
    OTHER = 4
    REFUSED = 5
    PASSED = 6
    LATER = 7


#: States of a file whose ``sop_uid`` is described by it.
_HOLDS: Final = f"({FileState.WAITS:d}, {FileState.HELD:d}, {FileState.LATER:d})"
_BESIDE: Final = f"({FileState.SAME:d}, {FileState.CONFLICT:d})"
_FIELDS: Final = (
    "file_key, version, size_bytes, modified_unix, state, sop_uid, study_uid, dataset_offset, digest, why"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A file as it is remembered."""

    entry: FileEntry
    state: FileState = FileState.WAITS
    sop_uid: str = ""
    study_uid: str = ""
    dataset_offset: int = 0
    digest: bytes = b""  # SHA-256 of its data set; b'': nobody has read it whole
    why: str = ""

    @property
    def holds(self) -> bool:
        """Whether an instance is described by it."""
        return bool(self.sop_uid) and self.state in (FileState.WAITS, FileState.HELD, FileState.LATER)

    @property
    def retried(self) -> bool:
        """Whether it is read again although it seems to be as it was."""
        return self.state == FileState.LATER


@dataclass(frozen=True, slots=True, kw_only=True)
class WalkState:
    """How far the listing of a source is, and what the last whole one found."""

    after: bytes = b""
    listed: int = 0
    differed: int = 0
    whole_unix: float = 0.0  # 0: never
    whole_listed: int = 0
    whole_differed: int = 0
    unread: int = 0  # folders that could not be listed
    read_per_s: float = 0.0
    again_unix: float = 0.0
    trouble: str = "It was not asked yet."
    since_unix: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFigures:
    """What is known of a folder or an object store."""

    name: str
    walk: WalkState
    counts: dict[FileState, int]
    conflicts: tuple[str, ...] = ()  # SOP Instance UIDs of some

    @property
    def waiting(self) -> int:
        """Files that are still to be read."""
        return self.counts.get(FileState.WAITS, 0) + self.counts.get(FileState.LATER, 0)

    @property
    def doubtful(self) -> int:
        """Files that may be images of which nothing is known."""
        return self.counts.get(FileState.CONFLICT, 0) + self.counts.get(FileState.REFUSED, 0)

    @property
    def files(self) -> int:
        """All of them."""
        return sum(self.counts.values())

    @property
    def left_s(self) -> float | None:
        """How long the rest will take, at the rate of now; None where that is not known."""
        return self.waiting / self.walk.read_per_s if self.walk.read_per_s else None


class FileRows:
    """The files of one source.

    Args:
        db: The node's database; these tables are this room's own.
        source: Its name.
    """

    def __init__(self, db: EmbeddedDb, source: str) -> None:
        self._db, self._source = db, source

    async def open(self) -> None:
        """Create or upgrade the tables."""
        await migrate(self._db, ROOM, SCHEMA)

    # --- the listing ----------------------------------------------------------------------------------------

    async def walk(self) -> WalkState:
        """How far the listing is."""
        return await self._read("source_walk", lambda tx: _walk_tx(tx, self._source))

    async def keep_walk(self, walk: WalkState) -> None:
        """The listing is so far."""
        await self._write("source_walk", lambda tx: self._keep_walk_tx(tx, walk))

    async def between(self, after: bytes, last: bytes | None, limit: int) -> list[FileRow]:
        """The first files whose keys are greater than ``after``, up to ``last`` (None: however great)."""
        end = "AND file_key <= ?" if last is not None else ""
        sql = (
            f"SELECT {_FIELDS} FROM source_file WHERE source = ? AND file_key > ? {end}"
            " ORDER BY file_key LIMIT ?"
        )
        bounds = (after,) if last is None else (after, last)
        rows = await self._read(
            "source_files_between", lambda tx: tx.rows(sql, (self._source, *bounds, limit))
        )
        return [_row(row) for row in rows]

    async def listed(self, differing: Sequence[FileEntry], walk: WalkState | None) -> None:
        """These are new or other versions and wait to be read; the listing is so far."""
        sql = (
            "INSERT INTO source_file VALUES (?, ?, ?, ?, ?, 0, '', '', 0, x'', '')"
            " ON CONFLICT (source, file_key) DO UPDATE SET version = excluded.version,"
            " size_bytes = excluded.size_bytes, modified_unix = excluded.modified_unix, digest = x'',"
            f" why = '', sop_uid = CASE WHEN state IN {_HOLDS} THEN sop_uid ELSE '' END, state = 0"
        )

        def write(tx: Tx) -> None:
            for e in differing:
                tx.execute(sql, (self._source, e.key, e.version, e.size, e.modified_unix))
            if walk is not None:
                self._keep_walk_tx(tx, walk)

        await self._write("source_listed", write)

    async def gone(self, rows: Iterable[FileRow]) -> None:
        """These files are there no longer; what was beside one of them is read in its place."""

        def write(tx: Tx) -> None:
            for row in rows:
                tx.execute(
                    "DELETE FROM source_file WHERE source = ? AND file_key = ?", (self._source, row.entry.key)
                )
                if row.holds:
                    self._promote_tx(tx, row.sop_uid)

        await self._write("source_gone", write)

    async def again(self, walk: WalkState) -> None:
        """Those that another source was first with are looked at once more."""

        def write(tx: Tx) -> None:
            tx.execute(
                "UPDATE source_file SET state = 0 WHERE source = ? AND state = ?",
                (self._source, int(FileState.PASSED)),
            )
            self._keep_walk_tx(tx, walk)

        await self._write("source_again", write)

    # --- reading --------------------------------------------------------------------------------------------

    async def waiting(self, before_unix: float, limit: int) -> list[FileRow]:
        """The newest that wait and were not changed since ``before_unix``."""
        sql = (
            f"SELECT {_FIELDS} FROM source_file WHERE source = ? AND state = 0 AND modified_unix <= ?"
            " ORDER BY modified_unix DESC LIMIT ?"
        )
        rows = await self._read("source_waiting", lambda tx: tx.rows(sql, (self._source, before_unix, limit)))
        return [_row(row) for row in rows]

    async def holder(self, sop_uid: str) -> FileRow | None:
        """The file by which an instance is described."""
        sql = (
            f"SELECT {_FIELDS} FROM source_file WHERE source = ? AND sop_uid = ? AND sop_uid <> ''"
            f" AND state IN {_HOLDS}"
        )
        row = await self._read("source_holder", lambda tx: tx.row(sql, (self._source, sop_uid)))
        return _row(row) if row is not None else None

    async def intend(self, rows: Iterable[FileRow]) -> None:
        """These instances will be described next: remembered first, so that none of them is left behind."""
        sql = "UPDATE source_file SET sop_uid = ?, study_uid = ? WHERE source = ? AND file_key = ?"

        def write(tx: Tx) -> None:
            for row in rows:
                tx.execute(sql, (row.sop_uid, row.study_uid, self._source, row.entry.key))

        await self._write("source_intend", write)

    async def settle(self, rows: Iterable[FileRow], lost: Iterable[str], read_per_s: float) -> None:
        """What these files were found to be; instances that lost their file are looked for beside it."""
        sql = (
            "UPDATE source_file SET state = ?, sop_uid = ?, study_uid = ?, dataset_offset = ?, digest = ?,"
            " why = ? WHERE source = ? AND file_key = ? AND version = ?"
        )

        def write(tx: Tx) -> None:
            for r in rows:
                found = (int(r.state), r.sop_uid, r.study_uid, r.dataset_offset, r.digest, r.why)
                tx.execute(sql, (*found, self._source, r.entry.key, r.entry.version))
            for sop_uid in lost:
                self._promote_tx(tx, sop_uid)
            tx.execute("UPDATE source_walk SET read_per_s = ? WHERE source = ?", (read_per_s, self._source))

        await self._write("source_settle", write)

    # --- giving out -----------------------------------------------------------------------------------------

    async def note_digest(self, row: FileRow, digest: bytes) -> None:
        """The data set of this version has this digest."""
        sql = "UPDATE source_file SET digest = ? WHERE source = ? AND file_key = ? AND version = ?"
        values = (digest, self._source, row.entry.key, row.entry.version)
        await self._write("source_digest", lambda tx: tx.execute(sql, values))

    async def read_anew(self, row: FileRow) -> None:
        """This file is not what it was: it waits, and the next listing says what is there."""
        sql = "UPDATE source_file SET state = ? WHERE source = ? AND file_key = ? AND state = ?"
        values = (int(FileState.LATER), self._source, row.entry.key, int(FileState.HELD))
        await self._write("source_anew", lambda tx: tx.execute(sql, values))

    async def figures(self, conflicts: int = 0) -> FileFigures:
        """What is known of the source, and some of the instances that have two files."""

        def read(tx: Tx) -> FileFigures:
            counts = tx.rows("SELECT state, n FROM source_files WHERE source = ? AND n > 0", (self._source,))
            named: Sequence[Any] = ()
            if conflicts:
                named = tx.rows(
                    "SELECT DISTINCT sop_uid FROM source_file WHERE source = ? AND sop_uid <> ''"
                    " AND state = ? ORDER BY sop_uid LIMIT ?",
                    (self._source, int(FileState.CONFLICT), conflicts),
                )
            return FileFigures(
                name=self._source,
                walk=_walk_tx(tx, self._source),
                counts={FileState(state): n for state, n in counts},
                conflicts=tuple(row[0] for row in named),
            )

        return await self._read("source_file_figures", read)

    def _promote_tx(self, tx: Tx, sop_uid: str) -> None:
        tx.execute(
            "UPDATE source_file SET state = 0, sop_uid = '' WHERE source = ? AND sop_uid = ?"
            f" AND sop_uid <> '' AND state IN {_BESIDE}",
            (self._source, sop_uid),
        )

    def _keep_walk_tx(self, tx: Tx, walk: WalkState) -> None:
        row = (
            *(self._source, walk.after, walk.listed, walk.differed, walk.whole_unix, walk.whole_listed),
            *(walk.whole_differed, walk.unread, walk.read_per_s, walk.again_unix, walk.trouble),
            walk.since_unix,
        )
        tx.execute("INSERT OR REPLACE INTO source_walk VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)

    async def _read(self, name: str, fn: Callable[[Tx], T]) -> T:
        return await self._db.read(name, fn)

    async def _write(self, name: str, fn: Callable[[Tx], object]) -> None:
        await self._db.write(name, fn)


def _row(row: Any) -> FileRow:
    key, version, size, modified, state, sop_uid, study_uid, offset, digest, why = row
    return FileRow(
        entry=FileEntry(key=key, version=version, size=size, modified_unix=modified),
        state=FileState(state),
        sop_uid=sop_uid,
        study_uid=study_uid,
        dataset_offset=offset,
        digest=digest,
        why=why,
    )


def _walk_tx(tx: Tx, source: str) -> WalkState:
    row = tx.row(
        "SELECT after_key, listed, differed, whole_unix, whole_listed, whole_differed, unread, read_per_s,"
        " again_unix, trouble, since_unix FROM source_walk WHERE source = ?",
        (source,),
    )
    if row is None:
        return WalkState()
    names = (
        *("after", "listed", "differed", "whole_unix", "whole_listed", "whole_differed", "unread"),
        *("read_per_s", "again_unix", "trouble", "since_unix"),
    )
    return replace(WalkState(), **dict(zip(names, row, strict=True)))
