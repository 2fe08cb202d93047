"""An XDS registry over the wire, as ``XdsPort`` of ``soap_road.py``.

ITI-8 goes by MLLP; ITI-42, ITI-57, ITI-62 and ITI-18 by SOAP.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from crosslight.runtime.clock import Clock, Ids, dtm
from crosslight.runtime.mllp import MllpClient
from crosslight.runtime.soap.client import SoapClient, SoapReply
from crosslight.standards.hl7.ack import parse_ack
from crosslight.standards.hl7.adt import MessageHeader, feed_message, render_adt
from crosslight.standards.ids import Identifier
from crosslight.standards.problem import Unavailable
from crosslight.standards.study import Patient
from crosslight.standards.xds.mapping import values, views
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import Association, RegistryObject, SubmissionSet
from crosslight.standards.xds.model.publication import Publication, Status
from crosslight.standards.xds.rules.errors import RegistryError, RegistryRefusal, refusal
from crosslight.standards.xds.wire import adhoc
from crosslight.standards.xds.wire.ebrim_write import render_remove_objects, render_submit_objects
from crosslight.standards.xds.wire.response import FAILURE, SUCCESS, parse_registry_response
from node.publish.model import PublisherIdentity
from node.publish.soap_road import AssociationState, DocumentState, StatusChange

# ITI TF-2 3.42, 3.57, 3.62
ACTION_REGISTER = "urn:ihe:iti:2007:RegisterDocumentSet-b"
ACTION_UPDATE = "urn:ihe:iti:2010:UpdateDocumentSet"
ACTION_REMOVE = "urn:ihe:iti:2010:DeleteDocumentSet"
# ITI TF-2 3.18.4.1.2.4
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
GET_ASSOCIATIONS = "urn:uuid:a7ae438b-4bc2-4642-93e9-be891f7bb155"
ASK_AT_ONCE = 50  # UUIDs in one query

FEED_REFUSED = "PatientFeedRefused"  # ours: ITI-8 has no XDS error code


class XdsWire:
    """One registry.

    Args:
        soap: The client, with this node's certificate where the registry asks for one.
        url: Of all its SOAP transactions, asked anew for each call.
        mllp: Its patient feed.
        clock: Time of messages.
        ids: Names of HL7 messages.
        identity: Who publishes.
        timeout_s: How long an answer is waited for.
    """

    def __init__(
        self,
        soap: SoapClient,
        url: Callable[[], str],
        mllp: MllpClient,
        clock: Clock,
        ids: Ids,
        identity: Callable[[], PublisherIdentity],
        *,
        timeout_s: float = 30.0,
    ) -> None:
        self._soap = soap
        self._url = url
        self._mllp = mllp
        self._clock = clock
        self._ids = ids
        self._identity, self._timeout_s = identity, timeout_s

    async def feed(self, patient: Patient, *, first: bool) -> None:
        """As ``XdsPort.feed``."""
        control_id = self._ids.uuid4().hex[:20]  # MSH-10: 20 characters (HL7 v2.3.1 2.24.1.10)
        header = MessageHeader(
            control_id=control_id,
            time=dtm(self._clock.now()),
            sending_application="CROSSLIGHT",
            sending_facility=self._identity().source.code,
            receiving_application="REGISTRY",
            receiving_facility="REGION",
        )
        ack = parse_ack(
            await self._mllp.send(render_adt(feed_message(patient, header, "A04" if first else "A08")))
        )
        if ack.control_id != control_id:
            raise Unavailable("The HL7 receiver answered another message.", where="answer")
        if ack.temporary:
            raise refusal("XDSRegistryBusy", ack.text or "the patient feed asks to try again")
        if not ack.accepted:
            raise refusal(FEED_REFUSED, f"{ack.code} {ack.condition} {ack.text}".strip())

    async def register(self, publication: Publication, patient: Identifier) -> None:
        """As ``XdsPort.register``."""
        body = render_submit_objects(views.objects_of(publication, patient.cx()))
        _accepted(await self._call(ACTION_REGISTER, body))

    async def change_status(self, change: StatusChange, patient: Identifier) -> None:
        """As ``XdsPort.change_status``."""
        source = self._identity().source
        objects: list[RegistryObject] = [
            SubmissionSet(
                entry_uuid=change.submission_uuid,
                unique_id=change.submission_uid,
                patient_id=patient.cx(),
                source_id=source.repository_unique_id,
                submission_time=dtm(self._clock.now()),
                content_type=values.IMAGING,
            ),
            Association(
                entry_uuid=change.association_uuid,
                type=v.UPDATE_AVAILABILITY,
                source=change.submission_uuid,
                target=change.entry_uuid,
                original_status=v.STATUS + change.original,
                new_status=v.STATUS + change.new,
            ),
        ]
        _accepted(await self._call(ACTION_UPDATE, render_submit_objects(objects)))

    async def remove(self, ids: Sequence[str]) -> None:
        """As ``XdsPort.remove``."""
        _accepted(await self._call(ACTION_REMOVE, render_remove_objects(ids)))

    async def documents(self, entry_uuids: Sequence[str]) -> dict[str, DocumentState]:
        """As ``XdsPort.documents``."""
        states: dict[str, DocumentState] = {}
        for reply in await self._ask(GET_DOCUMENTS, "$XDSDocumentEntryEntryUUID", entry_uuids):
            for document in reply.objects.documents:
                status: Status = "Approved" if document.status == v.APPROVED else "Deprecated"
                states[document.entry_uuid] = DocumentState(status, document.hash.lower())
        return states

    async def associations(self, uuids: Sequence[str]) -> list[AssociationState]:
        """As ``XdsPort.associations``."""
        replies = await self._ask(GET_ASSOCIATIONS, "$uuid", uuids)
        associations = (association for reply in replies for association in reply.objects.associations)
        by_uuid = {a.entry_uuid: AssociationState(a.entry_uuid, a.source, a.target) for a in associations}
        return list(by_uuid.values())

    async def _ask(self, query_id: str, parameter: str, uuids: Sequence[str]) -> list[adhoc.AdhocReply]:
        replies = []
        for start in range(0, len(uuids), ASK_AT_ONCE):
            listed = tuple(f"('{uuid}')" for uuid in uuids[start : start + ASK_AT_ONCE])
            query = adhoc.AdhocQuery(query_id=query_id, parameters=((parameter, listed),))
            answer = await self._call(adhoc.ACTION_REQUEST, adhoc.render_adhoc_request(query))
            reply = adhoc.parse_adhoc_response(answer.body)
            if reply.status == FAILURE:
                raise RegistryRefusal(
                    reply.errors or (RegistryError("XDSRegistryError", "the query failed without a reason"),)
                )
            if reply.status != SUCCESS:
                raise Unavailable("The registry answered a query in part only.", where="answer")
            replies.append(reply)
        return replies

    async def _call(self, action: str, body: bytes) -> SoapReply:
        return await self._soap.call(self._url(), action, body, timeout_s=self._timeout_s)


def _accepted(answer: SoapReply) -> None:
    reply = parse_registry_response(answer.body)
    if not reply.success:
        raise RegistryRefusal(
            reply.faults or (RegistryError("XDSRegistryError", "refused without a reason"),)
        )
