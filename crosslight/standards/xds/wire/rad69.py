"""RAD-69 Retrieve Imaging Document Set: the request (RAD TF-2 4.69).

The response is ITI-43's (``retrieve.py``).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from crosslight.standards.ids import is_uid
from crosslight.standards.xds.model.xml import XDSB, XDSIB, Element, attribute, child, children, esc, text_of
from crosslight.standards.xds.rules.errors import refusal
from crosslight.standards.xds.wire.retrieve import (
    MAX_DOCUMENTS,
    DocumentRequest,
    parse_document_request,
    render_document_ids,
)

ACTION_REQUEST = "urn:ihe:rad:2009:RetrieveImagingDocumentSet"
#: Three sources agree: the response's Action is ITI-43's.
ACTION_RESPONSE = "urn:ihe:iti:2007:RetrieveDocumentSetResponse"


@dataclass(frozen=True, slots=True)
class SeriesRequest:
    """Documents (instances) of one series."""

    series_uid: str
    documents: tuple[DocumentRequest, ...]


@dataclass(frozen=True, slots=True)
class StudyRequest:
    """Series of one study."""

    study_uid: str
    series: tuple[SeriesRequest, ...]


@dataclass(frozen=True, slots=True)
class ImagingRequest:
    """Instances asked for, in any of the transfer syntaxes, best first."""

    studies: tuple[StudyRequest, ...]
    transfer_syntaxes: tuple[str, ...]

    def instances(self) -> Iterator[tuple[str, str, DocumentRequest]]:
        """(study UID, series UID, document request) of each instance, in order."""
        for study in self.studies:
            for series in study.series:
                for document in series.documents:
                    yield study.study_uid, series.series_uid, document

    @property
    def asked(self) -> int:
        """How many instances."""
        return sum(1 for _ in self.instances())


def parse_imaging_request(element: Element) -> ImagingRequest:
    """Read a request.

    Raises:
        RegistryRefusal: XDSIRequestError where ids are missing or it is another element, XDSRepositoryError
            where no usable transfer syntax is named (RAD TF-2 4.69.4.2.3; NIST ids_2018-4811).
    """
    if element.tag != f"{{{XDSIB}}}RetrieveImagingDocumentSetRequest":
        raise refusal("XDSIRequestError", "The body is not a RetrieveImagingDocumentSetRequest.")
    studies = tuple(_study(row) for row in children(element, XDSIB, "StudyRequest"))
    request = ImagingRequest(studies, _syntaxes(element))
    if not studies or request.asked == 0:
        raise refusal("XDSIRequestError", "No instance is asked for.")
    if request.asked > MAX_DOCUMENTS:
        raise refusal("XDSIRequestError", f"More than {MAX_DOCUMENTS} instances are asked for at once.")
    return request


def _syntaxes(element: Element) -> tuple[str, ...]:
    listed = child(element, XDSIB, "TransferSyntaxUIDList")
    elements = () if listed is None else children(listed, XDSIB, "TransferSyntaxUID")
    texts = [text_of(element).strip() for element in elements]
    if not texts or not all(texts):
        raise refusal("XDSRepositoryError", "No transfer syntax is named.")
    if not all(is_uid(t) for t in texts):
        raise refusal("XDSRepositoryError", "A transfer syntax is not a UID.")
    return tuple(dict.fromkeys(texts))


def _study(row: Element) -> StudyRequest:
    uid = attribute(row, "studyInstanceUID")
    if not is_uid(uid):
        raise refusal("XDSIRequestError", "A StudyRequest has no studyInstanceUID.")
    series = tuple(_series(s) for s in children(row, XDSIB, "SeriesRequest"))
    if not series:
        raise refusal("XDSIRequestError", "A StudyRequest has no SeriesRequest.", uid)
    return StudyRequest(uid, series)


def _series(row: Element) -> SeriesRequest:
    uid = attribute(row, "seriesInstanceUID")
    if not is_uid(uid):
        raise refusal("XDSIRequestError", "A SeriesRequest has no seriesInstanceUID.")
    # Two published schemas differ in the namespace of DocumentRequest (NIST: xds-b, IPF: xdsi-b); its
    # children are xds-b.
    rows = (*children(row, XDSB, "DocumentRequest"), *children(row, XDSIB, "DocumentRequest"))
    documents = tuple(parse_document_request(d) for d in rows)
    if not documents or any(not d.repository_unique_id or not d.document_unique_id for d in documents):
        raise refusal("XDSIRequestError", "A DocumentRequest has no repository or unique id.", uid)
    return SeriesRequest(uid, tuple(dict.fromkeys(documents)))


def render_imaging_request(request: ImagingRequest) -> bytes:
    """The body of a RAD-69 request."""
    parts = [f'<xdsi:RetrieveImagingDocumentSetRequest xmlns:xdsi="{XDSIB}" xmlns:xdsb="{XDSB}">']
    for study in request.studies:
        parts.append(f'<xdsi:StudyRequest studyInstanceUID="{esc(study.study_uid)}">')
        for series in study.series:
            parts.append(f'<xdsi:SeriesRequest seriesInstanceUID="{esc(series.series_uid)}">')
            parts.extend(
                f"<xdsb:DocumentRequest>{render_document_ids(d)}</xdsb:DocumentRequest>"
                for d in series.documents
            )
            parts.append("</xdsi:SeriesRequest>")
        parts.append("</xdsi:StudyRequest>")
    parts.append("<xdsi:TransferSyntaxUIDList>")
    parts.extend(
        f"<xdsi:TransferSyntaxUID>{esc(t)}</xdsi:TransferSyntaxUID>" for t in request.transfer_syntaxes
    )
    parts.append("</xdsi:TransferSyntaxUIDList></xdsi:RetrieveImagingDocumentSetRequest>")
    return "".join(parts).encode()
