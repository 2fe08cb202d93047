"""Followers of folders and object stores, made from the configuration."""

from __future__ import annotations

from pathlib import Path

from crosslight.runtime.db import EmbeddedDb
from crosslight.runtime.object_store import opened_bucket
from crosslight.runtime.seams import Seams
from crosslight.standards.dicom.file.limits import LIMITS
from crosslight.standards.problem import ConfigError
from node.sources.files.config import FilesSource, FolderSource, ObjectStoreSource
from node.sources.files.folder import FolderFiles
from node.sources.files.follow import FileFollower
from node.sources.files.heads import HeadReader
from node.sources.files.listing import FileStore
from node.sources.files.object_store import ObjectStoreFiles
from node.sources.files.rows import FileRows
from node.sources.files.taking import DescribingFiles, FileTaker


async def make_follower(
    source: FilesSource, folder: Path, db: EmbeddedDb, index: DescribingFiles, seams: Seams
) -> FileFollower:
    """Who follows a source; ``folder`` is the node's.

    Raises:
        ConfigError: what the configuration names cannot be used.
    """
    files = _files(source, folder, seams)
    rows = FileRows(db, source.name)
    await rows.open()
    heads = HeadReader(files, seams.workers, LIMITS, source.max_header_bytes)
    taker = FileTaker(source.name, files, heads, index, rows, seams.clock, source.reads_at_once)
    return FileFollower(source, files, rows, index, taker, seams.clock)


def _files(source: FilesSource, folder: Path, seams: Seams) -> FileStore:
    if isinstance(source, FolderSource):
        return FolderFiles(folder / source.path, seams.workers, inodes=source.inodes)
    if not isinstance(source, ObjectStoreSource):
        raise ConfigError(f"There is no such kind of source: {source.name}.")
    return ObjectStoreFiles(opened_bucket(source, folder, "sources.object_store"))
