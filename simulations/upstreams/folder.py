"""A folder of Part 10 files, as an export or a share has them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydicom.dataset import FileDataset

from simulations.dicomfile import part10
from simulations.upstreams.pace import LISTED
from simulations.upstreams.upstream import ArchivePlace, Program


class FolderOfFiles:
    """One."""

    label = "a folder of Part 10 files"
    tells_numbers = True
    passes_at_once = True

    def __init__(self, place: ArchivePlace) -> None:
        self.place = place
        self._files = place.folder / "files"

    @property
    def address(self) -> str:
        """Its path."""
        return str(self._files)

    @property
    def programs(self) -> tuple[Program, ...]:
        """None: the disk is enough."""
        return ()

    @property
    def source(self) -> tuple[str, Mapping[str, Any]]:
        """[[sources.folder]]."""
        return "folder", {"name": self.place.title, "path": self.address, "empty_is_true": True, **LISTED}

    async def make(self) -> None:
        """The folder."""
        self._files.mkdir(parents=True)

    async def put(self, datasets: Sequence[FileDataset]) -> None:
        """Write files: whole ones, by renaming."""
        await asyncio.to_thread(self._write, datasets)

    def _write(self, datasets: Sequence[FileDataset]) -> None:
        for ds in datasets:
            path = self._path(str(ds.StudyInstanceUID), str(ds.SOPInstanceUID))
            path.parent.mkdir(exist_ok=True)
            written = self.place.folder / "written"
            written.write_bytes(part10(ds))
            written.replace(path)

    def _path(self, study_uid: str, sop_uid: str) -> Path:
        return self._files / study_uid / f"{sop_uid}.dcm"

    async def remove(self, study_uid: str, sop_uids: Collection[str]) -> None:
        """Delete files."""
        for sop_uid in sop_uids:
            self._path(study_uid, sop_uid).unlink()
        folder = self._files / study_uid
        if not any(folder.iterdir()):
            folder.rmdir()
