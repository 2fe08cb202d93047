"""The HTTP shell: correlation ids, bounded bodies, errors rendered once.

Faces raise :class:`~crosslight.standards.problem.CrosslightError`; the middleware of this module renders it
unless a face has a wire format of its own (FHIR, SOAP), which it registers per path prefix with
:class:`ErrorRenderers`.
"""

from __future__ import annotations

import asyncio
import json
import re
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from aiohttp import BaseConnector, ClientSession, ClientTimeout, StreamReader, TCPConnector, hdrs, web
from aiohttp.typedefs import Middleware

from crosslight.runtime.address_guard import elsewhere
from crosslight.runtime.caller import Caller
from crosslight.runtime.clock import Ids
from crosslight.runtime.dialled import Dial, DialledConnector
from crosslight.runtime.log import get_logger
from crosslight.runtime.refusals import Noted, noted_nowhere
from crosslight.runtime.tls import thumbprint
from crosslight.standards.access import Face, Principal
from crosslight.standards.problem import (
    CrosslightError,
    Malformed,
    MethodNotAllowed,
    NotFound,
    OurError,
    PeerError,
    TooLarge,
    TooSlow,
    UnsupportedMediaType,
)

log = get_logger("http")

STALL_S = 60.0  # longest pause within a request body
WHOLE_S = 300.0  # for one that is held in memory
CORRELATION_HEADER = "X-Correlation-Id"
_CORRELATION = re.compile(r"[A-Za-z0-9._:-]{1,64}\Z")

#: Set by the outermost middleware, before it is known who calls.
CORRELATION: web.RequestKey[str] = web.RequestKey("correlation", str)
#: Set by the services' authentication middleware, with :func:`admit`.
CALLER: web.RequestKey[Caller] = web.RequestKey("caller", Caller)
#: Set by :func:`refuse`.
_REFUSED: web.RequestKey[CrosslightError] = web.RequestKey("refused", CrosslightError)
#: Path prefix -> the face by which a stranger came.
_FACES: tuple[tuple[str, Face], ...] = (
    ("/fhir", "fhir"),
    ("/dicomweb", "dicomweb"),
    ("/xds/repository", "iti43"),
    ("/xds", "xds"),
    ("/rad69", "rad69"),
    ("/join", "join"),
)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Renderer = Callable[[web.Request, CrosslightError], web.Response]


def render_json(request: web.Request, error: CrosslightError) -> web.Response:
    """The default form of an error: ``{"error": {...}}``."""
    body = {
        "error": {
            "kind": type(error).__name__,
            "what": error.what,
            "why": error.why,
            "todo": error.todo,
            "where": error.where,
            "correlation": request.get(CORRELATION, ""),
        }
    }
    return web.Response(
        status=error.http_status, body=json.dumps(body).encode(), content_type="application/json"
    )


def admit(request: web.Request, principal: Principal, *, via: str = "", correlation: str = "") -> Caller:
    """Put on the request who calls: the one maker of the HTTP listeners' callers.

    Args:
        request: As it came.
        principal: In whose name, by the credentials it showed.
        via: The certificate's subject, where it is another than the principal.
        correlation: Of a token that names the act it was minted for; else the request's own.
    """
    if correlation:
        request[CORRELATION] = correlation
    caller = Caller(
        principal=principal,
        correlation=request.get(CORRELATION, ""),
        peer=request.remote or "",
        via=via,
        bodiless=request.method == hdrs.METH_HEAD,
    )
    request[CALLER] = caller
    return caller


def refuse(request: web.Request, error: CrosslightError) -> None:
    """Note that credentials do not hold, where the answer is neither a 401 nor an error, but a page."""
    request[_REFUSED] = error


def _refusal(request: web.Request, error: CrosslightError | None) -> CrosslightError | None:
    """Why a request's credentials do not hold; None of one whose caller is known."""
    if error is not None and (
        error.http_status == 401 or (error.http_status == 403 and CALLER not in request)
    ):
        return error
    return request.get(_REFUSED)


def _face(request: web.Request) -> Face:
    path = request.path
    return next(
        (face for prefix, face in _FACES if path == prefix or path.startswith(f"{prefix}/")), "portal"
    )


class ErrorRenderers:
    """Path prefix -> how errors look there and below; the longest prefix wins.

    ``/fhirs`` is not below ``/fhir``.
    """

    def __init__(self) -> None:
        self._table: list[tuple[str, Renderer]] = []

    def add(self, prefix: str, renderer: Renderer) -> None:
        """Use ``renderer`` at ``prefix`` and below; ``/`` is everywhere else."""
        self._table.append((prefix.rstrip("/"), renderer))
        self._table.sort(key=lambda row: -len(row[0]))

    def render(self, request: web.Request, error: CrosslightError) -> web.Response:
        """Render ``error`` for this request."""
        for prefix, renderer in self._table:
            if request.path == prefix or request.path.startswith(f"{prefix}/"):
                return renderer(request, error)
        return render_json(request, error)


def problems(
    renderers: ErrorRenderers, ids: Ids, *, credentials: str = "", noted: Noted = noted_nowhere
) -> Middleware:
    """The outermost middleware: correlation id in and out, errors in the caller's own wire format.

    Args:
        renderers: How errors look where.
        ids: For correlation ids.
        credentials: Where they come from (ASCII, no quotes): every 401 repeats it in its text and challenge.
        noted: Told of every request whose credentials do not hold.
    """

    def note(request: web.Request, error: CrosslightError | None) -> None:
        if (refusal := _refusal(request, error)) is not None:
            noted(_face(request), refusal, request.remote or "")

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        given = request.headers.get(CORRELATION_HEADER, "")
        correlation = given if _CORRELATION.match(given) else ids.uuid4().hex
        request[CORRELATION] = correlation
        try:
            response = await handler(request)
            note(request, None)
        except CrosslightError as error:
            note(request, error)
            if error.http_status == 401 and credentials:
                error.todo = f"{error.todo} {credentials}".strip()
            if isinstance(error, OurError):
                log.error("our fault", kind=type(error).__name__, reason=error.what, correlation=correlation)
            response = renderers.render(request, error)
            if error.retry_after_s is not None:  # RFC 9110 10.2.3, whatever the form of the rest
                response.headers[hdrs.RETRY_AFTER] = str(error.retry_after_s)
        except web.HTTPException as error:
            note(request, None)
            if error.status >= 400:
                problem = _unrouted(request, error)
                rendered = renderers.render(request, problem)
                for name in ("Allow", "Location"):
                    if name in error.headers:
                        rendered.headers[name] = error.headers[name]
                response = rendered
            else:
                error.headers[CORRELATION_HEADER] = correlation
                raise
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception:
            log.exception("unexpected", correlation=correlation, method=request.method)
            response = renderers.render(
                request,
                OurError("Something went wrong here.", todo=f"Tell the operator: correlation {correlation}."),
            )
        if response.status == 401 and not response.prepared:
            # RFC 9110 15.5.2
            response.headers.setdefault("WWW-Authenticate", _challenge(request, credentials))
        if not response.prepared:
            response.headers[CORRELATION_HEADER] = correlation
        return response

    return middleware


_BY_ROUTER: dict[int, type[CrosslightError]] = {408: TooSlow, 413: TooLarge, 415: UnsupportedMediaType}


def _unrouted(request: web.Request, error: web.HTTPException) -> CrosslightError:
    """What the router has no answer for, as a problem that says what to do."""
    if error.status == 404:
        return NotFound("There is nothing at this address.", todo="Check it for a slip.", where=request.path)
    if error.status == 405:
        return MethodNotAllowed(
            "This method is not taken here.", todo=f"Taken: {error.headers.get('Allow', 'none')}."
        )
    return _BY_ROUTER.get(error.status, PeerError if error.status < 500 else OurError)(error.reason)


def _challenge(request: web.Request, credentials: str) -> str:
    """RFC 6750 3: an error code only where credentials came."""
    parts = ['Bearer realm="crosslight"']
    if "Authorization" in request.headers:
        parts.append('error="invalid_token"')
    return ", ".join([*parts, f'error_description="{credentials}"'] if credentials else parts)


async def read_limited(request: web.Request, max_bytes: int) -> bytes:
    """The whole body, if it is at most ``max_bytes``.

    Raises:
        TooLarge: as soon as the bound is passed.
        TooSlow: when the body stops coming.
    """
    if request.content_length is not None and request.content_length > max_bytes:
        raise TooLarge("The request body is too large.", why=f"Limit here: {max_bytes} bytes.")
    parts, total = [], 0
    try:
        async with asyncio.timeout(WHOLE_S):
            async for chunk in timely_chunks(request.content, 1 << 18):
                total += len(chunk)
                if total > max_bytes:
                    raise TooLarge("The request body is too large.", why=f"Limit here: {max_bytes} bytes.")
                parts.append(chunk)
    except TimeoutError:
        raise _late(f"Not whole within {WHOLE_S:g} s.") from None
    return b"".join(parts)


async def timely_chunks(content: StreamReader, size: int) -> AsyncIterator[bytes]:
    """A request body in pieces of at most ``size``.

    Raises:
        TooSlow: when nothing more of it comes for :data:`STALL_S`.
        Malformed: it is not in the coding that its headers say.
    """
    pieces = aiter(content.iter_chunked(size))
    while True:
        try:
            async with asyncio.timeout(STALL_S):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise _late(f"Nothing for {STALL_S:g} s.") from None
        except web.RequestPayloadError:
            raise _unreadable() from None
        yield piece


async def form_fields(request: web.Request) -> dict[str, str]:
    """A posted form, without what it uploads; its size is bounded by the application.

    Raises:
        Malformed: it is none, or not in the coding or character set that its headers say.
    """
    try:
        fields = await request.post()
    except (web.RequestPayloadError, ValueError, LookupError):
        raise _unreadable() from None
    return {name: value for name, value in fields.items() if isinstance(value, str)}


def _unreadable() -> Malformed:
    return Malformed("The request body cannot be read.", why="It is not in the coding that its headers say.")


def _late(why: str) -> TooSlow:
    return TooSlow("The request body does not come in time.", why=why, todo="Send it again.")


async def limited_chunks(source: AsyncIterator[bytes], max_bytes: int) -> AsyncIterator[bytes]:
    """Pass chunks on until ``max_bytes`` is passed.

    Raises:
        TooLarge: as soon as the bound is passed.
    """
    total = 0
    async for chunk in source:
        total += len(chunk)
        if total > max_bytes:
            raise TooLarge("The request body is too large.", why=f"Limit here: {max_bytes} bytes.")
        yield chunk


def peer_certificate(request: web.Request) -> dict[str, Any] | None:
    """The verified client certificate of a mutual TLS request (``ssl.getpeercert`` form), or None."""
    transport = request.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    certificate: dict[str, Any] | None = tls.getpeercert() if tls is not None else None
    return certificate or None


def peer_thumbprint(request: web.Request) -> str:
    """The thumbprint of the client certificate of a mutual TLS request (RFC 8705 3.1); '' without one."""
    transport = request.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    der: bytes | None = tls.getpeercert(binary_form=True) if tls is not None else None
    return thumbprint(der) if der else ""


def client_session(
    tls: ssl.SSLContext | None = None,
    *,
    connect_timeout_s: float = 5.0,
    read_timeout_s: float = 60.0,
    limit: int = 64,
    own_machine: bool = True,
    dial: Dial | None = None,
    proxy: str = "",
) -> ClientSession:
    """A client session with bounded waits, no cookies of others and no redirects followed by accident.

    Bodies are passed on as they come, so none is asked for compressed unless a request says so itself.
    ``own_machine``: whether names may lead to this machine (:mod:`crosslight.runtime.address_guard`).
    ``dial``: gives every connection, whatever the host. ``proxy``: an HTTP proxy on the way to all of them.
    """
    connector: BaseConnector
    if dial is not None:
        connector = DialledConnector(dial, tls, limit=limit, keepalive_timeout=30)
    else:
        connector = TCPConnector(
            ssl=tls if tls is not None else True,
            limit=limit,
            keepalive_timeout=30,
            socket_factory=None if own_machine else elsewhere,
        )
    timeout = ClientTimeout(total=None, sock_connect=connect_timeout_s, sock_read=read_timeout_s)
    return ClientSession(
        connector=connector,
        timeout=timeout,
        auto_decompress=False,
        headers={"Accept-Encoding": "identity"},
        proxy=proxy or None,
    )
