"""WADO-RS retrieve of instances and metadata (PS3.18 10.4.1.1.1 to .3, 10.4.1.2), streamed from disk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiohttp import hdrs, web

from crosslight.standards.dicom import accept
from crosslight.standards.dicom.accept import DICOM, MediaRange, Offer
from crosslight.standards.dicom.multipart import PartHead, RelatedWriter
from node.archive.model import StoredObject
from node.serve.context import ServeContext
from node.serve.query import JSON_OFFERS, json_response, ranges_of, uids_of
from node.serve.release import Act
from node.serve.representations import Prepared, prepare, syntaxes_of
from node.serve.stream import Piece, Source, chunks, pieces_of, read_ahead, send


async def metadata(serve: ServeContext, request: web.Request) -> web.Response:
    """``/metadata`` of a study, series or instance: the objects made at ingest, joined."""
    media = accept.require(ranges_of(request), JSON_OFFERS).media
    study, series, instance = uids_of(request)
    async with serve.release.act(request, "read", (study,), "dicomweb") as act:
        objects = await serve.archive.metadata(study, series, instance)
        if not objects:
            raise await serve.missing(study, series, instance)
        act.sent(len(objects), "objects")
        return json_response(request, b"[" + b",".join(objects) + b"]", media)


async def instances(serve: ServeContext, request: web.Request) -> web.StreamResponse:
    """A study, series or instance, as multipart or (one instance) as a single part."""
    ranges = ranges_of(request)
    study, series, instance = uids_of(request)
    async with serve.release.act(request, "retrieve", (study,), "dicomweb") as act:
        objects = await serve.held(study, series, instance)
        related = _form(ranges, objects)
        async with prepare(serve, objects, lambda syntaxes: _syntax(ranges, syntaxes, related)) as prepared:
            if not prepared.sources:
                raise prepared.refused[0][1]
            if related:
                return await _send_related(serve, request, prepared, act)
            return await _send_single(serve, request, prepared.sources[0], act)


def _form(ranges: Sequence[MediaRange], objects: Sequence[StoredObject]) -> bool:
    """Multipart (True) or single part; raises NotAcceptable when neither is taken for any instance."""
    offers = [Offer(DICOM, related=True, transfer_syntax=s) for found in objects[:1000] for s in syntaxes_of(found)]
    if len(objects) == 1:
        offers += [Offer(DICOM, transfer_syntax=s) for s in syntaxes_of(objects[0])]
    return accept.require(ranges, list(dict.fromkeys(offers))).related


def _syntax(ranges: Sequence[MediaRange], syntaxes: Sequence[str], related: bool) -> str | None:
    chosen = accept.choose(ranges, [Offer(DICOM, related=related, transfer_syntax=s) for s in syntaxes])
    return None if chosen is None else chosen.transfer_syntax


def part_type(source: Source) -> str:
    """Content-Type of an instance."""
    return f"{DICOM}; transfer-syntax={source.transfer_syntax}"


async def _send_single(serve: ServeContext, request: web.Request, source: Source, act: Act) -> web.StreamResponse:
    response = web.StreamResponse(headers={hdrs.CONTENT_TYPE: part_type(source), hdrs.CONTENT_DISPOSITION: "attachment"})
    response.content_length = source.size
    await send(request, response, chunks(serve.workers, source))
    act.sent(1, "instances")
    return response


async def _send_related(serve: ServeContext, request: web.Request, prepared: Prepared, act: Act) -> web.StreamResponse:
    writer = RelatedWriter(serve.ids.uuid4().hex, DICOM)
    heads = [PartHead(((hdrs.CONTENT_TYPE, part_type(source)),), source.size) for source in prepared.sources]
    response = web.StreamResponse(status=206 if prepared.refused else 200, headers={hdrs.CONTENT_TYPE: writer.content_type})
    if prepared.refused:
        text = f"{len(prepared.refused)} instances cannot be given in a transfer syntax asked for."
        response.headers["Warning"] = f'299 {request.host}: "{text}"'
    response.content_length = writer.content_length(heads)
    await send(request, response, read_ahead(serve.workers, _pieces(writer, heads, prepared.sources)))
    act.sent(len(heads), "instances")
    return response


def _pieces(writer: RelatedWriter, heads: Sequence[PartHead], sources: Sequence[Source]) -> Iterator[Piece]:
    for i, (head, source) in enumerate(zip(heads, sources, strict=True)):
        yield from pieces_of(source, writer.before(head, first=i == 0))
    yield Piece(before=writer.end())
