"""ITI-62 Remove Metadata: a whole chain in one request, nothing left dangling (ITI TF-2 3.62; D16)."""

from __future__ import annotations

from crosslight.runtime.soap.endpoint import Call, Transaction
from crosslight.standards.xds.rules.errors import RegistryError, refusal
from crosslight.standards.xds.rules.submission import is_uuid_urn
from crosslight.standards.xds.wire.ebrim import parse_remove_objects
from crosslight.standards.xds.wire.response import FAILURE, render_registry_response
from registry.ihe.admission import Admission
from registry.intake.accept import Acceptor
from registry.intake.submission import Submission, Withdraw

ACTION_REQUEST = "urn:ihe:iti:2010:DeleteDocumentSet"
ACTION_RESPONSE = "urn:ihe:iti:2010:DeleteDocumentSetResponse"
MAX_OBJECTS = 20_000


class RemoveMetadata(Transaction):
    """Removes objects for good.

    Which objects there are and what refers to them is checked by ``relations.check_removal``.
    """

    action, response_action = ACTION_REQUEST, ACTION_RESPONSE

    def __init__(self, acceptor: Acceptor, admission: Admission) -> None:
        self._acceptor, self._admission = acceptor, admission

    async def answer(self, call: Call) -> bytes:
        """RegistryResponse Success, once everything is committed."""
        uuids = tuple(dict.fromkeys(parse_remove_objects(call.body)))
        if len(uuids) > MAX_OBJECTS:
            raise refusal("XDSRegistryError", f"At most {MAX_OBJECTS} objects at once.")
        if not all(is_uuid_urn(uuid) for uuid in uuids):
            raise refusal("UnresolvedReferenceException", "An object is not named by its entryUUID.")
        async with self._admission.act(call.caller, "xds", "delete", objects=uuids):
            member = await self._admission.member_of(call.caller, "xds", uuids)
            await self._acceptor.accept(
                Submission(
                    member=member,
                    caller=call.caller,
                    acts=(Withdraw(entry_uuids=uuids, reason="ITI-62"),),
                    road="soap",
                    strict=True,
                )
            )
        return render_registry_response()

    def refuse(self, errors: tuple[RegistryError, ...]) -> bytes:
        """RegistryResponse Failure, with the errors."""
        return render_registry_response(errors, status=FAILURE)
