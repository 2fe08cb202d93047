"""Stored queries answered over metadata objects (ITI TF-2 3.18.4.1.2.3.7).

Pure: the same over views and stored objects.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from crosslight.standards.xds.mapping.references import comparable
from crosslight.standards.xds.mapping.values import DCM_OID, DICOM_UIDS_OID
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import (
    Association,
    Author,
    Code,
    DocumentEntry,
    Folder,
    RegistryObjects,
    SubmissionSet,
)
from crosslight.standards.xds.rules import stored_query as q
from crosslight.standards.xds.rules.errors import refusal
from crosslight.standards.xds.rules.stored_query import Groups, StoredQuery

_DE = "$XDSDocumentEntry"
_DOCUMENT_CODES = {
    "ClassCode": "class_code",
    "TypeCode": "type_code",
    "PracticeSettingCode": "practice_setting",
    "HealthcareFacilityTypeCode": "healthcare_facility_type",
    "FormatCode": "format_code",
    "EventCodeList": "event_codes",
    "ConfidentialityCode": "confidentiality",
}
_DOCUMENT_TIMES = {
    "CreationTime": "creation_time",
    "ServiceStartTime": "service_start_time",
    "ServiceStopTime": "service_stop_time",
}
MAX_LEAVES, MAX_REFS = 5_000, 50_000


def evaluate(query: StoredQuery, objects: RegistryObjects) -> RegistryObjects:
    """What ``query`` finds among ``objects``: all of its patient, or all that its ids may lead to.

    Raises:
        RegistryRefusal: XDSResultNotSinglePatient, XDSTooManyResults.
    """
    if statuses := query.values(q.ASSOCIATION_STATUS):
        kept = tuple(a for a in objects.associations if (a.status or v.APPROVED) in statuses)
        objects = replace(objects, associations=kept)
    answer = _ANSWERS[query.query_id](query, objects)
    leaves = query.return_type == "LeafClass"
    if leaves and query.patient is None:
        patients = {d.patient_id for d in answer.documents} | {s.patient_id for s in answer.submissions}
        patients |= {f.patient_id for f in answer.folders}
        if len(patients) > 1:
            raise refusal(
                "XDSResultNotSinglePatient", "The result would hold objects of more than one patient."
            )
    if len(answer) > (MAX_LEAVES if leaves else MAX_REFS):
        raise refusal("XDSTooManyResults", "Narrow the query, or ask for ObjectRef first.")
    return answer


def _find_documents(query: StoredQuery, objects: RegistryObjects) -> RegistryObjects:
    return RegistryObjects(documents=tuple(filter(document_filter(query), objects.documents)))


def document_filter(query: StoredQuery) -> Callable[[DocumentEntry], bool]:
    """Whether a DocumentEntry satisfies every filter that a Find query or GetAll gives.

    What the query gives is looked up once, for all entries.
    """
    get = query.groups.get
    types, statuses = query.values(f"{_DE}Type") or (v.STABLE,), query.values(f"{_DE}Status")
    available = query.values(f"{_DE}DocumentAvailability")
    codes = [(field, groups) for name, field in _DOCUMENT_CODES.items() if (groups := get(_DE + name))]
    times = [
        (field, low, high)
        for name, field in _DOCUMENT_TIMES.items()
        if (low := query.values(f"{_DE}{name}From")) + (high := query.values(f"{_DE}{name}To"))
    ]
    authors, references = get(f"{_DE}AuthorPerson"), get(f"{_DE}ReferenceIdList")

    def matches(entry: DocumentEntry) -> bool:
        return (
            entry.object_type in types
            and entry.status in statuses
            and (not available or (entry.document_availability or v.ONLINE) in available)
            and all(_codes_match(groups, getattr(entry, field)) for field, groups in codes)
            and all(_in_range(getattr(entry, field), low, high) for field, low, high in times)
            and (not authors or _authors_match(authors, entry.authors))
            and (not references or _refers(references, entry))
        )

    return matches


def _refers(groups: Groups, entry: DocumentEntry) -> bool:
    references = {comparable(reference) for reference in entry.reference_ids}
    return all(any(comparable(value) in references for value in group) for group in groups)


def _find_submission_sets(query: StoredQuery, objects: RegistryObjects) -> RegistryObjects:
    prefix = "$XDSSubmissionSet"
    sources, contents = query.values(prefix + "SourceId"), query.groups.get(prefix + "ContentType")
    authors = query.groups.get(prefix + "AuthorPerson")

    def matches(submission: SubmissionSet) -> bool:
        times = query.values(prefix + "SubmissionTimeFrom"), query.values(prefix + "SubmissionTimeTo")
        return (
            submission.status in query.values(prefix + "Status")
            and (not sources or submission.source_id in sources)
            and (not contents or _codes_match(contents, submission.content_type))
            and (not authors or _authors_match(authors, submission.authors))
            and _in_range(submission.submission_time, *times)
        )

    return RegistryObjects(submissions=tuple(s for s in objects.submissions if matches(s)))


def _find_folders(query: StoredQuery, objects: RegistryObjects) -> RegistryObjects:
    prefix = "$XDSFolder"
    codes = query.groups.get(prefix + "CodeList")

    def matches(folder: Folder) -> bool:
        times = query.values(prefix + "LastUpdateTimeFrom"), query.values(prefix + "LastUpdateTimeTo")
        return (
            folder.status in query.values(prefix + "Status")
            and (not codes or _codes_match(codes, folder.codes))
            and _in_range(folder.last_update_time, *times)
        )

    return RegistryObjects(folders=tuple(f for f in objects.folders if matches(f)))


def _get_all(query: StoredQuery, objects: RegistryObjects) -> RegistryObjects:
    documents = tuple(filter(document_filter(query), objects.documents))
    submissions = tuple(s for s in objects.submissions if s.status in query.values("$XDSSubmissionSetStatus"))
    folders = tuple(f for f in objects.folders if f.status in query.values("$XDSFolderStatus"))
    ids = {member.entry_uuid for member in (*documents, *submissions, *folders)}
    return RegistryObjects(
        documents=documents,
        submissions=submissions,
        folders=folders,
        associations=_touching(ids, objects.associations),
    )


def _touching(ids: Iterable[str], associations: tuple[Association, ...]) -> tuple[Association, ...]:
    wanted = set(ids)
    return tuple(a for a in associations if a.source in wanted or a.target in wanted)


def _named_documents(query: StoredQuery, objects: RegistryObjects) -> tuple[DocumentEntry, ...]:
    uuids, unique, logical = (
        set(query.values(f"{_DE}EntryUUID")),
        set(query.unique_ids),
        set(query.values(f"{_DE}LogicalID")),
    )
    return tuple(
        d
        for d in objects.documents
        if d.entry_uuid in uuids or d.unique_id in unique or (d.logical_id or d.entry_uuid) in logical
    )


def _get_documents(query: StoredQuery, objects: RegistryObjects) -> RegistryObjects:
    return RegistryObjects(documents=_named_documents(query, objects))


def _get_documents_and_associations(query: StoredQuery, objects: RegistryObjects) -> RegistryObjects:
    documents = _named_documents(query, objects)
    touching = _touching({d.entry_uuid for d in documents}, objects.associations)
    return RegistryObjects(documents=documents, associations=touching)


def _get_folders(query: StoredQuery, objects: RegistryObjects) -> RegistryObjects:
    uuids, unique = set(query.uuids), set(query.unique_ids)
    folders = (f for f in objects.folders if {f.entry_uuid, f.logical_id} & uuids or f.unique_id in unique)
    return RegistryObjects(folders=tuple(folders))


def _get_associations(query: StoredQuery, objects: RegistryObjects) -> RegistryObjects:
    return RegistryObjects(associations=_touching(query.uuids, objects.associations))


def _get_submission_sets(query: StoredQuery, objects: RegistryObjects) -> RegistryObjects:
    """The SubmissionSets that hold any of the objects, with the HasMember associations that say so."""
    wanted, sets = set(query.uuids), {s.entry_uuid: s for s in objects.submissions}
    members = tuple(
        a for a in objects.associations if a.type == v.HAS_MEMBER and a.target in wanted and a.source in sets
    )
    return RegistryObjects(
        submissions=tuple(sets[i] for i in dict.fromkeys(a.source for a in members)), associations=members
    )


_ANSWERS: dict[str, Callable[[StoredQuery, RegistryObjects], RegistryObjects]] = {
    q.FIND_DOCUMENTS: _find_documents,
    q.FIND_BY_REFERENCE: _find_documents,
    q.FIND_SUBMISSION_SETS: _find_submission_sets,
    q.FIND_FOLDERS: _find_folders,
    q.GET_ALL: _get_all,
    q.GET_DOCUMENTS: _get_documents,
    q.GET_FOLDERS: _get_folders,
    q.GET_ASSOCIATIONS: _get_associations,
    q.GET_DOCUMENTS_AND_ASSOCIATIONS: _get_documents_and_associations,
    q.GET_SUBMISSION_SETS: _get_submission_sets,
}

# --- filters ------------------------------------------------------------------------------------------------


def _key(value: str, scheme: str) -> tuple[str, str]:
    """Modalities are written under either of two DICOM OIDs (ihe.md 0, 10)."""
    return value, DCM_OID if scheme == DICOM_UIDS_OID and not value.startswith("1.") else scheme


def _codes_match(groups: Groups, coded: Code | tuple[Code, ...] | None) -> bool:
    codes = coded if isinstance(coded, tuple) else (coded,) if coded is not None else ()
    keys = {_key(*code.key) for code in codes}
    for group in groups:
        parts = (value.split("^") for value in group)
        if not any(_key(p[0], p[2]) in keys for p in parts):
            return False
    return True


def _authors_match(groups: Groups, authors: tuple[Author, ...]) -> bool:
    persons = [person for author in authors for person in author.persons]
    return all(any(like(pattern, person) for pattern in group for person in persons) for group in groups)


_PADDING = "00000101000000"


def padded(time: str) -> str:
    """A DTM of any precision as the first second that it means."""
    return time + _PADDING[len(time) :]


def _in_range(dtm: str, low: tuple[str, ...], high: tuple[str, ...]) -> bool:
    """From <= value < To; an entry without the time matches (3.18.4.1.2.3.3.1)."""
    if not dtm or not (low or high):
        return True
    value = padded(dtm)
    return (not low or padded(low[0]) <= value) and (not high or value < padded(high[0]))


def like(pattern: str, text: str) -> bool:
    """SQL LIKE with ``%`` and ``_``, in time proportional to pattern times text whatever the pattern."""
    at = start = 0
    star, mark = -1, 0
    while at < len(text):
        if start < len(pattern) and pattern[start] == "%":
            star, mark = start, at
            start += 1
        elif start < len(pattern) and (pattern[start] == "_" or pattern[start] == text[at]):
            at, start = at + 1, start + 1
        elif star >= 0:
            start, mark = star + 1, mark + 1
            at = mark
        else:
            return False
    return all(char == "%" for char in pattern[start:])
