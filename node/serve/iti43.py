"""ITI-43 Retrieve Document Set (ITI TF-2 3.43): this trust's imaging manifests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from crosslight.runtime.soap.endpoint import Call, Multipart, Reply, Transaction
from crosslight.runtime.soap.server import Part
from crosslight.standards.xds.rules.errors import RegistryError, RegistryRefusal
from crosslight.standards.xds.wire.retrieve import (
    ACTION_REQUEST,
    ACTION_RESPONSE,
    DocumentRequest,
    DocumentResponse,
    parse_retrieve_request,
    render_retrieve_response,
)
from node.serve.context import ServeContext
from node.serve.release import GRANT

HELD_BYTES = 16 << 20  # of manifests kept in memory; those beyond are read again when their turn comes
MIME_TYPE = "application/dicom"  # an XDS-I.b manifest is a DICOM Part 10 file
#: A document that is sent: the request it answers, mime type, size, bytes.
Document = tuple[DocumentRequest, str, int | None, AsyncIterator[bytes]]


class ManifestStore(Protocol):
    """Manifests as they were published: every revision that can still be asked for (D14)."""

    async def manifest(self, document_uid: str) -> bytes | None:
        """The bytes that the DocumentEntry's hash and size describe; None when there is no such manifest."""
        ...

    async def study_of(self, document_uid: str) -> str | None:
        """The study that a manifest lists; None when there is no such manifest."""
        ...


class RetrieveDocumentSet(Transaction):
    """The transaction: each document is found or has its error; status as ITI TF-2 3.43.4.2.2."""

    action, response_action = ACTION_REQUEST, ACTION_RESPONSE
    told = RegistryRefusal
    refused_as_mtom = True

    def __init__(self, serve: ServeContext, manifests: ManifestStore) -> None:
        self._serve, self._manifests = serve, manifests

    async def answer(self, call: Call) -> Reply:
        """The documents asked for, as parts."""
        return self._documents(call, parse_retrieve_request(call.body))

    def refuse(self, errors: tuple[RegistryError, ...]) -> bytes:
        """A RegistryResponse with status Failure (ITI TF-2 3.43.4.2.2)."""
        return render_retrieve_response([], errors, 0)

    @asynccontextmanager
    async def _documents(self, call: Call, asked: Sequence[DocumentRequest]) -> AsyncIterator[Multipart]:
        own, manifests = str(self._serve.repository_unique_id()), self._manifests
        known = [request for request in asked if request.repository_unique_id == own]
        errors = [
            RegistryError(
                "XDSUnknownRepositoryId", "This repository has another id.", request.document_unique_id
            )
            for request in asked
            if request.repository_unique_id != own
        ]
        studies = {request: await manifests.study_of(request.document_unique_id) for request in known}
        listed = sorted({study for study in studies.values() if study is not None})
        if not listed and GRANT in call.request:
            # nothing will leave: a token for whatever study may learn that
            listed = sorted(call.request[GRANT].studies)
        documents: list[Document] = []
        total_bytes, query = 0, {"documents": len(asked)}
        async with self._serve.release.act(call.request, "retrieve", listed, "iti43", query=query) as act:
            for document in known:
                uid = document.document_unique_id
                data = None if studies[document] is None else await manifests.manifest(uid)
                if data is None:
                    errors.append(
                        RegistryError("XDSDocumentUniqueIdError", "There is no such document.", uid)
                    )
                else:
                    total_bytes += len(data)
                    chunks = _once(data) if total_bytes <= HELD_BYTES else _again(manifests, uid)
                    documents.append((document, MIME_TYPE, len(data), chunks))
            act.gave(len(documents), "documents", of=len(asked))
            yield multipart(documents, errors, len(asked))


async def _once(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def _again(manifests: ManifestStore, document_uid: str) -> AsyncIterator[bytes]:
    """Read when its turn comes: a request may name more manifests than should be in memory at once."""
    yield await manifests.manifest(document_uid) or b""


def multipart(sent: Sequence[Document], errors: Sequence[RegistryError], asked: int) -> Multipart:
    """The RetrieveDocumentSetResponse of ITI-43 and RAD-69."""
    responses, parts = [], []
    for i, (request, mime_type, size, chunks) in enumerate(sent):
        content_id = f"document{i + 1}@crosslight"
        responses.append(DocumentResponse(request, mime_type, content_id))
        parts.append(Part(content_id=content_id, content_type=mime_type, size=size, chunks=chunks))
    return Multipart(render_retrieve_response(responses, errors, asked), parts)
