"""The attributes of QIDO-RS: which keys each level can be searched by, and which attributes a row has.

PS3.18 Tables 10.6.1-5 (keys) and 10.6.3-3, -4, -5 (rows). An attribute inside a sequence is named by its
path, ``Sequence.Item``.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import Literal

from crosslight.standards.dicom.web.json import tag_of
from crosslight.standards.dicom.web.matching import Match

Level = Literal["study", "series", "instance"]
LEVELS: tuple[Level, ...] = ("study", "series", "instance")

#: Matching keys of each level (PS3.18 Tables 10.6.1-5 and what viewers ask for beside them); a level has
#: those above it.
STUDY_KEYS = (
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "ModalitiesInStudy",
    "ReferringPhysicianName",
    "StudyDescription",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "SOPClassesInStudy",
    "InstitutionName",
)
SERIES_KEYS = (
    "Modality",
    "SeriesDate",
    "SeriesTime",
    "SeriesDescription",
    "BodyPartExamined",
    "Laterality",
    "SeriesInstanceUID",
    "SeriesNumber",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "RequestAttributesSequence.ScheduledProcedureStepID",
    "RequestAttributesSequence.RequestedProcedureID",
)
INSTANCE_KEYS = ("SOPClassUID", "SOPInstanceUID", "InstanceNumber", "AvailableTransferSyntaxUID")
KEYS: dict[Level, tuple[str, ...]] = {
    "study": STUDY_KEYS,
    "series": STUDY_KEYS + SERIES_KEYS,
    "instance": STUDY_KEYS + SERIES_KEYS + INSTANCE_KEYS,
}

#: A date and the time of the same moment: ranges of both are one range of moments (PS3.4 C.2.2.2.5).
MOMENTS = (
    ("StudyDate", "StudyTime"),
    ("SeriesDate", "SeriesTime"),
    ("PerformedProcedureStepStartDate", "PerformedProcedureStepStartTime"),
)

#: What a row has without ``includefield`` (PS3.18 Tables 10.6.3-3, -4, -5); StudyDescription because every
#: list shows it.
STUDY_DEFAULTS = (
    "SpecificCharacterSet",
    "StudyDate",
    "StudyTime",
    "AccessionNumber",
    "InstanceAvailability",
    "ModalitiesInStudy",
    "ReferringPhysicianName",
    "TimezoneOffsetFromUTC",
    "StudyDescription",
    "RetrieveURL",
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyID",
    "NumberOfStudyRelatedSeries",
    "NumberOfStudyRelatedInstances",
)
SERIES_DEFAULTS = (
    "SpecificCharacterSet",
    "Modality",
    "TimezoneOffsetFromUTC",
    "SeriesDescription",
    "BodyPartExamined",
    "RetrieveURL",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "SeriesNumber",
    "NumberOfSeriesRelatedInstances",
    "InstanceAvailability",
    "PerformedProcedureStepStartDate",
    "PerformedProcedureStepStartTime",
    "RequestAttributesSequence",
)
INSTANCE_DEFAULTS = (
    "SpecificCharacterSet",
    "SOPClassUID",
    "SOPInstanceUID",
    "InstanceAvailability",
    "TimezoneOffsetFromUTC",
    "RetrieveURL",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "InstanceNumber",
    "Rows",
    "Columns",
    "BitsAllocated",
    "NumberOfFrames",
    "AvailableTransferSyntaxUID",
)
_OWN_DEFAULTS: dict[Level, tuple[str, ...]] = {
    "study": STUDY_DEFAULTS,
    "series": SERIES_DEFAULTS,
    "instance": INSTANCE_DEFAULTS,
}

#: Attributes in a path, sequences included.
MAX_DEPTH = 4


def defaults(level: Level, matched: Iterable[Match] = ()) -> tuple[str, ...]:
    """Attributes that a row of ``level`` always has, for a search with the keys ``matched``.

    A search for series or instances of every study also returns the study's (and series') attributes; one
    inside a study or series does not (PS3.18 10.6.3.3.2 and .3).
    """
    inside = {m.tag for m in matched if m.vr == "UI" and m.kind == "single"}
    names = _OWN_DEFAULTS[level]
    if level != "study" and tag_of("StudyInstanceUID") not in inside:
        names = STUDY_DEFAULTS + names
    if level == "instance" and tag_of("SeriesInstanceUID") not in inside:
        names = names + SERIES_DEFAULTS
    return names


def path_of(name: str) -> tuple[str, ...] | None:
    """The tags of a name such as ``PatientID``, ``00100020`` or ``RequestAttributesSequence.StudyID``.

    None: one of them is no attribute, or there are more than four.
    """
    tags = tuple(tag for keyword in name.split(".") if (tag := tag_of(keyword)) is not None)
    return tags if len(tags) == name.count(".") + 1 and len(tags) <= MAX_DEPTH else None


@lru_cache(maxsize=64)
def paths_of(keys: tuple[str, ...]) -> frozenset[tuple[str, ...]]:
    """The tags of each of these names; names that are no attribute are left out."""
    return frozenset(path for key in keys if (path := path_of(key)) is not None)


@lru_cache(maxsize=64)
def tags_of(keywords: tuple[str, ...]) -> frozenset[str]:
    """The tags of these keywords; those that are no attribute are left out."""
    return frozenset(tag for keyword in keywords if (tag := tag_of(keyword)) is not None)


@lru_cache(maxsize=256)
def known_path(keyword: str) -> tuple[str, ...]:
    """As :func:`path_of`, of a name that this code itself writes; KeyError for a wrong one."""
    path = path_of(keyword)
    if path is None:
        raise KeyError(keyword)
    return path
