"""ITI-57 Update Document Set: UpdateAvailabilityStatus of one DocumentEntry, both ways (ITI TF-2 3.57; D16).

The other updates of the transaction are answered XDSMetadataUpdateOperationError. The SubmissionSet that
carries the change is not registered: nothing would refer to it.
"""

from __future__ import annotations

from crosslight.runtime.soap.endpoint import Call, Transaction
from crosslight.standards.ids import DerivedId, Identifier, Kind, Version
from crosslight.standards.problem import Invalid
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import Association, RegistryObjects
from crosslight.standards.xds.model.publication import Status
from crosslight.standards.xds.rules.errors import RegistryError, refusal
from crosslight.standards.xds.rules.submission import is_uuid_urn
from crosslight.standards.xds.wire.ebrim import parse_submit_objects
from crosslight.standards.xds.wire.response import FAILURE, render_registry_response
from registry.ihe.admission import Admission
from registry.intake.accept import Acceptor
from registry.intake.submission import SetAvailability, Submission

ACTION_REQUEST = "urn:ihe:iti:2010:UpdateDocumentSet"
ACTION_RESPONSE = "urn:ihe:iti:2010:UpdateDocumentSetResponse"
_STATUSES: dict[str, Status] = {v.APPROVED: "Approved", v.DEPRECATED: "Deprecated"}


class UpdateDocumentSet(Transaction):
    """Changes the availability of entries."""

    action, response_action = ACTION_REQUEST, ACTION_RESPONSE

    def __init__(self, acceptor: Acceptor, admission: Admission) -> None:
        self._acceptor, self._admission = acceptor, admission

    async def answer(self, call: Call) -> bytes:
        """RegistryResponse Success, once everything is committed."""
        objects = parse_submit_objects(call.body)
        acts = changes_of(objects)
        caller, named = call.caller, [act.entry_uuid for act in acts]
        async with self._admission.act(caller, "xds", "publish", patients=_patients(objects), objects=named):
            member = await self._admission.member_of(caller, "xds", named)
            await self._acceptor.accept(
                Submission(member=member, caller=caller, acts=acts, road="soap", strict=True)
            )
        return render_registry_response()

    def refuse(self, errors: tuple[RegistryError, ...]) -> bytes:
        """RegistryResponse Failure, with the errors."""
        return render_registry_response(errors, status=FAILURE)


def changes_of(objects: RegistryObjects) -> tuple[SetAvailability, ...]:
    """The status changes that a request asks for.

    Raises:
        RegistryRefusal: XDSRegistryMetadataError (no SubmissionSet, no slots),
            XDSMetadataUpdateOperationError (anything but a change of status).
    """
    if len(objects.submissions) != 1 or not objects.submissions[0].unique_id:
        raise refusal("XDSRegistryMetadataError", "There must be one SubmissionSet with a uniqueId.")
    submission = objects.submissions[0]
    changes = [
        association for association in objects.associations if association.type == v.UPDATE_AVAILABILITY
    ]
    if not changes or objects.documents or objects.folders or len(changes) != len(objects.associations):
        raise refusal("XDSMetadataUpdateOperationError", "Only UpdateAvailabilityStatus is supported here.")
    version = _version(submission.entry_uuid)
    return tuple(_change(association, submission.entry_uuid, version) for association in changes)


def _change(association: Association, submission: str, version: Version | None) -> SetAvailability:
    if association.source != submission or not is_uuid_urn(association.target):
        raise refusal(
            "XDSRegistryMetadataError",
            "UpdateAvailabilityStatus goes from the SubmissionSet to an entryUUID.",
            association.target,
        )
    original, new = _STATUSES.get(association.original_status), _STATUSES.get(association.new_status)
    if original is None or new is None or original == new:
        raise refusal(
            "XDSRegistryMetadataError",
            "OriginalStatus and NewStatus must be Approved and Deprecated, or the reverse.",
            association.target,
        )
    return SetAvailability(entry_uuid=association.target, status=new, original=original, version=version)


def _version(submission_uuid: str) -> Version | None:
    """The act's version, where the SubmissionSet is one of our own nodes' (D9)."""
    derived = DerivedId.parse(submission_uuid)
    return derived.version if derived is not None and derived.kind == Kind.SUBMISSION_SET else None


def _patients(objects: RegistryObjects) -> tuple[Identifier, ...]:
    try:
        return (Identifier.parse_cx(objects.submissions[0].patient_id),)
    except Invalid:
        return ()
