"""SOAP over aiohttp, the client: plain or MTOM, parts streamed in bounded memory. ``soap.py`` has the server.

The wire forms are in ``standards/xds/{soap,mtom}.py``; this module only moves bytes.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace

from aiohttp import ClientError, ClientResponse, ClientSession, http_exceptions

from crosslight.runtime.clock import Ids
from crosslight.runtime.machine_errors import reached_not
from crosslight.runtime.workers import Workers, off_loop
from crosslight.standards.problem import (
    BadGateway,
    Busy,
    Forbidden,
    Malformed,
    TooLarge,
    Unauthenticated,
    Unavailable,
    kind_as_sentence,
)
from crosslight.standards.xds.model.xml import Element, XmlLimits
from crosslight.standards.xds.wire.mtom import (
    MtomFrame,
    MultipartParser,
    XopPartBegin,
    XopPartData,
    bare_id,
    includes,
    inline_parts,
    parse_content_type,
    parse_related,
)
from crosslight.standards.xds.wire.soap import Envelope, parse_envelope, render_envelope

MAX_REPLY_BYTES = 32 << 20
MAX_ROOT_BYTES = 8 << 20
_CHUNK = 1 << 18
_THREAD_ABOVE = 1 << 18  # larger messages are parsed in a thread
_CHARSETS = frozenset({"", "utf-8", "utf8", "utf-16", "us-ascii"})
_TYPES = frozenset({"application/soap+xml", "application/xop+xml", "text/xml", "application/xml"})


async def parsed(content_type: str, data: bytes, max_bytes: int, workers: Workers | None) -> Envelope:
    """The envelope of a message, plain or MTOM with its parts inlined.

    Large ones are read in a thread of ``workers``.
    """
    return await off_loop(
        workers, lambda: _parse(content_type, data, max_bytes), large=len(data) > _THREAD_ABOVE
    )


def _parse(content_type: str, data: bytes, max_bytes: int) -> Envelope:
    kind, parameters = parse_content_type(content_type)
    limits = XmlLimits(max_bytes=max_bytes)
    if kind == "multipart/related":
        root, parts = parse_related(content_type, data)
        envelope = parse_envelope(root, limits)
        inline_parts(envelope.body, parts)
        return replace(envelope, mtom=True)
    if kind not in _TYPES:
        raise Malformed(
            "The content type is neither application/soap+xml nor multipart/related.",
            why="ITI TF-2 Appendix V.3.",
        )
    if parameters.get("charset", "").lower() not in _CHARSETS:
        raise Malformed("The character set is not accepted here.", todo="Send UTF-8.")
    return parse_envelope(data, limits)


@dataclass(frozen=True, slots=True)
class SoapReply:
    """An answer held in memory; MTOM parts are inlined as base64."""

    envelope: Envelope

    @property
    def body(self) -> Element:
        """The answer's element."""
        return self.envelope.body


class StreamPart:
    """One part of a streamed answer.

    Read its ``chunks`` before asking for the next part: what is unread is skipped.
    """

    def __init__(self, begin: XopPartBegin, stream: SoapStream) -> None:
        self.content_id, self.content_type, self._stream = begin.content_id, begin.content_type, stream

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes, in pieces."""
        async for piece in self._stream._pieces():
            yield piece


class SoapStream:
    """A streamed answer: ``envelope`` is there at once, then the parts in the order they come.

    In ``envelope.body`` each xop:Include stays in place (``retrieve.parse_retrieve_response`` gives their
    Content-IDs).
    """

    def __init__(
        self, response: ClientResponse, max_total_bytes: int | None, workers: Workers | None
    ) -> None:
        self._response, self._max, self._workers = response, max_total_bytes, workers
        self._total = 0
        self._parser: MultipartParser | None = None
        self._events: list[XopPartBegin | XopPartData | None] = []  # None = end of a part
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
            self.envelope = await parsed(
                content_type,
                await _read_reply(self._response, MAX_REPLY_BYTES),
                MAX_REPLY_BYTES,
                self._workers,
            )
            return
        self._parser = MultipartParser(parameters.get("boundary", ""))
        first = await self._next()
        start = bare_id(parameters.get("start", ""))
        if not isinstance(first, XopPartBegin) or (start and first.content_id != start):
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

    async def _next(self) -> XopPartBegin | XopPartData | None:
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
            self._events = [
                e if isinstance(e, XopPartBegin | XopPartData) else None for e in self._parser.feed(data)
            ]
            self._events.reverse()
        return self._events.pop()

    async def _pieces(self) -> AsyncIterator[bytes]:
        while True:
            event = await self._next()
            if event is None:
                return
            if isinstance(event, XopPartData):
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
            if not isinstance(event, XopPartBegin):
                continue  # what a reader of the previous part left
            if event.content_id not in self._wanted:
                raise Malformed("The answer has a part that nothing refers to.", why="XOP 4.1.")
            self._wanted.discard(event.content_id)
            yield StreamPart(event, self)
        if self._wanted:
            raise Malformed("The answer refers to a part that is not there.", why="XOP 3.2.")


class SoapClient:
    """Asks SOAP peers.

    Args:
        session: By which.
        ids: Message ids.
        workers: Where large answers are parsed; None: on the event loop.

    Raises (from every call):
        Unavailable: no connection (``where="connect"``: nothing was sent) or no answer (``where="answer"``:
            unknown whether the peer acted).
        SoapFault: the peer's fault. Malformed, TooLarge: its answer cannot be read.
        Unauthenticated, Forbidden: HTTP 401 and 403.
    """

    def __init__(self, session: ClientSession, ids: Ids, workers: Workers | None = None) -> None:
        self._session, self._ids, self._workers = session, ids, workers

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
            async with (
                asyncio.timeout(timeout_s),
                self._post(url, action, body, mtom, headers) as (response, message_id),
            ):
                data = await _read_reply(response, max_bytes)
                envelope = await parsed(
                    response.headers.get("Content-Type", ""), data, max_bytes, self._workers
                )
        except TimeoutError:
            raise Unavailable(
                "The peer did not answer in time.", where="answer", why=f"Waited {timeout_s:g} s."
            ) from None
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
        """One exchange whose parts are streamed.

        ``timeout_s`` bounds the wait for the root part; later pieces the session's read timeout.
        """
        async with self._post(url, action, body, mtom, headers) as (response, message_id):
            reply = SoapStream(response, max_total_bytes, self._workers)
            try:
                async with asyncio.timeout(timeout_s):
                    await reply._open()
            except TimeoutError:
                raise Unavailable(
                    "The peer did not answer in time.", where="answer", why=f"Waited {timeout_s:g} s."
                ) from None
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
        sent = {
            **(headers or {}),
            "Content-Type": content_type,
            "Accept": "application/soap+xml, multipart/related",
        }
        try:
            response = await self._session.post(url, data=data, headers=sent, allow_redirects=False)
        except ClientError as error:
            where = "connect" if _never_sent(error) else "answer"
            raise Unavailable("The peer cannot be asked now.", where=where, why=reached_not(error)) from error
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
        "ClientConnectorError",
        "ClientConnectorDNSError",
        "ClientConnectorSSLError",
        "ClientConnectorCertificateError",
        "ClientSSLError",
        "ConnectionTimeoutError",
        "InvalidURL",
        "ClientProxyConnectionError",
    }


def _check_status(response: ClientResponse) -> None:
    kind = parse_content_type(response.headers.get("Content-Type", ""))[0]
    why = f"HTTP status {response.status}."
    if response.status == 401:
        raise Unauthenticated("The peer does not accept our credentials.", why=why)
    if response.status == 403:
        raise Forbidden("The peer does not allow this.", why=why)
    if response.status == 429:
        raise Busy("The peer is busy.", where="answer", why=why)
    if response.status in (502, 503, 504):
        raise Unavailable("The peer cannot answer now.", where="answer", why=why)
    if response.status >= 300 and kind not in ("application/soap+xml", "multipart/related"):
        raise BadGateway("The peer refused the request.", why=why)


async def _chunk(response: ClientResponse) -> bytes:
    try:
        return await response.content.read(_CHUNK)
    except (ClientError, ConnectionError) as error:
        raise Unavailable("The answer was cut off.", where="answer", why=kind_as_sentence(error)) from error
    except http_exceptions.HttpProcessingError as error:
        raise Malformed("The answer's body is broken.", why=kind_as_sentence(error)) from None


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
