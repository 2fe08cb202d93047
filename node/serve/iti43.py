"""ITI-43 Retrieve Document Set (ITI TF-2 3.43): this trust's imaging manifests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from aiohttp import web

from crosslight.runtime.soap.server import Part, soap_response, stream_mtom
from crosslight.standards.problem import CrosslightError, OurError
from crosslight.standards.xds.rules.errors import RegistryError, registry_errors
from crosslight.standards.xds.wire.retrieve import (
    ACTION_REQUEST,
    ACTION_RESPONSE,
    DocumentRequest,
    DocumentResponse,
    parse_retrieve_request,
    render_retrieve_response,
)
from crosslight.standards.xds.wire.soap import Envelope
from node.serve.context import ServeContext
from node.serve.release import GRANT

__all__ = ["ACTION_REQUEST", "ManifestStore", "answer", "retrieve"]

HELD_BYTES = 16 << 20  # of manifests in memory at once
MIME_TYPE = "application/dicom"  # an XDS-I.b manifest is a DICOM Part 10 file


class ManifestStore(Protocol):
    """Manifests as they were published: every revision that can still be asked for (D14)."""

    async def manifest(self, document_uid: str) -> bytes | None:
        """The bytes that the DocumentEntry's hash and size describe; None when there is no such manifest."""
        ...

    async def study_of(self, document_uid: str) -> str | None:
        """The study that a manifest lists; None when there is no such manifest."""
        ...


async def retrieve(serve: ServeContext, manifests: ManifestStore, request: web.Request, envelope: Envelope) -> web.StreamResponse:
    """Answer one request: each document is found or has its error; status as ITI TF-2 3.43.4.2.2."""
    asked = parse_retrieve_request(envelope.body)
    own = str(serve.repository_unique_id())
    known = [d for d in asked if d.repository_unique_id == own]
    errors = [
        RegistryError("XDSUnknownRepositoryId", "This repository has another id.", d.document_unique_id)
        for d in asked
        if d.repository_unique_id != own
    ]
    studies = {d: await manifests.study_of(d.document_unique_id) for d in known}
    listed = sorted({study for study in studies.values() if study is not None})
    if not listed and GRANT in request:
        listed = sorted(request[GRANT].studies)  # nothing will leave: a token for whatever study may learn that
    found: list[tuple[DocumentRequest, str, int, AsyncIterator[bytes]]] = []
    held = 0
    async with serve.release.act(request, "retrieve", listed, "iti43", query={"documents": len(asked)}) as act:
        for document in known:
            data = None if studies[document] is None else await manifests.manifest(document.document_unique_id)
            if data is None:
                missing = RegistryError("XDSDocumentUniqueIdError", "There is no such document.", document.document_unique_id)
                errors.append(missing)
            else:
                held += len(data)
                uid = document.document_unique_id
                chunks = _once(data) if held <= HELD_BYTES else _again(manifests, uid)
                found.append((document, MIME_TYPE, len(data), chunks))
        act.sent(len(found), f"documents of {len(asked)}")
        return await answer(request, envelope, found, errors, len(asked))


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _again(manifests: ManifestStore, document_uid: str) -> AsyncIterator[bytes]:
    """Read when its turn comes: a request may name more manifests than should be in memory at once."""
    yield await manifests.manifest(document_uid) or b""


async def answer(
    request: web.Request,
    envelope: Envelope,
    found: Sequence[tuple[DocumentRequest, str, int, AsyncIterator[bytes]]],
    errors: Sequence[RegistryError],
    asked: int,
) -> web.StreamResponse:
    """The RetrieveDocumentSetResponse of ITI-43 and RAD-69: (request, mime type, size, bytes) of what is sent."""
    documents, parts = [], []
    for i, (document, mime_type, size, chunks) in enumerate(found):
        content_id = f"document{i + 1}@crosslight"
        documents.append(DocumentResponse(document, mime_type, content_id))
        parts.append(Part(content_id=content_id, content_type=mime_type, size=size, chunks=chunks))
    body = render_retrieve_response(documents, errors, asked)
    return await stream_mtom(request, envelope, body, ACTION_RESPONSE, parts)


def refuse(request: web.Request, envelope: Envelope, error: CrosslightError) -> web.Response:
    """A request that is refused as a whole: Failure, in the payload (ITI TF-2 3.43.4.2.2)."""
    if isinstance(error, OurError):
        raise error
    body = render_retrieve_response([], registry_errors(error), 0)
    return soap_response(request, envelope, body, ACTION_RESPONSE, mtom=True)
