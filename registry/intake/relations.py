"""What ITI-42 asks of a submission against what is registered, and what it causes (ITI TF-2 3.42.4.1.3).
Pure.

``accept.py`` calls :func:`check` and :func:`effects` inside its transaction, over the objects of all acts of
a submission (``views.objects_of`` for a study, ``StoreObjects.objects`` as they are), and applies what comes
back. Rules of the message alone are in ``crosslight/standards/xds/rules/submission.py`` and ran before.
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
    """What the rules read of the index, inside the transaction; holdings, past versions and stored objects
    alike.
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
    own = {thing.entry_uuid: thing for thing in objects}
    for thing in objects:
        _check_identity(thing, registry)
    for association in objects.associations:
        _check_ends(association, own, registry, patient)


def _check_identity(thing: RegistryObject, registry: Registry) -> None:
    if not isinstance(thing, Association):
        for held in registry.with_unique_id(thing.unique_id):
            _check_unique_id(thing, held)
    if registry.object(thing.entry_uuid) is not None:
        raise refusal(
            "XDSDuplicateUniqueIdInRegistry", f"{thing.entry_uuid} is registered already.", thing.entry_uuid
        )


def _check_unique_id(thing: DocumentEntry | SubmissionSet | Folder, held: Registered) -> None:
    if not isinstance(thing, DocumentEntry) or held.kind != "document":
        raise refusal(
            "XDSDuplicateUniqueIdInRegistry", f"{thing.unique_id} is used already.", thing.entry_uuid
        )
    if held.hash.lower() != thing.hash.lower():
        raise refusal(
            "XDSNonIdenticalHash", f"{thing.unique_id} is registered with another hash.", thing.entry_uuid
        )
    if held.size != thing.size:
        raise refusal(
            "XDSNonIdenticalSize", f"{thing.unique_id} is registered with another size.", thing.entry_uuid
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
    held = registry.object(uuid)
    if held is None:
        raise refusal(
            "UnresolvedReferenceException", f"{uuid} is neither registered nor in the submission.", where
        )
    return _End(held.kind, held.approved, held.patient, True)


def _check_ends(a: Association, own: dict[str, RegistryObject], registry: Registry, patient: int) -> None:
    source = _end(a.source, own, registry, patient, a.entry_uuid)
    target = _end(a.target, own, registry, patient, a.entry_uuid)
    if a.type == v.HAS_MEMBER:
        if source.kind == "folder":
            _same_patient(a, source, target)
            for end, uuid in ((source, a.source), (target, a.target)):
                if not end.approved:
                    raise refusal(
                        "XDSRegistryDeprecatedDocumentError", f"{uuid} is Deprecated.", a.entry_uuid
                    )
        elif source.registered:
            raise refusal("XDSRegistryMetadataError", f"{a.source} is another submission's.", a.entry_uuid)
        elif target.kind != "document" or a.submission_set_status != "Reference":
            _same_patient(a, source, target)
    elif a.type in v.RELATIONSHIPS:
        if a.type in v.TARGET_IN_REGISTRY and not target.registered:
            raise refusal("UnresolvedReferenceException", f"{a.target} is not registered.", a.entry_uuid)
        if target.kind != "document":
            raise refusal("UnresolvedReferenceException", f"{a.target} is no document.", a.entry_uuid)
        _same_patient(a, source, target)
        if not target.approved:
            raise refusal("XDSRegistryDeprecatedDocumentError", f"{a.target} is Deprecated.", a.entry_uuid)


def _same_patient(a: Association, source: _End, target: _End) -> None:
    if None not in (source.patient, target.patient) and source.patient != target.patient:
        raise refusal(
            "XDSPatientIdDoesNotMatch", f"{a.source} and {a.target} are of different patients.", a.entry_uuid
        )


def effects(objects: RegistryObjects, registry: Registry, new_id: Callable[[], str]) -> Effects:
    """What registering ``objects`` causes; ``new_id`` gives ``urn:uuid:`` ids for associations that the
    registry makes.
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
            a.source
            for a in registry.associations(current)
            if a.type in (v.APND, v.XFRM) and a.target == current
        ]


def _folders_of(entry_uuid: str, registry: Registry) -> Iterable[str]:
    for a in registry.associations(entry_uuid):
        if a.type == v.HAS_MEMBER and a.target == entry_uuid:
            held = registry.object(a.source)
            if held is not None and held.kind == "folder" and held.approved:
                yield a.source


def _is_folder(uuid: str, objects: RegistryObjects, registry: Registry) -> bool:
    if any(f.entry_uuid == uuid for f in objects.folders):
        return True
    held = registry.object(uuid)
    return held is not None and held.kind == "folder"


def check_removal(entry_uuids: Sequence[str], registry: Registry) -> tuple[Registered, ...]:
    """The objects that one ITI-62 request removes, if what stays is whole (ITI TF-2 3.62.4.1.3).

    Raises:
        RegistryRefusal: UnresolvedReferenceException (no such object), ReferencesExistException (an
            association that stays refers to one that goes), XDSUnreferencedObjectException (a document or
            folder that stays would lose its SubmissionSet, an association its SubmissionSet's link).
    """
    named = dict.fromkeys(entry_uuids)
    found = []
    for uuid in named:
        held = registry.object(uuid)
        if held is None:
            raise refusal("UnresolvedReferenceException", f"{uuid} is not registered.", uuid)
        found.append(held)
    for held in found:
        for association in registry.associations(held.entry_uuid):
            if association.entry_uuid not in named:
                raise refusal(
                    "ReferencesExistException", f"{association.entry_uuid} refers to it.", held.entry_uuid
                )
            _check_not_orphaned(association, held, named, registry)
    return tuple(found)


def _check_not_orphaned(
    association: Association, held: Registered, named: dict[str, None], registry: Registry
) -> None:
    """A SubmissionSet that goes takes with it what it alone submitted."""
    if held.kind != "submission" or association.type != v.HAS_MEMBER or association.source != held.entry_uuid:
        return
    if (
        association.submission_set_status != "Reference"
        and association.target not in named
        and registry.object(association.target)
    ):
        raise refusal(
            "XDSUnreferencedObjectException",
            f"{association.target} would have no SubmissionSet.",
            held.entry_uuid,
        )
