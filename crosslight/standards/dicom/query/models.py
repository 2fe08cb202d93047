"""The information models of Query/Retrieve (PS3.4 C.3, C.6) and their SOP Classes (PS3.6 Table A-1)."""

from __future__ import annotations

from typing import Final, Literal

Root = Literal["patient", "study"]
QueryLevel = Literal["PATIENT", "STUDY", "SERIES", "IMAGE"]

PATIENT_FIND: Final = "1.2.840.10008.5.1.4.1.2.1.1"
PATIENT_MOVE: Final = "1.2.840.10008.5.1.4.1.2.1.2"
PATIENT_GET: Final = "1.2.840.10008.5.1.4.1.2.1.3"
STUDY_FIND: Final = "1.2.840.10008.5.1.4.1.2.2.1"
STUDY_MOVE: Final = "1.2.840.10008.5.1.4.1.2.2.2"
STUDY_GET: Final = "1.2.840.10008.5.1.4.1.2.2.3"

ROOTS: Final[dict[str, Root]] = {
    PATIENT_FIND: "patient",
    PATIENT_MOVE: "patient",
    PATIENT_GET: "patient",
    STUDY_FIND: "study",
    STUDY_MOVE: "study",
    STUDY_GET: "study",
}
#: The levels of each model, from the top (PS3.4 C.6.1.1.1, C.6.2.1.1).
LEVELS: Final[dict[Root, tuple[QueryLevel, ...]]] = {
    "patient": ("PATIENT", "STUDY", "SERIES", "IMAGE"),
    "study": ("STUDY", "SERIES", "IMAGE"),
}
#: The unique key of each level (PS3.4 Tables C.6-1 to C.6-5).
UNIQUE_KEYS: Final[dict[QueryLevel, str]] = {
    "PATIENT": "PatientID",
    "STUDY": "StudyInstanceUID",
    "SERIES": "SeriesInstanceUID",
    "IMAGE": "SOPInstanceUID",
}
_FINDING = frozenset({PATIENT_FIND, STUDY_FIND})


def agreed_to(sop_class_uid: str, proposed: bytes) -> bytes:
    """What is agreed to of the application information of one SOP Class (PS3.4 C.5.1.1, C.5.2.1, C.5.3.1).

    Relational queries and retrievals always; combined date and time matching where it is asked for; fuzzy
    matching, zones and the conversion of enhanced objects never.
    """
    agreed = bytearray(len(proposed))
    if agreed:
        agreed[0] = 1
    if len(agreed) > 1 and sop_class_uid in _FINDING:
        agreed[1] = proposed[1] & 1
    return bytes(agreed)
