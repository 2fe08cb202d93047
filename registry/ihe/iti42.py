"""ITI-42 Register Document Set-b: the standard strictly, then acts for ``accept`` (ITI TF-2 3.42; D6, D15).

A study's manifest becomes a :class:`Publish`; everything else is stored whole. A submission that brings one
manifest and nothing else is part of that study's version; of any other the SubmissionSet and the remaining
associations stand by themselves.
"""

from __future__ import annotations

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
from registry.intake.submission import Act, Publish, StoreObjects, Submission
from registry.members.model import Member

ACTION_REQUEST = "urn:ihe:iti:2007:RegisterDocumentSet-b"
ACTION_RESPONSE = "urn:ihe:iti:2007:RegisterDocumentSet-bResponse"


class RegisterDocumentSet(Transaction):
    """The transaction. ``values`` says which codes are accepted (the open demo: any)."""

    action, response_action = ACTION_REQUEST, ACTION_RESPONSE

    def __init__(
        self, acceptor: Acceptor, admission: Admission, ids: Ids, region: Region, values: ValueSets
    ) -> None:
        self._acceptor, self._admission, self._ids, self._region, self._values = (
            acceptor,
            admission,
            ids,
            region,
            values,
        )

    async def answer(self, call: Call) -> bytes:
        """RegistryResponse Success, once everything is committed."""
        objects = assign_ids(parse_submit_objects(call.body), self._ids.uuid4)
        check_submission(objects, self._values)
        patient = Identifier.parse_cx(objects.submissions[0].patient_id)
        studies = [uid for d in objects.documents if (uid := study_uid_of(d.reference_ids))]
        async with self._admission.act(call.caller, "xds", "publish", patients=(patient,), studies=studies):
            repository = next(
                (d.repository_unique_id for d in objects.documents), objects.submissions[0].source_id
            )
            member = await self._admission.member_for(call.caller.principal, repository)
            acceptance = await self._acceptor.accept(
                Submission(
                    member=member,
                    caller=call.caller,
                    acts=acts_of(objects, member, self._region),
                    road="soap",
                    strict=True,
                    said=objects,
                )
            )
        warnings = [
            RegistryError("XDSRegistryError", text, severity="Warning") for text in acceptance.warnings
        ]
        return render_registry_response(warnings)

    def refuse(self, errors: tuple[RegistryError, ...]) -> bytes:
        """RegistryResponse Failure."""
        return render_registry_response(errors, status=FAILURE)


def acts_of(objects: RegistryObjects, member: Member, region: Region) -> tuple[Act, ...]:
    """The acts of a checked submission: first studies, then the rest."""
    submission = objects.submissions[0]
    manifests = [
        d
        for d in objects.documents
        if is_manifest(d) and d.repository_unique_id == member.repository_unique_id
    ]
    whole = _of_one_study(objects, manifests)
    acts: list[Act] = []
    used: set[str] = set()
    for entry in manifests:
        replacing = _replacing(entry, objects)
        link = _link(submission, entry, objects) if whole else None
        publication = publication_from_submission(
            entry,
            source=member.source,
            secret=member.secret,
            zone=region.zone,
            submission=submission if whole else None,
            member=link,
            replacing=replacing,
        )
        used |= {thing.entry_uuid for thing in (entry, replacing, link) if thing is not None}
        acts.append(Publish(publication=publication, digest=entry.hash.lower(), patient_cx=entry.patient_id))
    if whole:
        used.add(submission.entry_uuid)
    rest = tuple(_stored(thing, member) for thing in objects if thing.entry_uuid not in used)
    if rest:
        acts.append(StoreObjects(objects=rest, patient_cx=submission.patient_id))
    return tuple(acts)


def _of_one_study(objects: RegistryObjects, manifests: list[DocumentEntry]) -> bool:
    """Whether a submission is one manifest, its membership, and at most its RPLC."""
    if len(manifests) != 1 or len(objects.documents) != 1 or objects.folders:
        return False
    entry = manifests[0]
    expected = {
        a.entry_uuid
        for a in (_link(objects.submissions[0], entry, objects), _replacing(entry, objects))
        if a is not None
    }
    return {a.entry_uuid for a in objects.associations} == expected


def _link(submission: SubmissionSet, entry: DocumentEntry, objects: RegistryObjects) -> Association | None:
    ends = submission.entry_uuid, entry.entry_uuid
    found = (a for a in objects.associations if a.type == v.HAS_MEMBER and (a.source, a.target) == ends)
    return next(found, None)


def _replacing(entry: DocumentEntry, objects: RegistryObjects) -> Association | None:
    found = [a for a in objects.associations if a.type in v.REPLACING and a.source == entry.entry_uuid]
    return found[0] if len(found) == 1 else None


def _stored(thing: RegistryObject, member: Member) -> XdsObject:
    return XdsObject(
        kind=thing.kind,
        entry_uuid=thing.entry_uuid,
        unique_id="" if isinstance(thing, Association) else thing.unique_id,
        record_key=None,
        status="Approved",
        body=to_plain(thing),
        member=member.id,
        logical_id=thing.entry_uuid,
        links=(thing.source, thing.target) if isinstance(thing, Association) else (),
    )
