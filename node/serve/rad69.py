"""RAD-69 Retrieve Imaging Document Set (RAD TF-2 4.69): instances as MTOM parts, streamed from disk.

An instance is found by its whole triple of study, series and instance. It is given as stored when its
transfer syntax is among those asked for, re-encoded when Explicit VR Little Endian is, and has its own error
otherwise.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from crosslight.runtime.shares import share_of
from crosslight.runtime.soap.endpoint import Call, Multipart, Reply, Transaction
from crosslight.standards.problem import NotAcceptable
from crosslight.standards.xds.rules.errors import RegistryError, RegistryRefusal
from crosslight.standards.xds.wire.rad69 import ACTION_REQUEST, ImagingRequest, parse_imaging_request
from crosslight.standards.xds.wire.retrieve import ACTION_RESPONSE, DocumentRequest, render_retrieve_response
from node.holdings import StoredObject
from node.serve.context import ServeContext
from node.serve.iti43 import MIME_TYPE, multipart
from node.serve.opened_objects import chunks
from node.serve.representations import prepare

CANNOT_ENCODE = "The pixel data cannot be encoded in any of the requested transfer syntaxes."


class RetrieveImagingDocumentSet(Transaction):
    """The transaction: Success, PartialSuccess or Failure, with an error for each instance not sent."""

    action, response_action = ACTION_REQUEST, ACTION_RESPONSE
    told = RegistryRefusal
    refused_as_mtom = True

    def __init__(self, serve: ServeContext) -> None:
        self._serve = serve

    async def answer(self, call: Call) -> Reply:
        """The instances asked for, as parts."""
        return self._instances(call, parse_imaging_request(call.body))

    def refuse(self, errors: tuple[RegistryError, ...]) -> bytes:
        """RegistryResponse Failure (ITI TF-2 3.43.4.2.2)."""
        return render_retrieve_response([], errors, 0)

    @asynccontextmanager
    async def _instances(self, call: Call, asked: ImagingRequest) -> AsyncIterator[Multipart]:
        serve = self._serve
        studies = list(dict.fromkeys(study.study_uid for study in asked.studies))
        query = {"instances": asked.asked, "transfer_syntaxes": list(asked.transfer_syntaxes)[:20]}
        async with serve.release.act(call.request, "retrieve", studies, "rad69", query=query) as act:
            wanted, errors = await _find(serve, asked, studies)
            objects = [stored for _, stored in wanted]
            async with prepare(
                serve,
                objects,
                lambda syntaxes: _syntax(asked.transfer_syntaxes, syntaxes),
                share_of(call.caller),
            ) as prepared:
                refused = {stored.ref.sop_uid: problem for stored, problem in prepared.refused}
                sources = {source.object.ref.sop_uid: source for source in prepared.sources}
                for document, stored in wanted:
                    problem = refused.get(stored.ref.sop_uid)
                    if problem is not None:
                        text = CANNOT_ENCODE if isinstance(problem, NotAcceptable) else problem.what
                        errors.append(RegistryError("XDSRepositoryError", text, document.document_unique_id))
                sent = [
                    (request, sources[stored.ref.sop_uid])
                    for request, stored in wanted
                    if stored.ref.sop_uid in sources
                ]
                partner, paced = serve.bandwidth.partner_of(call.request), serve.bandwidth.paced
                documents = [
                    (request, MIME_TYPE, source.size, paced(partner, chunks(serve, source)))
                    for request, source in sent
                ]
                act.gave(len(documents), "instances", of=asked.asked)
                yield multipart(documents, errors, asked.asked)


def _syntax(asked: Sequence[str], possible: Sequence[str]) -> str | None:
    """As stored if that is taken, else what else can be made of it."""
    return next((syntax for syntax in possible if syntax in asked), None)


async def _find(
    serve: ServeContext, asked: ImagingRequest, studies: Sequence[str]
) -> tuple[list[tuple[DocumentRequest, StoredObject]], list[RegistryError]]:
    """Instances that are held here, in the order asked for, and an error for each of the others."""
    by_triple: dict[tuple[str, str, str], StoredObject] = {}
    for study in studies:
        for stored in await serve.holdings.objects(study):
            by_triple[study, stored.ref.series_uid, stored.ref.sop_uid] = stored
    own = str(serve.retrieve_location_uid())
    wanted: list[tuple[DocumentRequest, StoredObject]] = []
    errors: list[RegistryError] = []
    for study, series, document in asked.instances():
        uid = document.document_unique_id
        instance = by_triple.get((study, series, uid))
        if document.repository_unique_id != own:
            errors.append(RegistryError("XDSUnknownRepositoryId", "This imaging source has another id.", uid))
        elif instance is None:
            errors.append(
                RegistryError("XDSDocumentUniqueIdError", "No such instance in this study and series.", uid)
            )
        else:
            wanted.append((document, instance))
    return wanted, errors
