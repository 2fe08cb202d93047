"""WADO-RS retrieve of instances and metadata (PS3.18 10.4.1.1.1 to .3, 10.4.1.2), streamed from disk."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import AsyncGenerator, Sequence

from aiohttp import hdrs, web
from multidict import CIMultiDict

from crosslight.runtime.audit import Act
from crosslight.runtime.compression import compress_stream
from crosslight.standards.dicom.web import accept
from crosslight.standards.dicom.web.accept import DICOM, MediaRange, Offer
from crosslight.standards.dicom.web.multipart import PartHead, RelatedWriter
from node.holdings import StoredObject
from node.serve.context import ServeContext, share_at
from node.serve.opened_objects import Rendition, sha256_of
from node.serve.qido import JSON_OFFERS, json_response, ranges_of, uids_of
from node.serve.representations import Prepared, prepare, syntaxes_of
from node.serve.stream import LateHeadersResponse, Outgoing, send, send_objects
from node.serve.validators import headers_of, not_modified, of_objects, of_same_bytes, weaken

METADATA_PAGE = 200  # instances whose metadata is in memory at once


async def metadata(serve: ServeContext, request: web.Request) -> web.StreamResponse:
    """``/metadata`` of a study, series or instance: the objects made at ingest, joined page by page."""
    media = accept.require(ranges_of(request), JSON_OFFERS).media
    study, series, instance = uids_of(request)
    async with serve.release.act(request, "read", (study,), "dicomweb", deferred=True) as act:
        objects = await serve.held(study, series, instance)
        headers = headers_of(request, of_objects(request, objects))
        if (same := not_modified(request, headers)) is not None:
            act.gave(0, "objects")
            return same
        act.gave(len(objects), "objects")
        first = await serve.holdings.metadata(objects[:METADATA_PAGE])
        if len(objects) <= METADATA_PAGE:
            return json_response(request, b"[" + b",".join(first) + b"]", media, headers)
        headers[hdrs.CONTENT_TYPE] = media
        response = web.StreamResponse(headers=headers)
        compress_stream(request, response)
        return await send(serve, request, response, _pages(serve, objects, first), act)


async def _pages(
    serve: ServeContext, objects: Sequence[StoredObject], first: list[bytes]
) -> AsyncGenerator[bytes]:
    yield b"[" + b",".join(first)
    for start in range(METADATA_PAGE, len(objects), METADATA_PAGE):
        page = await serve.holdings.metadata(objects[start : start + METADATA_PAGE])
        yield b"," + b",".join(page)
    yield b"]"


async def instances(serve: ServeContext, request: web.Request) -> web.StreamResponse:
    """A study, series or instance, as multipart or (one instance) as a single part."""
    ranges = ranges_of(request)
    study, series, instance = uids_of(request)
    async with serve.release.act(request, "retrieve", (study,), "dicomweb", deferred=True) as act:
        objects = await serve.held(study, series, instance)
        headers = headers_of(request, of_same_bytes(serve, of_objects(request, objects)))
        if (same := not_modified(request, headers)) is not None:
            act.gave(0, "instances")
            return same
        related = _form(ranges, objects)
        async with prepare(
            serve, objects, lambda syntaxes: _syntax(ranges, syntaxes, related), share_at(request)
        ) as prepared:
            if not prepared.sources:
                raise prepared.refused[0][1]
            if prepared.refused or any(source.spooled is not None for source in prepared.sources):
                weaken(headers)  # re-encoding need not give the same bytes again
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
    if _wants_digest(request) and headers.get(hdrs.ETAG, "").startswith('"'):
        digest = base64.b64encode(await sha256_of(serve, source)).decode()
        headers["Repr-Digest"] = f"sha-256=:{digest}:"
    response = LateHeadersResponse(headers=headers)
    await send_objects(serve, request, response, [Outgoing(source=source)], act)
    act.gave(1, "instances")
    return response


def _wants_digest(request: web.Request) -> bool:
    """Whether whoever asks wants to prove what it got, in parts or not (RFC 9530 4)."""
    wanted = request.headers.get("Want-Repr-Digest", "").replace(" ", "").lower()
    return any(
        name == "sha-256" and weight.isdigit() and int(weight) > 0
        for name, _, weight in (part.partition("=") for part in wanted.split(","))
    )


async def _send_related(
    serve: ServeContext, request: web.Request, prepared: Prepared, act: Act, headers: CIMultiDict[str]
) -> web.StreamResponse:
    writer = RelatedWriter(_boundary(serve, headers.get(hdrs.ETAG, "")), DICOM)
    headers[hdrs.CONTENT_TYPE] = writer.content_type
    response = LateHeadersResponse(status=206 if prepared.refused else 200, headers=headers)
    if prepared.refused:
        damaged = sum(stored.damaged for stored, _ in prepared.refused)
        for count, why in (
            (len(prepared.refused) - damaged, "cannot be given in a transfer syntax asked for."),
            (damaged, "are damaged in the archive, and are not given out."),
        ):
            if count:
                response.headers.add("Warning", f'299 {request.host}: "{count} instances {why}"')
    await send_objects(serve, request, response, _parts(writer, prepared.sources), act)
    act.gave(len(prepared.sources), "instances")
    return response


def _boundary(serve: ServeContext, tag: str) -> str:
    """The same for the same bytes: a strong tag is made of their digests, so they cannot hold it."""
    return (
        hashlib.sha256(tag.encode()).hexdigest()[:32] if tag[:1] == '"' else serve.ids.token_bytes(16).hex()
    )


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
