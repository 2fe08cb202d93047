"""The DICOMweb resources of a node (PS3.18 10.1.1) and which handler answers each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

from aiohttp import web

from node.serve import cors, frames, rendered, retrieve
from node.serve import qido as query
from node.serve import stow as store
from node.serve.context import ServeContext

_STUDY = "/studies/{study}"
_SERIES = _STUDY + "/series/{series}"
_INSTANCE = _SERIES + "/instances/{instance}"
_FRAMES = _INSTANCE + "/frames/{frames}"

Serving = Callable[[ServeContext, web.Request], Awaitable[web.StreamResponse]]

#: Those asked for most often first: a path is compared with one after the other.
RESOURCES: tuple[tuple[str, str, Serving], ...] = (
    ("GET", "/studies", partial(query.search, level="study")),
    ("POST", "/studies", store.store),
    ("GET", _FRAMES, frames.frames),
    ("GET", _INSTANCE + "/rendered", rendered.rendered),
    ("GET", _INSTANCE, retrieve.instances),
    ("GET", _SERIES + "/metadata", retrieve.metadata),
    ("GET", _STUDY + "/metadata", retrieve.metadata),
    ("GET", _INSTANCE + "/metadata", retrieve.metadata),
    ("GET", _STUDY, retrieve.instances),
    ("POST", _STUDY, store.store),
    ("GET", _SERIES, retrieve.instances),
    ("GET", _STUDY + "/series", partial(query.search, level="series")),
    ("GET", _STUDY + "/instances", partial(query.search, level="instance")),
    ("GET", _SERIES + "/instances", partial(query.search, level="instance")),
    ("GET", _FRAMES + "/rendered", rendered.rendered),
    ("GET", _STUDY + "/thumbnail", rendered.thumbnail),
    ("GET", _SERIES + "/thumbnail", rendered.thumbnail),
    ("GET", _INSTANCE + "/thumbnail", rendered.thumbnail),
    ("GET", _FRAMES + "/thumbnail", rendered.thumbnail),
    ("GET", "/series", partial(query.search, level="series")),
    ("GET", "/instances", partial(query.search, level="instance")),
)


def routes(serve: ServeContext) -> list[web.RouteDef]:
    """Routes of both listeners, below ``serve.prefix``."""
    table = []
    for method, path, handler in RESOURCES:
        route = web.get if method == "GET" else web.post  # web.get answers HEAD too
        table.append(route(serve.prefix + path, _bound(serve, handler)))
    for path in dict.fromkeys(path for _, path, _ in RESOURCES):
        table.append(web.options(serve.prefix + path, _bound(serve, cors.preflight)))
    return table


def _bound(serve: ServeContext, handler: Serving) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return await handler(serve, request)

    return handle
