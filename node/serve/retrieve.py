"""WADO-RS retrieve of instances and metadata (PS3.18 10.4.1.1.1 to .3, 10.4.1.2), streamed from disk."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import hdrs, web
from multidict import CIMultiDict

from crosslight.runtime.audit import Act
from crosslight.runtime.caching import tag_of
from crosslight.standards.dicom.web import accept
from crosslight.standards.dicom.web.accept import DICOM, MediaRange, Offer
from crosslight.standards.dicom.web.multipart import PartHead, RelatedWriter
from node.holdings import StoredObject
from node.serve.context import ServeContext, share_at
from node.serve.opened_objects import Rendition
from node.serve.qido import JSON_OFFERS, json_response, ranges_of, uids_of
from node.serve.representations import Prepared, prepare, syntaxes_of
from node.serve.stream import LateHeadersResponse, Outgoing, send_objects
from node.serve.validators import headers_of, not_modified, of_objects


async def metadata(serve: ServeContext, request: web.Request) -> web.Response:
    """``/metadata`` of a study, series or instance: the objects made at ingest, joined."""
    media = accept.require(ranges_of(request), JSON_OFFERS).media
    study, series, instance = uids_of(request)
    async with serve.release.act(request, "read", (study,), "dicomweb", deferred=True) as act:
        objects = await serve.holdings.metadata(study, series, instance)
        if not objects:
            raise await serve.missing(study, series, instance)
        body = b"[" + b",".join(objects) + b"]"
        headers = headers_of(request, tag_of(body))
        if (same := not_modified(request, headers)) is not None:
            act.gave(0, "objects")
            return same
        act.gave(len(objects), "objects")
        return json_response(request, body, media, headers)


async def instances(serve: ServeContext, request: web.Request) -> web.StreamResponse:
    """A study, series or instance, as multipart or (one instance) as a single part."""
    ranges = ranges_of(request)
    study, series, instance = uids_of(request)
    async with serve.release.act(request, "retrieve", (study,), "dicomweb", deferred=True) as act:
        objects = await serve.held(study, series, instance)
        headers = headers_of(request, of_objects(request, objects))
        if (same := not_modified(request, headers)) is not None:
            act.gave(0, "instances")
            return same
        related = _form(ranges, objects)
        async with prepare(
            serve, objects, lambda syntaxes: _syntax(ranges, syntaxes, related), share_at(request)
        ) as prepared:
            if not prepared.sources:
                raise prepared.refused[0][1]
            if related:
                return await _send_related(serve, request, prepared, act, headers)
            return await _send_single(serve, request, prepared.sources[0], act, headers)


def _form(ranges: Sequence[MediaRange], objects: Sequence[StoredObject]) -> bool:
    """Multipart (True) or single part; raises NotAcceptable when neither is taken for any instance."""
    of_each_syntax = {stored.ref.transfer_syntax_uid: stored for stored in objects}.values()
    offers = [
        Offer(DICOM, related=True, transfer_syntax=syntax)
        for stored in of_each_syntax
        for syntax in syntaxes_of(stored)
    ]
    if len(objects) == 1:
        offers += [Offer(DICOM, transfer_syntax=syntax) for syntax in syntaxes_of(objects[0])]
    return accept.require(ranges, list(dict.fromkeys(offers))).related


def _syntax(ranges: Sequence[MediaRange], syntaxes: Sequence[str], related: bool) -> str | None:
    chosen = accept.choose(
        ranges, [Offer(DICOM, related=related, transfer_syntax=syntax) for syntax in syntaxes]
    )
    return None if chosen is None else chosen.transfer_syntax


def part_type(source: Rendition) -> str:
    """Content-Type of an instance."""
    return f"{DICOM}; transfer-syntax={source.transfer_syntax}"


async def _send_single(
    serve: ServeContext, request: web.Request, source: Rendition, act: Act, headers: CIMultiDict[str]
) -> web.StreamResponse:
    headers[hdrs.CONTENT_TYPE], headers[hdrs.CONTENT_DISPOSITION] = part_type(source), "attachment"
    response = LateHeadersResponse(headers=headers)
    await send_objects(serve, request, response, [Outgoing(source=source)], act)
    act.gave(1, "instances")
    return response


async def _send_related(
    serve: ServeContext, request: web.Request, prepared: Prepared, act: Act, headers: CIMultiDict[str]
) -> web.StreamResponse:
    writer = RelatedWriter(serve.ids.token_bytes(16).hex(), DICOM)
    headers[hdrs.CONTENT_TYPE] = writer.content_type
    response = LateHeadersResponse(status=206 if prepared.refused else 200, headers=headers)
    if prepared.refused:
        text = f"{len(prepared.refused)} instances cannot be given in a transfer syntax asked for."
        response.headers.add("Warning", f'299 {request.host}: "{text}"')
    await send_objects(serve, request, response, _parts(writer, prepared.sources), act)
    act.gave(len(prepared.sources), "instances")
    return response


def _parts(writer: RelatedWriter, sources: Sequence[Rendition]) -> list[Outgoing]:
    befores: dict[tuple[str, bool], bytes] = {}
    parts = []
    for i, source in enumerate(sources):
        kind = (source.transfer_syntax, i == 0)
        before = befores.get(kind)
        if before is None:
            head = PartHead(((hdrs.CONTENT_TYPE, part_type(source)),), source.size or 0)
            before = befores[kind] = writer.before(head, first=i == 0)
        parts.append(Outgoing(before=before, source=source))
    parts.append(Outgoing(before=writer.end()))
    return parts
