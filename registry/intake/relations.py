"""What ITI-42 asks of a submission against what is registered, and what it causes (ITI TF-2 3.42.4.1.3).

Pure. ``generic_objects.py`` calls :func:`check` and :func:`effects` inside its transaction, over the objects
of all acts of a submission (``views.objects_of`` for a study, ``StoreObjects.objects`` as they are), and
applies what comes back. Rules of the message alone are in ``crosslight/standards/xds/rules/submission.py``
and ran before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import (
    Association,
    DocumentEntry,
    Folder,
    ObjectKind,
    RegistryObject,
    RegistryObjects,
    SubmissionSet,
)
from crosslight.standards.xds.rules.errors import refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered:
    """An object that the registry holds, study or not.

    ``patient`` is any number that is equal for one person's records.
    """

    kind: ObjectKind
    entry_uuid: str
    unique_id: str
    approved: bool
    patient: int | None
    hash: str = ""
    size: str = ""


class Registry(Protocol):
    """What the rules read of the index, inside the transaction.

    Holdings, past versions and stored objects look alike.
    """

    def object(self, entry_uuid: str) -> Registered | None:
        """The object of this entryUUID."""
        ...

    def with_unique_id(self, unique_id: str) -> Sequence[Registered]:
        """Every object of this uniqueId."""
        ...

    def associations(self, entry_uuid: str) -> Sequence[Association]:
        """Every association that has this object as source or target."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Effects:
    """What a submission causes beside its own objects, to be committed with it."""

    deprecate: tuple[str, ...] = ()  # entryUUIDs of documents that become Deprecated
    add: tuple[Association, ...] = ()  # a replaced document's successor joins its folders
    touch: tuple[str, ...] = ()  # entryUUIDs of folders whose lastUpdateTime becomes now


def check(objects: RegistryObjects, registry: Registry, patient: int) -> None:
    """Whether ``objects``, all of ``patient``, may be registered.

    Raises:
        RegistryRefusal: with the standard's code; the first rule that is broken speaks.
    """
    own = {metadata.entry_uuid: metadata for metadata in objects}
    for metadata in objects:
        _check_identity(metadata, registry)
    for association in objects.associations:
        _check_ends(association, own, registry, patient)


def _check_identity(metadata: RegistryObject, registry: Registry) -> None:
    if not isinstance(metadata, Association):
        for registered in registry.with_unique_id(metadata.unique_id):
            _check_unique_id(metadata, registered)
    if registry.object(metadata.entry_uuid) is not None:
        raise refusal(
            "XDSDuplicateUniqueIdInRegistry",
            f"{metadata.entry_uuid} is registered already.",
            metadata.entry_uuid,
        )


def _check_unique_id(metadata: DocumentEntry | SubmissionSet | Folder, registered: Registered) -> None:
    if not isinstance(metadata, DocumentEntry) or registered.kind != "document":
        raise refusal(
            "XDSDuplicateUniqueIdInRegistry", f"{metadata.unique_id} is used already.", metadata.entry_uuid
        )
    if registered.hash.lower() != metadata.hash.lower():
        raise refusal(
            "XDSNonIdenticalHash",
            f"{metadata.unique_id} is registered with another hash.",
            metadata.entry_uuid,
        )
    if registered.size != metadata.size:
        raise refusal(
            "XDSNonIdenticalSize",
            f"{metadata.unique_id} is registered with another size.",
            metadata.entry_uuid,
        )


@dataclass(frozen=True, slots=True)
class _End:
    kind: ObjectKind
    approved: bool
    patient: int | None
    registered: bool


def _end(uuid: str, own: dict[str, RegistryObject], registry: Registry, patient: int, where: str) -> _End:
    if uuid in own:
        return _End(own[uuid].kind, True, patient, False)
    registered = registry.object(uuid)
    if registered is None:
        raise refusal(
            "UnresolvedReferenceException", f"{uuid} is neither registered nor in the submission.", where
        )
    return _End(registered.kind, registered.approved, registered.patient, True)


def _check_ends(
    association: Association, own: dict[str, RegistryObject], registry: Registry, patient: int
) -> None:
    source = _end(association.source, own, registry, patient, association.entry_uuid)
    target = _end(association.target, own, registry, patient, association.entry_uuid)
    if association.type == v.HAS_MEMBER:
        if source.kind == "folder":
            _same_patient(association, source, target)
            for end, uuid in ((source, association.source), (target, association.target)):
                if not end.approved:
                    raise refusal(
                        "XDSRegistryDeprecatedDocumentError", f"{uuid} is Deprecated.", association.entry_uuid
                    )
        elif source.registered:
            raise refusal(
                "XDSRegistryMetadataError",
                f"{association.source} is another submission's.",
                association.entry_uuid,
            )
        elif target.kind != "document" or association.submission_set_status != "Reference":
            _same_patient(association, source, target)
    elif association.type in v.RELATIONSHIPS:
        if association.type in v.TARGET_IN_REGISTRY and not target.registered:
            raise refusal(
                "UnresolvedReferenceException",
                f"{association.target} is not registered.",
                association.entry_uuid,
            )
        if target.kind != "document":
            raise refusal(
                "UnresolvedReferenceException",
                f"{association.target} is no document.",
                association.entry_uuid,
            )
        _same_patient(association, source, target)
        if not target.approved:
            raise refusal(
                "XDSRegistryDeprecatedDocumentError",
                f"{association.target} is Deprecated.",
                association.entry_uuid,
            )


def _same_patient(association: Association, source: _End, target: _End) -> None:
    if None not in (source.patient, target.patient) and source.patient != target.patient:
        raise refusal(
            "XDSPatientIdDoesNotMatch",
            f"{association.source} and {association.target} are of different patients.",
            association.entry_uuid,
        )


def effects(objects: RegistryObjects, registry: Registry, new_id: Callable[[], str]) -> Effects:
    """What registering ``objects`` causes.

    ``new_id`` gives ``urn:uuid:`` ids for associations that the registry makes.
    """
    deprecate: dict[str, None] = {}
    add: list[Association] = []
    touch = {
        a.source: None
        for a in objects.associations
        if a.type == v.HAS_MEMBER and _is_folder(a.source, objects, registry)
    }
    touch.update((f.entry_uuid, None) for f in objects.folders)
    submission = objects.submissions[0].entry_uuid if objects.submissions else ""
    for association in objects.associations:
        if association.type not in v.REPLACING:
            continue
        _deprecate(association.target, registry, deprecate)
        for folder in _folders_of(association.target, registry):
            touch[folder] = None
            member = Association(
                entry_uuid=new_id(), type=v.HAS_MEMBER, source=folder, target=association.source
            )
            add.append(member)
            if submission:
                add.append(
                    Association(
                        entry_uuid=new_id(), type=v.HAS_MEMBER, source=submission, target=member.entry_uuid
                    )
                )
    return Effects(deprecate=tuple(deprecate), add=tuple(add), touch=tuple(touch))


def _deprecate(entry_uuid: str, registry: Registry, into: dict[str, None]) -> None:
    """A replaced document, and what was appended to it or made from it."""
    pending = [entry_uuid]
    while pending:
        current = pending.pop()
        if current in into:
            continue
        into[current] = None
        pending += [
            association.source
            for association in registry.associations(current)
            if association.type in (v.APND, v.XFRM) and association.target == current
        ]


def _folders_of(entry_uuid: str, registry: Registry) -> Iterable[str]:
    for association in registry.associations(entry_uuid):
        if association.type == v.HAS_MEMBER and association.target == entry_uuid:
            folder = registry.object(association.source)
            if folder is not None and folder.kind == "folder" and folder.approved:
                yield association.source


def _is_folder(uuid: str, objects: RegistryObjects, registry: Registry) -> bool:
    if any(folder.entry_uuid == uuid for folder in objects.folders):
        return True
    registered = registry.object(uuid)
    return registered is not None and registered.kind == "folder"


def check_removal(entry_uuids: Sequence[str], registry: Registry) -> tuple[Registered, ...]:
    """The objects that one ITI-62 request removes, if what stays is whole (ITI TF-2 3.62.4.1.3).

    Raises:
        RegistryRefusal: UnresolvedReferenceException (no such object), ReferencesExistException (an
            association that stays refers to one that goes), XDSUnreferencedObjectException (a document or
            folder that stays would lose its SubmissionSet, an association its SubmissionSet's link).
    """
    named = dict.fromkeys(entry_uuids)
    going = []
    for uuid in named:
        registered = registry.object(uuid)
        if registered is None:
            raise refusal("UnresolvedReferenceException", f"{uuid} is not registered.", uuid)
        going.append(registered)
    for registered in going:
        for association in registry.associations(registered.entry_uuid):
            if association.entry_uuid not in named:
                raise refusal(
                    "ReferencesExistException",
                    f"{association.entry_uuid} refers to it.",
                    registered.entry_uuid,
                )
            _check_not_orphaned(association, registered, named, registry)
    return tuple(going)


def _check_not_orphaned(
    association: Association, registered: Registered, named: dict[str, None], registry: Registry
) -> None:
    """A SubmissionSet that goes takes with it what it alone submitted."""
    if (
        registered.kind != "submission"
        or association.type != v.HAS_MEMBER
        or association.source != registered.entry_uuid
    ):
        return
    if (
        association.submission_set_status != "Reference"
        and association.target not in named
        and registry.object(association.target)
    ):
        raise refusal(
            "XDSUnreferencedObjectException",
            f"{association.target} would have no SubmissionSet.",
            registered.entry_uuid,
        )
