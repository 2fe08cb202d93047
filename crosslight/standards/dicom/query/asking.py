"""What we ask of an archive by C-FIND (PS3.4 C.4.1.2), and how a question with too many answers is cut. Pure.

Study root, hierarchical: each level is asked with the unique keys of those above it (C.4.1.3.1.1), which is
what every archive answers.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

from crosslight.standards.dicom.query.models import QueryLevel
from crosslight.standards.dicom.web.json import Attributes, vr_of
from crosslight.standards.dicom.web.qido_attributes import known_path

#: Keys of each level whose values are asked for.
ASKED: Final[dict[QueryLevel, tuple[str, ...]]] = {
    "STUDY": (
        "StudyDate",
        "StudyTime",
        "AccessionNumber",
        "ModalitiesInStudy",
        "InstitutionName",
        "ReferringPhysicianName",
        "StudyDescription",
        "PatientName",
        "PatientID",
        "IssuerOfPatientID",
        "PatientBirthDate",
        "PatientSex",
        "StudyInstanceUID",
        "StudyID",
        "NumberOfStudyRelatedSeries",
        "NumberOfStudyRelatedInstances",
    ),
    "SERIES": (
        "SeriesDate",
        "SeriesTime",
        "Modality",
        "Manufacturer",
        "SeriesDescription",
        "BodyPartExamined",
        "SeriesInstanceUID",
        "SeriesNumber",
        "NumberOfSeriesRelatedInstances",
    ),
    "IMAGE": (
        "SOPClassUID",
        "SOPInstanceUID",
        "AvailableTransferSyntaxUID",
        "ContentDate",
        "ContentTime",
        "InstanceNumber",
        "NumberOfFrames",
        "Rows",
        "Columns",
        "BitsAllocated",
    ),
}
_PREFIXES: Final = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LONGEST_PREFIX: Final = 4
_LEVEL: Final = "00080052"


def question(level: QueryLevel, keys: Mapping[str, str]) -> Attributes:
    """The Identifier that asks for what matches ``keys`` (values by keyword), and for :data:`ASKED`."""
    wanted = {**dict.fromkeys(ASKED.get(level, ()), ""), **keys}
    asked: Attributes = {_LEVEL: {"vr": "CS", "Value": [level]}}
    for name, value in wanted.items():
        tag = known_path(name)[0]
        asked[tag] = {"vr": vr_of(tag), "Value": [value]} if value else {"vr": vr_of(tag)}
    return asked


def wanted_image(study_uid: str, series_uid: str, sop_uid: str) -> Attributes:
    """The Identifier that retrieves one object (PS3.4 C.4.2.2.1): unique keys only."""
    keys = {"StudyInstanceUID": study_uid, "SeriesInstanceUID": series_uid, "SOPInstanceUID": sop_uid}
    asked = question("IMAGE", keys)
    kept = {_LEVEL, *(known_path(name)[0] for name in keys)}
    return {tag: body for tag, body in asked.items() if tag in kept}


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Studies that one question asks for: of these days, of hours of one day, or of patients by their ids.

    Attributes:
        first, last: Days (YYYYMMDD), both included; '' = whatever the date.
        since, until: Times of day (HHMMSS) of one day, both included; '' = whatever the time.
        patient: A Patient ID, with ``*`` at its end for all that begin so; '' = whoever it is.
    """

    first: str = ""
    last: str = ""
    since: str = ""
    until: str = ""
    patient: str = ""

    @property
    def keys(self) -> dict[str, str]:
        """Matching keys by keyword (PS3.4 C.2.2.2.5, C.2.2.2.4)."""
        keys = {}
        if self.first:
            keys["StudyDate"] = self.first if self.first == self.last else f"{self.first}-{self.last}"
        if self.since:
            keys["StudyTime"] = f"{self.since}-{self.until}"
        if self.patient:
            keys["PatientID"] = self.patient
        return keys

    def parts(self, *, by_patient: bool = False) -> tuple[Slice, ...]:
        """Smaller questions that ask for the same together; () where there are none.

        Days are halved; a day becomes hours, an hour minutes. Without days patients are told apart by the
        beginnings of their ids, where ``by_patient`` says so: an id that begins otherwise than with a digit
        or a capital letter of ASCII is not found so.
        """
        if not self.first:
            return tuple(self._prefixes()) if by_patient else ()
        first, last = _date(self.first), _date(self.last)
        if first < last:
            middle = first + (last - first) // 2
            return (
                replace(self, last=_day(middle)),
                replace(self, first=_day(middle + timedelta(days=1))),
            )
        if not self.since:
            return tuple(replace(self, since=f"{h:02}0000", until=f"{h:02}5959.999999") for h in range(24))
        if self.since[2:] == "0000" and self.until[2:4] == "59":
            hour = self.since[:2]
            return tuple(
                replace(self, since=f"{hour}{m:02}00", until=f"{hour}{m:02}59.999999") for m in range(60)
            )
        return ()

    def _prefixes(self) -> Iterator[Slice]:
        begun = self.patient.rstrip("*")
        if self.patient and not self.patient.endswith("*"):
            return
        if len(begun) >= _LONGEST_PREFIX:
            return
        if begun:
            yield replace(self, patient=begun)
        for letter in _PREFIXES:
            yield replace(self, patient=f"{begun}{letter}*")


def _date(day: str) -> date:
    """A day; the 31st of a shorter month is its last."""
    year, month, number = int(day[:4]), int(day[4:6]), int(day[6:8])
    while True:
        try:
            return date(year, month, number)
        except ValueError:
            if number <= 28:
                raise
            number -= 1


def _day(moment: date) -> str:
    return f"{moment:%Y%m%d}"
