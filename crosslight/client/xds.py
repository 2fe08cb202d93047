"""An XDS consumer, as an outsider would be.

ITI-18 FindDocuments and GetDocuments, ITI-43 and RAD-69 retrieves.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from xml.sax.saxutils import escape

from lxml import etree

from crosslight.client.http import HttpClient
from crosslight.runtime.clock import SystemIds
from crosslight.runtime.soap.client import SoapClient, SoapStream
from crosslight.standards.ids import CXI_STUDY_UID, Identifier
from crosslight.standards.xds.rules.errors import RegistryError
from crosslight.standards.xds.wire.rad69 import ImagingRequest, render_imaging_request
from crosslight.standards.xds.wire.response import parse_error_list
from crosslight.standards.xds.wire.retrieve import DocumentRequest, render_retrieve_request

RIM = "urn:oasis:names:tc:ebxml-regrep:xsd:rim:3.0"
NS = {
    "rim": RIM,
    "query": "urn:oasis:names:tc:ebxml-regrep:xsd:query:3.0",
    "rs": "urn:oasis:names:tc:ebxml-regrep:xsd:rs:3.0",
}
STORED_QUERY = "urn:ihe:iti:2007:RegistryStoredQuery"  # ihe.md 1.3
RETRIEVE = "urn:ihe:iti:2007:RetrieveDocumentSet"
RETRIEVE_IMAGING = "urn:ihe:rad:2009:RetrieveImagingDocumentSet"
FIND_DOCUMENTS = "urn:uuid:14d4debf-8f97-4251-9a74-a90016b0af0d"  # ITI TF-2 3.18.4.1.2.4
GET_DOCUMENTS = "urn:uuid:5c4f972b-d56b-40ac-a5fc-c8ca9b40b9d4"
APPROVED = "urn:oasis:names:tc:ebxml-regrep:StatusType:Approved"
UNIQUE_ID = "urn:uuid:2e82c1f6-a085-4c72-9da3-8640a32e42ab"  # XDSDocumentEntry.uniqueId


@dataclass(frozen=True, slots=True)
class ListedDocument:
    """What a consumer needs of a DocumentEntry to go on."""

    entry_uuid: str
    unique_id: str
    repository_unique_id: str
    study_uid: str
    title: str
    status: str


@dataclass(frozen=True, slots=True)
class XdsAnswer:
    """What an AdhocQueryResponse says: document entries, status, errors and coverage."""

    entries: tuple[ListedDocument, ...]
    status: str
    errors: tuple[RegistryError, ...]
    slots: dict[str, tuple[str, ...]]  # of the response itself: the coverage


def _slot(name: str, values: Sequence[str]) -> str:
    text = "".join(f"<rim:Value>{escape(v)}</rim:Value>" for v in values)
    return f'<rim:Slot name="{escape(name)}"><rim:ValueList>{text}</rim:ValueList></rim:Slot>'


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _query(query_id: str, slots: str) -> bytes:
    return (
        f'<query:AdhocQueryRequest xmlns:query="{NS["query"]}" xmlns:rim="{RIM}">'
        '<query:ResponseOption returnComposedObjects="true" returnType="LeafClass"/>'
        f'<rim:AdhocQuery id="{query_id}">{slots}</rim:AdhocQuery></query:AdhocQueryRequest>'
    ).encode()


class XdsClient(HttpClient):
    """Asks the addresses it is given; the client certificate is in its TLS context."""

    @property
    def soap(self) -> SoapClient:
        """The SOAP client on this session."""
        return SoapClient(self.session, SystemIds())

    async def find_documents(self, url: str, patient: Identifier) -> XdsAnswer:
        """FindDocuments: all Approved entries of a patient."""
        slots = _slot("$XDSDocumentEntryPatientId", [_quoted(patient.cx())])
        slots += _slot("$XDSDocumentEntryStatus", [f"({_quoted(APPROVED)})"])
        return await self._ask(url, _query(FIND_DOCUMENTS, slots))

    async def get_documents(self, url: str, *, entry_uuids: Sequence[str]) -> XdsAnswer:
        """GetDocuments by entryUUID."""
        slots = _slot("$XDSDocumentEntryEntryUUID", ["(" + ",".join(map(_quoted, entry_uuids)) + ")"])
        return await self._ask(url, _query(GET_DOCUMENTS, slots))

    async def _ask(self, url: str, body: bytes) -> XdsAnswer:
        reply = await self.soap.call(url, STORED_QUERY, body)
        response = reply.body
        entries = tuple(_entry(e) for e in response.iterfind(".//rim:ExtrinsicObject", NS))
        slots = {
            str(s.get("name")): tuple(v.text or "" for v in s.iterfind(".//rim:Value", NS))
            for s in response.iterfind("rs:ResponseSlotList/rim:Slot", NS)
        }
        return XdsAnswer(entries, str(response.get("status")), tuple(parse_error_list(response)), slots)

    @asynccontextmanager
    async def retrieve(self, url: str, requests: Sequence[DocumentRequest]) -> AsyncIterator[SoapStream]:
        """Retrieve documents (ITI-43), their bytes streamed."""
        async with self.soap.stream(url, RETRIEVE, render_retrieve_request(requests)) as stream:
            yield stream

    @asynccontextmanager
    async def retrieve_imaging(self, url: str, request: ImagingRequest) -> AsyncIterator[SoapStream]:
        """Retrieve DICOM instances (RAD-69), their bytes streamed."""
        async with self.soap.stream(url, RETRIEVE_IMAGING, render_imaging_request(request)) as stream:
            yield stream


def _entry(element: etree._Element) -> ListedDocument:
    def values(name: str) -> list[str]:
        return [
            v.text or ""
            for slot in element.iterfind("rim:Slot", NS)
            if slot.get("name") == name
            for v in slot.iterfind(".//rim:Value", NS)
        ]

    unique = [
        e.get("value")
        for e in element.iterfind("rim:ExternalIdentifier", NS)
        if e.get("identificationScheme") == UNIQUE_ID
    ]
    studies = [
        v.split("^")[0] for v in values("urn:ihe:iti:xds:2013:referenceIdList") if v.endswith(CXI_STUDY_UID)
    ]
    title = element.find("rim:Name/rim:LocalizedString", NS)
    return ListedDocument(
        entry_uuid=str(element.get("id")),
        unique_id=str(unique[0]) if unique else "",
        repository_unique_id=next(iter(values("repositoryUniqueId")), ""),
        study_uid=next(iter(studies), ""),
        title=str(title.get("value")) if title is not None else "",
        status=str(element.get("status")).rsplit(":", 1)[-1],
    )
