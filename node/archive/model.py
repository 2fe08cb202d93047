"""What the archive says and is told, as values. ``serve``, ``dimse`` and ``publish`` know the archive by these."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from crosslight.standards.study import InstanceRef

IngestState = Literal["stored", "duplicate", "conflict", "refused", "full"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """Where an object came from: kept beside it (D23)."""

    road: Literal["dimse", "stow", "import"]
    peer: str  # AE title and address, principal, or file name
    correlation: str = ""
    sop_class_uid: str = ""  # as announced by C-STORE; checked against the data set
    sop_instance_uid: str = ""
    transfer_syntax_uid: str = ""  # of the association, or '' when the file has its own meta


@dataclass(frozen=True, slots=True, kw_only=True)
class IngestResult:
    """What became of an object. ``stored`` and ``duplicate`` are durable when this is returned.

    ``status`` is the C-STORE status of PS3.4 B.2.3 and, by table, STOW's failure reason (PS3.18 10.5.3).
    """

    state: IngestState
    status: int
    reason: str = ""
    ref: InstanceRef | None = None
    quarantine_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
    """One live object on disk."""

    ref: InstanceRef
    file: str  # path of its Part 10 file
    dataset_offset: int  # where the data set after group 0002 begins
    pixel_offset: int  # of Pixel Data's value in the file for native encodings; 0 = none or encapsulated
    pixel_length: int
    received_unix: float
    preamble_is_tiff: bool = False  # otherwise the preamble is served zeroed (D23)
    notes: int = 0  # what was tolerated in it: bits of ``verdict.NOTES``
    unmeasured: bool = False  # whether it has large sequences that say no length

    @property
    def path(self) -> Path:
        """Its file; made when it is asked for, as a study is thousands of these."""
        return Path(self.file)

    @property
    def end(self) -> int:
        """Where the data set ends in the file: the size of what is given out; padding that came after it is only kept."""
        return self.dataset_offset + self.ref.size_bytes


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
class Mark:
    """How often a study has changed (D14). ``serial`` orders the latest changes of all studies."""

    study_uid: str
    change: int
    serial: int
    first_change_unix: float
    last_change_unix: float


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


@dataclass(frozen=True, slots=True)
class Fault:
    """An object that a row names and that is not there, or whose bytes have changed."""

    kind: Literal["missing", "damaged"]
    study_uid: str
    sop_uid: str
    sha256: bytes
    offset: int  # of the data set in its file
    size: int  # of the data set: bytes after it are kept and not hashed
    path: Path = Path()

    def found(self, kind: Literal["missing", "damaged"], path: Path) -> Fault:
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
        return tuple(one.sop_uid for one in self.faults if one.kind == "missing")

    @property
    def damaged(self) -> tuple[str, ...]:
        """SOP Instance UIDs of objects whose bytes have changed."""
        return tuple(one.sop_uid for one in self.faults if one.kind == "damaged")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportReport:
    """What became of the files of an import. ``remarks`` are (file, what to know of it): each that was left behind, and why,
    and each that was read without file meta; the first thousand."""

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
