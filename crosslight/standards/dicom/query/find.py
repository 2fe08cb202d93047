"""C-FIND (PS3.4 C.4.1): an Identifier as a search over DICOM JSON rows, and rows as Identifiers.

A key of another level, or one that is not kept here, matches everything and is said not to have been matched
(status FF01H), as C.2.2.1.3 has it; what narrows the search by a unique key always does. Queries are answered
relationally: keys of the levels above may be there or not (C.4.1.2.2). Date and time are one moment only
where that was agreed to (C.2.2.2.5); fuzzy matching and zones are not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from crosslight.standards.dicom.query.models import LEVELS, UNIQUE_KEYS, QueryLevel, Root
from crosslight.standards.dicom.web.json import Attributes, text_of, texts_of, vr_of
from crosslight.standards.dicom.web.qido import MAX_PARAMETERS, QidoQuery
from crosslight.standards.dicom.web.qido_attributes import (
    INSTANCE_KEYS,
    SERIES_KEYS,
    STUDY_KEYS,
    Level,
    known_path,
    paths_of,
)
from crosslight.standards.problem import Invalid, TooLarge

#: Of C-FIND's levels, the rows that they are made of.
_ROWS: Final[dict[QueryLevel, Level]] = {
    "PATIENT": "study",
    "STUDY": "study",
    "SERIES": "series",
    "IMAGE": "instance",
}
PATIENT_KEYS: Final = (
    "PatientName",
    "PatientID",
    "IssuerOfPatientID",
    "PatientBirthDate",
    "PatientSex",
)
_KEYS: Final[dict[QueryLevel, tuple[str, ...]]] = {
    "PATIENT": PATIENT_KEYS,
    "STUDY": STUDY_KEYS,
    "SERIES": STUDY_KEYS + SERIES_KEYS,
    "IMAGE": STUDY_KEYS + SERIES_KEYS + INSTANCE_KEYS,
}
_LEVEL = "00080052"
_RETRIEVE_AE = "00080054"
#: Elements that say how the question is asked: neither matched nor, by themselves, returned.
_ABOUT = frozenset({"00080005", _LEVEL, _RETRIEVE_AE, "00080056", "00080201"})
PATIENT_STUDIES, PATIENT_SERIES, PATIENT_INSTANCES = "00201200", "00201202", "00201204"
COUNTS_OF_PATIENT: Final = frozenset({PATIENT_STUDIES, PATIENT_SERIES, PATIENT_INSTANCES})
MAX_KEYS = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class FindPlan:
    """What a C-FIND asks.

    Attributes:
        level: What is searched for.
        query: Over rows of ``query.level``.
        asked: The keys of the answer: each attribute of the Identifier, as it was asked.
        unmatched: Keywords or tags of keys that had a value and are not matched here.
    """

    level: QueryLevel
    query: QidoQuery
    asked: Attributes
    unmatched: tuple[str, ...] = ()

    @property
    def counts_patients(self) -> bool:
        """Whether it asks how many studies, series or instances a patient has."""
        return not COUNTS_OF_PATIENT.isdisjoint(self.asked)

    def answer(self, row: Mapping[str, Any], ae_title: str) -> Attributes:
        """The Identifier of one match: each key that was asked, empty where it is not known (C.4.1.1.3.2)."""
        answer: Attributes = {}
        for tag, asked in self.asked.items():
            body = row.get(tag)
            answer[tag] = _part(body, asked) if body is not None else {"vr": asked["vr"]}
        unique = known_path(UNIQUE_KEYS[self.level])[0]
        if unique in row:
            answer[unique] = row[unique]
        answer[_LEVEL] = {"vr": "CS", "Value": [self.level]}
        answer[_RETRIEVE_AE] = {"vr": "AE", "Value": [ae_title]}
        if "00080056" in row:
            answer["00080056"] = row["00080056"]
        return answer


def read_find(identifier: Attributes, root: Root, *, moments: bool = False) -> FindPlan:
    """The plan of a C-FIND.

    Args:
        identifier: From :func:`~crosslight.standards.dicom.query.identifier.read_identifier`.
        root: The information model.
        moments: Whether combined matching of dates and times was agreed to.

    Raises:
        Invalid: no level, one that the model does not have, or a key whose value cannot be read.
        TooLarge: too many keys.
    """
    level = level_of(identifier, root)
    if len(identifier) > MAX_KEYS:
        raise TooLarge("The identifier has too many keys.", why=f"At most {MAX_KEYS}.")
    known = paths_of(_KEYS[level])
    params: list[tuple[str, str]] = []
    unmatched: list[str] = []
    for path, values in _keys(identifier):
        text = "\\".join(values)
        if text.strip("* \\") == "":
            continue
        name = ".".join(path)
        if path in known:
            params.append((name, text))
        else:
            unmatched.append(name)
    if len(params) > MAX_PARAMETERS:
        raise TooLarge("The identifier has too many keys with values.", why=f"At most {MAX_PARAMETERS}.")
    query = QidoQuery.parse(_ROWS[level], params, keys=_KEYS[level], moments=moments)
    asked = {tag: body for tag, body in identifier.items() if tag not in _ABOUT and not tag.endswith("0000")}
    return FindPlan(
        level=level,
        query=query.including(asked),
        asked=asked,
        unmatched=tuple(unmatched),
    )


def level_of(identifier: Mapping[str, Any], root: Root) -> QueryLevel:
    """Query/Retrieve Level (0008,0052).

    Raises:
        Invalid: there is none, or the model has no such level.
    """
    said = text_of(identifier, "QueryRetrieveLevel").strip().upper()
    for level in LEVELS[root]:
        if said == level:
            return level
    raise Invalid(
        f"Query/Retrieve Level {said[:16]!r} is none of this model.",
        why="PS3.4 C.6.1.1.1, C.6.2.1.1.",
        todo="Use " + ", ".join(LEVELS[root]) + ".",
        where="QueryRetrieveLevel",
    )


def patient_of(row: Mapping[str, Any]) -> Attributes:
    """The patient of a study's row: the attributes of group 0010."""
    return {tag: body for tag, body in row.items() if tag.startswith("0010")}


def patient_key(row: Mapping[str, Any]) -> tuple[str, str]:
    """By what patients are told apart: id and issuer."""
    return text_of(row, "PatientID"), text_of(row, "IssuerOfPatientID")


def _keys(identifier: Mapping[str, Any]) -> Any:
    """Each key, by its path, with the texts of its value."""
    for tag, body in identifier.items():
        if tag in _ABOUT or tag.endswith("0000"):
            continue
        if body["vr"] != "SQ":
            yield (tag,), texts_of(identifier, tag)
            continue
        items = body.get("Value") or ()
        for nested in items[:1]:  # C.2.2.2.6: one item
            for path, values in _keys(nested):
                yield (tag, *path), values


def _part(body: Mapping[str, Any], asked: Mapping[str, Any]) -> Mapping[str, Any]:
    """A value as it is returned: of a sequence the attributes of its items that were asked, if any."""
    nothing: Attributes = {}
    wanted = (asked.get("Value") or (nothing,))[0] if asked["vr"] == "SQ" else nothing
    if not wanted or body["vr"] != "SQ":
        return body
    items = [
        {tag: item.get(tag, {"vr": wanted[tag].get("vr", vr_of(tag))}) for tag in wanted}
        for item in body.get("Value") or ()
    ]
    return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}
