"""Stored queries (ITI TF-2 3.18.4.1.2.3.7): their parameters as a table, and reading them strictly.

``evaluate.py`` answers.

Of the queries that the standard has, these are built; any other is answered XDSUnknownStoredQuery.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Invalid
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.rules.errors import RegistryRefusal, refusal
from crosslight.standards.xds.wire.adhoc import AdhocQuery, ReturnType

ValueKind = Literal["patient", "status", "code", "time", "like", "text", "reference", "availability", "level"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """One parameter. ``many``: a list is allowed.

    ``conjunctive``: the slot may be repeated, repetitions are AND.
    """

    kind: ValueKind
    required: bool = False
    many: bool = False
    conjunctive: bool = False


_MANY = Parameter(kind="text", many=True)
_CODES = Parameter(kind="code", many=True)
_CODES_AND = Parameter(kind="code", many=True, conjunctive=True)
_STATUS = Parameter(kind="status", required=True, many=True)
_PATIENT = Parameter(kind="patient", required=True)
_TIME = Parameter(kind="time")
_DE = "$XDSDocumentEntry"
# of the metadata update option
ASSOCIATION_STATUS, METADATA_LEVEL = "$XDSAssociationStatus", "$MetadataLevel"

_DOCUMENT_FILTERS = {
    f"{_DE}ClassCode": _CODES,
    f"{_DE}TypeCode": _CODES,
    f"{_DE}PracticeSettingCode": _CODES,
    f"{_DE}HealthcareFacilityTypeCode": _CODES,
    f"{_DE}EventCodeList": _CODES_AND,
    f"{_DE}ConfidentialityCode": _CODES_AND,
    f"{_DE}FormatCode": _CODES,
    f"{_DE}AuthorPerson": Parameter(kind="like", many=True),
    f"{_DE}Type": _MANY,
    f"{_DE}DocumentAvailability": Parameter(kind="availability", many=True),
    **{
        f"{_DE}{time}{end}": _TIME
        for time in ("CreationTime", "ServiceStartTime", "ServiceStopTime")
        for end in ("From", "To")
    },
}
_FIND = {f"{_DE}PatientId": _PATIENT, f"{_DE}Status": _STATUS, **_DOCUMENT_FILTERS}
_DOCUMENT_NAMES = {f"{_DE}EntryUUID": _MANY, f"{_DE}UniqueId": _MANY, f"{_DE}LogicalID": _MANY}
_UUIDS = {"$uuid": Parameter(kind="text", required=True, many=True)}

FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"
FIND_BY_REFERENCE = "urn:uuid:12941a89-e02e-4be5-967c-ce4bfc8fe492"
FIND_SUBMISSION_SETS = "urn:uuid:f26abbcb-ac74-4422-8a30-edb644bbc1a9"
FIND_FOLDERS = "urn:uuid:958f3006-baad-4929-a4de-ff1114824431"
GET_ALL = "urn:uuid:10b545ea-725c-446d-9b95-8aeb444eddf3"
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
GET_FOLDERS = "urn:uuid:5737b14c-8a1a-4539-b659-e03a34a5e1e4"
GET_ASSOCIATIONS = "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155"
GET_DOCUMENTS_AND_ASSOCIATIONS = "urn:uuid:bab9529a-4a10-40b3-a01f-f68a615d247a"
GET_SUBMISSION_SETS = "urn:uuid:51224314-5390-4169-9b91-b1980040715a"

#: query id -> its own parameters.
_OWN: dict[str, dict[str, Parameter]] = {
    FIND_DOCUMENTS: _FIND,
    FIND_BY_REFERENCE: {
        **_FIND,
        f"{_DE}ReferenceIdList": Parameter(kind="reference", required=True, many=True, conjunctive=True),
    },
    FIND_SUBMISSION_SETS: {
        "$XDSSubmissionSetPatientId": _PATIENT,
        "$XDSSubmissionSetStatus": _STATUS,
        "$XDSSubmissionSetSourceId": _MANY,
        "$XDSSubmissionSetSubmissionTimeFrom": _TIME,
        "$XDSSubmissionSetSubmissionTimeTo": _TIME,
        "$XDSSubmissionSetAuthorPerson": Parameter(kind="like"),
        "$XDSSubmissionSetContentType": _CODES,
    },
    FIND_FOLDERS: {
        "$XDSFolderPatientId": _PATIENT,
        "$XDSFolderStatus": _STATUS,
        "$XDSFolderLastUpdateTimeFrom": _TIME,
        "$XDSFolderLastUpdateTimeTo": _TIME,
        "$XDSFolderCodeList": _CODES_AND,
    },
    GET_ALL: {
        "$patientId": _PATIENT,
        f"{_DE}Status": _STATUS,
        "$XDSSubmissionSetStatus": _STATUS,
        "$XDSFolderStatus": _STATUS,
        f"{_DE}FormatCode": _CODES,
        f"{_DE}ConfidentialityCode": _CODES_AND,
        f"{_DE}Type": _MANY,
    },
    GET_DOCUMENTS: _DOCUMENT_NAMES,
    GET_FOLDERS: {"$XDSFolderEntryUUID": _MANY, "$XDSFolderUniqueId": _MANY, "$XDSFolderLogicalID": _MANY},
    GET_ASSOCIATIONS: _UUIDS,
    GET_DOCUMENTS_AND_ASSOCIATIONS: _DOCUMENT_NAMES,
    GET_SUBMISSION_SETS: _UUIDS,
}
_WITH_ASSOCIATIONS = frozenset(
    {GET_ALL, GET_ASSOCIATIONS, GET_DOCUMENTS_AND_ASSOCIATIONS, GET_SUBMISSION_SETS}
)
_OPTION = {METADATA_LEVEL: Parameter(kind="level")}
_OPTION_OF_ASSOCIATIONS = {**_OPTION, ASSOCIATION_STATUS: Parameter(kind="status", many=True)}
#: query id -> parameters.
QUERIES: dict[str, dict[str, Parameter]] = {
    query: {**own, **(_OPTION_OF_ASSOCIATIONS if query in _WITH_ASSOCIATIONS else _OPTION)}
    for query, own in _OWN.items()
}
_BESIDE = frozenset({ASSOCIATION_STATUS, METADATA_LEVEL})  # they name no object
#: Queries in which exactly one of the parameters must be given.
_EXACTLY_ONE = frozenset({GET_DOCUMENTS, GET_FOLDERS, GET_DOCUMENTS_AND_ASSOCIATIONS})
_STATUSES = {v.APPROVED, v.DEPRECATED}

Groups = tuple[tuple[str, ...], ...]  # AND of ORs


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredQuery:
    """A query that may be evaluated: every value of its parameter's kind.

    ``groups[name]`` is an AND of ORs.
    """

    query_id: str
    return_type: ReturnType
    groups: dict[str, Groups]
    patient: Identifier | None = None

    def values(self, name: str) -> tuple[str, ...]:
        """All values of a parameter, '' list when it is not given."""
        return tuple(value for group in self.groups.get(name, ()) for value in group)

    @property
    def uuids(self) -> tuple[str, ...]:
        """entryUUIDs (or logical ids) that a by-id query names."""
        names = ("$uuid", f"{_DE}EntryUUID", f"{_DE}LogicalID", "$XDSFolderEntryUUID", "$XDSFolderLogicalID")
        return tuple(dict.fromkeys(value for name in names for value in self.values(name)))

    @property
    def unique_ids(self) -> tuple[str, ...]:
        """uniqueIds that a by-id query names."""
        return tuple(dict.fromkeys((*self.values(f"{_DE}UniqueId"), *self.values("$XDSFolderUniqueId"))))


def parse_stored_query(query: AdhocQuery) -> StoredQuery:
    """Check a query by the table.

    Raises:
        RegistryRefusal: XDSUnknownStoredQuery, XDSStoredQueryMissingParam, XDSStoredQueryParamNumber;
            XDSRegistryError for a value that breaks the coding rules.
    """
    table = QUERIES.get(query.query_id)
    if table is None:
        raise refusal("XDSUnknownStoredQuery", "This stored query is not known here.", query.query_id[:100])
    groups: dict[str, Groups] = {}
    for name, texts in query.parameters:
        parameter = table.get(name)
        if parameter is None:
            continue  # unknown parameters are ignored (3.18.4.1.2.3.4)
        if name in groups and not parameter.conjunctive:
            raise refusal("XDSStoredQueryParamNumber", f"{name} is given twice.", name)
        values = tuple(
            _checked(name, parameter, value) for text in texts for value in coded_values(name, text)
        )
        if parameter.kind == "status":
            values = tuple(value for value in values if value in _STATUSES)  # unknown ones are ignored
            if not values and not parameter.required:
                raise _bad(name, "no status of it is known here.")
        if len(values) > 1 and not parameter.many:
            raise refusal("XDSStoredQueryParamNumber", f"{name} takes one value.", name)
        if values:
            groups[name] = (*groups.get(name, ()), values)
    _check_presence(query.query_id, table, groups)
    return StoredQuery(
        query_id=query.query_id, return_type=query.return_type, groups=groups, patient=_patient(table, groups)
    )


def _check_presence(query_id: str, table: dict[str, Parameter], groups: dict[str, Groups]) -> None:
    missing = [name for name, parameter in table.items() if parameter.required and name not in groups]
    if missing:
        raise refusal("XDSStoredQueryMissingParam", f"{missing[0]} is required.", missing[0])
    names = [name for name in groups if name not in _BESIDE]
    if query_id in _EXACTLY_ONE and len(names) != 1:
        code = "XDSStoredQueryParamNumber" if names else "XDSStoredQueryMissingParam"
        raise refusal(
            code, f"Exactly one of {', '.join(name for name in table if name not in _BESIDE)} must be given."
        )


def _patient(table: dict[str, Parameter], groups: dict[str, Groups]) -> Identifier | None:
    for name, parameter in table.items():
        if parameter.kind == "patient":
            try:
                patient = Identifier.parse_cx(groups[name][0][0])
            except Invalid as error:
                raise _bad(name, error.what) from None
            if not patient.authority:
                raise _bad(name, "a patient id must be ID^^^&OID&ISO.")
            return patient
    return None


def _bad(name: str, problem: str) -> RegistryRefusal:
    return refusal("XDSRegistryError", f"{name}: {problem}", name)


_TIME_TEXT = re.compile(r"[0-9]{4}([0-9]{2}){0,5}\Z")


def _checked(name: str, parameter: Parameter, value: str) -> str:
    if parameter.kind == "code":
        parts = value.split("^")
        if len(parts) != 3 or not parts[0] or not parts[2]:
            raise _bad(name, "a code must be 'code^^scheme'.")
    elif parameter.kind == "time" and not _TIME_TEXT.match(value):
        raise _bad(name, "a time must be YYYY[MM[DD[hh[mm[ss]]]]].")
    elif parameter.kind == "availability" and value not in (v.ONLINE, v.OFFLINE):
        raise _bad(name, f"a document is {v.ONLINE} or {v.OFFLINE}.")
    elif parameter.kind == "level" and value != "1":
        raise _bad(name, "metadata is of level 1 here.")
    elif parameter.kind == "like" and len(value) > 256:
        raise _bad(name, "a pattern has at most 256 characters.")
    return value


_ITEM = re.compile(r"\s*(?:'((?:[^']|'')*)'|([0-9]+(?:\.[0-9]+)?))\s*(,|\Z)")


def coded_values(name: str, text: str) -> list[str]:
    """The values that one rim:Value codes (3.18.4.1.2.3.5): ``'a'``, ``('a','b')``, ``123``.

    A quote inside is doubled.

    Raises:
        RegistryRefusal: XDSRegistryError.
    """
    inner = text.strip()
    if inner.startswith("("):
        if not inner.endswith(")"):
            raise _bad(name, "a list must end with a parenthesis.")
        inner = inner[1:-1]
    elif "," in inner and not inner.startswith("'"):
        raise _bad(name, "a list must stand in parentheses.")
    values, at = [], 0
    while True:
        match = _ITEM.match(inner, at)
        if match is None:
            raise _bad(name, "a string must stand in single quotes, a quote inside it doubled.")
        quoted, number, comma = match.groups()
        values.append(number if quoted is None else quoted.replace("''", "'"))
        at = match.end()
        if comma != ",":
            break
    if len(values) > 1 and not text.strip().startswith("("):
        raise _bad(name, "a list must stand in parentheses.")
    return values


# --- asking -------------------------------------------------------------------------------------------------


def quoted(value: str) -> str:
    """A single value as a parameter codes it."""
    return "'" + value.replace("'", "''") + "'"


def quoted_list(values: Iterable[str]) -> tuple[str, ...]:
    """Values of a multi-valued parameter, one rim:Value each.

    So none grows beyond the schema's 256 characters.
    """
    return tuple(f"({quoted(value)})" for value in values)


def find_documents(
    patient_cx: str, *, statuses: Iterable[str] = (v.APPROVED,), return_type: ReturnType = "LeafClass"
) -> AdhocQuery:
    """FindDocuments of a patient."""
    return AdhocQuery(
        query_id=FIND_DOCUMENTS,
        return_type=return_type,
        parameters=((f"{_DE}PatientId", (quoted(patient_cx),)), (f"{_DE}Status", quoted_list(statuses))),
    )


def get_documents(entry_uuids: Iterable[str], *, return_type: ReturnType = "LeafClass") -> AdhocQuery:
    """GetDocuments by entryUUID."""
    return AdhocQuery(
        query_id=GET_DOCUMENTS,
        return_type=return_type,
        parameters=((f"{_DE}EntryUUID", quoted_list(entry_uuids)),),
    )


def get_associations(uuids: Iterable[str], *, return_type: ReturnType = "LeafClass") -> AdhocQuery:
    """GetAssociations of any objects."""
    return AdhocQuery(
        query_id=GET_ASSOCIATIONS, return_type=return_type, parameters=(("$uuid", quoted_list(uuids)),)
    )
