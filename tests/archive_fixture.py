"""An archive in a folder of its own, for tests."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dicom_objects as make
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from crosslight.runtime.clock import SystemClock, SystemIds
from crosslight.runtime.db import SqliteDb
from crosslight.runtime.files import SystemFiles
from crosslight.runtime.workers import SystemWorkers
from node.archive.archive import Archive
from node.archive.bucket import Bucket
from node.archive.config import ArchiveConfig
from node.holdings import IngestResult, Received, StoredObject

OWN = "2.16.840.1.113883.2.1.3.2.4.18.24"


class MovedClock(SystemClock):
    """The real clock, moved ahead by hand."""

    ahead = timedelta()

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


class ShortDisk(SystemFiles):
    """A disk with as much space as the test says."""

    free = 1 << 40

    def free_bytes(self, path: Path) -> int:
        return self.free


async def file_of(archive: Archive, found: StoredObject) -> Path:
    """Where an object lies."""
    return Path((await archive.open_object(found)).file)


async def data_set_at(archive: Archive, found: StoredObject) -> bytes:
    """An object's data set, as it lies there with all that follows it."""
    assert found.size is not None
    return (await file_of(archive, found)).read_bytes()[found.size - found.ref.size_bytes :]


class Held:
    """An open archive and what it stands on."""

    def __init__(self, folder: Path, *, bucket: Bucket | None = None, **settings: Any) -> None:
        self.folder = folder
        self.clock, self.files, self.workers = MovedClock(), ShortDisk(), SystemWorkers(threads=4)
        self.db = SqliteDb(folder / "node.sqlite")
        config = ArchiveConfig(**{"patient_authority": OWN, **settings})
        self.archive = Archive(
            self.db, folder / "archive", self.files, self.clock, SystemIds(), self.workers, config, bucket
        )

    async def put(
        self, dataset: Dataset | bytes, syntax: str = ExplicitVRLittleEndian, **received: Any
    ) -> IngestResult:
        """Take in one object as STOW does."""
        staged = self.archive.stage()
        staged.write(dataset if isinstance(dataset, bytes) else make.part10(dataset, syntax))
        return await self.archive.ingest_async(
            staged, Received(**{"road": "stow", "peer": "test", **received})
        )

    async def settle(self) -> None:
        """Wait for the rows of all that was taken in, as whoever reads does."""
        await self.archive.study_uids(limit=1)

    def left_in_tmp(self) -> list[Path]:
        """Unfinished files."""
        return [
            path
            for path in (self.folder / "archive" / "tmp").rglob("*")
            if path.is_file() and path.name != "lock"
        ]

    def object_files(self) -> list[Path]:
        """Every object file."""
        return sorted((self.folder / "archive" / "objects").rglob("*.dcm"))


@asynccontextmanager
async def held(folder: Path, **settings: Any) -> AsyncIterator[Held]:
    """Open, and close whatever happens."""
    made = Held(folder, **settings)
    try:
        await made.archive.open()
        await made.archive.settled()
        yield made
        await made.archive.close()
    finally:
        await made.db.close()
        await made.workers.close()
