"""SOAP over aiohttp, the server: plain or MTOM, parts streamed with back-pressure.

The client is ``client.py``.

The wire forms are in ``standards/xds/{soap,mtom}.py``; this module only moves bytes.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from aiohttp import http_exceptions, web

from crosslight.runtime.caching import PRIVATE
from crosslight.runtime.http import CORRELATION, read_limited
from crosslight.runtime.soap.client import SoapClient, SoapReply, SoapStream, StreamPart, parsed
from crosslight.runtime.workers import Workers
from crosslight.standards.problem import CrosslightError, Malformed, kind_as_sentence
from crosslight.standards.xds.wire.mtom import MtomFrame
from crosslight.standards.xds.wire.soap import (
    Envelope,
    SoapFault,
    fault_of,
    render_envelope,
    render_fault,
    require_request,
)

__all__ = [
    "ENVELOPE",
    "MAX_QUERY_BYTES",
    "MAX_SUBMISSION_BYTES",
    "Part",
    "SoapClient",
    "SoapReply",
    "SoapStream",
    "StreamPart",
    "read_soap",
    "render_soap_error",
    "response_id",
    "soap_response",
    "stream_mtom",
]

#: Bounds of security.md 2.4.
MAX_QUERY_BYTES = 1 << 20  # ITI-18, ITI-43 and RAD-69 requests
MAX_SUBMISSION_BYTES = 8 << 20  # ITI-42, 57, 62

_HTTPS_OWN = frozenset({401, 404, 405})

#: The envelope being answered, so that a fault can say what it relates to.
ENVELOPE: web.RequestKey[Envelope] = web.RequestKey("soap_envelope", Envelope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part to send. ``content_id`` without ``<>``; ``size`` None when it is not known."""

    content_id: str
    content_type: str
    size: int | None
    chunks: AsyncIterator[bytes]


async def read_soap(
    request: web.Request, max_bytes: int = MAX_SUBMISSION_BYTES, workers: Workers | None = None
) -> Envelope:
    """The request's envelope, plain or MTOM.

    xop:Include is replaced by base64 text; a large one is read in a thread of ``workers``.

    Raises:
        SoapFault, Malformed, TooLarge: render with :func:`render_soap_error`; never a 500.
    """
    try:
        data = await read_limited(request, max_bytes)
    except (web.RequestPayloadError, http_exceptions.HttpProcessingError) as error:
        raise Malformed("The request body is broken.", why=kind_as_sentence(error)) from None
    envelope = await parsed(request.headers.get("Content-Type", ""), data, max_bytes, workers)
    request[ENVELOPE] = envelope
    return require_request(envelope)


def response_id(request: web.Request) -> str:
    """MessageID of the answer: follows from the correlation id and what is answered."""
    asked = request.get(ENVELOPE)
    name = f"{request.get(CORRELATION, '')}/{asked.message_id if asked is not None else ''}"
    return uuid.uuid5(uuid.NAMESPACE_OID, name).urn


def soap_response(
    request: web.Request,
    envelope: Envelope,
    body: bytes,
    action: str,
    *,
    mtom: bool | None = None,
    status: int = 200,
) -> web.Response:
    """An answer to ``envelope`` whose body is held in memory.

    MTOM when asked that way, or when ``mtom`` says so.
    """
    message_id = response_id(request)
    rendered = render_envelope(action, body, message_id=message_id, relates_to=envelope.message_id)
    if mtom if mtom is not None else envelope.mtom:
        frame = _frame(message_id, action)
        return _whole(b"".join((frame.head(rendered), frame.tail())), frame.content_type, status)
    return _whole(rendered, f'application/soap+xml; charset=UTF-8; action="{action}"', status)


def _whole(body: bytes, content_type: str, status: int) -> web.Response:
    return web.Response(
        status=status, body=body, headers={"Content-Type": content_type, "Cache-Control": PRIVATE}
    )


def _frame(message_id: str, action: str) -> MtomFrame:
    return MtomFrame(uuid.UUID(message_id).hex, action)


async def stream_mtom(
    request: web.Request,
    envelope: Envelope,
    body: bytes,
    action: str,
    parts: Sequence[Part] | AsyncIterator[Part],
) -> web.StreamResponse:
    """An MTOM answer whose parts are streamed with back-pressure.

    With a sequence of parts of known sizes Content-Length is sent; otherwise the answer is chunked. A part
    that fails, or is not as long as it said, cuts the connection: a receiver never sees a whole message with
    wrong bytes.
    """
    message_id = response_id(request)
    frame = _frame(message_id, action)
    root = render_envelope(action, body, message_id=message_id, relates_to=envelope.message_id)
    response = web.StreamResponse(headers={"Content-Type": frame.content_type, "Cache-Control": PRIVATE})
    if not isinstance(parts, AsyncIterator):
        sized = [(p.content_id, p.content_type, p.size) for p in parts if p.size is not None]
        if len(sized) == len(parts):
            response.content_length = frame.length(root, sized)
    await response.prepare(request)
    try:
        await response.write(frame.head(root))
        if isinstance(parts, AsyncIterator):
            async for part in parts:
                await _write_part(response, frame, part)
        else:
            for part in parts:
                await _write_part(response, frame, part)
        await response.write(frame.tail())
        await response.write_eof()
    except (ConnectionError, asyncio.CancelledError):
        raise
    except Exception as error:
        if request.transport is not None:
            request.transport.abort()
        raise ConnectionAbortedError("a part could not be sent") from error
    return response


async def _write_part(response: web.StreamResponse, frame: MtomFrame, part: Part) -> None:
    pending, sent = frame.part_head(part.content_id, part.content_type), 0
    async for chunk in part.chunks:
        sent += len(chunk)
        if part.size is not None and sent > part.size:
            raise ValueError("a part is longer than it said")
        await response.write(pending + chunk if pending else chunk)
        pending = b""
    if pending:
        await response.write(pending)
    if part.size is not None and sent != part.size:
        raise ValueError("a part is shorter than it said")


def render_soap_error(
    request: web.Request, error: CrosslightError, *, sender_400: bool = False
) -> web.Response:
    """An error as a SOAP fault: for :class:`~crosslight.runtime.http.ErrorRenderers` below SOAP paths.

    With HTTP status 500, for many clients read the fault of no other; ``sender_400`` gives a Sender's the 400
    of SOAP 1.2 part 2, Table 20. No challenge, no such address and no such method stay as HTTP has them.
    """
    asked = request.get(ENVELOPE)
    fault = fault_of(error, asked.message_id if asked is not None else "")
    status = 400 if sender_400 and fault.code == "Sender" else 500
    if error.http_status in _HTTPS_OWN and not isinstance(error, SoapFault):
        status = error.http_status
    body = render_fault(fault, message_id=response_id(request))
    return _whole(body, "application/soap+xml; charset=UTF-8", status)
