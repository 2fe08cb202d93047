"""ITI-43 Retrieve Document Set: requests and responses (ITI TF-2 3.43).

RAD-69 shares the response (``rad69.py``).
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import quote, unquote

from crosslight.standards.problem import Malformed, TooLarge
from crosslight.standards.xds.model.xml import (
    RS,
    XDSB,
    XOP,
    Element,
    attribute,
    child,
    children,
    esc,
    text_of,
)
from crosslight.standards.xds.rules.errors import RegistryError
from crosslight.standards.xds.wire.response import (
    RegistryReply,
    parse_registry_response,
    render_error_list,
    status_of,
)

ACTION_REQUEST = "urn:ihe:iti:2007:RetrieveDocumentSet"
ACTION_RESPONSE = "urn:ihe:iti:2007:RetrieveDocumentSetResponse"
MAX_DOCUMENTS = 10_000  # in one request


@dataclass(frozen=True, slots=True)
class DocumentRequest:
    """One document by its repository and uniqueId; the home community is echoed when it was given."""

    repository_unique_id: str
    document_unique_id: str
    home_community_id: str = ""


@dataclass(frozen=True, slots=True)
class DocumentResponse:
    """One document that is sent; its bytes are the MIME part with this Content-ID (without ``<>``)."""

    request: DocumentRequest
    mime_type: str
    content_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RetrievedDocument:
    """One document that was received: inline, or in the part ``content_id``."""

    request: DocumentRequest
    mime_type: str
    content_id: str = ""
    data: bytes | None = None


@dataclass(frozen=True, slots=True)
class RetrieveReply:
    """A repository's or imaging source's answer."""

    registry: RegistryReply
    documents: tuple[RetrievedDocument, ...]

    @property
    def by_content_id(self) -> dict[str, RetrievedDocument]:
        """Documents whose bytes come as parts."""
        return {d.content_id: d for d in self.documents if d.content_id}


def parse_document_request(element: Element) -> DocumentRequest:
    """Read one xdsb:DocumentRequest (or DocumentResponse), in whatever order its children stand."""
    return DocumentRequest(
        repository_unique_id=text_of(child(element, XDSB, "RepositoryUniqueId")).strip(),
        document_unique_id=text_of(child(element, XDSB, "DocumentUniqueId")).strip(),
        home_community_id=text_of(child(element, XDSB, "HomeCommunityId")).strip(),
    )


def parse_retrieve_request(element: Element) -> list[DocumentRequest]:
    """The documents asked for, in order, duplicates dropped.

    Raises:
        Malformed: another element, no document, or a document without its ids.
        TooLarge: more than ``MAX_DOCUMENTS``.
    """
    if element.tag != f"{{{XDSB}}}RetrieveDocumentSetRequest":
        raise Malformed("The body is not a RetrieveDocumentSetRequest.", why="ITI TF-2 3.43.4.1.")
    rows = children(element, XDSB, "DocumentRequest")
    if len(rows) > MAX_DOCUMENTS:
        raise TooLarge("Too many documents are asked for at once.", why=f"Limit here: {MAX_DOCUMENTS}.")
    requests = list(dict.fromkeys(parse_document_request(row) for row in rows))
    if not requests or any(not r.repository_unique_id or not r.document_unique_id for r in requests):
        raise Malformed(
            "A document is asked for without its repository or unique id.", why="ITI TF-2 3.43.4.1.2."
        )
    return requests


def render_document_ids(request: DocumentRequest) -> str:
    """HomeCommunityId?, RepositoryUniqueId, DocumentUniqueId in the default namespace ``xdsb``."""
    home = esc(request.home_community_id)
    if home:
        home = f"<xdsb:HomeCommunityId>{home}</xdsb:HomeCommunityId>"
    return (
        f"{home}<xdsb:RepositoryUniqueId>{esc(request.repository_unique_id)}</xdsb:RepositoryUniqueId>"
        f"<xdsb:DocumentUniqueId>{esc(request.document_unique_id)}</xdsb:DocumentUniqueId>"
    )


def render_retrieve_request(requests: Iterable[DocumentRequest]) -> bytes:
    """The body of an ITI-43 request."""
    rows = "".join(f"<xdsb:DocumentRequest>{render_document_ids(r)}</xdsb:DocumentRequest>" for r in requests)
    name = "xdsb:RetrieveDocumentSetRequest"
    return f'<{name} xmlns:xdsb="{XDSB}">{rows}</{name}>'.encode()


def render_retrieve_response(
    documents: Sequence[DocumentResponse], errors: Sequence[RegistryError], asked: int
) -> bytes:
    """The body of an ITI-43 or RAD-69 response; documents are xop:Include.

    Status by ITI TF-2 3.43.4.2.2: Success when all ``asked`` are sent without an error, PartialSuccess when
    some are, Failure when none is.
    """
    status = status_of(errors, results=len(documents), partial=True)
    if len(documents) < asked and not any(e.severity == "Error" for e in errors):
        raise ValueError("every document that is not sent needs its RegistryError")
    rows = "".join(
        f"<xdsb:DocumentResponse>{render_document_ids(d.request)}<xdsb:mimeType>{esc(d.mime_type)}</xdsb:mimeType>"
        f'<xdsb:Document><xop:Include xmlns:xop="{XOP}"'
        f' href="cid:{quote(d.content_id, safe="@.-_")}"/></xdsb:Document>'
        "</xdsb:DocumentResponse>"
        for d in documents
    )
    return (
        f'<xdsb:RetrieveDocumentSetResponse xmlns:xdsb="{XDSB}" xmlns:rs="{RS}">'
        f'<rs:RegistryResponse status="{status}">{render_error_list(errors)}</rs:RegistryResponse>{rows}'
        "</xdsb:RetrieveDocumentSetResponse>"
    ).encode()


def parse_retrieve_response(element: Element) -> RetrieveReply:
    """Read an ITI-43 or RAD-69 response, with inline documents or references to parts.

    Raises:
        Malformed: another element, or inline content that is not base64.
    """
    if element.tag != f"{{{XDSB}}}RetrieveDocumentSetResponse":
        raise Malformed("The body is not a RetrieveDocumentSetResponse.", why="ITI TF-2 3.43.4.2.")
    registry = child(element, RS, "RegistryResponse")
    if registry is None:
        raise Malformed("The answer has no RegistryResponse.", why="ITI TF-2 3.43.4.2.2.")
    documents = tuple(_document(row) for row in children(element, XDSB, "DocumentResponse"))
    return RetrieveReply(parse_registry_response(registry), documents)


def _document(row: Element) -> RetrievedDocument:
    request, mime = parse_document_request(row), text_of(child(row, XDSB, "mimeType")).strip()
    content = child(row, XDSB, "Document")
    if content is None:
        raise Malformed("A DocumentResponse has no Document.", why="ITI TF-2 3.43.4.2.2.")
    include = child(content, XOP, "Include")
    if include is not None:
        return RetrievedDocument(request=request, mime_type=mime, content_id=content_id_of(include))
    try:
        data = base64.b64decode("".join(text_of(content).split()), validate=True)
    except (binascii.Error, ValueError):
        raise Malformed("An inline document is not base64.") from None
    return RetrievedDocument(request=request, mime_type=mime, data=data)


def content_id_of(include: Element) -> str:
    """The Content-ID, without ``<>``, that an xop:Include names (RFC 2392: URL-decoded).

    Raises:
        Malformed: no ``cid:`` reference.
    """
    href = attribute(include, "href")
    if not href.lower().startswith("cid:") or len(href) < 5:
        raise Malformed("An xop:Include has no cid reference.", why="XOP 2.1.")
    return unquote(href[4:])
