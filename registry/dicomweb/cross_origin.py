"""Reading by web viewers of other origins (Fetch standard 3.2): none unless origins are configured."""

from __future__ import annotations

from collections.abc import Sequence

from aiohttp import web

COVERAGE_HEADER = "Crosslight-Coverage"
_EXPOSED = (
    "Accept-Ranges, Content-Range, ETag, Repr-Digest, Warning, "
    f"{COVERAGE_HEADER}, Crosslight-Holder, X-Correlation-Id"
)
_ASKED = "Authorization, Accept, Range, If-Range, If-None-Match, Want-Repr-Digest, X-Correlation-Id"


def cross_origin(request: web.Request, origins: Sequence[str]) -> dict[str, str]:
    """What an answer says to a browser; ``origins`` are those that may read."""
    headers, origin = {"Access-Control-Expose-Headers": _EXPOSED}, request.headers.get("Origin", "")
    if origin and origin in origins:
        headers |= {"Access-Control-Allow-Origin": origin, "Access-Control-Allow-Credentials": "true"}
    return headers


def preflight_answer(request: web.Request, origins: Sequence[str]) -> web.Response:
    """OPTIONS: what a page of that origin may do."""
    headers = cross_origin(request, origins)
    if "Access-Control-Allow-Origin" in headers:
        headers |= {
            "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS",
            "Access-Control-Allow-Headers": _ASKED,
            "Access-Control-Max-Age": "600",
        }
    return web.Response(status=204, headers=headers)
