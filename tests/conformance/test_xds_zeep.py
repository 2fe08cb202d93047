"""zeep, an independent SOAP stack, against our endpoints with IHE's own WSDLs: ITI-18, ITI-42, ITI-43,
RAD-69.

Where zeep cannot write or read ebRIM's substitution groups the objects are put in and taken out with lxml;
envelope, WS-Addressing, MTOM and status stay zeep's.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pytest
import zeep
from aiohttp import web
from aiohttp.test_utils import TestServer
from lxml import etree
from zeep.exceptions import Fault

from crosslight.runtime.clock import SystemIds
from crosslight.runtime.http import ErrorRenderers, admit, problems
from crosslight.runtime.soap.endpoint import Call, SoapEndpoint, Transaction, add_faults
from crosslight.runtime.soap.server import MAX_SUBMISSION_BYTES, Part, read_soap, stream_mtom
from crosslight.standards.access import OPEN
from crosslight.standards.ids import Identifier, MemberId, Oid
from crosslight.standards.region import Region
from crosslight.standards.study import ManifestFacts, Patient, PersonName, StudyRecord, StudyTime
from crosslight.standards.xds.mapping import views
from crosslight.standards.xds.mapping.values import ValueSets
from crosslight.standards.xds.model import vocabulary as v
from crosslight.standards.xds.model.metadata import RegistryObjects
from crosslight.standards.xds.model.publication import Publication, Source
from crosslight.standards.xds.model.xml import SOAP
from crosslight.standards.xds.rules.errors import RegistryError
from crosslight.standards.xds.rules.stored_query import GET_DOCUMENTS, quoted_list
from crosslight.standards.xds.rules.submission import check_submission
from crosslight.standards.xds.wire import adhoc, ebrim, ebrim_write, rad69, retrieve
from crosslight.standards.xds.wire.response import FAILURE, SUCCESS, render_registry_response
from registry.ask.coverage import Coverage, MemberCoverage
from registry.ask.question import Answer
from registry.identity.model import PatientRecord, Person, PersonKey, RecordKey
from registry.ihe.iti18 import RegistryStoredQuery
from registry.index.model import Holding

pytestmark = pytest.mark.standards

REGION = Region(name="r", home_community_id=Oid("1.9.1"), authority=Oid("1.9.2"))
SOURCE = Source(
    code="RTK",
    name="Ashford",
    repository_unique_id=Oid("1.2.1"),
    retrieve_location_uid=Oid("1.2.2"),
    authority=Oid("1.2.3"),
)
PATIENT = Patient(
    local=Identifier("L1", "1.2.3"), name=PersonName("Straße^Zoë"), birth_date="19700101", sex="F"
)
RECORD = StudyRecord(
    study_uid="1.2.840.1",
    patient=PATIENT,
    description="CT <Thorax> & more",
    modalities=("CT",),
    time=StudyTime(date="20240601"),
)
CX = "9434765919^^^&2.16.840.1.113883.2.1.4.1&ISO"


def publication() -> Publication:
    return Publication(
        source=SOURCE,
        record=RECORD,
        version=None,
        submission_time="20240601",
        submission_uid="1.2.71",
        manifest=ManifestFacts(document_uid="1.2.70", sha1="a" * 40, size_bytes=9, creation_time="20240601"),
        entry_uuid="urn:uuid:00000000-0000-4000-8000-000000000001",
        submission_uuid="urn:uuid:00000000-0000-4000-8000-000000000002",
        has_member_uuid="urn:uuid:00000000-0000-4000-8000-000000000003",
    )


class OneStudy:
    """``registry.ask.ask.Ask`` that knows one holding."""

    @asynccontextmanager
    async def question(self, principal: object, **_: object) -> AsyncIterator[Answer]:
        now = datetime.now(UTC)
        key = RecordKey(5)
        holding = Holding(
            member=MemberId(1),
            record_key=key,
            publication=publication(),
            state="approved",
            digest="",
            revision=1,
            fhir_id="f",
            updated=now,
        )
        record = PatientRecord(key=key, patient=PATIENT, member=MemberId(1), person=PersonKey(6))
        domain_id = Identifier("9434765919", "2.16.840.1.113883.2.1.4.1")
        person = Person(key=PersonKey(6), fhir_id="p", domain_id=domain_id, records=(record,))
        member = MemberCoverage(
            member=MemberId(1),
            code="RTK",
            name="Ashford",
            list_state="live",
            reachable=False,
            since=now,
            as_of=now,
        )
        yield Answer(
            holdings=(holding,),
            persons=(person,),
            objects=(),
            disputed=(),
            correlation="",
            incarnation="",
            coverage=Coverage(members=(member,), at=now),
        )


class Registering(Transaction):
    """ITI-42 without a store: the rules, and what was heard."""

    action = "urn:ihe:iti:2007:RegisterDocumentSet-b"
    response_action = "urn:ihe:iti:2007:RegisterDocumentSet-bResponse"

    def __init__(self) -> None:
        self.heard: list[RegistryObjects] = []

    async def answer(self, call: Call) -> bytes:
        objects = ebrim.parse_submit_objects(call.body)
        check_submission(objects, ValueSets())
        self.heard.append(objects)
        return render_registry_response()

    def refuse(self, errors: tuple[RegistryError, ...]) -> bytes:
        return render_registry_response(errors, status=FAILURE)


DATA = bytes(range(256)) * 40


async def repository(request: web.Request) -> web.StreamResponse:
    """ITI-43 and RAD-69: every document but the unknown one, as one part."""
    envelope = await read_soap(request)
    if envelope.action == retrieve.ACTION_REQUEST:
        wanted = retrieve.parse_retrieve_request(envelope.body)
    else:
        wanted = [document for _, _, document in rad69.parse_imaging_request(envelope.body).instances()]
    there = [r for r in wanted if r.document_unique_id != "0"]
    documents = [
        retrieve.DocumentResponse(r, "application/dicom", f"{i}%40@x.y") for i, r in enumerate(there)
    ]
    errors = [
        RegistryError("XDSDocumentUniqueIdError", "not here", r.document_unique_id)
        for r in wanted
        if r not in there
    ]
    body = retrieve.render_retrieve_response(documents, errors, len(wanted))

    async def chunks() -> AsyncIterator[bytes]:
        yield DATA[:100]
        yield DATA[100:]

    parts = [
        Part(content_id=d.content_id, content_type=d.mime_type, size=len(DATA), chunks=chunks())
        for d in documents
    ]
    return await stream_mtom(request, envelope, body, retrieve.ACTION_RESPONSE, parts)


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[str, Registering]]:
    renderers, registering = ErrorRenderers(), Registering()
    add_faults(renderers, "/")

    @web.middleware
    async def opened(request: web.Request, handler: Any) -> web.StreamResponse:
        admit(request, OPEN)
        return cast(web.StreamResponse, await handler(request))

    app = web.Application(middlewares=[cast(Any, problems(renderers, SystemIds())), opened])
    query = RegistryStoredQuery(cast(Any, OneStudy()), REGION)
    endpoint = SoapEndpoint((query, registering), max_bytes=MAX_SUBMISSION_BYTES)
    app.router.add_routes(endpoint.routes("/xds/registry"))
    app.router.add_post("/repository", repository)
    async with TestServer(app) as server:
        yield str(server.make_url("/")).rstrip("/"), registering


class Zeep:
    """A client of one WSDL at our address; blocking, so it runs in a thread."""

    def __init__(self, folder: Path, name: str, address: str) -> None:
        self.client = zeep.Client(
            str(folder / "schemas" / "ipf" / f"{name}.wsdl"), settings=zeep.Settings(strict=False)
        )
        self.binding = next(b for b in self.client.wsdl.bindings if "Soap12" in b)
        self.address = address

    def call(self, operation: str, **arguments: Any) -> Any:
        service = self.client.create_service(self.binding, self.address)
        return service[operation](**arguments)

    def raw(self, operation: str, **arguments: Any) -> etree._Element:
        """The answer's body element as it came."""
        with self.client.settings(raw_response=True):
            envelope = etree.fromstring(self.call(operation, **arguments).content)
        body = envelope.find(f"{{{SOAP}}}Body")
        assert body is not None
        return body[0]

    def with_objects(self, operation: str, listed: bytes, **arguments: Any) -> Any:
        """Send zeep's envelope with the objects of a RegistryObjectList put in by lxml."""
        service = self.client.create_service(self.binding, self.address)
        envelope = self.client.create_message(service, operation, **arguments)
        body = envelope.find(f"{{{SOAP}}}Body")
        body[:] = [etree.fromstring(listed)]
        reply = self.client.transport.post_xml(
            self.address, envelope, {"Content-Type": 'application/soap+xml; action="None"'}
        )
        binding = self.client.wsdl.bindings[self.binding]
        return binding.process_reply(self.client, binding.get(operation), reply)


def slots(**parameters: tuple[str, ...]) -> list[dict[str, Any]]:
    return [
        {"name": f"${n}", "ValueList": {"_value_1": [{"Value": x} for x in values]}}
        for n, values in parameters.items()
    ]


async def test_iti18(standards_folder: Path) -> None:
    async with serving() as (base, _):
        peer = await asyncio.to_thread(Zeep, standards_folder, "iti18", f"{base}/xds/registry")
        asking: dict[str, Any] = {
            "ResponseOption": {"returnComposedObjects": True, "returnType": "LeafClass"},
            "AdhocQuery": {
                "id": "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d",
                "Slot": slots(
                    XDSDocumentEntryPatientId=(f"'{CX}'",), XDSDocumentEntryStatus=(f"('{v.APPROVED}')",)
                ),
            },
        }
        operation = "DocumentRegistry_RegistryStoredQuery"
        reply = await asyncio.to_thread(lambda: peer.call(operation, **asking))
        assert reply.status == SUCCESS
        envelope = await asyncio.to_thread(lambda: peer.raw(operation, **asking))
        found = adhoc.parse_adhoc_response(envelope)
        assert [d.entry_uuid for d in found.objects.documents] == [publication().entry_uuid]
        entry = found.objects.documents[0]
        assert (entry.patient_id, entry.home, entry.status) == (CX, "urn:oid:1.9.1", v.APPROVED)
        assert entry == views.registered_objects(publication(), CX, "urn:oid:1.9.1").documents[0]
        assert [name for name, _ in found.slots] == ["urn:crosslight:coverage:RTK"]
        assert found.slots[0][1][0] == "state=unreachable"
        assert [e.severity for e in found.errors] == ["Warning"]

        schema = etree.XMLSchema(etree.parse(str(standards_folder / "schemas" / "nist-v3" / "all.xsd")))
        schema.assertValid(etree.fromstring(etree.tostring(envelope)))

        asking["AdhocQuery"]["id"] = "urn:uuid:00000000-0000-4000-8000-000000000000"
        reply = await asyncio.to_thread(lambda: peer.call(operation, **asking))
        assert reply.status == FAILURE
        asking["AdhocQuery"] = {
            "id": GET_DOCUMENTS,
            "Slot": slots(XDSDocumentEntryUniqueId=quoted_list(["none", "1.2.70"])),
        }
        asking["ResponseOption"]["returnType"] = "ObjectRef"
        envelope = await asyncio.to_thread(lambda: peer.raw(operation, **asking))
        refs = adhoc.parse_adhoc_response(envelope).refs
        assert refs == ((publication().entry_uuid, "urn:oid:1.9.1"),)


async def test_iti42(standards_folder: Path) -> None:
    async with serving() as (base, registering):
        peer = await asyncio.to_thread(Zeep, standards_folder, "iti42", f"{base}/xds/registry")
        said = views.objects_of(publication(), CX)
        operation = "DocumentRegistry_RegisterDocumentSet-b"

        def send(objects: RegistryObjects) -> Any:
            return peer.with_objects(
                operation, ebrim_write.render_submit_objects(objects), RegistryObjectList={}
            )

        reply = await asyncio.to_thread(send, said)
        assert reply.status == SUCCESS
        assert registering.heard == [said]
        broken = replace(said, documents=(replace(said.documents[0], hash=""),))
        reply = await asyncio.to_thread(send, broken)
        assert reply.status == FAILURE
        assert reply.RegistryErrorList.RegistryError[0].errorCode == "XDSRegistryMetadataError"


async def test_iti43(standards_folder: Path) -> None:
    async with serving() as (base, _):
        peer = await asyncio.to_thread(Zeep, standards_folder, "iti43", f"{base}/repository")
        wanted = [{"RepositoryUniqueId": "1.2.1", "DocumentUniqueId": uid} for uid in ("5", "6", "0")]
        reply = await asyncio.to_thread(
            lambda: peer.call("DocumentRepository_RetrieveDocumentSet", DocumentRequest=wanted)
        )
        assert reply.RegistryResponse.status.endswith("PartialSuccess")
        assert [(d.DocumentUniqueId, d.mimeType, d.Document) for d in reply.DocumentResponse] == [
            ("5", "application/dicom", DATA),
            ("6", "application/dicom", DATA),
        ]
        assert reply.RegistryResponse.RegistryErrorList.RegistryError[0].location == "0"


async def test_rad69(standards_folder: Path) -> None:
    async with serving() as (base, _):
        peer = await asyncio.to_thread(Zeep, standards_folder, "rad69", f"{base}/repository")
        document = {
            "RepositoryUniqueId": "1.2.2",
            "DocumentUniqueId": "7",
            "HomeCommunityId": "urn:oid:1.9.1",
        }
        asking = {
            "StudyRequest": [
                {
                    "studyInstanceUID": "1.2.3",
                    "SeriesRequest": [{"seriesInstanceUID": "1.2.4", "DocumentRequest": [document]}],
                }
            ],
            "TransferSyntaxUIDList": {"TransferSyntaxUID": ["1.2.840.10008.1.2.1"]},
        }
        reply = await asyncio.to_thread(
            lambda: peer.call("DocumentRepository_RetrieveImagingDocumentSet", **asking)
        )
        assert reply.RegistryResponse.status == SUCCESS
        (one,) = reply.DocumentResponse
        assert (one.HomeCommunityId, one.DocumentUniqueId, one.Document) == ("urn:oid:1.9.1", "7", DATA)


async def test_faults_are_faults_to_zeep(standards_folder: Path) -> None:
    async with serving() as (base, _):
        peer = await asyncio.to_thread(Zeep, standards_folder, "iti43", f"{base}/xds/registry")
        wanted = [{"RepositoryUniqueId": "1.2.1", "DocumentUniqueId": "5"}]
        with pytest.raises(Fault) as caught:
            await asyncio.to_thread(
                lambda: peer.call("DocumentRepository_RetrieveDocumentSet", DocumentRequest=wanted)
            )
        assert "not supported" in str(caught.value.message)
