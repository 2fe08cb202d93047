"""Rules of a submission that the message alone decides (ITI TF-3 4.3.1, ITI TF-2 3.42.4.1.3).

Pure; says all that is wrong.

What needs the registry's content (duplicates, references, patients) is asked inside its transaction, not
here.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any
from uuid import UUID

from crosslight.standards.ids import Identifier, is_uid
from crosslight.standards.problem import Invalid
from crosslight.standards.xds.mapping.study_times import parse_dtm
from crosslight.standards.xds.mapping.values import VALUE_SETS, ValueSets
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import (
    Association,
    Code,
    DocumentEntry,
    Folder,
    RegistryObject,
    RegistryObjects,
    SubmissionSet,
)
from crosslight.standards.xds.rules.errors import RegistryError, RegistryRefusal
from crosslight.standards.xds.rules.evaluate import padded

METADATA = "XDSRegistryMetadataError"
MAX_ERRORS = 20  # said at once

#: Table 4.3.1-3, column of ITI-42.
REQUIRED: dict[str, tuple[str, ...]] = {
    "document": (
        "unique_id",
        "patient_id",
        "mime_type",
        "creation_time",
        "language_code",
        "source_patient_id",
        "hash",
        "size",
        "repository_unique_id",
        "class_code",
        "type_code",
        "format_code",
        "healthcare_facility_type",
        "practice_setting",
        "confidentiality",
    ),
    "submission": ("unique_id", "patient_id", "source_id", "submission_time", "content_type"),
    "folder": ("unique_id", "patient_id", "title", "codes"),
    "association": ("type", "source", "target"),
}
_TIMES = {
    "document": ("creation_time", "service_start_time", "service_stop_time"),
    "submission": ("submission_time",),
    "folder": (),
    "association": (),
}
_SHA1 = re.compile(r"[0-9A-Fa-f]{40}\Z")
_NUMBER = re.compile(r"[0-9]{1,18}\Z")
_FORBIDDEN_INFO = ("PID-2|", "PID-4|", "PID-12|", "PID-19|")
_UUID_URN = re.compile(r"urn:uuid:[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\Z")


def is_uuid_urn(text: str) -> bool:
    """Whether an id is an entryUUID, and not symbolic."""
    return _UUID_URN.match(text) is not None


def assign_ids(objects: RegistryObjects, new_id: Callable[[], UUID]) -> RegistryObjects:
    """Every symbolic id replaced by one new UUID, everywhere; given UUIDs are kept (ITI TF-3 4.2.1.2).

    Logical ids and versions are the registry's to give at ITI-42, statuses too.

    Raises:
        RegistryRefusal: an object without an id, or two with the same.
    """
    names: dict[str, str] = {}
    for member in objects:
        if not member.entry_uuid or member.entry_uuid in names:
            raise RegistryRefusal(
                [RegistryError(METADATA, "An object has no id, or that of another.", member.entry_uuid)]
            )
        given = member.entry_uuid.startswith("urn:uuid:")
        names[member.entry_uuid] = member.entry_uuid if given else new_id().urn
    symbolic = any(name != uuid for uuid, name in names.items())

    def renamed(member: Any) -> Any:
        if names[member.entry_uuid] == member.entry_uuid and not (
            symbolic or member.logical_id or member.version or member.status
        ):
            return member
        changed = replace(member, entry_uuid=names[member.entry_uuid], logical_id="", version="", status="")
        if isinstance(changed, Association):
            ends = names.get(changed.source, changed.source), names.get(changed.target, changed.target)
            return replace(changed, source=ends[0], target=ends[1])
        return changed

    return RegistryObjects.of(renamed(member) for member in objects)


def check_submission(objects: RegistryObjects, values: ValueSets) -> None:
    """Whether ITI-42 allows this message.

    Raises:
        RegistryRefusal: with up to ``MAX_ERRORS`` errors.
    """
    errors = list(_errors(objects, values))
    if errors:
        raise RegistryRefusal(errors[:MAX_ERRORS])


def _errors(objects: RegistryObjects, values: ValueSets) -> Iterator[RegistryError]:
    if len(objects.submissions) != 1:
        yield RegistryError(METADATA, f"There must be one SubmissionSet, not {len(objects.submissions)}.")
        return
    for member in objects:
        yield from _object_errors(member, values)
    yield from _patient_errors(objects)
    yield from _unique_errors(objects)
    yield from _association_errors(objects)


def _object_errors(member: RegistryObject, values: ValueSets) -> Iterator[RegistryError]:
    def error(problem: str) -> RegistryError:
        return RegistryError(METADATA, f"{type(member).__name__}: {problem}", member.entry_uuid)

    if not is_uuid_urn(member.entry_uuid):
        yield error("entryUUID is no UUID.")
    for name in REQUIRED[member.kind]:
        if not getattr(member, name):
            yield error(f"{name} is missing, or not in the form that ebRIM gives it.")
    for name in _TIMES[member.kind]:
        if getattr(member, name) and parse_dtm(getattr(member, name)) is None:
            yield error(f"{name} is not a DTM.")
    yield from (error(problem) for problem in _unknown_errors(member))
    yield from (
        error(f"{name} has a code outside its value set{_told(name)}.") for name in _bad_codes(member, values)
    )
    if isinstance(member, DocumentEntry):
        yield from (error(problem) for problem in _document_errors(member, values))
    elif isinstance(member, SubmissionSet | Folder):
        if member.unique_id and not is_uid(member.unique_id):
            yield error("uniqueId is not an OID.")
        if isinstance(member, SubmissionSet) and member.source_id and not is_uid(member.source_id):
            yield error("sourceId is not an OID.")


def _unknown_errors(member: RegistryObject) -> Iterator[str]:
    """What has a known name and was not readable as such: twice, empty, or with too many values."""
    for slot in member.slots:
        if slot.name in v.SINGLE_SLOTS[member.kind] or slot.name in v.MULTI_SLOTS[member.kind]:
            yield f"slot {slot.name} is given twice, or has not one value."
    for row in member.classifications:
        if row.scheme in v.CODES[member.kind] or row.scheme == v.AUTHOR_SCHEME.get(member.kind):
            name = v.CODES[member.kind].get(row.scheme, ("author",))[0]
            yield f"{name} is given twice, lacks code or codingScheme, or classifies another object."
        if row.node in v.LIMITED_NODES:
            yield "limited metadata cannot be registered."
    identifiers = v.IDENTIFIERS[member.kind]
    for external_id in member.external_ids:
        if external_id.scheme in identifiers:
            yield f"{identifiers[external_id.scheme][1]} is given twice, empty, or another object's."


def _bad_codes(member: RegistryObject, values: ValueSets) -> Iterator[str]:
    for name, _ in v.CODES[member.kind].values():
        value = getattr(member, name)
        codes: Iterable[Code] = value if isinstance(value, tuple) else () if value is None else (value,)
        for code in codes:
            if not values.allows(name, code):
                yield name
                break


def _told(name: str) -> str:
    """What may stand there, as ``code^^scheme``."""
    allowed = ", ".join(f"{code}^^{scheme}" for code, scheme in sorted(VALUE_SETS.get(name, ())))
    return f": {allowed}" if allowed else ""


def _document_errors(entry: DocumentEntry, values: ValueSets) -> Iterator[str]:
    if entry.object_type != v.STABLE:
        yield (
            "objectType must be that of a stable document (on-demand ones come by ITI-61, which is not"
            " built)."
        )
    if entry.hash and not _SHA1.match(entry.hash):
        yield "hash is not a SHA-1 in hex."
    if entry.size and not _NUMBER.match(entry.size):
        yield "size is not a number."
    if entry.repository_unique_id and not is_uid(entry.repository_unique_id):
        yield "repositoryUniqueId is not an OID."
    if entry.unique_id and not _is_document_uid(entry.unique_id):
        yield "uniqueId is neither an OID nor OID^extension."
    if entry.source_patient_id and _cx(entry.source_patient_id) is None:
        yield "sourcePatientId is not a CX with an assigning authority."
    if any(info.startswith(_FORBIDDEN_INFO) for info in entry.source_patient_info):
        yield "sourcePatientInfo must not carry PID-2, PID-4, PID-12 or PID-19."
    start, stop = entry.service_start_time, entry.service_stop_time
    if (
        start
        and stop
        and parse_dtm(start)
        and parse_dtm(stop)
        and padded(start) > padded(stop.ljust(len(start), "9"))
    ):
        yield "serviceStartTime is after serviceStopTime."
    if entry.mime_type and not values.allows_mime(entry.mime_type):
        yield "mimeType is not accepted in this affinity domain."
    if entry.language_code and not values.allows_language(entry.language_code):
        yield "languageCode is not a language tag."


def _is_document_uid(text: str) -> bool:
    root, caret, extension = text.partition("^")
    return is_uid(root) and (not caret or 0 < len(extension) <= 64)


def _cx(text: str) -> Identifier | None:
    try:
        identifier = Identifier.parse_cx(text)
    except Invalid:
        return None
    return identifier if identifier.authority else None


def _identified(objects: RegistryObjects) -> tuple[SubmissionSet | DocumentEntry | Folder, ...]:
    return (*objects.submissions, *objects.documents, *objects.folders)


def _patient_errors(objects: RegistryObjects) -> Iterator[RegistryError]:
    owner = objects.submissions[0].patient_id
    own = _cx(owner)
    for member in _identified(objects):
        said = own if member.patient_id == owner else _cx(member.patient_id)
        if member.patient_id and said is None:
            yield RegistryError(
                METADATA, f"{type(member).__name__}: patientId is not a CX.", member.entry_uuid
            )
        elif member.patient_id and said != own:
            yield RegistryError(
                "XDSPatientIdDoesNotMatch",
                f"All objects of a submission must be of one patient: {member.patient_id} is not {owner}.",
                member.entry_uuid,
            )


def _unique_errors(objects: RegistryObjects) -> Iterator[RegistryError]:
    for unique_id, count in Counter(
        member.unique_id for member in _identified(objects) if member.unique_id
    ).items():
        if count > 1:
            yield RegistryError(
                "XDSRegistryDuplicateUniqueIdInMessage", f"{unique_id} is used {count} times.", unique_id
            )


def _association_errors(objects: RegistryObjects) -> Iterator[RegistryError]:
    own = {member.entry_uuid: member for member in objects}
    submission = objects.submissions[0].entry_uuid
    linked = set()
    for a in objects.associations:
        problem = _association_error(a, own, submission)
        if problem:
            yield RegistryError(METADATA, f"Association: {problem}", a.entry_uuid)
        if a.type == v.HAS_MEMBER and a.source == submission:
            linked.add(a.target)
    for entry in objects.documents:  # a Folder without its link is tolerated: NIST's 16102c has one
        if entry.entry_uuid not in linked:
            yield RegistryError(
                METADATA, "DocumentEntry is no member of the SubmissionSet.", entry.entry_uuid
            )


def _association_error(a: Association, own: dict[str, RegistryObject], submission: str) -> str:
    if a.source == a.target:
        return "source and target are the same."
    if a.type == v.HAS_MEMBER:
        return _member_error(a, own, submission)
    if a.type not in v.RELATIONSHIPS:
        return f"type {a.type[:100]} is not for this transaction."
    source = own.get(a.source)
    if source is None or source.kind != "document":
        return "the source of a relationship must be a document of the submission."
    target = own.get(a.target)
    if target is not None and target.kind != "document":
        return "the target of a relationship must be a document."
    return ""


def _member_error(a: Association, own: dict[str, RegistryObject], submission: str) -> str:
    target = own.get(a.target)
    if a.source == submission:
        status = a.submission_set_status
        if target is not None and target.kind == "document" and status != "Original":
            return "SubmissionSetStatus of a document that is submitted must be Original."
        if target is None and status == "Original":
            return "an Original member must be in the submission."
        if status in ("Original", "Reference", ""):
            return ""
        return "SubmissionSetStatus is neither Original nor Reference."
    source = own.get(a.source)
    if source is not None and source.kind != "folder":
        return "a member's owner must be the SubmissionSet or a Folder."
    return "" if target is None or target.kind == "document" else "a Folder's member must be a document."
