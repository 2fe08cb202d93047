"""WADO-RS ``/frames`` (PS3.18 10.4.1.1.6).

Frames are read by offset, without their neighbours, and mostly without decoding. Native frames go out as
``application/octet-stream`` in little endian; encapsulated ones as they are stored, with the media type of
their transfer syntax or as octets, or decoded where only uncompressed pixels are taken.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import orjson
from aiohttp import hdrs, web
from multidict import CIMultiDict
from pydicom.uid import UID

from crosslight.runtime.audit import Act
from crosslight.standards.dicom.pixels.frames import IMAGE_PIXEL, FrameLayout, native_layout
from crosslight.standards.dicom.pixels.transcode import can_decode
from crosslight.standards.dicom.web import accept, json
from crosslight.standards.dicom.web.accept import EXPLICIT_LE, OCTETS, MediaRange, Offer
from crosslight.standards.dicom.web.multipart import PartHead, RelatedWriter
from crosslight.standards.problem import Invalid, NotAcceptable, NotFound, TooLarge
from node.holdings import Local, StoredObject
from node.serve.bounded_child import decode_object, is_plain, layout_object, lend
from node.serve.context import ServeContext, share_at
from node.serve.opened_objects import on_disk, read_span
from node.serve.qido import ranges_of, uids_of
from node.serve.sendfile import Piece
from node.serve.stream import LateHeadersResponse, send, send_spans
from node.serve.validators import headers_of, not_modified, of_objects

BIG_ENDIAN = "1.2.840.10008.1.2.2"


def frame_list(text: str, limit: int) -> list[int]:
    """The frames of a path, from 1.

    Raises:
        Invalid, TooLarge: not a list of numbers, or too many.
    """
    numbers = text.split(",")
    if len(numbers) > limit:
        raise TooLarge("Too many frames are asked for at once.", why=f"Limit here: {limit}.", where="frames")
    if not all(_is_frame_number(number) for number in numbers):
        raise Invalid(
            "frames is not a list of frame numbers.",
            why="PS3.18 10.4.1.1.6: from 1, separated by commas.",
            where="frames",
        )
    return [int(number) for number in numbers]


def _is_frame_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 10 and 0 < int(text) < 1 << 31


async def layout_of(serve: ServeContext, stored: StoredObject, local: Local, share: str) -> FrameLayout:
    """Where the frames are: for native pixels by the index alone, else by reading the item headers once."""
    ref = stored.ref
    known = serve.layouts.get(ref.sha256) if ref.sha256 else None
    if known is not None:
        return known
    if stored.pixel_offset and stored.frame_bits:
        return FrameLayout(
            kind="native",
            frames=ref.frames,
            frame_bits=stored.frame_bits,
            offset=stored.pixel_offset,
            word_bytes=stored.word_bytes,
        )
    if stored.pixel_offset and not UID(ref.transfer_syntax_uid).is_encapsulated:
        row = orjson.loads((await serve.holdings.metadata((stored,), large=False))[0])
        values = {name: json.text_of(row, name) for name in IMAGE_PIXEL}
        layout = native_layout(values, offset=stored.pixel_offset, length=stored.pixel_length)
    else:
        layout = await serve.bounded(share, layout_object, lend(local), is_plain(stored))
    if ref.sha256:
        serve.layouts.put(ref.sha256, layout)
    return layout


@dataclass(frozen=True, slots=True)
class _Plan:
    stored: StoredObject
    local: Local
    layout: FrameLayout
    offer: Offer
    decode: bool  # through a child
    whole: bool  # a native frame that must be turned or moved
    share: str  # whose turns at the decoders

    def size(self, frame: int) -> int | None:
        """Bytes of a frame; None when only decoding tells."""
        if self.decode:
            return None
        if self.whole:
            return self.layout.frame_bytes
        return sum(length for _, length in self.layout.spans_of(frame))


async def frames(serve: ServeContext, request: web.Request) -> web.StreamResponse:
    """``/frames/{list}`` of an instance."""
    study, series, instance = uids_of(request)
    numbers = frame_list(request.match_info["frames"], serve.config.max_frames_per_request)
    async with serve.release.act(request, "retrieve", (study,), "dicomweb", deferred=True) as act:
        stored = (await serve.held(study, series, instance))[0]
        headers = headers_of(request, of_objects(request, (stored,)))
        if (same := not_modified(request, headers)) is not None:
            act.gave(0, "frames")
            return same
        async with on_disk(serve, stored) as local:
            plan = await _plan(serve, stored, local, numbers, ranges_of(request), share_at(request))
            response = await _send(serve, request, plan, numbers, act, headers)
        act.gave(len(numbers), "frames")
        return response


async def _plan(
    serve: ServeContext,
    stored: StoredObject,
    local: Local,
    numbers: Sequence[int],
    ranges: Sequence[MediaRange],
    share: str,
) -> _Plan:
    layout = await layout_of(serve, stored, local, share)
    if not layout.frames:
        raise NotFound("This instance has no frames.", why="It has no Pixel Data.", where="frames")
    beyond = [n for n in numbers if n > layout.frames]
    if beyond:
        raise NotFound(
            f"There is no frame {beyond[0]}.", why=f"The instance has {layout.frames}.", where="frames"
        )
    own = stored.ref.transfer_syntax_uid
    offer = _offer(tuple(ranges), own, layout.kind == "encapsulated", len(numbers) == 1)
    decode = layout.kind == "deflated" or (
        layout.kind == "encapsulated" and offer.transfer_syntax == EXPLICIT_LE
    )
    whole = layout.kind == "native" and (
        layout.frame_bits % 8 != 0 or (own == BIG_ENDIAN and layout.word_bytes > 1)
    )
    return _Plan(stored, local, layout, offer, decode, whole, share)


@lru_cache(maxsize=256)
def _offer(ranges: tuple[MediaRange, ...], own: str, encapsulated: bool, single: bool) -> Offer:
    """How frames of the transfer syntax ``own`` are given to a client that takes ``ranges``."""
    bases = [Offer(OCTETS, True, EXPLICIT_LE)]
    if encapsulated:
        as_stored = [Offer(accept.frame_media_type(own), True, own), Offer(OCTETS, True, own)]
        bases = as_stored + bases if can_decode(own) else as_stored
    offers = [*bases, *(replace(offer, related=False) for offer in bases)] if single else bases
    # Octets of no named syntax are uncompressed (Table 8.7.3-5). Where frames cannot be decoded, the stored
    # ones are better than none.
    plain = [
        replace(r, transfer_syntax=EXPLICIT_LE) if r.media == OCTETS and not r.transfer_syntax else r
        for r in ranges
    ]
    return accept.choose(plain, offers) or accept.require(ranges, offers)


async def _send(
    serve: ServeContext,
    request: web.Request,
    plan: _Plan,
    numbers: Sequence[int],
    act: Act,
    headers: CIMultiDict[str],
) -> web.StreamResponse:
    content_type = f"{plan.offer.media}; transfer-syntax={plan.offer.transfer_syntax}"
    sizes = [plan.size(number) for number in numbers]
    if max(size or 0 for size in sizes) > serve.config.max_frame_bytes and (plan.whole or plan.decode):
        raise TooLarge("The frame is too large.", why=f"Limit here: {serve.config.max_frame_bytes} bytes.")
    writer = RelatedWriter(serve.ids.token_bytes(16).hex(), plan.offer.media) if plan.offer.related else None
    headers[hdrs.CONTENT_TYPE] = writer.content_type if writer is not None else content_type
    response = LateHeadersResponse(headers=headers)
    heads = [PartHead(((hdrs.CONTENT_TYPE, content_type),), size or 0) for size in sizes]
    if not plan.decode and not plan.whole:
        return await send_spans(serve, request, response, _pieces(plan, numbers, writer, heads), act)
    # the first frame is decoded here, so that what fails does so before the first byte is sent
    first = await _decoded(serve, plan, numbers[0]) if plan.decode else None
    known = [size for size in sizes if size is not None]
    if writer is None:
        response.content_length = len(first) if first is not None else known[0]
        return await send(serve, request, response, _frame(serve, plan, numbers[0], first), act)
    if len(known) == len(sizes):
        response.content_length = writer.content_length(heads)
    return await send(serve, request, response, _parts(serve, plan, numbers, writer, heads, first), act)


def _pieces(
    plan: _Plan, numbers: Sequence[int], writer: RelatedWriter | None, heads: Sequence[PartHead]
) -> list[Piece]:
    """Frames that are sent as they lie in the file."""
    pieces = []
    for i, (number, head) in enumerate(zip(numbers, heads, strict=True)):
        if writer is not None:
            pieces.append(Piece(before=writer.before(head, first=i == 0)))
        pieces += [Piece(span=plan.local.part(at, size)) for at, size in plan.layout.spans_of(number)]
    if writer is not None:
        pieces.append(Piece(before=writer.end()))
    return pieces


async def _parts(
    serve: ServeContext,
    plan: _Plan,
    numbers: Sequence[int],
    writer: RelatedWriter,
    heads: Sequence[PartHead],
    first: bytes | None,
) -> AsyncGenerator[bytes]:
    for i, (number, head) in enumerate(zip(numbers, heads, strict=True)):
        before = writer.before(head, first=i == 0)
        async with aclosing(_frame(serve, plan, number, first if i == 0 else None)) as pieces:
            async for piece in pieces:
                if before:
                    yield before  # sent by itself, so that the frame need not be copied
                    before = b""
                yield piece
        if before:
            yield before  # an empty frame
    yield writer.end()


async def _frame(serve: ServeContext, plan: _Plan, number: int, ready: bytes | None) -> AsyncGenerator[bytes]:
    if ready is not None:
        yield ready
    elif plan.decode:
        yield await _decoded(serve, plan, number)
    else:
        span = plan.local.part(*plan.layout.spans_of(number)[0])
        data = plan.layout.cut(number, await serve.workers.run(read_span, span))
        yield _little(data, plan) if plan.stored.ref.transfer_syntax_uid == BIG_ENDIAN else data


def _little(data: bytes, plan: _Plan) -> bytes:
    size = plan.layout.word_bytes
    return data if size < 2 else np.frombuffer(data, dtype=f">u{size}").astype(f"<u{size}").tobytes()


async def _decoded(serve: ServeContext, plan: _Plan, number: int) -> bytes:
    data = await serve.bounded(
        plan.share,
        decode_object,
        lend(plan.local),
        is_plain(plan.stored),
        number,
        serve.config.max_frame_bytes,
    )
    if len(data) > serve.config.max_frame_bytes:
        raise NotAcceptable(
            "The decoded frame is too large.", why=f"Limit here: {serve.config.max_frame_bytes} bytes."
        )
    return data
