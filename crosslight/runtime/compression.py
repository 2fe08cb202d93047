"""Bodies compressed where the caller takes that and it is worth it (RFC 9110 8.4, 12.5.3).

JSON, never images or streams.
"""

from __future__ import annotations

from io import BytesIO

from aiohttp import hdrs, web
from aiohttp.typedefs import Middleware

from crosslight.runtime.http import Handler

WORTH_BYTES = 4096
LARGE_BYTES = 1 << 20  # beyond, a body is sent in pieces: encrypting it in one would hold up everybody else


def takes_gzip(header: str) -> bool:
    """Whether an Accept-Encoding header takes gzip: by its name, else by ``*``; not with ``q=0``."""
    weights: dict[str, float] = {}
    for element in header.lower().split(","):
        coding, *parameters = (part.strip() for part in element.split(";"))
        weight = next((p.partition("=")[2] for p in parameters if p.startswith("q=")), "1")
        try:
            weights[coding] = float(weight)
        except ValueError:
            weights[coding] = 0.0
    return weights.get("gzip", weights.get("x-gzip", weights.get("*", 0.0))) > 0


def compress(request: web.Request, response: web.Response) -> None:
    """Compress ``response`` if its body is JSON and long enough, and say on what that depends.

    A 304 says so too: it has the Vary of the answer that it stands for (RFC 9110 15.4.5), whose body is not
    here to be looked at.
    """
    body = response.body
    long_json = (
        isinstance(body, bytes) and len(body) >= WORTH_BYTES and response.content_type.endswith("json")
    )
    if not long_json and response.status != 304:
        return
    _depends(response)
    if long_json:
        _compress(request, response)


def compress_stream(request: web.Request, response: web.StreamResponse) -> None:
    """As :func:`compress`, of a long JSON body that is sent in pieces as they are made."""
    _depends(response)
    _compress(request, response)


def _depends(response: web.StreamResponse) -> None:
    vary = response.headers.get(hdrs.VARY, "")
    response.headers[hdrs.VARY] = f"{vary}, {hdrs.ACCEPT_ENCODING}" if vary else str(hdrs.ACCEPT_ENCODING)


def _compress(request: web.Request, response: web.StreamResponse) -> None:
    if takes_gzip(request.headers.get(hdrs.ACCEPT_ENCODING, "")):
        response.enable_compression(web.ContentCoding.gzip)


def send_in_pieces(response: web.Response) -> None:
    """Have a large body sent piece by piece, with others' turns between them.

    What is compressed is so already.
    """
    body = response.body
    if isinstance(body, bytes) and len(body) > LARGE_BYTES and not response.compression:
        response.body = BytesIO(body)


def compressed() -> Middleware:
    """The middleware of a service whose answers are made in memory: large JSON is compressed in pieces."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        response = await handler(request)
        if isinstance(response, web.Response) and not response.prepared:
            compress(request, response)
            send_in_pieces(response)
        return response

    return middleware
