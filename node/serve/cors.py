"""Cross-origin reading by web viewers (Fetch standard, 3.2): off unless origins are configured."""

from __future__ import annotations

from aiohttp import hdrs, web

from node.serve.context import ServeContext

_EXPOSED = (
    "Accept-Ranges, Content-Type, Content-Length, Content-Range, ETag, Repr-Digest, Warning, X-Correlation-Id"
)
_ALLOWED_HEADERS = (
    "Accept, Authorization, Content-Type, If-None-Match, If-Range, Range, Want-Repr-Digest, X-Correlation-Id"
)


def allowed_origin(serve: ServeContext, request: web.Request) -> str | None:
    """The origin to name in the answer, or None."""
    origin = request.headers.get(hdrs.ORIGIN, "")
    listed = serve.config.cors_origins
    return origin if origin and (origin in listed or "*" in listed) else None


def install(app: web.Application, serve: ServeContext) -> None:
    """Add the headers below the DICOMweb root; without configured origins this does nothing."""
    if not serve.config.cors_origins:
        return

    async def add(request: web.Request, response: web.StreamResponse) -> None:
        if request.path.startswith(serve.prefix + "/"):
            response.headers.add(hdrs.VARY, hdrs.ORIGIN)
            origin = allowed_origin(serve, request)
            if origin is not None:
                response.headers[hdrs.ACCESS_CONTROL_ALLOW_ORIGIN] = origin
                response.headers[hdrs.ACCESS_CONTROL_EXPOSE_HEADERS] = _EXPOSED

    app.on_response_prepare.append(add)


async def preflight(serve: ServeContext, request: web.Request) -> web.Response:
    """OPTIONS: what a page may do here, if its origin is configured."""
    response = web.Response(status=204, headers={hdrs.ALLOW: "GET, HEAD, POST, OPTIONS"})
    if allowed_origin(serve, request) is not None:
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_METHODS] = "GET, HEAD, POST, OPTIONS"
        response.headers[hdrs.ACCESS_CONTROL_ALLOW_HEADERS] = _ALLOWED_HEADERS
        response.headers[hdrs.ACCESS_CONTROL_MAX_AGE] = "600"
    return response
