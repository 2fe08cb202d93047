"""What the archive says of itself, as values.

Those that other rooms know holdings by are in ``node/holdings.py``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveStatus:
    """Counts of what is held now."""

    studies: int
    series: int
    instances: int
    hidden: int  # by rejection notes
    notes: int  # rejection notes and manifests, which are no content
    binned: int
    quarantined: int
    quarantined_bytes: int
    object_bytes: int
    free_bytes: int
    accepting: bool  # False below min_free_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Quarantined:
    """An object that was not let in, or that collides with one that is here; its file is kept for a while."""

    id: str
    path: Path
    received_unix: float
    reason: str  # a word of crosslight.standards.dicom.file.gate.Reason
    detail: str
    road: str
    peer: str
    sop_uid: str
    study_uid: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BinEntry:
    """A deleted study that can be restored."""

    id: int
    study_uid: str
    reason: str
    deleted_unix: float
    instances: int


FaultKind = Literal["missing", "damaged"]


@dataclass(frozen=True, slots=True)
class Fault:
    """An object that a row names and that is not there, or whose bytes have changed."""

    kind: FaultKind
    study_uid: str
    sop_uid: str
    sha256: bytes
    offset: int  # of the data set in its file
    size: int  # of the data set: bytes after it are kept and not hashed
    path: Path = Path()

    def found(self, kind: FaultKind, path: Path) -> Fault:
        """Which of both it is, and the file."""
        return replace(self, kind=kind, path=path)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What re-hashing every object found."""

    checked: int
    faults: tuple[Fault, ...]
    orphans: int  # files that no row knows, removed or taken in

    @property
    def ok(self) -> bool:
        """Whether every object is there and whole."""
        return not self.faults

    @property
    def missing(self) -> tuple[str, ...]:
        """SOP Instance UIDs of objects that are not there."""
        return tuple(fault.sop_uid for fault in self.faults if fault.kind == "missing")

    @property
    def damaged(self) -> tuple[str, ...]:
        """SOP Instance UIDs of objects whose bytes have changed."""
        return tuple(fault.sop_uid for fault in self.faults if fault.kind == "damaged")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What became of the files of an import.

    ``remarks`` are (file, what to know of it): each that was left behind, and why, and each that was read
    without file meta; the first thousand.
    """

    files: int = 0
    stored: int = 0
    duplicates: int = 0
    conflicts: int = 0
    refused: int = 0
    unread: int = 0  # seem to be DICOM, and are no files that can be read here
    skipped: int = 0  # no DICOM, or DICOMDIR
    known: int = 0  # taken in by an earlier run
    full: bool = False  # stopped: below min_free_bytes
    remarks: tuple[tuple[str, str], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything that seems to be DICOM is in the archive now."""
        return not (self.full or self.refused or self.conflicts or self.unread)
