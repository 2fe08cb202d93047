"""ITI-42 Register Document Set-b: the standard strictly, then acts for ``accept`` (ITI TF-2 3.42; D6, D15).

A study's manifest becomes a :class:`Publish`; everything else is stored whole. A submission that brings one
manifest and nothing else is part of that study's version; of any other the SubmissionSet and the remaining
associations stand by themselves.
"""

from __future__ import annotations

from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Ids
from crosslight.runtime.soap.endpoint import Call, Transaction
from crosslight.standards.ids import Identifier
from crosslight.standards.region import Region
from crosslight.standards.xds.mapping.references import study_uid_of
from crosslight.standards.xds.mapping.values import ValueSets
from crosslight.standards.xds.mapping.views import publication_from_submission
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.imaging import is_manifest
from crosslight.standards.xds.model.metadata import (
    Association,
    DocumentEntry,
    RegistryObject,
    RegistryObjects,
    SubmissionSet,
    to_plain,
)
from crosslight.standards.xds.rules.errors import RegistryError
from crosslight.standards.xds.rules.submission import assign_ids, check_submission
from crosslight.standards.xds.wire.ebrim import parse_submit_objects
from crosslight.standards.xds.wire.response import FAILURE, render_registry_response
from registry.ihe.admission import Admission
from registry.index.model import XdsObject
from registry.intake.accept import Acceptor
from registry.intake.submission import Acceptance, Act, Publish, StoreObjects, Submission
from registry.members.foreign_rows import ArrivedMeanwhile
from registry.members.model import Member

ACTION_REQUEST = "urn:ihe:iti:2007:RegisterDocumentSet-b"
ACTION_RESPONSE = "urn:ihe:iti:2007:RegisterDocumentSet-bResponse"


class RegisterDocumentSet(Transaction):
    """Registers documents. ``values`` says which codes are accepted (the open demo: any)."""

    action, response_action = ACTION_REQUEST, ACTION_RESPONSE

    def __init__(
        self, acceptor: Acceptor, admission: Admission, ids: Ids, region: Region, values: ValueSets
    ) -> None:
        self._acceptor = acceptor
        self._admission = admission
        self._ids = ids
        self._region = region
        self._values = values

    async def answer(self, call: Call) -> bytes:
        """RegistryResponse Success, once everything is committed."""
        objects = assign_ids(parse_submit_objects(call.body), self._ids.uuid4)
        check_submission(objects, self._values)
        patient = Identifier.parse_cx(objects.submissions[0].patient_id)
        studies = [uid for document in objects.documents if (uid := study_uid_of(document.reference_ids))]
        async with self._admission.act(call.caller, "xds", "publish", patients=(patient,), studies=studies):
            try:
                acceptance = await self._register(objects, call.caller)
            except ArrivedMeanwhile:  # its source is known now
                acceptance = await self._register(objects, call.caller)
        warnings = [
            RegistryError("XDSRegistryError", text, severity="Warning") for text in acceptance.warnings
        ]
        return render_registry_response(warnings)

    async def _register(self, objects: RegistryObjects, caller: Caller) -> Acceptance:
        repositories = [document.repository_unique_id for document in objects.documents]
        submitter = self._admission.submitter(
            caller.principal, *(repositories or [objects.submissions[0].source_id])
        )
        async with submitter as arrival:
            submission = Submission(
                member=arrival.member,
                caller=caller,
                acts=acts_of(objects, arrival.member, self._region),
                road="soap",
                strict=True,
                said=objects,
                arrival=arrival,
            )
            return await self._acceptor.accept(submission)

    def refuse(self, errors: tuple[RegistryError, ...]) -> bytes:
        """RegistryResponse Failure, with the errors."""
        return render_registry_response(errors, status=FAILURE)


def acts_of(objects: RegistryObjects, member: Member, region: Region) -> tuple[Act, ...]:
    """The acts of a checked submission: first studies, then the rest."""
    submission = objects.submissions[0]
    manifests = [
        document
        for document in objects.documents
        if is_manifest(document) and document.repository_unique_id == member.repository_unique_id
    ]
    whole = _of_one_study(objects, manifests)
    acts: list[Act] = []
    used: set[str] = set()
    for entry in manifests:
        replacing = _replacing(entry, objects)
        membership = _link(submission, entry, objects) if whole else None
        publication = publication_from_submission(
            entry,
            source=member.source,
            secret=member.secret,
            zone=region.zone,
            submission=submission if whole else None,
            member=membership,
            replacing=replacing,
        )
        used |= {metadata.entry_uuid for metadata in (entry, replacing, membership) if metadata is not None}
        acts.append(Publish(publication=publication, digest=entry.hash.lower(), patient_cx=entry.patient_id))
    if whole:
        used.add(submission.entry_uuid)
    rest = tuple(_stored(metadata, member) for metadata in objects if metadata.entry_uuid not in used)
    if rest:
        acts.append(StoreObjects(objects=rest, patient_cx=submission.patient_id))
    return tuple(acts)


def _of_one_study(objects: RegistryObjects, manifests: list[DocumentEntry]) -> bool:
    """Whether a submission is one manifest, its membership, and at most its RPLC."""
    if len(manifests) != 1 or len(objects.documents) != 1 or objects.folders:
        return False
    entry = manifests[0]
    expected = {
        association.entry_uuid
        for association in (_link(objects.submissions[0], entry, objects), _replacing(entry, objects))
        if association is not None
    }
    return {association.entry_uuid for association in objects.associations} == expected


def _link(submission: SubmissionSet, entry: DocumentEntry, objects: RegistryObjects) -> Association | None:
    ends = submission.entry_uuid, entry.entry_uuid
    memberships = (
        association
        for association in objects.associations
        if association.type == v.HAS_MEMBER and (association.source, association.target) == ends
    )
    return next(memberships, None)


def _replacing(entry: DocumentEntry, objects: RegistryObjects) -> Association | None:
    replacing = [
        association
        for association in objects.associations
        if association.type in v.REPLACING and association.source == entry.entry_uuid
    ]
    return replacing[0] if len(replacing) == 1 else None


def _stored(metadata: RegistryObject, member: Member) -> XdsObject:
    return XdsObject(
        kind=metadata.kind,
        entry_uuid=metadata.entry_uuid,
        unique_id="" if isinstance(metadata, Association) else metadata.unique_id,
        record_key=None,
        status="Approved",
        body=to_plain(metadata),
        member=member.id,
        logical_id=metadata.entry_uuid,
        links=(metadata.source, metadata.target) if isinstance(metadata, Association) else (),
    )
