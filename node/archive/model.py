"""What the archive says and is told, as values. ``serve``, ``dimse`` and ``publish`` know the archive by these."""

from __future__ import annotations

from dataclasses import dataclass
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
    path: Path  # Part 10 file
    dataset_offset: int  # where the data set after group 0002 begins
    pixel_offset: int  # of Pixel Data's value in the file for native encodings; 0 = none or encapsulated
    pixel_length: int
    received_unix: float
    preamble_is_tiff: bool = False  # otherwise the preamble is served zeroed (D23)
