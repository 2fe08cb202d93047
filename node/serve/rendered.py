"""WADO-RS ``/rendered`` and ``/thumbnail`` (PS3.18 10.4.1.1.3, 10.4.1.1.4): pictures that a browser shows.

Decoded in bounded children (D27), kept in a bounded cache by the digest of the object. A thumbnail of a
series is that of its middle image; of a study, that of its largest series of images.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from aiohttp import web
from pydicom.uid import UID

from crosslight.standards.dicom.pixels.render import RenderOptions, parse_options
from crosslight.standards.dicom.web import accept
from crosslight.standards.dicom.web.accept import Offer
from crosslight.standards.dicom.web.parameters import may_be_ignored
from crosslight.standards.problem import CrosslightError, Invalid, NotAcceptable
from crosslight.standards.study import whole_number
from node.holdings import StoredObject
from node.serve.bounded_child import is_plain, lend, render_object
from node.serve.context import ServeContext, share_at
from node.serve.frames import frame_list
from node.serve.opened_objects import on_disk
from node.serve.qido import ranges_of, uids_of
from node.serve.validators import headers_of, not_modified, of_objects

OFFERS = (Offer("image/jpeg"), Offer("image/png"))
_USED = frozenset({"accept", "viewport", "window", "quality"})
_CANDIDATES = 3


async def rendered(serve: ServeContext, request: web.Request) -> web.Response:
    """``/rendered`` of an instance or of one frame of it; of a multi-frame instance its first."""
    return await _picture(serve, request, thumbnail=False)


async def thumbnail(serve: ServeContext, request: web.Request) -> web.Response:
    """``/thumbnail`` of a study, series, instance or frame."""
    return await _picture(serve, request, thumbnail=True)


async def _picture(serve: ServeContext, request: web.Request, *, thumbnail: bool) -> web.Response:
    media = accept.require(ranges_of(request), OFFERS).media
    study, series, instance = uids_of(request)
    # A misspelt ``Window`` is refused: whoever wrote it would not want another picture with a warning.
    unknown = sorted(
        name for name in set(request.query) - _USED if name.lower() in _USED or not may_be_ignored(name)
    )
    if unknown:
        raise Invalid(
            f"Unknown parameter {unknown[0][:64]!r}.",
            todo="Use viewport, window, quality, accept.",
            where=unknown[0][:64],
        )
    options = parse_options(
        dict(request.query),
        media,
        max_side=serve.config.max_render_side,
        thumbnail_side=serve.config.thumbnail_side if thumbnail else 0,
    )
    asked = frame_list(request.match_info["frames"], 1)[0] if "frames" in request.match_info else 0
    async with serve.release.act(request, "retrieve", (study,), "dicomweb", deferred=True) as act:
        objects = await serve.held(study, series, instance)
        headers = headers_of(request, of_objects(request, objects), known=tuple(_USED))
        if (same := not_modified(request, headers)) is not None:
            act.gave(0, "pictures")
            return same
        body = await _first_that_shows(
            serve,
            objects if instance else _candidates(objects),
            asked,
            options,
            middle=thumbnail,
            share=share_at(request),
        )
        act.gave(1, "thumbnail" if thumbnail else "picture")
        return web.Response(body=body, content_type=media, headers=headers)


def _candidates(objects: Sequence[StoredObject]) -> list[StoredObject]:
    """Objects that may stand for a series or study, best first."""
    series: dict[str, list[StoredObject]] = defaultdict(list)
    for stored in objects:
        if "Image Storage" in UID(stored.ref.sop_class_uid).name:
            series[stored.ref.series_uid].append(stored)
    ranked = sorted(series.values(), key=len, reverse=True)
    chosen = [sorted(group, key=_order)[len(group) // 2] for group in ranked]
    return (chosen or list(objects))[:_CANDIDATES]


def _order(stored: StoredObject) -> tuple[int, str]:
    return (whole_number(stored.ref.number), stored.ref.sop_uid)


async def _first_that_shows(
    serve: ServeContext,
    candidates: Sequence[StoredObject],
    frame: int,
    options: RenderOptions,
    *,
    middle: bool,
    share: str,
) -> bytes:
    problem: CrosslightError = NotAcceptable(
        "Nothing here can be shown as a picture.", todo="Retrieve the instances."
    )
    for stored in candidates:
        number = frame or (max(1, (stored.ref.frames + 1) // 2) if middle else 1)
        try:
            return await _render(serve, stored, number, options, share)
        except NotAcceptable as error:
            problem = error
    raise problem


async def _render(
    serve: ServeContext, stored: StoredObject, frame: int, options: RenderOptions, share: str
) -> bytes:
    key = (stored.ref.sha256, frame, options)
    body = serve.pictures.get(key) if stored.ref.sha256 else None
    if body is None:
        async with on_disk(serve, stored) as local:
            limit = serve.config.max_render_pixels
            body = await serve.bounded(
                share, render_object, lend(local), is_plain(stored), frame, options, limit
            )
        if stored.ref.sha256:
            serve.pictures.put(key, body)
    return body
