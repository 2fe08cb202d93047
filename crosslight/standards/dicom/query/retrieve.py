"""C-MOVE and C-GET (PS3.4 C.4.2, C.4.3): which objects an Identifier names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from crosslight.standards.dicom.query.find import level_of
from crosslight.standards.dicom.query.models import UNIQUE_KEYS, QueryLevel, Root
from crosslight.standards.dicom.web.json import texts_of
from crosslight.standards.ids import is_uid
from crosslight.standards.problem import Invalid, TooLarge

MAX_UIDS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What is to be sent: unique keys of ``level``, inside those of the levels above that were given."""

    level: QueryLevel
    patient_id: str = ""
    studies: tuple[str, ...] = ()
    series: tuple[str, ...] = ()
    instances: tuple[str, ...] = ()


def read_retrieve(identifier: Mapping[str, Any], root: Root) -> Wanted:
    """What a C-MOVE or C-GET wants.

    A study's UID may be missing below it (relational retrieval, C.4.2.2.2).

    Raises:
        Invalid: no level, no unique key of it, or one that is no UID; a wildcard is none.
        TooLarge: over :data:`MAX_UIDS` of one level.
    """
    level = level_of(identifier, root)
    keys = {name: _values(identifier, name) for name in UNIQUE_KEYS.values()}
    if not keys[UNIQUE_KEYS[level]]:
        raise Invalid(
            f"{UNIQUE_KEYS[level]} is missing.",
            why=f"PS3.4 C.4.2.2.1: a retrieve at level {level} names it.",
            where=UNIQUE_KEYS[level],
        )
    if len(keys["PatientID"]) > 1:
        raise Invalid("PatientID has several values.", why="PS3.4 C.4.2.2.1.", where="PatientID")
    return Wanted(
        level=level,
        patient_id="".join(keys["PatientID"]),
        studies=keys["StudyInstanceUID"],
        series=keys["SeriesInstanceUID"] if level in ("SERIES", "IMAGE") else (),
        instances=keys["SOPInstanceUID"] if level == "IMAGE" else (),
    )


def _values(identifier: Mapping[str, Any], name: str) -> tuple[str, ...]:
    values = tuple(dict.fromkeys(text.strip() for text in texts_of(identifier, name) if text.strip()))
    if name != "PatientID" and not all(is_uid(value) for value in values):
        raise Invalid(f"{name} is no UID.", why="PS3.5 9.1; PS3.4 C.4.2.2.1: no wildcards.", where=name)
    if len(values) > MAX_UIDS:
        raise TooLarge(f"{name} has too many values.", why=f"At most {MAX_UIDS}.", where=name)
    return values
