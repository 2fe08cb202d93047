"""A study as tests of the index submit it."""

from __future__ import annotations

from typing import Any

from registry_room import Room
from registry_samples import patient, study

from crosslight.standards.study import StudyRecord


def _study(room: Room, seed: int = 1, local: str = "H1", code: str = "RA2", **who: Any) -> StudyRecord:
    return study(patient(room.member(code), local, **who), seed)
