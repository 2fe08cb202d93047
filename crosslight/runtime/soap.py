"""SOAP over aiohttp, server and client: plain or MTOM, streamed both ways in bounded memory.

The wire forms are in ``standards/xds/{soap,mtom}.py``; this module only moves bytes.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TypeVar

from aiohttp import ClientError, ClientResponse, ClientSession, http_exceptions, web

from crosslight.runtime.clock import Ids
from crosslight.runtime.http import CORRELATION, read_limited
from crosslight.standards.problem import (
    CrosslightError,
    Forbidden,
    Malformed,
    PeerError,
    TooLarge,
    Unauthenticated,
    Unavailable,
)
from crosslight.standards.xds.mtom import (
    MtomFrame,
    MultipartParser,
    PartBegin,
    PartData,
    bare_id,
    includes,
    inline_parts,
    parse_content_type,
    parse_related,
)
from crosslight.standards.xds.soap import (
    Envelope,
    SoapFault,
    fault_of,
    parse_envelope,
    render_envelope,
    render_fault,
    require_request,
)
from crosslight.standards.xds.xml import Element, XmlLimits

T = TypeVar("T")
#: Bounds of security.md 2.4.
MAX_QUERY_BYTES = 1 << 20  # ITI-18, ITI-43 and RAD-69 requests
MAX_SUBMISSION_BYTES = 8 << 20  # ITI-42, 57, 62
MAX_REPLY_BYTES = 32 << 20
MAX_ROOT_BYTES = 8 << 20
_CHUNK = 1 << 18
_THREAD_ABOVE = 1 << 18  # larger messages are parsed in a thread
_CHARSETS = frozenset({"", "utf-8", "utf8", "utf-16", "us-ascii"})
_TYPES = frozenset({"application/soap+xml", "application/xop+xml", "text/xml", "application/xml"})

#: The envelope being answered, so that a fault can say what it relates to.
ENVELOPE: web.RequestKey[Envelope] = web.RequestKey("soap_envelope", Envelope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part to send. ``content_id`` without ``<>``; ``size`` None when it is not known."""

    content_id: str
    content_type: str
    size: int | None
    chunks: AsyncIterator[bytes]


# --- server --------------------------------------------------------------------------------------------------------


async def read_soap(request: web.Request, max_bytes: int = MAX_SUBMISSION_BYTES) -> Envelope:
    """The request's envelope, plain or MTOM; xop:Include is replaced by base64 text.

    Raises:
        SoapFault, Malformed, TooLarge: render with :func:`render_soap_error`; never a 500.
    """
    try:
        data = await read_limited(request, max_bytes)
    except (web.RequestPayloadError, http_exceptions.HttpProcessingError) as error:
        raise Malformed("The request body is broken.", why=type(error).__name__) from None
    envelope = await _parsed(request.headers.get("Content-Type", ""), data, max_bytes)
    request[ENVELOPE] = envelope
    return require_request(envelope)


async def _parsed(content_type: str, data: bytes, max_bytes: int) -> Envelope:
    if len(data) > _THREAD_ABOVE:
        return await asyncio.to_thread(_parse, content_type, data, max_bytes)
    return _parse(content_type, data, max_bytes)


def _parse(content_type: str, data: bytes, max_bytes: int) -> Envelope:
    kind, parameters = parse_content_type(content_type)
    limits = XmlLimits(max_bytes=max_bytes)
    if kind == "multipart/related":
        root, parts = parse_related(content_type, data)
        envelope = parse_envelope(root, limits)
        inline_parts(envelope.body, parts)
        return replace(envelope, mtom=True)
    if kind not in _TYPES:
        raise Malformed("The content type is neither application/soap+xml nor multipart/related.", why="ITI TF-2 Appendix V.3.")
    if parameters.get("charset", "").lower() not in _CHARSETS:
        raise Malformed("The character set is not accepted here.", todo="Send UTF-8.")
    return parse_envelope(data, limits)


async def off_loop(fn: Callable[[], T], *, large: bool) -> T:
    """``fn()``, in a thread when the message is ``large``, so that other requests are answered meanwhile."""
    return await asyncio.to_thread(fn) if large else fn()


def response_id(request: web.Request) -> str:
    """MessageID of the answer: follows from the correlation id and what is answered."""
    asked = request.get(ENVELOPE)
    name = f"{request.get(CORRELATION, '')}/{asked.message_id if asked is not None else ''}"
    return uuid.uuid5(uuid.NAMESPACE_OID, name).urn


def soap_response(
    request: web.Request, envelope: Envelope, body: bytes, action: str, *, mtom: bool | None = None, status: int = 200
) -> web.Response:
    """An answer to ``envelope`` whose body is held in memory; MTOM when asked that way, or when ``mtom`` says so."""
    message_id = response_id(request)
    rendered = render_envelope(action, body, message_id=message_id, relates_to=envelope.message_id)
    if mtom if mtom is not None else envelope.mtom:
        frame = _frame(message_id, action)
        return _whole(b"".join((frame.head(rendered), frame.tail())), frame.content_type, status)
    return _whole(rendered, f'application/soap+xml; charset=UTF-8; action="{action}"', status)


def _whole(body: bytes, content_type: str, status: int) -> web.Response:
    return web.Response(status=status, body=body, headers={"Content-Type": content_type})


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

    With a sequence of parts of known sizes Content-Length is sent; otherwise the answer is chunked. A part that fails, or is
    not as long as it said, cuts the connection: a receiver never sees a whole message with wrong bytes.
    """
    message_id = response_id(request)
    frame = _frame(message_id, action)
    root = render_envelope(action, body, message_id=message_id, relates_to=envelope.message_id)
    response = web.StreamResponse(headers={"Content-Type": frame.content_type})
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


def render_soap_error(request: web.Request, error: CrosslightError) -> web.Response:
    """An error as a SOAP fault: for :class:`~crosslight.runtime.http.ErrorRenderers` below SOAP paths."""
    asked = request.get(ENVELOPE)
    fault = fault_of(error, asked.message_id if asked is not None else "")
    kept = error.http_status in (401, 403, 404, 405, 413, 503) and not isinstance(error, SoapFault)
    status = error.http_status if kept else fault.wire_status
    body = render_fault(fault, message_id=response_id(request))
    return _whole(body, "application/soap+xml; charset=UTF-8", status)


# --- client --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SoapReply:
    """An answer held in memory; MTOM parts are inlined as base64."""

    envelope: Envelope

    @property
    def body(self) -> Element:
        """The answer's element."""
        return self.envelope.body


class StreamPart:
    """One part of a streamed answer: read its ``chunks`` before asking for the next part (what is unread is skipped)."""

    def __init__(self, begin: PartBegin, stream: SoapStream) -> None:
        self.content_id, self.content_type, self._stream = begin.content_id, begin.content_type, stream

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, in pieces."""
        async for piece in self._stream._pieces():
            yield piece


class SoapStream:
    """A streamed answer: ``envelope`` is there at once, then the parts in the order they come.

    In ``envelope.body`` each xop:Include stays in place (``retrieve.parse_retrieve_response`` gives their Content-IDs).
    """

    def __init__(self, response: ClientResponse, max_total_bytes: int | None) -> None:
        self._response, self._max = response, max_total_bytes
        self._total = 0
        self._parser: MultipartParser | None = None
        self._events: list[PartBegin | PartData | None] = []  # None = end of a part
        self._wanted: set[str] = set()
        self.envelope: Envelope

    @property
    def body(self) -> Element:
        """The answer's element."""
        return self.envelope.body

    async def _open(self) -> None:
        content_type = self._response.headers.get("Content-Type", "")
        kind, parameters = parse_content_type(content_type)
        if kind != "multipart/related":
            self.envelope = await _parsed(content_type, await _read_reply(self._response, MAX_REPLY_BYTES), MAX_REPLY_BYTES)
            return
        self._parser = MultipartParser(parameters.get("boundary", ""))
        first = await self._next()
        start = bare_id(parameters.get("start", ""))
        if not isinstance(first, PartBegin) or (start and first.content_id != start):
            raise Malformed("The root part must come first.", why="A streamed answer is read in one pass.")
        pieces, size = [], 0
        async for piece in self._pieces():
            size += len(piece)
            if size > MAX_ROOT_BYTES:
                raise TooLarge("The root part is too large.", why=f"Limit here: {MAX_ROOT_BYTES} bytes.")
            pieces.append(piece)
        root = b"".join(pieces)
        self.envelope = replace(parse_envelope(root, XmlLimits(max_bytes=MAX_ROOT_BYTES)), mtom=True)
        self._wanted = set(includes(self.envelope.body))

    async def _next(self) -> PartBegin | PartData | None:
        """The next event; raises EOFError after the closing delimiter."""
        assert self._parser is not None  # noqa: S101 - only called in multipart mode
        while not self._events:
            if self._parser.done:
                raise EOFError
            data = await _chunk(self._response)
            if not data:
                self._parser.close()
                raise EOFError
            self._total += len(data)
            if self._max is not None and self._total > self._max:
                raise TooLarge("The answer is too large.", why=f"Limit here: {self._max} bytes.")
            self._events = [e if isinstance(e, PartBegin | PartData) else None for e in self._parser.feed(data)]
            self._events.reverse()
        return self._events.pop()

    async def _pieces(self) -> AsyncIterator[bytes]:
        while True:
            event = await self._next()
            if event is None:
                return
            if isinstance(event, PartData):
                yield event.data

    async def parts(self) -> AsyncIterator[StreamPart]:
        """The other parts.

        Raises:
            Malformed: a part that nothing refers to, a reference without its part, a message that is cut off.
        """
        if self._parser is None:
            return
        while True:
            try:
                event = await self._next()
            except EOFError:
                break
            if not isinstance(event, PartBegin):
                continue  # what a reader of the previous part left
            if event.content_id not in self._wanted:
                raise Malformed("The answer has a part that nothing refers to.", why="XOP 4.1.")
            self._wanted.discard(event.content_id)
            yield StreamPart(event, self)
        if self._wanted:
            raise Malformed("The answer refers to a part that is not there.", why="XOP 3.2.")


class SoapClient:
    """Asks SOAP peers.

    Raises (from every call):
        Unavailable: no connection (``where="connect"``: nothing was sent) or no answer (``where="answer"``: unknown whether
            the peer acted).
        SoapFault: the peer's fault. Malformed, TooLarge: its answer cannot be read.
        Unauthenticated, Forbidden: HTTP 401 and 403.
    """

    def __init__(self, session: ClientSession, ids: Ids) -> None:
        self._session, self._ids = session, ids

    async def call(
        self,
        url: str,
        action: str,
        body: bytes,
        *,
        mtom: bool = False,
        timeout_s: float = 30.0,
        max_bytes: int = MAX_REPLY_BYTES,
        headers: Mapping[str, str] | None = None,
    ) -> SoapReply:
        """One exchange held in memory."""
        try:
            async with asyncio.timeout(timeout_s), self._post(url, action, body, mtom, headers) as (response, message_id):
                data = await _read_reply(response, max_bytes)
                envelope = await _parsed(response.headers.get("Content-Type", ""), data, max_bytes)
        except TimeoutError:
            raise Unavailable("The peer did not answer in time.", where="answer", why=f"Waited {timeout_s:g} s.") from None
        return SoapReply(_related(envelope, message_id))

    @asynccontextmanager
    async def stream(
        self,
        url: str,
        action: str,
        body: bytes,
        *,
        mtom: bool = True,
        timeout_s: float = 30.0,
        max_total_bytes: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> AsyncIterator[SoapStream]:
        """One exchange whose parts are streamed. ``timeout_s`` bounds the wait for the root part; later pieces the session's
        read timeout."""
        async with self._post(url, action, body, mtom, headers) as (response, message_id):
            reply = SoapStream(response, max_total_bytes)
            try:
                async with asyncio.timeout(timeout_s):
                    await reply._open()
            except TimeoutError:
                raise Unavailable("The peer did not answer in time.", where="answer", why=f"Waited {timeout_s:g} s.") from None
            except EOFError:
                raise Malformed("The answer has no part.") from None
            _related(reply.envelope, message_id)
            yield reply

    @asynccontextmanager
    async def _post(
        self, url: str, action: str, body: bytes, mtom: bool, headers: Mapping[str, str] | None
    ) -> AsyncIterator[tuple[ClientResponse, str]]:
        message_id = self._ids.uuid4().urn
        data = render_envelope(action, body, message_id=message_id, to=url)
        content_type = f'application/soap+xml; charset=UTF-8; action="{action}"'
        if mtom:
            frame = MtomFrame(self._ids.uuid4().hex, action)
            data, content_type = frame.head(data) + frame.tail(), frame.content_type
        sent = {**(headers or {}), "Content-Type": content_type, "Accept": "application/soap+xml, multipart/related"}
        try:
            response = await self._session.post(url, data=data, headers=sent, allow_redirects=False)
        except ClientError as error:
            where = "connect" if _never_sent(error) else "answer"
            raise Unavailable("The peer cannot be asked now.", where=where, why=type(error).__name__) from error
        except TimeoutError as error:
            where = "connect" if "Connect" in type(error).__name__ else "answer"
            raise Unavailable("The peer did not answer in time.", where=where) from error
        try:
            _check_status(response)
            yield response, message_id
        finally:
            response.close() if not response.content.at_eof() else response.release()


def _never_sent(error: ClientError) -> bool:
    return type(error).__name__ in {
        "ClientConnectorError", "ClientConnectorDNSError", "ClientConnectorSSLError", "ClientConnectorCertificateError",
        "ClientSSLError", "ConnectionTimeoutError", "InvalidURL", "ClientProxyConnectionError",
    }  # fmt: skip


def _check_status(response: ClientResponse) -> None:
    kind = parse_content_type(response.headers.get("Content-Type", ""))[0]
    why = f"HTTP status {response.status}."
    if response.status == 401:
        raise Unauthenticated("The peer does not accept our credentials.", why=why)
    if response.status == 403:
        raise Forbidden("The peer does not allow this.", why=why)
    if response.status in (429, 502, 503, 504):
        raise Unavailable("The peer cannot answer now.", where="answer", why=why)
    if response.status >= 300 and kind not in ("application/soap+xml", "multipart/related"):
        refused = PeerError("The peer refused the request.", why=why)
        refused.http_status = 502
        raise refused


async def _chunk(response: ClientResponse) -> bytes:
    try:
        return await response.content.read(_CHUNK)
    except (ClientError, ConnectionError) as error:
        raise Unavailable("The answer was cut off.", where="answer", why=type(error).__name__) from error
    except http_exceptions.HttpProcessingError as error:
        raise Malformed("The answer's body is broken.", why=type(error).__name__) from None


async def _read_reply(response: ClientResponse, max_bytes: int) -> bytes:
    pieces, total = [], 0
    while data := await _chunk(response):
        total += len(data)
        if total > max_bytes:
            raise TooLarge("The answer is too large.", why=f"Limit here: {max_bytes} bytes.")
        pieces.append(data)
    return b"".join(pieces)


def _related(envelope: Envelope, message_id: str) -> Envelope:
    if envelope.relates_to and envelope.relates_to != message_id:
        raise Malformed("The answer is to another message.", why="WS-Addressing 1.0 3.2: RelatesTo.")
    return envelope
