"""Part 10 files of synthetic data sets."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path

from pydicom.dataset import FileDataset


def part10(ds: FileDataset) -> bytes:
    """``ds`` as a Part 10 file (PS3.10 7)."""
    buffer = BytesIO()
    ds.save_as(buffer, enforce_file_format=True)
    return buffer.getvalue()


def save(folder: Path, datasets: Sequence[FileDataset]) -> None:
    """Write each as ``IM00001.dcm`` and on."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, ds in enumerate(datasets, 1):
        (folder / f"IM{number:05d}.dcm").write_bytes(part10(ds))
