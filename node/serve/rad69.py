"""RAD-69 Retrieve Imaging Document Set (RAD TF-2 4.69): instances as MTOM parts, streamed from disk.

An instance is found by its whole triple of study, series and instance. It is given as stored when its transfer syntax is among
those asked for, re-encoded when Explicit VR Little Endian is, and has its own error otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

from crosslight.standards.problem import NotAcceptable
from crosslight.standards.xds.rules.errors import RegistryError, RegistryRefusal
from crosslight.standards.xds.wire.rad69 import ACTION_REQUEST, ImagingRequest, parse_imaging_request
from crosslight.standards.xds.wire.retrieve import DocumentRequest
from crosslight.standards.xds.wire.soap import Envelope
from node.archive.model import StoredObject
from node.serve.context import ServeContext
from node.serve.iti43 import MIME_TYPE, answer, refuse
from node.serve.representations import prepare
from node.serve.stream import chunks

__all__ = ["ACTION_REQUEST", "retrieve"]

CANNOT_ENCODE = "The pixel data cannot be encoded in any of the requested transfer syntaxes."


async def retrieve(serve: ServeContext, request: web.Request, envelope: Envelope) -> web.StreamResponse:
    """Answer one request: Success, PartialSuccess or Failure, with one RegistryError for each instance that is not sent."""
    try:
        asked = parse_imaging_request(envelope.body)
    except RegistryRefusal as error:
        return refuse(request, envelope, error)
    studies = list(dict.fromkeys(study.study_uid for study in asked.studies))
    query = {"instances": asked.asked, "transfer_syntaxes": list(asked.transfer_syntaxes)[:20]}
    async with serve.release.act(request, "retrieve", studies, "rad69", query=query) as act:
        wanted, errors = await _find(serve, asked, studies)
        objects = [found for _, found in wanted]
        async with prepare(serve, objects, lambda syntaxes: _syntax(asked.transfer_syntaxes, syntaxes)) as prepared:
            refused = {found.ref.sop_uid: problem for found, problem in prepared.refused}
            sources = {source.object.ref.sop_uid: source for source in prepared.sources}
            for document, found in wanted:
                problem = refused.get(found.ref.sop_uid)
                if problem is not None:
                    text = CANNOT_ENCODE if isinstance(problem, NotAcceptable) else problem.what
                    errors.append(RegistryError("XDSRepositoryError", text, document.document_unique_id))
            sent = [(document, sources[found.ref.sop_uid]) for document, found in wanted if found.ref.sop_uid in sources]
            documents = [(document, MIME_TYPE, source.size, chunks(serve.workers, source)) for document, source in sent]
            act.sent(len(documents), f"instances of {asked.asked}")
            return await answer(request, envelope, documents, errors, asked.asked)


def _syntax(asked: Sequence[str], possible: Sequence[str]) -> str | None:
    """As stored if that is taken, else what else can be made of it."""
    return next((syntax for syntax in possible if syntax in asked), None)


async def _find(
    serve: ServeContext, asked: ImagingRequest, studies: Sequence[str]
) -> tuple[list[tuple[DocumentRequest, StoredObject]], list[RegistryError]]:
    """Instances that are held here, in the order asked for, and an error for each of the others."""
    held: dict[tuple[str, str, str], StoredObject] = {}
    for study in studies:
        for found in await serve.archive.objects(study):
            held[study, found.ref.series_uid, found.ref.sop_uid] = found
    own = str(serve.retrieve_location_uid())
    wanted: list[tuple[DocumentRequest, StoredObject]] = []
    errors: list[RegistryError] = []
    for study, series, document in asked.instances():
        uid = document.document_unique_id
        match = held.get((study, series, uid))
        if document.repository_unique_id != own:
            errors.append(RegistryError("XDSUnknownRepositoryId", "This imaging source has another id.", uid))
        elif match is None:
            errors.append(RegistryError("XDSDocumentUniqueIdError", "No such instance in this study and series.", uid))
        else:
            wanted.append((document, match))
    return wanted, errors
